-- A database as Supabase lays one out, as far as the shipped packs of checks look at it: the true columns, keys and indexes of
-- the schema auth, the roles of its API, and a table of profiles as most projects have one. Roles belong to the whole
-- server, so each may be there already, or be made by somebody else in the same moment.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
CREATE SCHEMA auth;
CREATE TYPE auth.aal_level AS ENUM ('aal1', 'aal2', 'aal3');
CREATE TABLE auth.users (
    instance_id uuid,
    id uuid PRIMARY KEY,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    confirmation_token varchar(255),
    confirmation_sent_at timestamptz,
    recovery_token varchar(255),
    recovery_sent_at timestamptz,
    email_change_token_new varchar(255),
    email_change varchar(255),
    email_change_sent_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text UNIQUE DEFAULT NULL,
    phone_confirmed_at timestamptz,
    phone_change text DEFAULT '',
    phone_change_token varchar(255) DEFAULT '',
    phone_change_sent_at timestamptz,
    confirmed_at timestamptz GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
    email_change_token_current varchar(255) DEFAULT '',
    email_change_confirm_status smallint DEFAULT 0 CHECK (email_change_confirm_status BETWEEN 0 AND 2),
    banned_until timestamptz,
    reauthentication_token varchar(255) DEFAULT '',
    reauthentication_sent_at timestamptz,
    is_sso_user boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    is_anonymous boolean NOT NULL DEFAULT false
);
CREATE INDEX users_instance_id_idx ON auth.users (instance_id);
CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE NOT is_sso_user;
CREATE TABLE auth.identities (
    provider_id text NOT NULL,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    identity_data jsonb NOT NULL,
    provider text NOT NULL,
    last_sign_in_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    email text GENERATED ALWAYS AS (lower(identity_data ->> 'email')) STORED,
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    CONSTRAINT identities_provider_id_provider_unique UNIQUE (provider_id, provider)
);
CREATE INDEX identities_user_id_idx ON auth.identities (user_id);
CREATE TABLE auth.sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
    created_at timestamptz,
    updated_at timestamptz,
    factor_id uuid,
    aal auth.aal_level,
    not_after timestamptz,
    refreshed_at timestamp,             -- without a time zone: UTC by agreement
    user_agent text,
    ip inet,
    tag text,
    oauth_client_id uuid,
    refresh_token_hmac_key text,
    refresh_token_counter bigint,
    scopes text
);
CREATE INDEX sessions_not_after_idx ON auth.sessions (not_after DESC);
CREATE INDEX sessions_user_id_idx ON auth.sessions (user_id);
CREATE TABLE auth.refresh_tokens (
    instance_id uuid,
    id bigserial PRIMARY KEY,
    token varchar(255) UNIQUE,
    user_id varchar(255),
    revoked boolean,
    created_at timestamptz,
    updated_at timestamptz,
    parent varchar(255),
    session_id uuid REFERENCES auth.sessions (id) ON DELETE CASCADE
);
CREATE TABLE auth.audit_log_entries (
    instance_id uuid,
    id uuid PRIMARY KEY,
    payload json,
    created_at timestamptz,
    ip_address varchar(64) NOT NULL DEFAULT ''
);
CREATE TABLE public.profiles (
    id uuid PRIMARY KEY,                -- the user's; no foreign key, or there could be no orphans
    phone text,
    email text,
    person_id uuid,
    is_verified boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.profiles TO authenticated, service_role;

CREATE FUNCTION public.user_id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = '' AS
    $$SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid$$;
CREATE FUNCTION public.person_id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = '' AS
    $$SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid$$;
CREATE FUNCTION public.audit_id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = '' AS
    $$SELECT ('00000000-0000-4000-a000-' || lpad(n::text, 12, '0'))::uuid$$;

-- A whole sign-up, as the service and a trigger leave it: user number `n`, by phone when it is odd and by e-mail when it is
-- even, `old` ago, with identity, audit entry, profile and person.
CREATE FUNCTION public.sign_up(n integer, old interval) RETURNS void LANGUAGE sql SET search_path = '' AS $$
    INSERT INTO auth.users (id, aud, role, email, phone, email_confirmed_at, phone_confirmed_at, last_sign_in_at,
                            raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
    SELECT public.user_id(n), 'authenticated', 'authenticated',
           CASE WHEN n % 2 = 0 THEN 'user' || n || '@example.com' END,
           CASE WHEN n % 2 = 1 THEN '614' || lpad(n::text, 8, '0') END,
           CASE WHEN n % 2 = 0 THEN now() - old END,
           CASE WHEN n % 2 = 1 THEN now() - old END,
           now() - old,
           jsonb_build_object('provider', by, 'providers', jsonb_build_array(by), 'person_id', public.person_id(n)),
           jsonb_build_object(by || '_verified', true), now() - old, now() - old
    FROM (SELECT CASE WHEN n % 2 = 0 THEN 'email' ELSE 'phone' END AS by) AS way;
    INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
    SELECT id::text, id, jsonb_strip_nulls(jsonb_build_object('sub', id, 'email', email, 'phone', phone)),
           CASE WHEN email IS NULL THEN 'phone' ELSE 'email' END, created_at, created_at, created_at
    FROM auth.users WHERE id = public.user_id(n);
    INSERT INTO auth.audit_log_entries (id, payload, created_at)
    SELECT public.audit_id(n), json_build_object('action', 'user_signedup', 'actor_id', id, 'log_type', 'team'), created_at
    FROM auth.users WHERE id = public.user_id(n);
    INSERT INTO public.profiles (id, phone, email, person_id, is_verified, created_at)
    SELECT id, '+' || phone, email, public.person_id(n), true, created_at FROM auth.users WHERE id = public.user_id(n)
    ON CONFLICT (id) DO UPDATE SET person_id = excluded.person_id, is_verified = true, phone = excluded.phone;
$$;

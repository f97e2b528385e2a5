-- Ten hours from UTC: whoever forgets that refreshed_at has no time zone is ten hours off.
DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Australia/Brisbane'); END$$;
CREATE FUNCTION public.session_id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = '' AS
    $$SELECT ('00000000-0000-4000-b000-' || lpad(n::text, 12, '0'))::uuid$$;
-- Session number `n` of user number `who`, begun and refreshed so long ago, that ends at `until`, or never.
CREATE FUNCTION public.open_session(n integer, who integer, begun interval, refreshed interval, until timestamptz) RETURNS void
LANGUAGE sql SET search_path = '' AS $$
    INSERT INTO auth.sessions (id, user_id, created_at, updated_at, aal, not_after, refreshed_at, ip)
    VALUES (public.session_id(n), public.user_id(who), now() - begun, now() - refreshed, 'aal1', until,
            (now() - refreshed) AT TIME ZONE 'UTC', '192.0.2.1');
    INSERT INTO auth.refresh_tokens (token, user_id, revoked, session_id)
    VALUES ('token' || n, public.user_id(who), false, public.session_id(n));
$$;

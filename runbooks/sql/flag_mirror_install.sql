-- Flags beside the app's own tables (PostgreSQL), so that SQL and row-level-security policies read them in the same
-- transaction. Switchback keeps them; nobody else writes here. It may be run again at any time.
--
--   SELECT switchback.flag_enabled('auth_bypass');
--   CREATE POLICY bypass ON receipts USING (switchback.flag_enabled('auth_bypass'));
CREATE SCHEMA IF NOT EXISTS switchback;
CREATE TABLE IF NOT EXISTS switchback.flags (
    key TEXT PRIMARY KEY,
    enabled BOOLEAN NOT NULL,           -- on for everybody; SQL knows no user, so a share of them counts as off
    reach TEXT NOT NULL,                -- everybody, some or nobody
    expires_at TIMESTAMPTZ,             -- off from then on, also when Switchback is away
    revision BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS switchback.mirror (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    environment TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO switchback.mirror (environment, revision) VALUES ('', 0) ON CONFLICT (one) DO NOTHING;
CREATE OR REPLACE FUNCTION switchback.flag_enabled(name TEXT) RETURNS BOOLEAN
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
    AS $$ SELECT COALESCE((SELECT f.enabled AND (f.expires_at IS NULL OR now() < f.expires_at)
                           FROM switchback.flags AS f WHERE f.key = name), FALSE) $$;
GRANT USAGE ON SCHEMA switchback TO PUBLIC;
GRANT EXECUTE ON FUNCTION switchback.flag_enabled(TEXT) TO PUBLIC;

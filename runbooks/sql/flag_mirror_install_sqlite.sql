-- Flags beside the app's own tables (SQLite). Switchback keeps them; nobody else writes here.
--
--   SELECT enabled FROM switchback_flag_enabled WHERE key = 'auth_bypass';
CREATE TABLE IF NOT EXISTS switchback_flags (
    key TEXT PRIMARY KEY,
    enabled BOOLEAN NOT NULL,
    reach TEXT NOT NULL,
    expires_at TEXT,
    revision BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS switchback_mirror (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    environment TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO switchback_mirror (environment, revision) VALUES ('', 0) ON CONFLICT (one) DO NOTHING;
CREATE VIEW IF NOT EXISTS switchback_flag_enabled AS
    SELECT key, enabled AND (expires_at IS NULL OR datetime('now') < expires_at) AS enabled FROM switchback_flags;

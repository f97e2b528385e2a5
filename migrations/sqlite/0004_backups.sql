-- Backups of data sources: the files lie beside the database; a row is written when its file is whole.
CREATE TABLE backups (
    id TEXT NOT NULL PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    file TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    run_id TEXT,
    keep_until BIGINT NOT NULL,
    verified_at BIGINT,
    verification TEXT
);
CREATE INDEX backups_by_source ON backups (source, created_at);

-- The app's databases that playbooks and checks may touch: where their credentials are, what is allowed, limits. As JSON.
CREATE TABLE data_sources (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

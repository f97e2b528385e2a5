-- What happened to users' logins, and how often by time.
CREATE TABLE user_auth_log (
    environment TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    user_key TEXT,
    session_id TEXT,
    platform TEXT,
    app_version TEXT,
    country TEXT,
    latency_ms BIGINT,
    error TEXT,
    variants TEXT,
    source TEXT NOT NULL,
    PRIMARY KEY (environment, id)
);
CREATE INDEX user_auth_log_by_user ON user_auth_log (environment, user_key, at);
CREATE INDEX user_auth_log_by_arrival ON user_auth_log (environment, received_at);
-- Counts only ever add up: cells of any two times, places or nodes can be summed.
CREATE TABLE auth_counts (
    environment TEXT NOT NULL,
    width_s BIGINT NOT NULL,
    dimension TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (environment, width_s, dimension, at, kind, value)
);
CREATE INDEX auth_counts_by_age ON auth_counts (width_s, at);
-- Who sends, and what was not taken.
CREATE TABLE auth_sources (
    environment TEXT NOT NULL,
    source TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    last_event_at BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    last_refusal TEXT,
    PRIMARY KEY (environment, source)
);

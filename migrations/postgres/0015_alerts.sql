-- Alert rules that were written here, how they stand, the alerts that came of them, and silences.
CREATE TABLE alert_rules (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    source TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE alert_states (
    rule TEXT NOT NULL,
    environment TEXT NOT NULL,
    state TEXT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (rule, environment)
);
-- `mark`: the same alert from outside is one row, however often it comes.
CREATE TABLE alerts (
    id TEXT NOT NULL PRIMARY KEY,
    mark TEXT UNIQUE,
    source TEXT NOT NULL,
    rule TEXT NOT NULL,
    environment TEXT NOT NULL,
    title TEXT NOT NULL,
    severity TEXT NOT NULL,
    labels TEXT NOT NULL,
    words TEXT NOT NULL,
    fired_at BIGINT NOT NULL,
    resolved_at BIGINT,
    told_steps BIGINT NOT NULL,
    was_told BOOLEAN NOT NULL,
    quiet_why TEXT,
    acked_by TEXT,
    acked_until BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX alerts_by_time ON alerts (environment, fired_at);
CREATE INDEX alerts_open ON alerts (resolved_at, fired_at);
CREATE TABLE alert_silences (
    id TEXT NOT NULL PRIMARY KEY,
    rule TEXT,
    environment TEXT,
    labels TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    comment TEXT NOT NULL
);
CREATE INDEX alert_silences_by_end ON alert_silences (ends_at);

-- How far each auth table of the app's databases was read, and which of its sessions go on.
CREATE TABLE event_pollers (
    environment TEXT NOT NULL,
    source TEXT NOT NULL,
    events_until BIGINT NOT NULL,
    sessions_until BIGINT NOT NULL,
    looked_at BIGINT NOT NULL,
    good_at BIGINT,
    failures BIGINT NOT NULL,
    state TEXT NOT NULL,
    said TEXT,
    PRIMARY KEY (environment, source)
);
CREATE TABLE polled_sessions (
    environment TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (environment, source, id)
);

-- Components in groups, and how each was over time.
CREATE TABLE component_groups (
    key TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    position BIGINT NOT NULL
);
ALTER TABLE components ADD COLUMN group_key TEXT;
ALTER TABLE components ADD COLUMN only_show_if_degraded BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE components ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
UPDATE components SET created_at = updated_at;
CREATE TABLE component_states (
    component TEXT NOT NULL,
    at BIGINT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (component, at)
);
INSERT INTO component_states (component, at, status) SELECT key, updated_at, status FROM components;

-- Incidents: planned work, those that only the team sees, who takes care, what was learned.
ALTER TABLE incidents ADD COLUMN audience TEXT NOT NULL DEFAULT 'public';
ALTER TABLE incidents ADD COLUMN handled_by TEXT;
ALTER TABLE incidents ADD COLUMN started_at BIGINT;
ALTER TABLE incidents ADD COLUMN monitoring_at BIGINT;
ALTER TABLE incidents ADD COLUMN scheduled_for BIGINT;
ALTER TABLE incidents ADD COLUMN scheduled_until BIGINT;
ALTER TABLE incidents ADD COLUMN auto_begin BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE incidents ADD COLUMN auto_complete BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE incidents ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE incidents ADD COLUMN postmortem TEXT;
ALTER TABLE incidents ADD COLUMN postmortem_at BIGINT;
ALTER TABLE incidents ADD COLUMN withdrawn_at BIGINT;
ALTER TABLE incident_updates ADD COLUMN moved TEXT NOT NULL DEFAULT '{}';
ALTER TABLE incident_updates ADD COLUMN is_announced BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE incident_updates ADD COLUMN support TEXT;

-- Texts for incidents that were edited here; the newest version counts, one without a source is removed.
CREATE TABLE incident_templates (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    source TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (name, version)
);

-- Where messages go.
CREATE TABLE channels (
    key TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    settings TEXT NOT NULL,
    disabled_why TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE channel_topics (
    channel TEXT NOT NULL REFERENCES channels (key),
    topic TEXT NOT NULL,
    PRIMARY KEY (topic, channel)
);
-- Who asked for news of incidents.
CREATE TABLE subscribers (
    id TEXT NOT NULL PRIMARY KEY,
    mode TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    is_global BOOLEAN NOT NULL,
    incident_id TEXT,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    asked_at BIGINT,
    failures BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX subscribers_by_address ON subscribers (mode, address, COALESCE(incident_id, ''));
CREATE TABLE subscriber_components (
    subscriber_id TEXT NOT NULL REFERENCES subscribers (id),
    component TEXT NOT NULL,
    PRIMARY KEY (subscriber_id, component)
);
-- What is said, once; and to whom it goes: a row for each recipient.
CREATE TABLE messages (
    id TEXT NOT NULL PRIMARY KEY,
    topic TEXT NOT NULL,
    body TEXT NOT NULL,
    incident_id TEXT,
    run_id TEXT,
    dedupe_key TEXT UNIQUE,
    at BIGINT NOT NULL
);
CREATE INDEX messages_by_incident ON messages (incident_id, id);
CREATE INDEX messages_by_run ON messages (run_id, id);
CREATE TABLE message_components (
    message_id TEXT NOT NULL REFERENCES messages (id),
    component TEXT NOT NULL,
    PRIMARY KEY (message_id, component)
);
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    message_id TEXT NOT NULL REFERENCES messages (id),
    channel TEXT NOT NULL,
    subscriber_id TEXT,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    sent_at BIGINT
);
CREATE INDEX outbox_due ON outbox (state, next_at);
CREATE INDEX outbox_by_message ON outbox (message_id);

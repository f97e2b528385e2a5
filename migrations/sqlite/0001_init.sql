-- The first schema. Columns are TEXT, BIGINT and BOOLEAN only; times are UTC milliseconds; JSON is TEXT.
-- The text is the same for both databases.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE projects (
    key TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE environments (
    key TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    protected BOOLEAN NOT NULL,
    position BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE flags (
    key TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (key),
    kind TEXT NOT NULL,
    value_type TEXT NOT NULL,
    salt TEXT NOT NULL,
    description TEXT NOT NULL,
    owner TEXT NOT NULL,
    tags TEXT NOT NULL,
    lifetime_days BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    archived_at BIGINT
);

CREATE TABLE flag_states (
    environment TEXT NOT NULL REFERENCES environments (key),
    flag TEXT NOT NULL REFERENCES flags (key),
    state TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (environment, flag)
);

CREATE TABLE segments (
    environment TEXT NOT NULL REFERENCES environments (key),
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (environment, key)
);

-- Audit and outbox in one: who changed what from what to what, why, when.
CREATE TABLE change_log (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT,
    revision BIGINT,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    before_state TEXT,
    after_state TEXT,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    emergency BOOLEAN NOT NULL,
    run_id TEXT,
    at BIGINT NOT NULL
);
CREATE INDEX change_log_by_revision ON change_log (environment, revision);
CREATE INDEX change_log_by_subject ON change_log (subject_kind, subject, id);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    project TEXT NOT NULL,
    environment TEXT NOT NULL,
    role TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    last_used_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE console_sessions (
    hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    user_agent TEXT NOT NULL
);
CREATE INDEX console_sessions_by_user ON console_sessions (user_id);

CREATE TABLE idempotency_keys (
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (actor, key)
);

CREATE TABLE components (
    key TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    status TEXT NOT NULL,
    position BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE incidents (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    impact TEXT NOT NULL,
    components TEXT NOT NULL,
    template TEXT,
    run_id TEXT,
    dedupe_key TEXT UNIQUE,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    resolved_at BIGINT
);
CREATE INDEX incidents_by_time ON incidents (created_at);

CREATE TABLE incident_updates (
    id TEXT NOT NULL PRIMARY KEY,
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    status TEXT NOT NULL,
    body TEXT NOT NULL,
    dedupe_key TEXT UNIQUE,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE INDEX incident_updates_by_incident ON incident_updates (incident_id, id);

CREATE TABLE notices (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX notices_by_environment ON notices (environment, at);

CREATE TABLE playbook_runs (
    id TEXT NOT NULL PRIMARY KEY,
    playbook TEXT NOT NULL,
    title TEXT NOT NULL,
    environment TEXT NOT NULL,
    concurrency_key TEXT NOT NULL,
    plan TEXT NOT NULL,
    plan_sha256 TEXT NOT NULL,
    reason TEXT NOT NULL,
    trigger_kind TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    finished_at BIGINT,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    lease_expires_at BIGINT NOT NULL
);
-- One run at a time per key: the database says so, not a check that can race.
CREATE UNIQUE INDEX playbook_runs_one_at_a_time ON playbook_runs (concurrency_key) WHERE finished_at IS NULL;
CREATE INDEX playbook_runs_by_time ON playbook_runs (created_at);

-- Every move of every run; each row holds the hash of the one before. Never updated, never deleted.
CREATE TABLE rollback_log (
    seq BIGINT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    step_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    phase TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    before_state TEXT,
    after_state TEXT,
    duration_ms BIGINT,
    detail TEXT NOT NULL,
    at BIGINT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX rollback_log_by_run ON rollback_log (run_id, seq);

CREATE TABLE chain_heads (
    name TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);

CREATE TABLE flag_usage (
    environment TEXT NOT NULL,
    flag TEXT NOT NULL,
    minute BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    evaluations BIGINT NOT NULL,
    PRIMARY KEY (environment, flag, minute, outcome)
);
CREATE INDEX flag_usage_by_minute ON flag_usage (minute);

-- Figures that apps report of themselves (Unleash's "impact metrics"), by minute. A histogram has a row per bucket (`le`),
-- besides the row without one, which holds its sum and count.
CREATE TABLE impact_samples (
    environment TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    app TEXT NOT NULL,
    labels TEXT NOT NULL,
    minute BIGINT NOT NULL,
    le TEXT NOT NULL,
    sum_micros BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (environment, name, minute, app, labels, le)
);
CREATE INDEX impact_samples_by_minute ON impact_samples (minute);

-- What each node of a cluster sees of its own clients.
CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    convergence TEXT NOT NULL
);

-- Consistency checks: packs that were written here, how each is monitored and stands, what was found, and runs of repairs.
CREATE TABLE check_packs (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    source TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE check_settings (
    pack TEXT NOT NULL PRIMARY KEY,
    settings TEXT NOT NULL,
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);
CREATE TABLE check_states (
    pack TEXT NOT NULL,
    check_name TEXT NOT NULL,
    state TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (pack, check_name)
);
-- `at`: the begin of a cell of five minutes.
CREATE TABLE check_history (
    pack TEXT NOT NULL,
    check_name TEXT NOT NULL,
    at BIGINT NOT NULL,
    found BIGINT NOT NULL,
    population BIGINT,
    fixed BIGINT NOT NULL,
    PRIMARY KEY (pack, check_name, at)
);
CREATE INDEX check_history_by_time ON check_history (at);
-- `full_label` and `detail` only where the pack's settings keep them.
CREATE TABLE findings (
    pack TEXT NOT NULL,
    check_name TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    class TEXT NOT NULL,
    label TEXT NOT NULL,
    label_hash TEXT NOT NULL,
    full_label TEXT,
    detail TEXT,
    country TEXT NOT NULL,
    platform TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    fixed_at BIGINT NOT NULL,
    fixed_by TEXT NOT NULL,
    run_id TEXT,
    message TEXT NOT NULL,
    PRIMARY KEY (pack, check_name, key)
);
CREATE INDEX findings_by_state ON findings (pack, state, last_seen);
CREATE INDEX findings_by_fix ON findings (pack, fixed_at);
CREATE TABLE check_runs (
    id TEXT NOT NULL PRIMARY KEY,
    pack TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL,
    started_by TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX check_runs_by_pack ON check_runs (pack, started_at);
CREATE INDEX check_runs_by_state ON check_runs (state);
CREATE UNIQUE INDEX check_runs_one ON check_runs (pack) WHERE state IN ('running', 'undoing');

-- Drills: playbooks run for real in a sandbox, against copies of the data sources.
CREATE TABLE drills (
    id TEXT NOT NULL PRIMARY KEY,
    playbook TEXT NOT NULL,
    environment TEXT NOT NULL,
    state TEXT NOT NULL,
    run_id TEXT,
    undo_run_id TEXT,
    requested_by TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    copy_ms BIGINT,
    took_ms BIGINT,
    undo_ms BIGINT,
    objective_ms BIGINT NOT NULL,
    message TEXT NOT NULL
);
CREATE UNIQUE INDEX drills_one_at_a_time ON drills (playbook) WHERE finished_at IS NULL;
CREATE INDEX drills_by_time ON drills (playbook, started_at);

-- Protections that one person passed alone, to be looked at by somebody else.
CREATE TABLE reviews (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    reviewed_by TEXT,
    reviewed_at BIGINT,
    comment TEXT NOT NULL
);
CREATE INDEX reviews_by_environment ON reviews (environment, id);
-- When playbooks are due that start by themselves; `rule` is the schedule that this was reckoned from.
CREATE TABLE schedules (
    playbook TEXT NOT NULL PRIMARY KEY,
    rule TEXT NOT NULL,
    due_at BIGINT NOT NULL
);

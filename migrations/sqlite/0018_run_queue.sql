-- Runs that wait for another one with their key to end, and when a run's time began to count.
ALTER TABLE playbook_runs ADD COLUMN queued_for TEXT;
ALTER TABLE playbook_runs ADD COLUMN begins_at BIGINT NOT NULL DEFAULT 0;
UPDATE playbook_runs SET begins_at = created_at;
CREATE INDEX playbook_runs_queued ON playbook_runs (queued_for, id) WHERE queued_for IS NOT NULL;

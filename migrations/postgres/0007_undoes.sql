-- Which run a run takes back, and when a run is taken back by itself.
ALTER TABLE playbook_runs ADD COLUMN undoes TEXT;
ALTER TABLE playbook_runs ADD COLUMN expires_at BIGINT;

-- Incidents on status pages elsewhere: what was told there, and what stands there.
CREATE TABLE remote_incidents (
    channel TEXT NOT NULL,
    incident_id TEXT NOT NULL REFERENCES incidents (id),
    remote_id TEXT NOT NULL,
    told_status TEXT NOT NULL,
    told_at BIGINT NOT NULL,
    seen_status TEXT,
    seen_at BIGINT,
    error TEXT,
    PRIMARY KEY (channel, incident_id)
);

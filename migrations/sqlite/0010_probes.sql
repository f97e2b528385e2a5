-- What looks at components on a schedule, and what it found.
CREATE TABLE probes (
    key TEXT NOT NULL PRIMARY KEY,
    component TEXT NOT NULL REFERENCES components (key),
    settings TEXT NOT NULL,
    is_enabled BOOLEAN NOT NULL,
    is_down BOOLEAN NOT NULL,
    holds BOOLEAN NOT NULL,
    failures BIGINT NOT NULL,
    successes BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    owner TEXT NOT NULL,
    leased_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX probes_by_component ON probes (component);
CREATE TABLE probe_results (
    probe TEXT NOT NULL,
    at BIGINT NOT NULL,
    is_good BOOLEAN NOT NULL,
    took_ms BIGINT NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (probe, at)
);
CREATE TABLE probe_days (
    probe TEXT NOT NULL,
    day BIGINT NOT NULL,
    good BIGINT NOT NULL,
    bad BIGINT NOT NULL,
    took_ms BIGINT NOT NULL,
    PRIMARY KEY (probe, day)
);

-- Guards of changes, rollouts in steps, what happened by itself, and who looks at it all.
CREATE TABLE guards (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    flag TEXT NOT NULL,
    phase TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT,
    verdict TEXT,
    standing_since BIGINT NOT NULL,
    since BIGINT NOT NULL,
    seen_until BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE INDEX guards_by_flag ON guards (environment, flag);
CREATE TABLE guard_points (
    guard TEXT NOT NULL,
    at BIGINT NOT NULL,
    point TEXT NOT NULL,
    PRIMARY KEY (guard, at)
);
CREATE TABLE rollouts (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    flag TEXT NOT NULL,
    guard TEXT,
    phase TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT NOT NULL,
    move TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX rollouts_by_flag ON rollouts (environment, flag);
CREATE TABLE automatic_acts (
    id TEXT NOT NULL PRIMARY KEY,
    environment TEXT NOT NULL,
    flag TEXT,
    guard TEXT,
    at BIGINT NOT NULL,
    act TEXT NOT NULL,
    words TEXT NOT NULL
);
CREATE INDEX automatic_acts_by_time ON automatic_acts (environment, at);
CREATE TABLE freezes (
    environment TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL,
    why TEXT NOT NULL
);
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);

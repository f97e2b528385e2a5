-- Sessions of the app's users: not of the console.
CREATE TABLE user_sessions (
    environment TEXT NOT NULL,
    id TEXT NOT NULL,
    user_key TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    last_activity_at BIGINT NOT NULL,
    ended_at BIGINT,
    session_duration_seconds BIGINT,
    end_reason TEXT,
    platform TEXT,
    app_version TEXT,
    version_rank BIGINT,
    country TEXT,
    device TEXT,
    revoked_seq BIGINT,
    PRIMARY KEY (environment, id)
);
-- Who is in now, and who has been idle for too long.
CREATE INDEX user_sessions_open ON user_sessions (environment, last_activity_at, id) WHERE ended_at IS NULL;
CREATE INDEX user_sessions_by_user ON user_sessions (environment, user_key, started_at, id);
CREATE INDEX user_sessions_by_start ON user_sessions (environment, started_at);
CREATE UNIQUE INDEX user_sessions_revoked ON user_sessions (environment, revoked_seq) WHERE revoked_seq IS NOT NULL;
-- What began and ended by day (UTC midnight): averages read days, not sessions.
CREATE TABLE session_days (
    environment TEXT NOT NULL,
    day BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    seconds BIGINT NOT NULL,
    PRIMARY KEY (environment, day)
);
-- The newest number of the list of revoked sessions; its row is locked while one is added.
CREATE TABLE session_feeds (
    environment TEXT PRIMARY KEY,
    last_seq BIGINT NOT NULL
);

-- When a person was last in an environment of the console, and when the visit before that one ended: "since you were here".
CREATE TABLE visits (
    user_id TEXT NOT NULL REFERENCES users (id),
    environment TEXT NOT NULL REFERENCES environments (key),
    seen_at BIGINT NOT NULL,
    previous_at BIGINT,
    PRIMARY KEY (user_id, environment)
);

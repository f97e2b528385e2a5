-- Keys of the app's tables as they were before a run, in chunks: what its preserve rules are compared with.
CREATE TABLE preserved (
    run_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    chunk BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, rule, chunk)
);

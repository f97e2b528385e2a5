-- Puts back exactly what auth_bypass_on.sql found (PostgreSQL): row-level security on the tables that had it, forced where it
-- was forced, and the functions' definitions. It may be run again: then there is nothing to do. A table that was dropped
-- meanwhile is passed over.
CREATE SCHEMA IF NOT EXISTS switchback;
CREATE TABLE IF NOT EXISTS switchback.bypass (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    forced BOOLEAN NOT NULL DEFAULT FALSE,
    definition TEXT,
    at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);
DO $$
DECLARE
    kept switchback.bypass;
BEGIN
    FOR kept IN SELECT * FROM switchback.bypass ORDER BY kind DESC, name LOOP
        IF kept.kind = 'function' THEN
            EXECUTE kept.definition;
        ELSIF to_regclass(kept.name) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', kept.name);
            IF kept.forced THEN
                EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', kept.name);
            END IF;
        END IF;
    END LOOP;
END
$$;
DELETE FROM switchback.bypass;

-- Opens every row (PostgreSQL, a schema like Supabase's): row-level security off on every table of the schema public, and
-- auth.role() answers 'authenticated' where it exists. What stood before is kept in switchback.bypass, in the same
-- transaction, so that auth_bypass_off.sql puts back exactly that.
--
-- DANGER: while it is on, whoever reaches the database as the app does can read and write every row of everybody.
CREATE SCHEMA IF NOT EXISTS switchback;
CREATE TABLE IF NOT EXISTS switchback.bypass (
    kind TEXT NOT NULL,                 -- table or function
    name TEXT NOT NULL,
    forced BOOLEAN NOT NULL DEFAULT FALSE,
    definition TEXT,
    at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM switchback.bypass) THEN
        RAISE EXCEPTION 'the bypass is on already' USING HINT = 'put the earlier one back first: auth_bypass_off.sql';
    END IF;
END
$$;
INSERT INTO switchback.bypass (kind, name, forced)
    SELECT 'table', format('%I.%I', n.nspname, c.relname), c.relforcerowsecurity
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relrowsecurity;
INSERT INTO switchback.bypass (kind, name, definition)
    SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid)
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'auth' AND p.proname = 'role' AND p.pronargs = 0 AND p.prorettype = 'text'::regtype;
DO $$
DECLARE
    kept switchback.bypass;
BEGIN
    FOR kept IN SELECT * FROM switchback.bypass WHERE kind = 'table' ORDER BY name LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', kept.name);
        EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', kept.name);
    END LOOP;
    IF EXISTS (SELECT 1 FROM switchback.bypass WHERE kind = 'function') THEN
        EXECUTE 'CREATE OR REPLACE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS '
             || quote_literal('SELECT ''authenticated''::text');
    END IF;
END
$$;

-- An app's schema as it should be, with everything that only looks open.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
    $$SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid$$;
CREATE POLICY own ON public.profiles TO authenticated USING ((SELECT auth.uid()) = id) WITH CHECK ((SELECT auth.uid()) = id);
CREATE TABLE public.notes (id bigint PRIMARY KEY, user_id uuid, note text);
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.notes TO anon, authenticated;
CREATE POLICY own ON public.notes TO authenticated USING ((SELECT auth.uid()) = user_id);
-- The service may do everything, and a policy that only narrows lets nobody in.
CREATE POLICY service ON public.notes TO service_role USING (true) WITH CHECK (true);
CREATE POLICY narrow ON public.notes AS RESTRICTIVE FOR UPDATE TO authenticated USING (true);
-- Without row-level security, but out of reach: no right to the table, no right to the schema.
CREATE TABLE public.settings (key text PRIMARY KEY);
CREATE SCHEMA internal;
CREATE TABLE internal.ledger (id bigint PRIMARY KEY);
GRANT SELECT ON internal.ledger TO anon;
CREATE POLICY narrow_reads ON public.notes AS RESTRICTIVE FOR SELECT TO authenticated USING (true);
CREATE POLICY service_reads ON public.notes FOR SELECT TO service_role USING (true);
CREATE POLICY own_reads ON public.notes FOR SELECT TO authenticated USING ((SELECT auth.uid()) = user_id);
-- The service minds its own schema, which the API's roles may use and the API does not show.
GRANT USAGE ON SCHEMA auth TO anon, authenticated;
ALTER TABLE auth.refresh_tokens ENABLE ROW LEVEL SECURITY;
CREATE POLICY writes ON auth.refresh_tokens FOR UPDATE TO anon USING (true);
CREATE POLICY reads ON auth.refresh_tokens FOR SELECT TO anon USING (true);
CREATE FUNCTION auth.owner() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT';
CREATE VIEW auth.names AS SELECT id, email FROM auth.users;
GRANT SELECT ON auth.names, auth.identities TO anon;
CREATE VIEW internal.names AS SELECT id, email FROM auth.users;
GRANT SELECT ON internal.names TO anon;
-- With a fixed path; and one that acts as its caller.
CREATE FUNCTION public.count_notes() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS
    'SELECT count(*) FROM public.notes';
CREATE FUNCTION public.mine() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.notes';
-- A view that asks with the reader's rights, and one that only the service reads.
CREATE VIEW public.me WITH (security_invoker = on) AS SELECT id, email FROM auth.users;
GRANT SELECT ON public.me TO authenticated;
CREATE VIEW public.all_users AS SELECT id, email FROM auth.users;
GRANT SELECT ON public.all_users TO service_role;
CREATE VIEW public.all_notes AS SELECT * FROM public.notes;
GRANT SELECT ON public.all_notes TO authenticated;
-- Policies on a table whose row-level security is off guard nothing, and open nothing.
CREATE POLICY reads ON internal.ledger FOR SELECT TO anon USING (true);
CREATE POLICY writes ON internal.ledger FOR INSERT TO anon WITH CHECK (true);

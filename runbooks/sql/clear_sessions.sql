-- Signs everybody out (a schema like Supabase's): people sign in again as soon as they can. Run with a snapshot of both tables.
DELETE FROM auth.refresh_tokens;
DELETE FROM auth.sessions;

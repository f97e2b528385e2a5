UPDATE auth.users SET deleted_at = now() WHERE id = public.user_id(7);
UPDATE auth.users SET banned_until = now() + interval '1 year' WHERE id = public.user_id(9);
-- Half an hour after its end.
SELECT public.open_session(201, 8, interval '1 day', interval '30 minutes', now() - interval '1 hour');
SELECT public.open_session(210 + n, 10, interval '3 days', interval '2 hours', NULL) FROM generate_series(1, 11) AS n;

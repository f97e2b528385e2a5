-- Sessions as they should be, and everything that only looks wrong.
SELECT public.sign_up(n, n * interval '1 hour') FROM generate_series(1, 20) AS n;
SELECT public.open_session(n, n, interval '2 hours', interval '10 minutes', CASE WHEN n % 3 = 0 THEN now() + interval '1 hour' END)
FROM generate_series(1, 20) AS n;
-- Of somebody deleted, and ended; of somebody whose ban is over.
SELECT public.sign_up(101, interval '1 day'), public.sign_up(102, interval '1 day');
UPDATE auth.users SET deleted_at = now() WHERE id = public.user_id(101);
UPDATE auth.users SET banned_until = now() - interval '1 hour' WHERE id = public.user_id(102);
SELECT public.open_session(101, 101, interval '5 hours', interval '3 hours', now() - interval '1 hour');
SELECT public.open_session(102, 102, interval '5 hours', interval '3 hours', NULL);
-- After its end, and long ago.
SELECT public.open_session(104, 2, interval '20 days', interval '9 days', now() - interval '10 days');
-- Refreshed in its last minute; ten at once; many that are old or ended.
SELECT public.open_session(103, 3, interval '1 day', interval '61 minutes', now() - interval '1 hour');
SELECT public.open_session(110 + n, 4, interval '3 hours', interval '1 hour', NULL) FROM generate_series(1, 9) AS n;
SELECT public.open_session(120 + n, 5, interval '9 days', interval '3 days', NULL) FROM generate_series(1, 15) AS n;
SELECT public.open_session(140 + n, 6, interval '5 hours', interval '3 hours', now() - interval '1 hour') FROM generate_series(1, 15) AS n;

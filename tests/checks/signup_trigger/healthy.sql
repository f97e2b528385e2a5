-- The trigger writes the profiles. Columns that fill themselves are no trouble.
SELECT public.sign_up(n, n * interval '1 minute') FROM generate_series(1, 20) AS n;
ALTER TABLE public.profiles ADD COLUMN language text NOT NULL DEFAULT 'en';
ALTER TABLE public.profiles ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
-- Nobody whose profile would be missed: deleted, anonymous, banned.
SELECT public.sign_up(n, interval '1 minute') FROM generate_series(101, 103) AS n;
UPDATE auth.users SET deleted_at = now() WHERE id = public.user_id(101);
UPDATE auth.users SET is_anonymous = true WHERE id = public.user_id(102);
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id = public.user_id(103);
DELETE FROM public.profiles WHERE id IN (public.user_id(101), public.user_id(102), public.user_id(103));

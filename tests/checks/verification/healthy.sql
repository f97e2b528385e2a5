-- Confirmed and verified, and everything that only looks broken.
SELECT public.sign_up(n, n * interval '1 hour') FROM generate_series(1, 20) AS n;
-- Signed up a moment ago, the code is on its way; and a code of last week that nobody waits for any more.
SELECT public.sign_up(101, interval '5 minutes'), public.sign_up(103, interval '8 days');
UPDATE auth.users SET phone_confirmed_at = NULL, confirmation_sent_at = created_at, raw_user_meta_data = '{"phone_verified": false}'
WHERE id IN (public.user_id(101), public.user_id(103));
UPDATE public.profiles SET is_verified = false WHERE id IN (public.user_id(101), public.user_id(103));
-- Nobody to look after.
SELECT public.sign_up(n, interval '1 day') FROM generate_series(104, 106) AS n;
UPDATE public.profiles SET is_verified = false WHERE id IN (public.user_id(104), public.user_id(105), public.user_id(106));
UPDATE auth.users SET deleted_at = now() WHERE id = public.user_id(104);
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id = public.user_id(105);
UPDATE auth.users SET is_anonymous = true WHERE id = public.user_id(106);
-- By phone, with an address that is not confirmed: the metadata is right.
UPDATE auth.users SET email = 'new1@example.com', raw_user_meta_data = '{"phone_verified": true, "email_verified": false}' WHERE id = public.user_id(1);
-- Metadata that people wrote themselves.
UPDATE auth.users SET raw_user_meta_data = NULL WHERE id = public.user_id(3);
UPDATE auth.users SET raw_user_meta_data = '[false]' WHERE id = public.user_id(5);
UPDATE auth.users SET raw_user_meta_data = '{"phone_verified": false, "email_verified": false}'
WHERE id IN (public.user_id(104), public.user_id(105), public.user_id(106));
-- The same with nothing confirmed: verified in the profile, and a code an hour ago.
SELECT public.sign_up(n, interval '1 day') FROM generate_series(107, 109) AS n;
UPDATE auth.users SET phone_confirmed_at = NULL, email_confirmed_at = NULL, confirmation_sent_at = now() - interval '1 hour'
WHERE id IN (public.user_id(107), public.user_id(108), public.user_id(109));
UPDATE auth.users SET deleted_at = now() WHERE id = public.user_id(107);
UPDATE auth.users SET is_anonymous = true WHERE id = public.user_id(108);
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id = public.user_id(109);
UPDATE public.profiles SET is_verified = false WHERE id = public.user_id(109);
-- A code that was used.
UPDATE auth.users SET confirmation_sent_at = now() - interval '1 hour' WHERE id = public.user_id(2);

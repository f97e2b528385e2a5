-- Users with everything, and everything that only looks broken.
SELECT public.sign_up(n, n * interval '1 hour') FROM generate_series(1, 20) AS n;
-- A person who is not linked yet, five minutes after the sign-up, and one who has not confirmed anything.
SELECT public.sign_up(101, interval '5 minutes'), public.sign_up(102, interval '1 day');
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data - 'person_id' WHERE id IN (public.user_id(101), public.user_id(102));
UPDATE auth.users SET email_confirmed_at = NULL WHERE id = public.user_id(102);
UPDATE public.profiles SET person_id = NULL WHERE id IN (public.user_id(101), public.user_id(102));
DELETE FROM auth.identities WHERE user_id = public.user_id(102);
-- Linked in the token only.
UPDATE public.profiles SET person_id = NULL WHERE id = public.user_id(2);
-- Nobody to look after: deleted, anonymous, banned; and single sign-on, whose identities come from elsewhere.
INSERT INTO auth.users (id, email, email_confirmed_at, created_at, deleted_at)
VALUES (public.user_id(103), 'gone@example.com', now(), now() - interval '1 day', now());
INSERT INTO auth.users (id, created_at, is_anonymous) VALUES (public.user_id(104), now() - interval '1 day', true);
INSERT INTO auth.users (id, email, email_confirmed_at, created_at, banned_until)
VALUES (public.user_id(105), 'banned@example.com', now(), now() - interval '1 day', now() + interval '1 day');
INSERT INTO auth.users (id, email, email_confirmed_at, created_at, is_sso_user, raw_app_meta_data)
VALUES (public.user_id(106), 'sso@example.com', now(), now() - interval '1 day', true,
        jsonb_build_object('provider', 'sso', 'person_id', public.person_id(106)));
-- The same with everything wrong: the token empty, two persons, no person, no identity.
SELECT public.sign_up(n, interval '1 day') FROM generate_series(111, 119) AS n;
UPDATE auth.users SET raw_app_meta_data = '{}'
WHERE id IN (public.user_id(111), public.user_id(112), public.user_id(113), public.user_id(117));
UPDATE auth.users SET is_anonymous = true
WHERE id IN (public.user_id(111), public.user_id(114), public.user_id(116), public.user_id(117));
UPDATE auth.users SET deleted_at = now() WHERE id IN (public.user_id(112), public.user_id(115));
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id = public.user_id(113);
UPDATE public.profiles SET person_id = public.person_id(900) WHERE id IN (public.user_id(114), public.user_id(115));
UPDATE public.profiles SET person_id = NULL WHERE id = public.user_id(117);
DELETE FROM auth.identities WHERE user_id = public.user_id(116);
-- Nothing to write providers from: no identity, and nothing confirmed.
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data - 'provider', email_confirmed_at = NULL WHERE id = public.user_id(118);
DELETE FROM auth.identities WHERE user_id = public.user_id(118);

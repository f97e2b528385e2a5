-- Whole sign-ups, and everything that only looks broken.
SELECT public.sign_up(n, n * interval '1 minute') FROM generate_series(1, 20) AS n;
-- The same address in capitals, the same number written for people.
UPDATE public.profiles SET email = upper(email) WHERE id = public.user_id(2);
UPDATE public.profiles SET phone = '+61 400 (000) 001' WHERE id = public.user_id(1);
-- An address that is not confirmed yet, and one that only the profile knows.
UPDATE auth.users SET email = 'new1@example.com' WHERE id = public.user_id(1);
UPDATE public.profiles SET email = 'typed@example.com' WHERE id = public.user_id(3);
-- Nobody whose profile would be missed: deleted, anonymous, banned.
INSERT INTO auth.users (id, created_at, deleted_at) VALUES (public.user_id(101), now(), now());
INSERT INTO auth.users (id, created_at, is_anonymous) VALUES (public.user_id(102), now(), true);
INSERT INTO auth.users (id, created_at, banned_until) VALUES (public.user_id(103), now(), now() + interval '1 year');
-- Long ago: an entry whose user was cleared, a user whose entry was cleared.
INSERT INTO auth.audit_log_entries (id, payload, created_at)
VALUES (public.audit_id(104), '{"action": "user_signedup", "actor_id": "00000000-0000-4000-8000-000000000104"}', now() - interval '40 days');
SELECT public.sign_up(105, interval '3 days');
DELETE FROM auth.audit_log_entries WHERE id = public.audit_id(105);
-- Created by an administrator, who is the actor, and invited; other entries of users who are gone.
SELECT public.sign_up(n, interval '30 minutes') FROM generate_series(106, 107) AS n;
UPDATE auth.audit_log_entries SET payload = json_build_object('action', 'user_signedup', 'actor_id', public.user_id(1),
    'traits', json_build_object('user_id', public.user_id(106))) WHERE id = public.audit_id(106);
UPDATE auth.audit_log_entries SET payload = json_build_object('action', 'user_invited', 'actor_id', public.user_id(1),
    'traits', json_build_object('user_id', public.user_id(107))) WHERE id = public.audit_id(107);
INSERT INTO auth.audit_log_entries (id, payload, created_at)
VALUES (public.audit_id(108), '{"action": "user_deleted", "actor_id": "00000000-0000-4000-8000-000000000999"}', now() - interval '1 hour');
-- Anonymous and banned ones whose profile says something else, and no entry of the anonymous ones.
SELECT public.sign_up(n, interval '20 minutes') FROM generate_series(111, 114) AS n;
UPDATE auth.users SET is_anonymous = true WHERE id IN (public.user_id(111), public.user_id(112));
UPDATE auth.users SET banned_until = now() + interval '1 day' WHERE id IN (public.user_id(113), public.user_id(114));
UPDATE public.profiles SET phone = '+61499999999' WHERE id IN (public.user_id(111), public.user_id(113));
UPDATE public.profiles SET email = 'old@example.com' WHERE id IN (public.user_id(112), public.user_id(114));
DELETE FROM auth.audit_log_entries WHERE id IN (public.audit_id(111), public.audit_id(112));
-- Empty instead of absent, and a number that is not confirmed yet.
SELECT public.sign_up(n, interval '20 minutes') FROM generate_series(115, 118) AS n;
UPDATE auth.users SET email = '', email_confirmed_at = now() WHERE id = public.user_id(115);
UPDATE auth.users SET phone = '', phone_confirmed_at = now() WHERE id = public.user_id(116);
UPDATE auth.users SET phone = '61400000118' WHERE id = public.user_id(118);
-- Signed up when the audit log was written for the last time already.
SELECT public.sign_up(119, interval '20 seconds');
DELETE FROM auth.audit_log_entries WHERE id = public.audit_id(119);
-- Waits for a code: written down when it was asked for, at most.
SELECT public.sign_up(120, interval '20 minutes');
UPDATE auth.users SET email_confirmed_at = NULL WHERE id = public.user_id(120);
DELETE FROM auth.audit_log_entries WHERE id = public.audit_id(120);

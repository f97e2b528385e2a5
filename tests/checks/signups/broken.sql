DELETE FROM public.profiles WHERE id IN (public.user_id(13), public.user_id(14));
-- A ban that is over protects nobody from being looked after.
SELECT public.sign_up(201, interval '5 minutes');
UPDATE auth.users SET banned_until = now() - interval '1 day' WHERE id = public.user_id(201);
DELETE FROM public.profiles WHERE id = public.user_id(201);
INSERT INTO public.profiles (id, phone) VALUES (public.user_id(202), '+61400000202');
UPDATE public.profiles SET email = 'old@example.com' WHERE id = public.user_id(6);
UPDATE public.profiles SET email = NULL WHERE id = public.user_id(8);
UPDATE public.profiles SET phone = '+61 400 999 999' WHERE id = public.user_id(5);
UPDATE public.profiles SET phone = NULL WHERE id = public.user_id(7);
-- Taken back just after it was written down, and an entry that names nobody.
DELETE FROM public.profiles WHERE id = public.user_id(9);
DELETE FROM auth.users WHERE id = public.user_id(9);
INSERT INTO auth.audit_log_entries (id, payload, created_at)
VALUES (public.audit_id(203), '{"action": "user_signedup", "actor_id": "nobody"}', now() - interval '6 days');
DELETE FROM auth.audit_log_entries WHERE id = public.audit_id(11);
-- Deleted: that their profiles stay is told, and nothing else about them.
UPDATE auth.users SET deleted_at = now() WHERE id IN (public.user_id(10), public.user_id(15));
UPDATE public.profiles SET email = 'old@example.com' WHERE id = public.user_id(10);
UPDATE public.profiles SET phone = '+61499999999' WHERE id = public.user_id(15);
DELETE FROM auth.audit_log_entries WHERE id = public.audit_id(10);

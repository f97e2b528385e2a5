UPDATE public.profiles SET is_verified = false WHERE id IN (public.user_id(7), public.user_id(8));
UPDATE auth.users SET raw_user_meta_data = '{"phone_verified": false, "theme": "dark"}' WHERE id = public.user_id(9);
UPDATE auth.users SET phone = '61400000999', phone_confirmed_at = now(), raw_user_meta_data = '{"phone_verified": false, "email_verified": "false"}'
WHERE id = public.user_id(10);
UPDATE auth.users SET phone_confirmed_at = NULL WHERE id = public.user_id(11);
UPDATE auth.users SET phone_confirmed_at = NULL, confirmation_sent_at = now() - interval '1 hour' WHERE id = public.user_id(13);
UPDATE public.profiles SET is_verified = false WHERE id = public.user_id(13);

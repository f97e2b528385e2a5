UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data - 'person_id' WHERE id = public.user_id(3);
-- Nothing at all, in each of the ways in which that is written.
UPDATE auth.users SET raw_app_meta_data = NULL WHERE id = public.user_id(4);
UPDATE auth.users SET raw_app_meta_data = '{}' WHERE id = public.user_id(5);
UPDATE auth.users SET raw_app_meta_data = '[]' WHERE id = public.user_id(6);
UPDATE auth.users SET raw_app_meta_data = 'null' WHERE id = public.user_id(7);
UPDATE public.profiles SET person_id = public.person_id(900) WHERE id = public.user_id(8);
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data - 'person_id' WHERE id IN (public.user_id(9), public.user_id(10));
UPDATE public.profiles SET person_id = NULL WHERE id = public.user_id(9);
DELETE FROM public.profiles WHERE id = public.user_id(10);
UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data - 'provider' - 'providers' WHERE id = public.user_id(11);
DELETE FROM auth.identities WHERE user_id IN (public.user_id(12), public.user_id(13));

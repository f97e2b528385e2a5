ALTER TABLE auth.users DISABLE TRIGGER on_auth_user_created;
INSERT INTO auth.users (id, phone, created_at) VALUES (public.user_id(201), '61400000201', now() - interval '2 minutes');
INSERT INTO auth.users (id, phone, created_at) VALUES (public.user_id(202), '61400000202', now() - interval '20 minutes');
ALTER FUNCTION public.handle_new_user() SECURITY INVOKER;
ALTER FUNCTION public.handle_new_user() RESET search_path;
ALTER TABLE public.profiles ADD COLUMN nickname text NOT NULL DEFAULT '';
ALTER TABLE public.profiles ALTER COLUMN nickname DROP DEFAULT;

-- The trigger that writes the profile, as it should be.
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.profiles (id, phone, email) VALUES (new.id, '+' || new.phone, new.email);
    RETURN new;
END
$$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
-- Somebody else's: one that writes no profile, and some that are off or act as their caller, for changes or on other tables.
CREATE FUNCTION public.count_user() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$;
CREATE TRIGGER on_auth_user_counted AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.count_user();
CREATE FUNCTION public.note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public.profiles WHERE id = new.id;
    RETURN new;
END
$$;
CREATE TRIGGER on_auth_user_changed AFTER UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.note_change();
ALTER TABLE auth.users DISABLE TRIGGER on_auth_user_changed;
CREATE TABLE public.users (id uuid PRIMARY KEY);
CREATE TRIGGER on_user_created AFTER INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION public.note_change();
ALTER TABLE public.users DISABLE TRIGGER on_user_created;
CREATE TRIGGER on_identity_created AFTER INSERT ON auth.identities FOR EACH ROW EXECUTE FUNCTION public.note_change();
ALTER TABLE auth.identities DISABLE TRIGGER on_identity_created;

SELECT public.sign_up(n, n * interval '1 minute') FROM generate_series(1, 5) AS n;
INSERT INTO public.notes SELECT n, public.user_id(n), 'mine' FROM generate_series(1, 5) AS n;

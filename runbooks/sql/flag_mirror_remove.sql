-- Takes the mirror of flags away (PostgreSQL). Policies that still call the function keep it from being dropped, and are named.
DROP FUNCTION IF EXISTS switchback.flag_enabled(TEXT);
DROP TABLE IF EXISTS switchback.flags;
DROP TABLE IF EXISTS switchback.mirror;

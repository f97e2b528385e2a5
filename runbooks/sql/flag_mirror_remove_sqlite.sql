-- Takes the mirror of flags away (SQLite).
DROP VIEW IF EXISTS switchback_flag_enabled;
DROP TABLE IF EXISTS switchback_flags;
DROP TABLE IF EXISTS switchback_mirror;

-- Each query gives no row while example_names_split_up.sql is applied. Without its columns the query is refused, which
-- counts as not applied.
SELECT id FROM example_people WHERE first_name IS NULL AND last_name IS NULL;

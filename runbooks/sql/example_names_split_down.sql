-- Takes example_names_split_up.sql back: first and last names become full names again. People who came since keep theirs.
-- Where each name was joined is kept in example_people_split, so that going up again gives exactly these columns back.
ALTER TABLE example_people ADD COLUMN full_name TEXT NOT NULL DEFAULT '';
UPDATE example_people SET full_name = CASE
    WHEN first_name IS NULL THEN COALESCE(last_name, '')
    WHEN last_name IS NULL THEN first_name
    ELSE first_name || ' ' || last_name
    END;
CREATE TABLE example_people_split (id BIGINT PRIMARY KEY, full_name TEXT, first_name TEXT, last_name TEXT);
INSERT INTO example_people_split (id, full_name, first_name, last_name)
    SELECT id, full_name, first_name, last_name FROM example_people;
ALTER TABLE example_people DROP COLUMN first_name;
ALTER TABLE example_people DROP COLUMN last_name;

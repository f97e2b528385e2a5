-- An example for the playbook data-migration-reversal (PostgreSQL and SQLite): people's full names become first and last
-- names. A file of the same name in the folder `sql` of your runbooks_dir takes the place of this one.
--
-- The last word is the last name, whatever it is: a guess, as such splits are. A name of one word has no first name.
ALTER TABLE example_people ADD COLUMN first_name TEXT;
ALTER TABLE example_people ADD COLUMN last_name TEXT;
UPDATE example_people SET last_name = full_name WHERE full_name NOT LIKE '% %';
UPDATE example_people SET
    first_name = substr(full_name, 1, length(rtrim(full_name, replace(full_name, ' ', ''))) - 1),
    last_name = substr(full_name, length(rtrim(full_name, replace(full_name, ' ', ''))) + 1)
    WHERE full_name LIKE '% %';
-- Names that example_names_split_down.sql put together come apart where they were joined, unless they were changed since.
CREATE TABLE IF NOT EXISTS example_people_split (id BIGINT PRIMARY KEY, full_name TEXT, first_name TEXT, last_name TEXT);
UPDATE example_people SET
    first_name = (SELECT kept.first_name FROM example_people_split AS kept WHERE kept.id = example_people.id),
    last_name = (SELECT kept.last_name FROM example_people_split AS kept WHERE kept.id = example_people.id)
    WHERE EXISTS (SELECT 1 FROM example_people_split AS kept
                  WHERE kept.id = example_people.id AND kept.full_name = example_people.full_name);
DROP TABLE example_people_split;
ALTER TABLE example_people DROP COLUMN full_name;

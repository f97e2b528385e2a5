CREATE TABLE people (id INTEGER PRIMARY KEY, phone TEXT NOT NULL, platform TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE profiles (id TEXT PRIMARY KEY, person INTEGER NOT NULL, phone TEXT NOT NULL, language TEXT NOT NULL);
CREATE INDEX profiles_person ON profiles (person);
INSERT INTO people (id, phone, platform, created_at)
  WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 2400)
  SELECT id, CASE id % 3 WHEN 0 THEN '+6141234' WHEN 1 THEN '+3538512' ELSE '+4915123' END || (1000 + id),
    CASE id % 4 WHEN 0 THEN 'android' WHEN 1 THEN 'web' ELSE 'ios' END,
    strftime('%Y-%m-%d %H:%M:%S', 'now', '-' || (2400 - id) || ' minutes') FROM n;
INSERT INTO profiles (id, person, phone, language)
  SELECT 'profile-' || id, id, phone, CASE id % 2 WHEN 0 THEN 'en' ELSE 'de' END FROM people
  WHERE id NOT IN (311, 1204, 1877, 2290, 2391, 2395, 2398);
UPDATE profiles SET phone = '+61400000000' WHERE person IN (42, 900, 1500);
INSERT INTO profiles (id, person, phone, language) VALUES ('profile-9001', 9001, '+4915129001', 'de'), ('profile-9002', 9002, '+3538519002', 'en');

//! People and profiles in a server's data source, three of them broken, with a pack of checks that heals them.

use reqwest::Method;
use serde_json::json;

use crate::{Api, Backend};

/// The pack. It finds three people without a profile, and one whose profile has another number.
pub const PACK: &str = "\
kind: CheckPack
metadata: {name: people, title: People are whole, owner: shop}
spec:
  about: Each person has a profile.
  monitor: {every: 1s, event: 1s, full: 1s, cooldown: 0s, attempts: 3, observe_for: 0s, share_max: 100%, fixes_per_minute: 100000, fixes_per_sweep: 10000}
  checks:
    - name: profile_missing
      title: A person without a profile
      class: auth_only
      severity: error
      label: phone
      detect: |
        SELECT p.id AS key, p.phone AS label, p.platform FROM people p
        WHERE NOT EXISTS (SELECT 1 FROM profiles f WHERE f.person = p.id)
      population: SELECT count(*) AS count FROM people
      fix:
        per: key
        sql: |
          INSERT INTO profiles (id, person, phone)
          SELECT 'f' || CAST(p.id AS TEXT), p.id, p.phone FROM people p WHERE p.id = CAST($1 AS BIGINT)
          ON CONFLICT (id) DO NOTHING
        tables: [{table: profiles, key: person}]
    - name: unverified
      title: A person whose profile has another number
      class: mismatch
      severity: warning
      label: phone
      detect: |
        SELECT p.id AS key, p.phone AS label FROM people p JOIN profiles f ON f.person = p.id WHERE f.phone <> p.phone
      fix:
        per: key
        sql: UPDATE profiles SET phone = (SELECT phone FROM people p WHERE p.id = profiles.person) WHERE person = CAST($1 AS BIGINT)
        tables: [{table: profiles, key: person}]
";

const TABLES: &str = "\
CREATE TABLE people (id BIGINT PRIMARY KEY, phone TEXT NOT NULL, platform TEXT);
CREATE TABLE profiles (id TEXT PRIMARY KEY, person BIGINT NOT NULL, phone TEXT NOT NULL, weight DOUBLE PRECISION DEFAULT 0.1);
INSERT INTO people (id, phone, platform) VALUES (1, '+61412345612', 'ios'), (2, '+61412345613', 'web'), (3, '+35385123456', 'web'),
  (4, '+15551234567', NULL), (5, '+61412345615', 'ios');
INSERT INTO profiles (id, person, phone) VALUES ('f1', 1, '+61412345612'), ('f2', 2, '+61400000000')";

/// Makes the tables, and the pack; it is not in use yet.
pub async fn make(backend: &Backend, api: &Api) {
    for statement in TABLES.split(';') {
        backend.tamper(statement).await;
    }
    api.put("/api/v1/checks/people", json!({"source": PACK})).await;
}

/// Changes how the pack is monitored.
pub async fn set(api: &Api, change: serde_json::Value) -> serde_json::Value {
    let path = "/api/v1/checks/people/settings";
    let answer = api.send(Method::PATCH, path, Some(change)).await;
    assert!(answer.status.is_success(), "{}", answer.body);
    answer.body
}

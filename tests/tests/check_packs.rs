//! The shipped packs of checks, each on a database that is whole and on the same one broken in known ways.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use switchback_checks::{Check, Fix, Pack, Per};
use switchback_tests::Backend;

/// What each check of a pack finds on the broken database.
type Expected = BTreeMap<String, Vec<String>>;

/// A database of an app, on either system.
enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn fixture(path: &str) -> String {
    let path = root().join("tests/checks").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shipped(name: &str) -> Pack {
    let path = root().join("runbooks/checks").join(format!("{name}.yaml"));
    Pack::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn expected(name: &str) -> Expected {
    serde_json::from_str(&fixture(&format!("{name}/expected.json"))).unwrap()
}

impl Database {
    /// A new connection, so that what the schema sets for the whole database holds.
    async fn open(backend: &Backend) -> Self {
        if backend.database_url.is_empty() {
            let file = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(backend.folder.path().join("app.db"))
                .create_if_missing(true);
            return Self::Sqlite(SqliteConnection::connect_with(&file).await.unwrap());
        }
        Self::Postgres(PgConnection::connect(&backend.database_url).await.unwrap())
    }

    /// Runs a script.
    async fn script(&mut self, text: &str) {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        let done = match self {
            Self::Postgres(connection) => connection.execute(sqlx::raw_sql(text)).await.map(|_| ()),
            Self::Sqlite(connection) => connection.execute(sqlx::raw_sql(text)).await.map(|_| ()),
        };
        done.unwrap();
    }

    /// The first column of every row, as texts. `$1` may be keys, as a fix takes them.
    async fn column(&mut self, sql: &str, keys: &[String]) -> Vec<String> {
        let text = sqlx::AssertSqlSafe(sql.to_owned());
        let found = match self {
            Self::Postgres(connection) => {
                let query = sqlx::query_scalar(text);
                let query = if sql.contains("$1") { query.bind(keys.to_vec()) } else { query };
                query.fetch_all(connection).await
            }
            Self::Sqlite(connection) => {
                let query = sqlx::query_scalar(text);
                let list = serde_json::to_string(keys).unwrap();
                let query = if sql.contains("$1") { query.bind(list) } else { query };
                query.fetch_all(connection).await
            }
        };
        found.unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    /// What a check finds: its keys, in their own order.
    async fn detect(&mut self, check: &Check) -> Vec<String> {
        let sql = format!("SELECT CAST(d.key AS TEXT) FROM ({}) AS d ORDER BY d.key", check.detect);
        self.column(&sql, &[]).await
    }

    /// Applies a fix to keys and says how many rows it changed.
    async fn fix(&mut self, fix: &Fix, keys: &[String]) -> u64 {
        let mut changed = 0;
        let batches: Vec<&[String]> = match fix.per {
            Per::Batch => vec![keys],
            Per::Key => keys.chunks(1).collect(),
        };
        for batch in batches {
            let text = sqlx::AssertSqlSafe(fix.sql.clone());
            let first = batch[0].clone();
            let list = serde_json::to_string(batch).unwrap();
            changed += match (&mut *self, fix.per) {
                (Self::Postgres(connection), Per::Batch) => sqlx::query(text)
                    .bind(batch.to_vec())
                    .execute(connection)
                    .await
                    .unwrap()
                    .rows_affected(),
                (Self::Postgres(connection), Per::Key) => {
                    sqlx::query(text).bind(first).execute(connection).await.unwrap().rows_affected()
                }
                (Self::Sqlite(connection), per) => {
                    let given = if per == Per::Key { first } else { list };
                    sqlx::query(text).bind(given).execute(connection).await.unwrap().rows_affected()
                }
            };
        }
        changed
    }

    /// Every row of every table, apart from those that a fix may touch: the keys' own in the tables that it names.
    async fn untouched(&mut self, fix: &Fix, keys: &[String]) -> BTreeMap<String, Vec<String>> {
        let tables = self.column(self.tables(), &[]).await;
        let mut rows = BTreeMap::new();
        let mut named = 0;
        for table in tables {
            let is_it = |name: &str| name == table || format!("public.{name}") == table;
            let touched = fix.tables.iter().find(|touched| is_it(&touched.table));
            named += usize::from(touched.is_some());
            let sql = self.rows(&table, touched.map(|touched| touched.key.as_str())).await;
            rows.insert(table, self.column(&sql, keys).await);
        }
        assert_eq!(named, fix.tables.len(), "every table is there: {:?}", fix.tables);
        rows
    }

    fn tables(&self) -> &'static str {
        match self {
            Self::Postgres(_) => {
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                 WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            }
            Self::Sqlite(_) => "SELECT name FROM sqlite_schema WHERE type = 'table'",
        }
    }

    /// A query for the rows of a table as texts, without those whose column holds one of the keys in `$1`.
    async fn rows(&mut self, table: &str, key: Option<&str>) -> String {
        match self {
            Self::Postgres(_) => {
                let others = key.map_or(String::new(), |key| {
                    format!("WHERE (t.{key}::text = ANY($1)) IS NOT TRUE")
                });
                format!("SELECT to_jsonb(t)::text FROM {table} AS t {others} ORDER BY 1")
            }
            Self::Sqlite(_) => {
                let names = format!("SELECT name FROM pragma_table_info('{table}')");
                let columns = self.column(&names, &[]).await;
                let values: Vec<_> = columns.iter().map(|name| format!("quote({name})")).collect();
                let others = key.map_or(String::new(), |key| {
                    format!("WHERE CAST({key} AS TEXT) NOT IN (SELECT value FROM json_each($1))")
                });
                format!("SELECT {} FROM {table} {others} ORDER BY 1", values.join(" || ',' || "))
            }
        }
    }
}

/// Builds the database of a pack; `broken` also breaks it.
async fn build(backend: &Backend, pack: &Pack, broken: bool) -> Database {
    let mut database = Database::open(backend).await;
    if !pack.dialects.iter().any(|dialect| dialect == "sqlite") {
        database.script(&fixture("supabase.sql")).await;
    }
    database.script(&fixture(&format!("{}/schema.sql", pack.name))).await;
    let mut database = Database::open(backend).await;
    database.script(&fixture(&format!("{}/healthy.sql", pack.name))).await;
    if broken {
        database.script(&fixture(&format!("{}/broken.sql", pack.name))).await;
    }
    database
}

async fn backend(dialect: &str) -> Backend {
    if dialect == "sqlite" { Backend::sqlite() } else { Backend::postgres().await }
}

/// A pack on every database that it is for: silent on a healthy one, exact on a broken one, and its fixes heal
/// what was found, nothing else, and once.
async fn prove(name: &str) {
    let (pack, expected) = (shipped(name), expected(name));
    assert_eq!(pack.name, name);
    let tried: Vec<&String> = expected.keys().collect();
    let mut there: Vec<&String> = pack.checks.iter().map(|check| &check.name).collect();
    there.sort();
    assert_eq!(tried, there, "every check has something to find");

    for dialect in &pack.dialects {
        let whole = backend(dialect).await;
        let mut database = build(&whole, &pack, false).await;
        for check in &pack.checks {
            let found = database.detect(check).await;
            assert!(found.is_empty(), "{dialect} {}: {found:?} are healthy", check.name);
        }

        let faulty = backend(dialect).await;
        let mut database = build(&faulty, &pack, true).await;
        for check in &pack.checks {
            let found = database.detect(check).await;
            assert_eq!(found, expected[&check.name], "{dialect} {}", check.name);
            agrees_with_the_engine(&mut database, check, &found).await;
        }
        for check in &pack.checks {
            heals(&mut database, check, &expected[&check.name]).await;
        }
    }
}

/// A fix heals its keys, touches nothing else, stays within its own bound, and does nothing the second time.
async fn heals(database: &mut Database, check: &Check, keys: &[String]) {
    let Some(fix) = &check.fix else { return };
    let found = database.detect(check).await;
    assert_eq!(found, keys, "{}: an earlier fix changed it", check.name);
    let (one, others) = keys.split_first().unwrap();
    let before = database.untouched(fix, std::slice::from_ref(one)).await;

    let changed = database.fix(fix, std::slice::from_ref(one)).await;
    let left = database.detect(check).await;
    let after = database.untouched(fix, std::slice::from_ref(one)).await;
    let again = database.fix(fix, std::slice::from_ref(one)).await;

    assert!((1..=fix.rows_per_key).contains(&changed), "{}: {changed} rows", check.name);
    assert_eq!(left, others, "{}: the one key is healed, the others are left alone", check.name);
    assert_eq!(before, after, "{}: something else was touched", check.name);
    assert_eq!(again, 0, "{}: the second time changes nothing", check.name);

    let before = database.untouched(fix, keys).await;
    let changed = database.fix(fix, keys).await;
    assert!(changed <= fix.rows_per_key * others.len() as u64, "{}: {changed} rows", check.name);
    assert_eq!(database.detect(check).await, Vec::<String>::new(), "{}", check.name);
    assert_eq!(database.untouched(fix, keys).await, before, "{}", check.name);
    assert_eq!(database.fix(fix, keys).await, 0, "{}", check.name);
}

/// What the engine puts around a query works: by key, by time, page by page; and its population is a number.
async fn agrees_with_the_engine(database: &mut Database, check: &Check, found: &[String]) {
    let detect = &check.detect;
    let limited = format!("SELECT CAST(d.key AS TEXT) FROM ({detect}) AS d ORDER BY d.key LIMIT 1");
    assert_eq!(database.column(&limited, &[]).await, found[..1], "{}", check.name);
    let (by_key, recent) = match database {
        Database::Postgres(_) => ("d.key::text = ANY($1)", "d.since > now() - interval '99 years'"),
        Database::Sqlite(_) => (
            "CAST(d.key AS TEXT) IN (SELECT value FROM json_each($1))",
            "d.since > datetime('now', '-99 years')",
        ),
    };
    let picked = format!("SELECT CAST(d.key AS TEXT) FROM ({detect}) AS d WHERE {by_key}");
    assert_eq!(database.column(&picked, &found[..1]).await, found[..1], "{}", check.name);
    if detect.contains(" AS since") || detect.contains("s.since") {
        let recent = format!(
            "SELECT CAST(d.key AS TEXT) FROM ({detect}) AS d WHERE {recent} ORDER BY d.key"
        );
        assert_eq!(database.column(&recent, &[]).await, found, "{}: since", check.name);
    }
    if let Some(population) = &check.population {
        let sql = format!("SELECT CAST(p.count AS TEXT) FROM ({population}) AS p");
        let count: usize = database.column(&sql, &[]).await[0].parse().unwrap();
        assert!(count > 0, "{}: nobody is counted", check.name);
    }
    for index in &check.indexes {
        // What builds an index beside writers cannot run in a script.
        database
            .script(&index.replace(" CONCURRENTLY", "").replace("INDEX ", "INDEX IF NOT EXISTS "))
            .await;
    }
}

#[tokio::test]
async fn signups() {
    prove("signups").await;
}

#[tokio::test]
async fn user_metadata() {
    prove("user_metadata").await;
}

#[tokio::test]
async fn verification() {
    prove("verification").await;
}

#[tokio::test]
async fn signup_trigger() {
    prove("signup_trigger").await;
}

#[tokio::test]
async fn security() {
    prove("security").await;
}

#[tokio::test]
async fn user_sessions() {
    prove("user_sessions").await;
}

#[tokio::test]
async fn plain_app() {
    prove("plain_app").await;
}

/// Every shipped pack is proved above, and says to people what each of its checks means.
#[test]
fn every_shipped_pack_is_tried_and_explained() {
    let this = include_str!("check_packs.rs");
    let documents = std::fs::read_to_string(root().join("docs/checks-packs.md")).unwrap();
    for entry in std::fs::read_dir(root().join("runbooks/checks")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let pack = shipped(name);
        assert!(this.contains(&format!("prove(\"{name}\")")), "{name} is not tried");
        assert!(!pack.about.is_empty(), "{name}");
        for check in &pack.checks {
            assert!(!check.about.is_empty(), "{name}: {}", check.name);
            let told = format!("`{}`", check.name);
            assert!(documents.contains(&told), "docs/checks-packs.md does not tell of {told}");
        }
    }
}

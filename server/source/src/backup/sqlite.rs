//! Backups of SQLite: a copy of the file as one transaction sees it, and its tables copied back in one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tokio::time::{Instant, timeout};

use super::files::{Partial, cannot};
use super::{CONNECT_WITHIN, Count, Look, Proof, Scope, Shelf, Taken, compare, proof};
use crate::connect::Source;
use crate::error::SourceError;
use crate::query::LOOK_EVERY;

/// The app's own tables: not SQLite's, not what we keep ourselves.
const OWN: &str =
    "tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND tbl_name NOT LIKE 'switchback\\_%' ESCAPE '\\'";

/// A connection of its own; what it does ends when this is dropped.
struct Session {
    connection: SqliteConnection,
    is_over: Arc<AtomicBool>,
}

impl Session {
    async fn open(source: &Source, path: &Path, read_only: bool) -> Result<Self, SourceError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .read_only(read_only)
            .foreign_keys(false) // tables are replaced one by one; they are looked at before the commit
            .busy_timeout(Duration::from_millis(source.settings().lock_timeout_ms));
        let Ok(connected) = timeout(CONNECT_WITHIN, options.connect()).await else {
            return Err(SourceError::Unreachable("it did not answer in time".to_owned()));
        };
        let mut connection = connected.map_err(|error| source.error(error))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let mut handle = connection.lock_handle().await.map_err(|error| source.error(error))?;
        handle.set_progress_handler(LOOK_EVERY, move || !seen.load(Ordering::Relaxed));
        drop(handle);
        Ok(Self { connection, is_over })
    }

    async fn run(&mut self, source: &Source, sql: String) -> Result<(), SourceError> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| words(source, error))
    }

    async fn number(&mut self, source: &Source, sql: String) -> Result<u64, SourceError> {
        let asked = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
        let found = asked.fetch_one(&mut self.connection).await;
        Ok(found.map_err(|error| words(source, error))?.max(0) as u64)
    }

    async fn texts(&mut self, source: &Source, sql: String) -> Result<Vec<String>, SourceError> {
        let asked = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
        asked.fetch_all(&mut self.connection).await.map_err(|error| words(source, error))
    }

    async fn tables(&mut self, source: &Source) -> Result<Vec<String>, SourceError> {
        let sql =
            format!("SELECT name FROM sqlite_master WHERE type = 'table' AND {OWN} ORDER BY name");
        self.texts(source, sql).await
    }

    async fn counts(&mut self, source: &Source) -> Result<Vec<Count>, SourceError> {
        let mut counts = Vec::new();
        for table in self.tables(source).await? {
            let rows =
                self.number(source, format!("SELECT COUNT(*) FROM {}", quote(&table))).await?;
            counts.push(Count { table, rows });
        }
        Ok(counts)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The database's size, in bytes.
pub(super) async fn size(source: &Source) -> Result<u64, SourceError> {
    let mut session = Session::open(source, &file_of(source).await?, true).await?;
    let pages = session.number(source, "PRAGMA page_count".to_owned()).await?;
    Ok(pages.saturating_mul(session.number(source, "PRAGMA page_size".to_owned()).await?))
}

/// Copies the database. The rows are counted in the copy, which is the snapshot itself.
pub(super) async fn take(
    source: &Source,
    scope: &Scope,
    partial: &Partial,
) -> Result<(String, Vec<Count>), SourceError> {
    if !scope.schemas.is_empty() {
        return Err(SourceError::Refused("SQLite has no schemas; name tables".to_owned()));
    }
    let mut session = Session::open(source, &file_of(source).await?, true).await?;
    let there = session.tables(source).await?;
    if let Some(missing) = scope.tables.iter().find(|name| !there.contains(name)) {
        return Err(SourceError::Refused(format!("there is no table `{missing}`")));
    }
    let version = session.texts(source, "SELECT sqlite_version()".to_owned()).await?.join("");
    let copied = sqlx::query("VACUUM INTO $1").bind(partial.path.display().to_string());
    copied.execute(&mut session.connection).await.map_err(|error| words(source, error))?;
    let mut copy = Session::open(source, &partial.path, false).await?;
    if !scope.tables.is_empty() {
        for table in there.iter().filter(|name| !scope.tables.contains(name)) {
            copy.run(source, format!("DROP TABLE {}", quote(table))).await?;
        }
        let ours = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'switchback\\_%' ESCAPE '\\'";
        for table in copy.texts(source, ours.to_owned()).await? {
            copy.run(source, format!("DROP TABLE {}", quote(&table))).await?;
        }
        copy.run(source, "VACUUM".to_owned()).await?;
    }
    let counts = copy.counts(source).await?;
    let Session { connection, .. } = &mut copy;
    let _ = sqlx::raw_sql("PRAGMA journal_mode = DELETE").execute(connection).await; // one file, whatever it was
    Ok((version, counts))
}

/// Copies the backup beside itself and looks at the copy as an app would.
pub(super) async fn prove(
    source: &Source,
    shelf: &Shelf,
    file: &str,
    taken: &Taken,
    looks: &[Look],
) -> Result<Proof, SourceError> {
    let begun = Instant::now();
    let scratch = Partial::new(&shelf.folder, &format!("scratch-{file}")).await?;
    let mut from = tokio::fs::File::open(shelf.folder.join(file))
        .await
        .map_err(|error| cannot(&shelf.folder.join(file), "be read", &error))?;
    let mut to = scratch.handle()?;
    let copied = async {
        tokio::io::copy(&mut from, &mut to).await?;
        to.sync_all().await
    };
    copied.await.map_err(|error| cannot(&scratch.path, "be written", &error))?;
    let mut session = Session::open(source, &scratch.path, true).await?;
    let faults = session.texts(source, "PRAGMA integrity_check(3)".to_owned()).await?;
    if faults != ["ok"] {
        let message = format!("the backup is damaged: {}", faults.join("; "));
        return Err(SourceError::Refused(message));
    }
    let restored = Instant::now();
    compare(&taken.counts, &session.counts(source).await?)?;
    let address = format!("sqlite:{}", scratch.path.display());
    Source::at(source.settings().clone(), address).looks_hold(looks).await?;
    Ok(proof(begun, restored, &taken.counts, looks))
}

/// Replaces the tables that the backup holds by its own, in one transaction.
pub(super) async fn restore(source: &Source, shelf: &Shelf, file: &str) -> Result<(), SourceError> {
    let mut session = Session::open(source, &file_of(source).await?, false).await?;
    let attached =
        sqlx::query("ATTACH $1 AS kept").bind(shelf.folder.join(file).display().to_string());
    attached.execute(&mut session.connection).await.map_err(|error| words(source, error))?;
    session.run(source, "BEGIN IMMEDIATE".to_owned()).await?;
    replace(source, &mut session).await?;
    session.run(source, "COMMIT".to_owned()).await?;
    let Session { connection, .. } = &mut session;
    let _ = sqlx::raw_sql("DETACH kept").execute(connection).await;
    source.forget().await; // statements that were prepared for the tables of before
    Ok(())
}

async fn replace(source: &Source, session: &mut Session) -> Result<(), SourceError> {
    let tables = format!(
        "SELECT name FROM kept.sqlite_master WHERE type = 'table' AND {OWN} ORDER BY rowid"
    );
    let tables = session.texts(source, tables).await?;
    let before = session.number(source, orphans("kept")).await?;
    for table in &tables {
        let name = quote(table);
        let text = format!(
            "SELECT sql FROM kept.sqlite_master WHERE type = 'table' AND name = {}",
            literal(table)
        );
        let make = session.texts(source, text).await?.join("");
        if make.to_ascii_uppercase().starts_with("CREATE VIRTUAL") {
            let message = format!("`{table}` is a virtual table, which cannot be copied back");
            return Err(SourceError::Refused(message));
        }
        let columns = format!(
            "SELECT name FROM pragma_table_xinfo({}, 'kept') WHERE hidden = 0",
            literal(table)
        );
        let columns = session.texts(source, columns).await?;
        let columns = columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        session.run(source, format!("DROP TABLE IF EXISTS main.{name}")).await?;
        session.run(source, make).await?;
        let copy = format!("INSERT INTO main.{name} ({columns}) SELECT {columns} FROM kept.{name}");
        session.run(source, copy).await?;
    }
    let has = "SELECT COUNT(*) FROM kept.sqlite_master WHERE name = 'sqlite_sequence'".to_owned();
    if session.number(source, has).await? > 0 {
        let texts = tables.iter().map(|table| literal(table)).collect::<Vec<_>>().join(", ");
        let numbers = format!(
            "DELETE FROM main.sqlite_sequence WHERE name IN ({texts}); \
             INSERT INTO main.sqlite_sequence SELECT * FROM kept.sqlite_sequence WHERE name IN ({texts})"
        );
        session.run(source, numbers).await?;
    }
    // Indexes, triggers and views, once every table is there: triggers must not see the copying.
    let rest = format!(
        "SELECT type || char(10) || name FROM kept.sqlite_master WHERE type <> 'table' AND sql IS NOT NULL AND {OWN} ORDER BY rowid"
    );
    for one in session.texts(source, rest).await? {
        let (kind, name) = one.split_once('\n').unwrap_or_default();
        let text = format!(
            "SELECT sql FROM kept.sqlite_master WHERE type = '{kind}' AND name = {}",
            literal(name)
        );
        let make = session.texts(source, text).await?.join("");
        session.run(source, format!("DROP {kind} IF EXISTS main.{}; {make}", quote(name))).await?;
    }
    if session.number(source, orphans("main")).await? > before {
        let message =
            "rows of other tables refer to rows that the backup does not hold; nothing was changed";
        return Err(SourceError::Refused(message.to_owned()));
    }
    let version = session.number(source, "PRAGMA kept.user_version".to_owned()).await?;
    session.run(source, format!("PRAGMA main.user_version = {version}")).await
}

/// Counts rows that refer to rows which are not there.
fn orphans(schema: &str) -> String {
    format!("SELECT COUNT(*) FROM pragma_foreign_key_check WHERE schema = '{schema}'")
}

async fn file_of(source: &Source) -> Result<std::path::PathBuf, SourceError> {
    let address = source.address().await?;
    let path = address.strip_prefix("sqlite:").unwrap_or(&address);
    Ok(Path::new(path.trim_start_matches("//")).to_owned())
}

/// What a driver's error means; a full disk is said plainly.
fn words(source: &Source, error: sqlx::Error) -> SourceError {
    match source.error(error) {
        SourceError::Refused(why) if why.contains("disk is full") => {
            SourceError::Refused("the disk is full; nothing of it was kept".to_owned())
        }
        other => other,
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

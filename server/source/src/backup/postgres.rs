//! Backups of PostgreSQL, by its own `pg_dump` and `pg_restore`.

use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::child::{Program, Target, with_database};
use super::files::{Partial, cannot};
use super::{CONNECT_WITHIN, Count, Look, Proof, Scope, Shelf, Taken, compare, proof};
use crate::connect::Source;
use crate::error::SourceError;

/// Databases that only prove backups begin so.
const SCRATCH: &str = "switchback_scratch_";
/// What we keep in the data source ourselves is not the app's, and must not go back in time with it.
const OWN_SCHEMA: &str = "switchback";

/// What policies of the app may call.
const MIRROR_STUB: &str = "CREATE SCHEMA switchback; CREATE FUNCTION switchback.flag_enabled(name TEXT) RETURNS BOOLEAN \
    LANGUAGE sql STABLE AS 'SELECT FALSE'";

/// Tables that hold rows, without those of the system, of extensions and our own.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('information_schema', 'switchback') AND n.nspname NOT LIKE 'pg\\_%' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1, 2";

/// How much the data of a scope takes, in bytes.
pub(super) async fn size(source: &Source, scope: &Scope) -> Result<u64, SourceError> {
    let mut connection = connect(source, &address(source).await?).await?;
    let error = |error| source.error(error);
    if *scope == Scope::default() {
        let asked = sqlx::query_scalar::<_, i64>("SELECT pg_database_size(current_database())");
        return Ok(asked.fetch_one(&mut connection).await.map_err(error)?.max(0) as u64);
    }
    let mut bytes = 0;
    for (schema, table) in tables(source, &mut connection, scope).await? {
        let asked = sqlx::query_scalar::<_, i64>("SELECT pg_total_relation_size($1::regclass)");
        let asked = asked.bind(quoted(&schema, &table)).fetch_one(&mut connection).await;
        bytes += asked.map_err(error)?.max(0) as u64;
    }
    Ok(bytes)
}

/// Dumps the scope as one snapshot sees it, and counts its rows in the same snapshot.
pub(super) async fn take(
    source: &Source,
    shelf: &Shelf,
    scope: &Scope,
    partial: &Partial,
) -> Result<(String, Vec<Count>), SourceError> {
    let address = address(source).await?;
    let mut connection = connect(source, &address).await?;
    let version = version(source, &mut connection).await?;
    let program = Program::find(shelf, "pg_dump", &version).await?;
    let error = |error| source.error(error);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    sqlx::raw_sql(begin).execute(&mut connection).await.map_err(error)?;
    let snapshot = sqlx::query_scalar::<_, String>("SELECT pg_export_snapshot()");
    let snapshot = snapshot.fetch_one(&mut connection).await.map_err(error)?;
    let tables = tables(source, &mut connection, scope).await?;
    let mut arguments = vec![
        "--format=custom".to_owned(),
        "--no-password".to_owned(),
        format!("--snapshot={snapshot}"),
        format!("--lock-wait-timeout={}", source.settings().lock_timeout_ms),
        format!("--exclude-schema={OWN_SCHEMA}"),
    ];
    arguments.extend(scope.schemas.iter().map(|name| format!("--schema={}", quote(name))));
    if !scope.tables.is_empty() {
        let named =
            tables.iter().map(|(schema, table)| format!("--table={}", quoted(schema, table)));
        arguments.extend(named);
    }
    let target = Target::of(&address)?;
    let output = partial.handle()?;
    let dump = program.run(&target, &arguments, None, Some(output));
    let (_, counts) = tokio::try_join!(dump, count(source, &mut connection, &tables))?;
    let _ = connection.close().await;
    Ok((version, counts))
}

/// Restores into a database that is there for this alone.
pub(super) async fn prove(
    source: &Source,
    shelf: &Shelf,
    file: &str,
    taken: &Taken,
    looks: &[Look],
    id: &str,
) -> Result<Proof, SourceError> {
    let begun = Instant::now();
    let (mut admin, program, scratch) = make_scratch(source, shelf, id).await?;
    let tried = restore_there(source, shelf, file, taken, looks, &program, &scratch, begun).await;
    scratch.remove(source, &mut admin).await;
    tried
}

/// Restores a backup into a scratch database that stays.
pub(super) async fn copy(
    source: &Source,
    shelf: &Shelf,
    file: &str,
    taken: &Taken,
    id: &str,
) -> Result<(), SourceError> {
    let (mut admin, program, mut scratch) = make_scratch(source, shelf, id).await?;
    let begun = Instant::now();
    match restore_there(source, shelf, file, taken, &[], &program, &scratch, begun).await {
        Ok(_) => {
            scratch.is_over = true;
            Ok(())
        }
        Err(error) => {
            scratch.remove(source, &mut admin).await;
            Err(error)
        }
    }
}

/// The address of a copy.
pub(super) async fn scratch_address(source: &Source, id: &str) -> Result<String, SourceError> {
    with_database(&home(source).await?, &scratch_name(id))
}

/// Removes a copy, whoever is still connected to it.
pub(super) async fn drop_copy(source: &Source, id: &str) -> Result<(), SourceError> {
    let mut admin = connect(source, &home(source).await?).await?;
    remove(&mut admin, &scratch_name(id), true).await.map_err(|error| source.error(error))
}

/// The server on which scratch databases are made.
async fn home(source: &Source) -> Result<String, SourceError> {
    match &source.settings().scratch {
        Some(scratch) => scratch.read().await,
        None => address(source).await,
    }
}

fn scratch_name(id: &str) -> String {
    format!("{SCRATCH}{id}").chars().take(63).collect()
}

async fn make_scratch(
    source: &Source,
    shelf: &Shelf,
    id: &str,
) -> Result<(PgConnection, Program, Scratch), SourceError> {
    let home = home(source).await?;
    let mut admin = connect(source, &home).await?;
    let version = version(source, &mut admin).await?;
    let program = Program::find(shelf, "pg_restore", &version).await?;
    sweep(source, &mut admin).await?;
    let name = scratch_name(id);
    let make = format!("CREATE DATABASE {} TEMPLATE template0", quote(&name));
    let made = sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut admin).await;
    made.map_err(|error| match source.error(error) {
        SourceError::Refused(why) => SourceError::Refused(format!(
            "a database to restore into cannot be made: {why}; name another server as `scratch`"
        )),
        other => other,
    })?;
    let scratch = Scratch { home, name, is_over: false };
    // Policies may ask for a mirrored flag; our own schema is in no backup.
    let mut there = connect(source, &with_database(&scratch.home, &scratch.name)?).await?;
    let made = sqlx::raw_sql(MIRROR_STUB).execute(&mut there).await;
    let _ = there.close().await;
    match made {
        Ok(_) => Ok((admin, program, scratch)),
        Err(error) => {
            let error = source.error(error);
            scratch.remove(source, &mut admin).await;
            Err(error)
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the middle part of `prove`, which cleans up after it"
)]
async fn restore_there(
    source: &Source,
    shelf: &Shelf,
    file: &str,
    taken: &Taken,
    looks: &[Look],
    program: &Program,
    scratch: &Scratch,
    begun: Instant,
) -> Result<Proof, SourceError> {
    let address = with_database(&scratch.home, &scratch.name)?;
    // Held all the time: a database that somebody is connected to is not swept.
    let mut connection = connect(source, &address).await?;
    let mut arguments = vec![
        "--exit-on-error".to_owned(),
        "--no-password".to_owned(),
        "--no-owner".to_owned(),
        "--no-acl".to_owned(),
        "--no-publications".to_owned(),
        "--no-subscriptions".to_owned(),
        format!("--dbname={}", scratch.name),
    ];
    if !taken.scope.tables.is_empty() {
        // What tables refer to is not in such a backup, so their constraints cannot be made here.
        arguments.extend(["--section=pre-data".to_owned(), "--section=data".to_owned()]);
        for count in &taken.counts {
            let schema = count.table.split('.').next().unwrap_or_default();
            let make = format!("CREATE SCHEMA IF NOT EXISTS {}", quote(schema));
            let made = sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await;
            made.map_err(|error| source.error(error))?;
        }
    }
    let target = Target::of(&address)?;
    run_restore(shelf, file, program, &target, arguments).await?;
    let restored = Instant::now();
    let tables = tables(source, &mut connection, &Scope::default()).await?;
    let counts = count(source, &mut connection, &tables).await?;
    compare(&taken.counts, &counts)?;
    let copy = Source::at(source.settings().clone(), address);
    let asked = copy.looks_hold(looks).await;
    copy.close().await;
    let _ = connection.close().await;
    asked.map(|()| proof(begun, restored, &taken.counts, looks))
}

/// Puts a backup back, in one transaction.
pub(super) async fn restore(source: &Source, shelf: &Shelf, file: &str) -> Result<(), SourceError> {
    let address = address(source).await?;
    let mut connection = connect(source, &address).await?;
    let version = version(source, &mut connection).await?;
    let _ = connection.close().await;
    let program = Program::find(shelf, "pg_restore", &version).await?;
    let target = Target::of(&address)?.within(source.settings().lock_timeout_ms);
    let arguments = vec![
        "--single-transaction".to_owned(),
        "--clean".to_owned(),
        "--if-exists".to_owned(),
        "--no-password".to_owned(),
        format!("--dbname={}", target.database),
    ];
    run_restore(shelf, file, &program, &target, arguments).await
}

/// Runs `pg_restore` without the schema `public`, which is there everywhere and may hold what the backup does not.
async fn run_restore(
    shelf: &Shelf,
    file: &str,
    program: &Program,
    target: &Target,
    mut arguments: Vec<String>,
) -> Result<(), SourceError> {
    let path = shelf.folder.join(file);
    let listed = program.run(target, &["--list".to_owned()], Some(&path), None).await?;
    let wanted = listed.lines().filter(|line| !line.contains(" SCHEMA - public "));
    let text = wanted.collect::<Vec<_>>().join("\n");
    let list = Partial::new(&shelf.folder, &format!("list-{file}")).await?;
    let mut handle = list.handle()?;
    let written = async {
        handle.write_all(text.as_bytes()).await?;
        handle.flush().await
    };
    written.await.map_err(|error| cannot(&list.path, "be written", &error))?;
    arguments.push(format!("--use-list={}", list.path.display()));
    program.run(target, &arguments, Some(&path), None).await.map(drop)
}

/// A database that must not stay.
struct Scratch {
    home: String,
    name: String,
    is_over: bool,
}

impl Scratch {
    async fn remove(mut self, source: &Source, admin: &mut PgConnection) {
        let gone = remove(admin, &self.name, true).await;
        self.is_over = gone.is_ok();
        if let Err(error) = gone {
            let error = source.error(error);
            tracing::warn!("the database {} is left until the next backup: {error}", self.name);
            self.is_over = true;
        }
    }
}

impl Drop for Scratch {
    /// The proof was cut off: what it made is removed behind it.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (home, name) = (self.home.clone(), self.name.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(CONNECT_WITHIN * 6, async move {
                if let Ok(options) = PgConnectOptions::from_str(&home)
                    && let Ok(mut admin) = options.connect().await
                {
                    let _ = remove(&mut admin, &name, true).await;
                }
            }));
        }
    }
}

async fn remove(admin: &mut PgConnection, name: &str, force: bool) -> Result<(), sqlx::Error> {
    let force = if force { " WITH (FORCE)" } else { "" };
    let drop = format!("DROP DATABASE IF EXISTS {}{force}", quote(name));
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(admin).await.map(|_| ())
}

/// Removes databases that a server which died has left; one that is in use refuses, and is left.
async fn sweep(source: &Source, admin: &mut PgConnection) -> Result<(), SourceError> {
    let left = sqlx::query_scalar::<_, String>(
        "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, 'switchback_scratch_')",
    );
    for name in left.fetch_all(&mut *admin).await.map_err(|error| source.error(error))? {
        let _ = remove(admin, &name, false).await;
    }
    Ok(())
}

async fn address(source: &Source) -> Result<String, SourceError> {
    source.address().await
}

/// A connection of its own, whose statements may take long.
async fn connect(source: &Source, address: &str) -> Result<PgConnection, SourceError> {
    let unreadable = |_| SourceError::Credentials("the address cannot be read".to_owned());
    let options = PgConnectOptions::from_str(address).map_err(unreadable)?;
    let options = options.application_name("switchback backup").options([
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("lock_timeout", source.settings().lock_timeout_ms.to_string().as_str()),
    ]);
    match timeout(CONNECT_WITHIN, options.connect()).await {
        Ok(connected) => connected.map_err(|error| source.error(error)),
        Err(_) => Err(SourceError::Unreachable("it did not answer in time".to_owned())),
    }
}

async fn version(source: &Source, connection: &mut PgConnection) -> Result<String, SourceError> {
    let asked = sqlx::query_scalar::<_, String>("SELECT current_setting('server_version')");
    asked.fetch_one(connection).await.map_err(|error| source.error(error))
}

/// Tables of a scope: schema and name.
async fn tables(
    source: &Source,
    connection: &mut PgConnection,
    scope: &Scope,
) -> Result<Vec<(String, String)>, SourceError> {
    let error = |error| source.error(error);
    let all = sqlx::query_as::<_, (String, String)>(TABLES);
    let all = all.fetch_all(&mut *connection).await.map_err(error)?;
    if scope.tables.is_empty() {
        let in_scope = |schema: &String| scope.schemas.is_empty() || scope.schemas.contains(schema);
        let missing =
            scope.schemas.iter().find(|name| all.iter().all(|(schema, _)| schema != *name));
        if let Some(name) = missing {
            return Err(SourceError::Refused(format!("the schema `{name}` holds no tables")));
        }
        return Ok(all.into_iter().filter(|(schema, _)| in_scope(schema)).collect());
    }
    let mut found = Vec::new();
    for name in &scope.tables {
        let asked = sqlx::query_as::<_, (String, String)>(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass($1)",
        );
        let asked = asked.bind(name).fetch_optional(&mut *connection).await.map_err(error)?;
        let Some(table) = asked.filter(|table| all.contains(table)) else {
            let message = format!("`{name}` is no table with rows of its own here");
            return Err(SourceError::Refused(message));
        };
        found.push(table);
    }
    Ok(found)
}

async fn count(
    source: &Source,
    connection: &mut PgConnection,
    tables: &[(String, String)],
) -> Result<Vec<Count>, SourceError> {
    let mut counts = Vec::new();
    for (schema, table) in tables {
        let text = format!("SELECT COUNT(*) FROM ONLY {}", quoted(schema, table));
        let rows = sqlx::query_scalar::<_, i64>(AssertSqlSafe(text)).fetch_one(&mut *connection);
        let rows = rows.await.map_err(|error| source.error(error))?;
        counts.push(Count { table: format!("{schema}.{table}"), rows: rows.max(0) as u64 });
    }
    Ok(counts)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

//! A database for one test.

use sqlx::{Connection as _, Executor as _};

/// An empty database; its files are removed with it.
pub struct Backend {
    /// `postgres://...`, or empty for SQLite.
    pub database_url: String,
    /// The server's data directory.
    pub folder: tempfile::TempDir,
}

impl Backend {
    /// An SQLite file in a folder of its own.
    pub fn sqlite() -> Self {
        Self { database_url: String::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// A fresh database on the PostgreSQL that `SWITCHBACK_TEST_POSTGRES` names.
    #[expect(clippy::disallowed_methods, reason = "the test runner passes it so")]
    pub async fn postgres() -> Self {
        let server = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
            "SWITCHBACK_TEST_POSTGRES is not set: run the tests with `cargo xtask test`, which starts one",
        );
        let folder = tempfile::tempdir().unwrap();
        let name = format!(
            "t{}",
            folder.path().display().to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "")
        );
        let name = name.to_lowercase();
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{name}\""));
        connection.execute(sqlx::query(create)).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        Self { database_url: format!("{base}/{name}"), folder }
    }

    /// What the store opens.
    pub fn address(&self) -> String {
        if self.database_url.is_empty() {
            format!("sqlite:{}", self.folder.path().join("switchback.db").display())
        } else {
            self.database_url.clone()
        }
    }

    /// Runs a statement behind the server's back.
    pub async fn tamper(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        if self.database_url.is_empty() {
            self.file().await.execute(sqlx::query(sql)).await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.database_url).await.unwrap();
            connection.execute(sqlx::query(sql)).await.unwrap();
        }
    }

    /// The first column of a query's first row, a text.
    pub async fn ask(&self, sql: &str) -> String {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        if self.database_url.is_empty() {
            sqlx::query_scalar(sql).fetch_one(&mut self.file().await).await.unwrap()
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.database_url).await.unwrap();
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
        }
    }

    async fn file(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(self.folder.path().join("switchback.db"))
            .busy_timeout(std::time::Duration::from_secs(5));
        sqlx::SqliteConnection::connect_with(&options).await.unwrap()
    }
}

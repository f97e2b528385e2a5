//! Looking at a table's keys and comparing them, beside counting and hashing them in the database.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use switchback_bench::measure::median;
use switchback_bench::table::number;
use switchback_source::keys::{Comparison, Packer, Present};
use switchback_source::{Columns, Settings, Source};

const ROUNDS: usize = 7;
/// Rows that are deleted, and as many that are new, between the two looks.
const MOVED: u64 = 1_000;

/// The table's rows: for whole numbers and for UUIDs as keys.
pub async fn measure(address: &str, rows: u64) -> Vec<Vec<String>> {
    let head = [
        "no_loss",
        "rows",
        "database's own count and hash ms",
        "first look ms",
        "÷",
        "comparison ms",
        "÷ ",
        "aim",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("address");
    std::fs::write(&file, address).expect("it can be written to");
    let settings = json!({
        "name": "bench", "credentials": format!("file:{}", file.display()), "statement_timeout_ms": 600_000,
    });
    let settings: Settings = serde_json::from_value(settings).expect("they are settings");
    let source = Source::new(settings);
    let mut connection = sqlx::PgConnection::connect(address).await.expect("PostgreSQL answers");
    for (name, key, new) in
        [("whole numbers", "n", "n"), ("UUIDs", "md5(n::text)::uuid", "md5('new' || n)::uuid")]
    {
        let kind = if key == "n" { "BIGINT" } else { "UUID" };
        for statement in [
            "DROP TABLE IF EXISTS receipts".to_owned(),
            format!("CREATE TABLE receipts (id {kind} PRIMARY KEY, note TEXT NOT NULL)"),
            format!(
                "INSERT INTO receipts SELECT {key}, md5(n::text) FROM generate_series(1, {rows}) AS n"
            ),
            "VACUUM ANALYZE receipts".to_owned(),
        ] {
            connection
                .execute(sqlx::query(AssertSqlSafe(statement)))
                .await
                .expect("it can be made");
        }
        let own = "SELECT count(*), sum(hashtext(id::text)) FROM receipts";
        let (mut floor, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let mut chunks = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            connection.execute(sqlx::raw_sql(own)).await.expect("it can be asked");
            floor.push(begun.elapsed().as_secs_f64() * 1_000.0);
            let begun = Instant::now();
            let (packed, present) = look(&source, true).await;
            assert_eq!(present.twice(), None, "every key is of one row");
            chunks = packed;
            first.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        let from = rows + 1;
        let to = rows + MOVED;
        for statement in [
            format!(
                "DELETE FROM receipts WHERE id IN (SELECT {key} FROM generate_series(1, {rows}, {}) AS n)",
                rows / MOVED
            ),
            format!(
                "INSERT INTO receipts SELECT {new}, '' FROM generate_series({from}, {to}) AS n"
            ),
        ] {
            connection
                .execute(sqlx::query(AssertSqlSafe(statement)))
                .await
                .expect("it can be changed");
        }
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let present = look(&source, false).await.1;
            let mut comparison = Comparison::new(Arc::new(present));
            for chunk in &chunks {
                comparison.add(chunk).expect("the chunks are whole");
            }
            let difference = comparison.finish();
            again.push(begun.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(difference.missing.count, MOVED, "every lost row is found, and no other");
        }
        let (floor, first, again) = (median(floor), median(first), median(again));
        table.push(vec![
            name.to_owned(),
            number(rows as f64),
            number(floor),
            number(first),
            format!("{:.2}", first / floor),
            number(again),
            format!("{:.2}", again / floor),
            "2".to_owned(),
        ]);
    }
    table
}

/// As the server does it: keys are packed when they are to be kept.
async fn look(source: &Source, keep: bool) -> (Vec<String>, Present) {
    let mut packer = Packer::new(false);
    let mut found = Vec::new();
    let mut each = |key: switchback_source::keys::Key<'_>, columns: u64| {
        if keep {
            packer.push(key, columns);
        }
        found.push((key.hash(), columns));
    };
    let key = ["id".to_owned()];
    source.survey("receipts", &key, Columns::None, &mut each).await.expect("it can be looked at");
    (packer.finish(), Present::new(found))
}

//! The demo's own app database: people and their profiles, some of them broken, with a pack of checks that looks after them.

use std::path::Path;

use serde_json::json;
use switchback_app::checks::settings::SettingsChange;
use switchback_app::{App, Who};
use switchback_checks::event_mode::Mode;
use switchback_source::Work;

use crate::Outcome;

const SOURCE: &str = "shop";
const PACK: &str = "people";
const TEXT: &str = include_str!("people.yaml");
const TABLES: &str = include_str!("people.sql");
/// More than the tables have rows.
const ROWS_MAX: u64 = 100_000;

/// Makes the database in the demo's folder, adds it as a data source, and lets the pack look at it.
pub async fn prepare(app: &App, folder: &Path) -> Outcome {
    let (database, address) = (folder.join("shop.sqlite"), folder.join("shop.address"));
    tokio::fs::write(&database, b"").await?;
    tokio::fs::write(&address, format!("sqlite:{}", database.display())).await?;
    let who = Who::system();
    let settings = serde_json::from_value(json!({
        "name": SOURCE, "description": "The shop's people", "access": "read_write",
        "credentials": format!("file:{}", address.display()),
    }))?;
    app.put_source(&who, settings, "the demo's").await?;
    let work = Work { sql: TABLES, params: &[], rows_max: ROWS_MAX, snapshots: &[] };
    app.source(SOURCE).await?.exec("demo-people", &work).await?;
    app.put_check_pack(&who, PACK, TEXT, Some(0)).await?;
    let change = SettingsChange {
        source: Some(SOURCE.to_owned()),
        mode: Some(Mode::Observe),
        keeps_labels: Some(true),
        reason: "the demo's".to_owned(),
        ..SettingsChange::default()
    };
    app.change_check_settings(&who, PACK, change).await?;
    Ok(())
}

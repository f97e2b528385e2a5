//! `switchback log ...`

use clap::Subcommand;
use serde_json::Value;

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// Who changed what, newest first.
    Changes {
        /// Only this environment.
        #[arg(long, short)]
        env: Option<String>,
        /// Rows.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Prove that no row of the rollback log was changed, or name the first one that was. With the
    /// evidence of a run as FILE it takes no server. Exit code 8: something was changed.
    Verify {
        /// What `switchback playbook evidence` wrote.
        file: Option<std::path::PathBuf>,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::Changes { env, limit } => {
            let env = env.map(|env| format!("&environment={env}")).unwrap_or_default();
            let page = client.get(&format!("/changes?limit={limit}{env}")).await?;
            if client.json {
                say(page.to_string());
                return Ok(());
            }
            let rows = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let row = |row: &Value| {
                vec![
                    when(row, "/change/at"),
                    text(row, "/change/environment"),
                    text(row, "/change/revision"),
                    text(row, "/change/subject"),
                    text(row, "/change/action"),
                    text(row, "/change/actor"),
                    text(row, "/change/reason"),
                ]
            };
            table(&["AT", "WHERE", "REVISION", "WHAT", "DID", "WHO", "WHY"], rows.iter().map(row));
            Ok(())
        }
        // With a file there is nothing to ask a server.
        Command::Verify { file: Some(file) } => super::record::verify(&file, client.json),
        Command::Verify { file: None } => {
            let report = client.get("/rollback-log/verify").await?;
            if client.json {
                say(report.to_string());
            }
            if report.get("ok") == Some(&Value::Bool(true)) {
                let (rows, head) = (text(&report, "/rows"), text(&report, "/head_hash"));
                say(format!("{rows} rows, unbroken; newest hash {head}"));
                return Ok(());
            }
            let (row, problem) = (text(&report, "/broken_row"), text(&report, "/problem"));
            Err(Failure::with_code(8, format!("the log was changed: row {row}: {problem}")))
        }
    }
}

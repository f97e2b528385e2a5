//! The evidence of a run: one file that proves, without a server, that nobody changed what the log says of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;
use switchback_playbook::Plan;
use switchback_playbook::plan::sha256_hex;
use switchback_store::{ChainHead, ChainLink, LogEntry, hash_of};

use super::App;
use super::diff::diff;
use super::error::AppError;
use super::report::{REPORT_VERSION, Report};
use super::who::Who;

/// The file's name for itself.
pub const EVIDENCE_FORMAT: &str = "switchback-evidence";
/// The file's version; another one is refused rather than misread.
pub const EVIDENCE_VERSION: u32 = 1;
/// Rows of the log, from the run's first to the newest, that a file may span.
pub const LINKS_MAX: u64 = 100_000;
/// Links that are read at a time.
const PAGE: i64 = 5_000;

/// A run with everything that its proof takes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Evidence {
    /// `switchback-evidence`.
    pub format: String,
    /// The version of this structure.
    pub version: u32,
    /// When it was made, in UTC milliseconds.
    pub made_at: Millis,
    /// The [`Report`], as it was made.
    pub report: Value,
    /// The frozen plan.
    pub plan: Value,
    /// The run's rows, whole, oldest first.
    pub rows: Vec<LogEntry>,
    /// The rows of other runs between the run's first and the head: what chains them and no more.
    pub links: Vec<ChainLink>,
    /// Where the chain ended.
    pub head: ChainHead,
}

/// What a good file proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proved {
    /// The run.
    pub run: String,
    /// Its rows.
    pub rows: usize,
    /// Rows of other runs that were followed.
    pub links: usize,
    /// The newest row's number.
    pub head_seq: u64,
    /// The newest row's hash: compare it with one that you have from elsewhere.
    pub head_hash: String,
    /// Whether the report was compared with the rows; not, when another release made it.
    pub report_compared: bool,
}

/// Why a file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is another kind of file.
    #[error("it is no evidence file: {0}")]
    Unreadable(String),
    /// The first row that does not hold.
    #[error("row {seq}: {what}")]
    Row {
        /// The row's number.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The plan is not the one that the run was started with.
    #[error("the plan was changed: its hash is not the one in row {seq}")]
    Plan {
        /// The row that holds the hash.
        seq: u64,
    },
    /// The report says something else than the rows.
    #[error("the report was changed: `{0}` is not what the rows say")]
    Report(String),
}

/// A row of the chain: whole, or only its link.
enum Row<'e> {
    Whole(&'e LogEntry),
    Link(&'e ChainLink),
}

impl Row<'_> {
    fn ends(&self) -> (u64, &str, &str) {
        match self {
            Self::Whole(row) => (row.seq, &row.prev_hash, &row.hash),
            Self::Link(link) => (link.seq, &link.prev_hash, &link.hash),
        }
    }
}

impl Evidence {
    /// Reads a file.
    pub fn read(text: &str) -> Result<Self, Broken> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| Broken::Unreadable(error.to_string()))?;
        if value.get("format").and_then(Value::as_str) != Some(EVIDENCE_FORMAT) {
            let message = format!("its `format` is not `{EVIDENCE_FORMAT}`");
            return Err(Broken::Unreadable(message));
        }
        let version = value.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(EVIDENCE_VERSION)) {
            let message = format!("this release reads version {EVIDENCE_VERSION}");
            return Err(Broken::Unreadable(message));
        }
        serde_json::from_value(value).map_err(|error| Broken::Unreadable(error.to_string()))
    }

    /// Checks each whole row's content, the chain up to its head, the plan and the report.
    pub fn check(&self) -> Result<Proved, Broken> {
        let first = self.rows.first();
        let first = first.ok_or_else(|| Broken::Unreadable("it holds no row".to_owned()))?;
        self.check_chain(first)?;
        let wanted = first.detail.get("plan_sha256").and_then(Value::as_str);
        if wanted != Some(sha256_hex(self.plan.to_string().as_bytes()).as_str()) {
            return Err(Broken::Plan { seq: first.seq });
        }
        Ok(Proved {
            run: first.run_id.clone(),
            rows: self.rows.len(),
            links: self.links.len(),
            head_seq: self.head.seq,
            head_hash: self.head.hash.clone(),
            report_compared: self.check_report(&first.run_id)?,
        })
    }

    fn check_chain(&self, first: &LogEntry) -> Result<(), Broken> {
        let broken = |seq: u64, what: &str| Broken::Row { seq, what: what.to_owned() };
        let mut chain: Vec<Row<'_>> = self.rows.iter().map(Row::Whole).collect();
        chain.extend(self.links.iter().map(Row::Link));
        chain.sort_by_key(|row| row.ends().0);
        let mut expected = first.seq;
        let mut before = first.prev_hash.as_str();
        for row in &chain {
            let (seq, prev_hash, hash) = row.ends();
            if seq > expected {
                return Err(broken(expected, "it is missing"));
            }
            if seq < expected {
                return Err(broken(seq, "it is there twice, or is older than the run"));
            }
            if prev_hash != before {
                return Err(broken(seq, "it does not follow the row before it"));
            }
            if let Row::Whole(row) = row {
                if hash_of(row) != row.hash {
                    return Err(broken(seq, "its content does not match its hash"));
                }
                if row.run_id != first.run_id {
                    return Err(broken(seq, "it is of another run"));
                }
            }
            before = hash;
            expected = seq.saturating_add(1);
        }
        if self.head.seq >= expected {
            return Err(broken(expected, "it is missing"));
        }
        if self.head.seq.saturating_add(1) != expected || self.head.hash != before {
            return Err(broken(self.head.seq, "the head is not the newest row"));
        }
        Ok(())
    }

    fn check_report(&self, run: &str) -> Result<bool, Broken> {
        let version = self.report.get("version").and_then(Value::as_u64);
        let version = version.ok_or_else(|| Broken::Report("version".to_owned()))?;
        let plan = serde_json::from_value::<Plan>(self.plan.clone());
        let (Ok(plan), true) = (plan, version == u64::from(REPORT_VERSION)) else {
            return Ok(false);
        };
        let again = serde_json::to_value(Report::of(run, &plan, &self.rows)).unwrap_or_default();
        match diff(Some(&again), Some(&self.report)).first() {
            Some(difference) => Err(Broken::Report(difference.path.clone())),
            None => Ok(true),
        }
    }
}

impl App {
    /// A run's evidence, up to the newest row of the log.
    pub async fn run_evidence(self: &Arc<Self>, who: &Who, id: &str) -> Result<Evidence, AppError> {
        // The head first: rows that are appended meanwhile stay out, whole and as links.
        let head = self.store.chain_head().await?;
        let mut detail = self.get_run(who, id).await?;
        detail.log.retain(|row| row.seq <= head.seq);
        let first = detail.log.first().map_or(head.seq, |row| row.seq);
        let span = (head.seq + 1).saturating_sub(first);
        if span > LINKS_MAX {
            return Err(AppError::Refused(format!(
                "the log has {span} rows since this run began, and an evidence file spans at most {LINKS_MAX}; \
                 `switchback log verify` checks all of it on the server"
            )));
        }
        let own: BTreeSet<u64> = detail.log.iter().map(|row| row.seq).collect();
        let mut links = Vec::new();
        let mut after = first.saturating_sub(1);
        while after < head.seq {
            let page = self.store.page_links(after, head.seq, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            links.extend(page.into_iter().filter(|link| !own.contains(&link.seq)));
        }
        let internal = |error: serde_json::Error| AppError::Internal(Box::new(error));
        let report = Report::of(id, &detail.plan, &detail.log);
        Ok(Evidence {
            format: EVIDENCE_FORMAT.to_owned(),
            version: EVIDENCE_VERSION,
            made_at: self.clock.now(),
            report: serde_json::to_value(&report).map_err(internal)?,
            plan: serde_json::from_str(&detail.run.plan).map_err(internal)?,
            rows: detail.log,
            links,
            head,
        })
    }
}

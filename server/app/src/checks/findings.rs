//! Findings for people: listed masked, revealed by those who may (which is logged), ignored with a reason.

use serde::Serialize;
use serde_json::json;
use switchback_checks::finding::State;
use switchback_source::JournalRow;
use switchback_store::{CheckBatch, FindingFilter, FindingRow, Role};

use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// Findings of a page.
const PAGE: i64 = 100;

/// Findings, and how to ask for the next ones.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct FindingPage {
    /// Those seen last first.
    pub findings: Vec<FindingRow>,
    /// `before` and `after_key` for the next page; `None` when this is the last.
    pub next: Option<(i64, String)>,
}

/// A finding in full.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Revealed {
    /// The finding.
    pub finding: FindingRow,
    /// Whom it is about; `None` when that is not kept.
    pub label: Option<String>,
    /// The query's other columns, where they are kept.
    pub detail: Option<serde_json::Value>,
    /// What its last fix changed, as the data source has kept it.
    pub changes: Vec<JournalRow>,
    /// Why the changes are not known.
    pub message: Option<String>,
}

impl App {
    /// Findings. `search` is a key, or a label as it is: a telephone number finds its user though only a hash is kept.
    pub async fn list_findings(
        &self,
        who: &Who,
        mut filter: FindingFilter,
    ) -> Result<FindingPage, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at findings")?;
        if let Some(state) = &filter.state
            && !State::WORDS.iter().any(|(word, _)| word == state)
        {
            let words: Vec<&str> = State::WORDS.iter().map(|(word, _)| *word).collect();
            let message = format!("`{state}` is not one of {}", words.join(", "));
            return Err(AppError::invalid("state", message));
        }
        filter.search =
            filter.search.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        filter.label_hash = filter.search.as_ref().map(|text| self.subject_hash(text));
        let mut findings = self.store.list_findings(&filter, PAGE + 1).await?;
        let has_more = findings.len() as i64 > PAGE;
        findings.truncate(usize::try_from(PAGE).unwrap_or(usize::MAX));
        let next = findings.last().filter(|_| has_more).map(|one| (one.last_seen, one.key.clone()));
        Ok(FindingPage { findings, next })
    }

    /// A finding in full, with the rows of its last fix. That somebody looked is logged.
    pub async fn reveal_finding(
        &self,
        who: &Who,
        (pack, check, key): (&str, &str, &str),
        reason: &str,
    ) -> Result<Revealed, AppError> {
        who.must(Role::Operator, EVERYWHERE, "reveal who a finding is about")?;
        let finding = self.finding(pack, check, key).await?;
        let log = (
            self.stamp(who, reason),
            pack.to_owned(),
            "reveal".to_owned(),
            json!({"check": check, "key": key, "subject": finding.label}),
        );
        // First the record: what cannot be logged is not shown.
        self.store.save_checks(&CheckBatch { log: vec![log], ..CheckBatch::default() }).await?;
        let known = self.get_check_pack(who, pack).await?;
        let (mut changes, mut message) = (Vec::new(), None);
        if let (Some(run), false) = (&finding.run_id, known.settings.source.is_empty()) {
            let source = self.source(&known.settings.source).await?;
            match source.journal_of_key(run, check, key).await {
                Ok(found) => changes = found,
                Err(error) => message = Some(error.to_string()),
            }
        }
        Ok(Revealed {
            label: finding.full_label.clone(),
            detail: finding.detail.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            finding,
            changes,
            message,
        })
    }

    /// Leaves a finding as it is, or no longer: it does not lower the health, and nobody fixes it.
    pub async fn ignore_finding(
        &self,
        who: &Who,
        (pack, check, key): (&str, &str, &str),
        is_ignored: bool,
        reason: &str,
    ) -> Result<FindingRow, AppError> {
        who.must(Role::Operator, EVERYWHERE, "ignore findings")?;
        // No sweep fixes it meanwhile.
        let memory = self.checks.memory(pack);
        let mut memory = memory.lock().await;
        let finding = self.finding(pack, check, key).await?;
        let (from, to) = if is_ignored {
            (["open", "stuck"].as_slice(), State::Ignored)
        } else {
            (["ignored"].as_slice(), State::Open)
        };
        if !from.contains(&finding.state.as_str()) {
            let message = format!("the finding is {}, so this cannot be done", finding.state);
            return Err(AppError::Refused(message));
        }
        if is_ignored && reason.trim().is_empty() {
            return Err(AppError::invalid("reason", "say why it is all right"));
        }
        let by = self.stamp(who, reason);
        let changed = FindingRow {
            state: to.word().to_owned(),
            message: if is_ignored { by.reason.clone() } else { String::new() },
            attempts: 0,
            ..finding
        };
        let verb = if is_ignored { "ignore" } else { "no longer ignore" };
        let after = json!({"check": check, "key": key, "subject": changed.label});
        let batch = CheckBatch {
            findings: vec![changed.clone()],
            log: vec![(by, pack.to_owned(), verb.to_owned(), after)],
            ..CheckBatch::default()
        };
        self.store.save_checks(&batch).await?;
        memory.checks.entry(check.to_owned()).or_default().keep(changed.clone());
        Ok(changed)
    }

    async fn finding(&self, pack: &str, check: &str, key: &str) -> Result<FindingRow, AppError> {
        let found = self.store.find_finding(pack, check, key).await?;
        found.ok_or_else(|| AppError::NotFound { kind: "finding", key: key.to_owned() })
    }
}

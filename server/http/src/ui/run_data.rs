//! What a run must not lose, rule by rule, as its page shows it.

use serde_json::Value;
use switchback_app::playbooks::RunDetail;
use switchback_playbook::preserve::Preserve;
use switchback_playbook::state::PreserveView;
use switchback_store::LogEntry;

/// Names that the page shows; the report has all that were kept.
const NAMES_MAX: usize = 20;

/// One rule.
pub struct DataLine {
    pub row_id: String,
    /// What must hold: `receipts: no row is lost`.
    pub rule: String,
    /// `good`, `bad`, `warn` or empty.
    pub tone: &'static str,
    pub word: &'static str,
    pub says: String,
    /// Keys that are lost or changed.
    pub names: Vec<String>,
    pub parked: bool,
}

/// The rules of a run, in the plan's order.
pub fn lines(detail: &RunDetail) -> Vec<DataLine> {
    let parked = detail.view.parked.as_deref();
    let line = |rule: &Preserve| {
        let row_id = rule.row_id();
        let seen = detail.view.preserve.get(&rule.id).cloned().unwrap_or_default();
        let (word, tone) = verdict(&seen, detail.state.is_over());
        DataLine {
            rule: rule.says(),
            tone,
            word,
            names: names(&detail.log, &row_id),
            parked: parked == Some(row_id.as_str()),
            row_id,
            // What holds says the rule again; only the figures are news.
            says: match seen.says.strip_prefix(rule.says().as_str()) {
                Some(figures) => figures.trim().trim_matches(['(', ')']).to_owned(),
                None => seen.says.clone(),
            },
        }
    };
    detail.plan.preserve.iter().map(line).collect()
}

fn verdict(seen: &PreserveView, is_over: bool) -> (&'static str, &'static str) {
    match (seen.after_undo.or(seen.after), &seen.before) {
        (Some(true), _) => ("Holds", "good"),
        (Some(false), _) => ("Does not hold", "bad"),
        _ if seen.skipped => ("Not looked at", "warn"),
        (None, _) if seen.failures > 0 => ("Could not be looked at", "bad"),
        (None, Some(_)) if is_over => ("Not compared", "warn"),
        (None, Some(_)) => ("Looked at, before the first step", ""),
        (None, None) => ("Not yet looked at", ""),
    }
}

/// The keys that the newest comparison named.
fn names(log: &[LogEntry], row_id: &str) -> Vec<String> {
    let Some(row) = log.iter().rev().find(|row| row.step_id == row_id) else { return Vec::new() };
    let listed = ["/missing/names", "/changed/names"]
        .into_iter()
        .filter_map(|at| row.detail.pointer(at).and_then(Value::as_array));
    listed.flatten().filter_map(Value::as_str).take(NAMES_MAX).map(str::to_owned).collect()
}

//! What is left to do when a run is over: its report goes to the incidents that it opened.

use std::fmt::Write as _;

use switchback_core::model::Millis;
use switchback_playbook::format::ReportTo;
use switchback_playbook::units::duration_text;
use switchback_store::{Incident, RunFilter};

use super::App;
use super::announcements::in_words;
use super::error::AppError;
use super::playbooks::RunDetail;
use super::report::Report;
use super::who::Who;

/// How long after a run its report may still be missing because a node died, in milliseconds.
const LATELY_MS: Millis = 86_400_000;
/// Runs that are looked at for that.
const RUNS_MAX: i64 = 50;

impl App {
    /// Gives a run's report to the incidents that it opened, as the draft of a postmortem, where nobody has begun one.
    pub(super) async fn report_to_incidents(&self, detail: &RunDetail) -> Result<(), AppError> {
        if !detail.plan.report_to.contains(&ReportTo::Incident) {
            return Ok(());
        }
        for incident in self.store.list_incidents_of_run(&detail.run.id).await? {
            if incident.postmortem.is_some() {
                continue;
            }
            let report = Report::of(&detail.run.id, &detail.plan, &detail.log);
            let draft = draft(detail, &report);
            let write = |incident: &mut Incident| {
                incident.postmortem.get_or_insert(draft);
            };
            self.edit(&Who::system(), &incident.id, "postmortem", write).await?;
        }
        Ok(())
    }

    /// The same for runs whose node died before it came to that.
    pub(super) async fn report_lately(&self) {
        let filter = RunFilter { limit: RUNS_MAX, ..RunFilter::default() };
        let Ok(runs) = self.store.list_runs(&filter).await else { return };
        let since = self.clock.now() - LATELY_MS;
        for run in runs.iter().filter(|run| run.finished_at.is_some_and(|at| at > since)) {
            let reported = async {
                let detail = self.get_run(&Who::system(), &run.id).await?;
                self.report_to_incidents(&detail).await
            };
            if let Err(error) = reported.await {
                tracing::warn!(run.id = run.id, error = %error, "a run's report did not reach its incidents");
            }
        }
    }
}

fn draft(detail: &RunDetail, report: &Report) -> String {
    let run = &detail.run;
    let took = run.finished_at.unwrap_or(run.begins_at) - run.begins_at;
    let mut text = format!(
        "## What was done\n\n\"{}\" in {}, started by {}: {}. {} after {}.\n\n",
        run.title,
        run.environment,
        run.requested_by,
        if run.reason.is_empty() { "no reason given" } else { run.reason.trim_end_matches('.') },
        in_words(&run.state),
        duration_text(took.max(0).cast_unsigned()),
    );
    for action in &report.actions {
        let _ = writeln!(text, "- {action}");
    }
    for row in &report.data {
        let _ = writeln!(
            text,
            "- Data `{}`: {}: {}",
            row.rule,
            in_words(&row.verdict).to_lowercase(),
            row.says
        );
    }
    let _ = write!(text, "\nThe whole report is that of run `{}`.\n", run.id);
    text
}

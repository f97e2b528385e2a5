//! Drafts a postmortem from what is on record: updates, runs, alerts, changes, and when components moved.

use switchback_core::model::Millis;
use switchback_store::{ChangeFilter, Role, RunFilter};

use super::announcements::in_words;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use super::{App, ids};

/// How far before the incident the record is looked at, in milliseconds: the cause comes first.
const BEFORE_MS: i64 = 60 * 60 * 1_000;
/// Rows of each record that are looked at.
const ROWS_MAX: i64 = 500;
/// Lines of the time line at most.
const LINES_MAX: usize = 200;

impl App {
    /// A postmortem as Markdown: facts and a time line, with gaps for what only people know.
    pub async fn draft_postmortem(&self, who: &Who, id: &str) -> Result<String, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at incidents")?;
        let incident = self.store.get_incident(id).await?;
        let began = incident.began_at();
        let ended = incident.resolved_at.unwrap_or_else(|| self.clock.now());
        let from = began - BEFORE_MS;
        let mut lines: Vec<(Millis, String)> = Vec::new();
        for update in &incident.updates {
            let first = update.body.lines().next().unwrap_or_default();
            lines.push((update.created_at, format!("**{}**: {first}", in_words(&update.status))));
            for (component, (was, is)) in &update.moved {
                let (was, is) = (in_words(was).to_lowercase(), in_words(is).to_lowercase());
                lines.push((update.created_at, format!("Component {component}: {was} to {is}")));
            }
        }
        let before_id = Some(ids::after("run", ended));
        let runs = RunFilter { before_id, limit: ROWS_MAX, ..RunFilter::default() };
        for run in self.store.list_runs(&runs).await? {
            if run.trigger == "drill" || run.created_at < from || run.created_at > ended {
                continue;
            }
            let (title, environment) = (&run.title, &run.environment);
            let started = format!(
                "{} started \"{title}\" in {environment}: {}",
                run.requested_by, run.reason
            );
            lines.push((run.created_at, started));
            if let Some(at) = run.finished_at {
                let took = (at - run.created_at) as f64 / 1_000.0;
                let ending = in_words(&run.state).to_lowercase();
                lines.push((at, format!("\"{title}\" ended after {took:.1} s: {ending}")));
            }
        }
        self.add_alerts(&mut lines, from, ended).await?;
        let kinds = ["flag", "segment"];
        let before_id = Some(ids::after("chg", ended));
        let since = Some(from);
        let changes = ChangeFilter { before_id, since, limit: ROWS_MAX, ..ChangeFilter::default() };
        for change in self.store.list_changes(&changes).await? {
            if change.at > ended || !kinds.contains(&change.subject_kind.as_str()) {
                continue;
            }
            let place = change.environment.as_deref().unwrap_or("all environments");
            let why = if change.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", change.reason)
            };
            let what =
                format!("{} `{}` in {place}: {}{why}", change.actor, change.subject, change.action);
            lines.push((change.at, what));
        }
        lines.sort();
        lines.truncate(LINES_MAX);
        let seconds = (ended - began) / 1_000;
        let lasted =
            switchback_playbook::units::duration_text(seconds.max(0).cast_unsigned() * 1_000);
        let components: Vec<&str> = incident.components.keys().map(String::as_str).collect();
        let touched =
            if components.is_empty() { "none named".to_owned() } else { components.join(", ") };
        let mut text = format!(
            "## Summary\n\n{}\n\n- Impact: {}\n- Components: {touched}\n- Began: {}\n- Over: {}\n- Lasted: {lasted}\n",
            incident.name,
            in_words(&incident.impact).to_lowercase(),
            utc(began),
            incident.resolved_at.map_or_else(|| "not yet".to_owned(), utc),
        );
        text.push_str("\n## Time line (UTC)\n\n");
        for (at, line) in lines {
            text.extend(["- ", &utc(at), " ", &line, "\n"]);
        }
        text.push_str("\n## What went wrong\n\n\n## What went well\n\n\n## What we change\n\n- \n");
        Ok(text)
    }

    /// Alerts that fired, or were over, in a span of time.
    async fn add_alerts(
        &self,
        lines: &mut Vec<(Millis, String)>,
        from: Millis,
        until: Millis,
    ) -> Result<(), AppError> {
        let mut environments: Vec<String> =
            self.known_environments().iter().map(|known| known.key.clone()).collect();
        environments.push(String::new()); // alerts from outside that name none
        for environment in environments {
            for alert in self.store.list_alerts(&environment, Some(until + 1), ROWS_MAX).await? {
                let place = if environment.is_empty() {
                    String::new()
                } else {
                    format!(" in {environment}")
                };
                if alert.fired_at >= from {
                    let line = format!("Alert{place}: {}. {}", alert.title, alert.words);
                    lines.push((alert.fired_at, line.trim_end().to_owned()));
                }
                if let Some(at) = alert.resolved_at.filter(|at| (from..=until).contains(at)) {
                    lines.push((at, format!("Alert{place} is over: {}", alert.title)));
                }
            }
        }
        Ok(())
    }
}

fn utc(at: Millis) -> String {
    let text = jiff::Timestamp::from_millisecond(at)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    text.unwrap_or_default()
}

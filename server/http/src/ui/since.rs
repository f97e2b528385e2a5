//! "Since you were here": what others did meanwhile, a row per subject with what is left of it.

use switchback_app::AppError;
use switchback_store::{Change, RunFilter};

use super::timeline::{Event, did, if_allowed};
use super::visit::Visit;
use super::words::{self, Words};

/// Rows that are listed.
const LISTED_MAX: usize = 8;

/// The section's values.
pub struct Since {
    /// When they were there before.
    pub at: i64,
    /// What happened, newest first.
    pub events: Vec<Event>,
    /// Rows that are not listed.
    pub hidden: usize,
}

impl Since {
    /// What the one who looks has missed; `None` on their first visit.
    pub async fn of(visit: &Visit, environment: &str) -> Result<Option<Self>, AppError> {
        let Some(meanwhile) = visit.meanwhile(&visit.who, environment).await? else {
            return Ok(None);
        };
        let base = format!("/ui/{environment}");
        let mut events = net(meanwhile.changes, &base);
        let filter = RunFilter {
            environment: Some(environment.to_owned()),
            limit: 50,
            ..RunFilter::default()
        };
        let runs = visit.list_runs(&visit.who, &filter).await?;
        let missed = |at: i64, by: &str| at > meanwhile.since && by != visit.who.name;
        let runs = runs.iter().filter(|run| missed(run.created_at, &run.requested_by));
        events.extend(runs.map(|run| Event::of_run(run, &base)));
        let incidents = if_allowed(visit.list_incidents(&visit.who, false, None, 50).await)?;
        let incidents = incidents.iter().filter(|incident| incident.created_at > meanwhile.since);
        events.extend(incidents.map(|incident| Event::of_incident(incident, &base)));
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        let hidden = events.len().saturating_sub(LISTED_MAX);
        events.truncate(LISTED_MAX);
        Ok(Some(Self { at: meanwhile.since, events, hidden }))
    }
}

/// Several changes of one subject become one row: what it was before the first, what it is after the last.
fn net(changes: Vec<Change>, base: &str) -> Vec<Event> {
    let mut groups: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        let same = |group: &&mut Vec<Change>| {
            group.first().is_some_and(|first| {
                first.subject_kind == change.subject_kind && first.subject == change.subject
            })
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    groups.iter().filter_map(|group| row(group, base)).collect()
}

fn row(group: &[Change], base: &str) -> Option<Event> {
    let (newest, oldest) = (group.first()?, group.last()?);
    if group.len() == 1 {
        return Some(Event::of_change(newest, base));
    }
    let mut actors: Vec<String> = group.iter().map(|change| words::actor(&change.actor)).collect();
    actors.sort();
    actors.dedup();
    let changes = words::count(group.len() as u64, "change");
    let all = Change {
        before: oldest.before.clone(),
        actor: words::list(&actors, "and"),
        action: (if oldest.before.is_none() { "create" } else { "update" }).to_owned(),
        ..newest.clone()
    };
    let words = if oldest.before.is_some() && oldest.before == newest.after {
        let link = format!("{base}/{}s/{}", newest.subject_kind, newest.subject);
        let what = match newest.subject_kind.as_str() {
            "flag" | "segment" => Words::default().link(&link, &newest.subject),
            kind => Words::say(&format!("{kind} ")).strong(&newest.subject),
        };
        what.and(&format!(" is as it was, after {changes} by {}", all.actor))
    } else {
        did(&all, base).and(&format!(", in {changes}"))
    };
    let emergency = group.iter().any(|change| change.emergency);
    let tone = if emergency { "bad" } else { "plain" };
    Some(Event { at: newest.at, kind: "Change", tone, words, reason: newest.reason.clone() })
}

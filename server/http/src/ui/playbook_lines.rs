//! What a playbook would do, line by line: its steps, what must hold, and what speaks for it.

use serde_json::Value;
use switchback_app::forecast::Forecast;
use switchback_playbook::Preview;
use switchback_playbook::format::{Criterion, Playbook, Wanted};
use switchback_playbook::plan::Plan;
use switchback_playbook::preview::CriterionPreview;
use switchback_playbook::steps::Answer as Known;
use switchback_playbook::units::{duration_words, percent_text};

use super::words::{self, Words};

/// What one step would do.
pub(super) struct StepLine {
    pub title: Words,
    pub does: Words,
    pub kind: String,
    /// The group or call that it stands in.
    pub within: Words,
    pub runs: String,
    pub change: String,
    pub clients: String,
    pub warnings: Vec<Words>,
    pub undoes: Words,
    pub danger: bool,
    pub needs_approval: bool,
    /// How long it took in earlier runs.
    pub expected: String,
}

/// Something that speaks for running a playbook.
pub(super) struct Fit {
    pub text: String,
    pub icon: &'static str,
    pub tone: &'static str,
    /// How it stands; empty where people judge.
    pub found: &'static str,
    /// What was seen, or why nothing was.
    pub says: Words,
}

pub(super) fn known<T>(answer: &Known<T>, say: impl Fn(&T) -> String) -> String {
    match answer {
        Known::Known(value) => say(value),
        Known::Unknown(why) => format!("not known: {why}"),
    }
}

/// How long something took in earlier runs; empty without any.
pub(super) fn expected(p50_ms: Option<i64>, p95_ms: Option<i64>, from_runs: u64) -> String {
    let (Some(p50), Some(p95)) = (p50_ms, p95_ms) else { return String::new() };
    let (usual, slow) = (words::duration(p50), words::duration(p95));
    let runs = words::count(from_runs, "earlier run");
    format!("Usually {usual}, 95\u{202f}% within {slow}, from {runs}")
}

pub(super) fn steps_of(preview: &Preview, forecast: &Forecast) -> Vec<StepLine> {
    let line = |step: &switchback_playbook::preview::StepPreview| StepLine {
        expected: forecast
            .steps
            .iter()
            .find(|one| one.id == step.id)
            .map(|one| expected(one.p50_ms, one.p95_ms, one.from_runs))
            .unwrap_or_default(),
        title: Words::default().ticked(&step.title),
        does: super::run_view::said_once(&step.title, &step.does),
        kind: step.kind.clone(),
        within: Words::default().ticked(&step.within),
        runs: match &step.runs {
            Known::Known(true) => String::new(),
            Known::Known(false) => "It is left out with these inputs.".to_owned(),
            Known::Unknown(why) => format!("Either it runs or not: {why}."),
        },
        change: known(&step.effect.change, |change| match change {
            Some((before, after)) => changed(before, after),
            None => String::new(),
        }),
        clients: known(&step.effect.clients, |count| match count {
            0 => String::new(),
            some => format!("reaches {}", words::count(*some, "client")),
        }),
        warnings: step.effect.warnings.iter().map(|text| Words::default().ticked(text)).collect(),
        undoes: if step.reversible {
            Words::default().ticked(&step.undoes)
        } else {
            Words::say("It cannot be taken back.")
        },
        danger: step.danger,
        needs_approval: step.needs_approval,
    };
    preview.steps.iter().map(line).collect()
}

fn changed(before: &Value, after: &Value) -> String {
    if before.is_null() {
        let text = |key: &str| {
            after.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
        };
        let said = [text("title"), text("body"), text("message")];
        return said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" – ");
    }
    let lines = super::diff_lines::lines(&switchback_app::diff::diff(Some(before), Some(after)));
    let parts = lines.iter().map(|line| match (line.before.as_str(), line.after.as_str()) {
        ("", after) => format!("{} {after}", line.place),
        (before, "") => format!("{} no longer {before}", line.place),
        (before, after) => format!("{} {before} → {after}", line.place),
    });
    parts.collect::<Vec<_>>().join("; ")
}

pub(super) fn fits_of(playbook: &Playbook, criteria: &[CriterionPreview]) -> Vec<Fit> {
    let fit = |one: &Criterion| {
        let seen = criteria.iter().find(|seen| seen.text == one.text);
        let said = || seen.map(|seen| seen.says.clone()).unwrap_or_default();
        let (icon, tone, found, says) = match seen.and_then(|seen| seen.holds.as_ref()) {
            None => ("people", "", "", String::new()),
            Some(Known::Known(true)) => ("check", "good", "so it is now", said()),
            Some(Known::Known(false)) => ("cross", "", "not so now", said()),
            Some(Known::Unknown(why)) => ("clock", "warn", "not known", why.clone()),
        };
        Fit { text: one.text.clone(), icon, tone, found, says: Words::default().ticked(&says) }
    };
    playbook.decision.iter().map(fit).collect()
}

pub(super) fn requires_of(plan: &Plan, preview: &Preview) -> Vec<(String, &'static str, String)> {
    let pairs = plan.require.iter().zip(&preview.require);
    pairs
        .map(|(require, found)| {
            let text = match &require.wanted {
                Wanted::Flag { flag, on } => {
                    format!("{flag} is {}", if *on { "on" } else { "off" })
                }
                Wanted::BackupAge { source, max_ms } => {
                    let max = duration_words(*max_ms);
                    format!("{source} has a verified backup that is no older than {max}")
                }
                Wanted::Expression { expr } => expr.trim().to_owned(),
                Wanted::Health { pack, health } => {
                    format!("the checks of {pack} are at {} or more", percent_text(*health))
                }
            };
            let text = match &require.block {
                Some(call) => format!("{text} (for {call})"),
                None => text,
            };
            match &found.holds {
                Known::Known(true) => (text, "good", "holds now".to_owned()),
                Known::Known(false) => (text, "warn", "does not hold now".to_owned()),
                Known::Unknown(why) => (text, "", why.clone()),
            }
        })
        .collect()
}

//! A run's report as Markdown, for tickets and reviews.

use std::fmt::Write as _;

use serde_json::Value;
use switchback_app::report::{Report, StepReport};

use super::diff_lines::lines;
use super::run_view::state_words;
use super::words::{self, plain_stamp};

/// The whole report.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    head(&mut text, report);
    if !report.actions.is_empty() {
        section(&mut text, "Actions");
        report.actions.iter().for_each(|action| item(&mut text, &safe(action)));
    }
    people(&mut text, report);
    section(&mut text, "Steps");
    for (index, one) in report.steps.iter().enumerate() {
        step(&mut text, index + 1, one);
    }
    clients(&mut text, report);
    if !report.data.is_empty() {
        section(&mut text, "Data");
        text.push_str("| Rule | Found | At | |\n|---|---|---|---|\n");
        for row in &report.data {
            let found = words::title(&row.verdict);
            let at = plain_stamp(row.at);
            line(
                &mut text,
                &format!("| {} | {found} | {at} | {} |", safe(&row.rule), safe(&row.says)),
            );
        }
    }
    if !report.incidents.is_empty() {
        section(&mut text, "Incidents");
        report.incidents.iter().for_each(|id| item(&mut text, &format!("`{id}`")));
    }
    section(&mut text, "Time line");
    text.push_str("| Row | At | After | What |\n|---:|---|---:|---|\n");
    for moment in &report.timeline {
        let (at, after) = (plain_stamp(moment.at), words::duration(moment.after_ms));
        line(&mut text, &format!("| {} | {at} | {after} | {} |", moment.seq, safe(&moment.says)));
    }
    text
}

fn head(text: &mut String, report: &Report) {
    line(text, &format!("# {}", safe(&report.title)));
    let took = report.duration_ms.map(|ms| format!(" after {}", words::duration(ms)));
    let state = state_words(&report.outcome).0;
    line(text, &format!("\n**{state}**{}\n", took.unwrap_or_default()));
    text.push_str("| | |\n|---|---|\n");
    let mut row = |name: &str, value: String| line(text, &format!("| {name} | {value} |"));
    row("Run", format!("`{}`", report.id));
    row("Playbook", format!("`{}`, plan `{}`", report.playbook, report.plan_sha256));
    row("Environment", format!("`{}`", report.environment));
    row(
        "Started",
        format!(
            "{} by {} ({})",
            plain_stamp(report.started_at),
            safe(&report.requested_by),
            safe(&report.trigger)
        ),
    );
    row("Finished", report.finished_at.map_or_else(|| "not yet".to_owned(), plain_stamp));
    row("Limit", words::duration(report.deadline_ms.cast_signed()));
    row("Reason", safe(&report.reason));
    if let Some(cause) = &report.unwound_because {
        row("Taken back because of", cause.clone());
    }
    if let Value::Object(inputs) = &report.inputs {
        let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (name, value) in inputs {
            row(&format!("Input `{name}`"), safe(&said(value)));
        }
    }
}

fn people(text: &mut String, report: &Report) {
    if !report.approvals.is_empty() {
        section(text, "Approvals");
    }
    for one in &report.approvals {
        let verb = if one.granted { "approved" } else { "refused" };
        let said = format!("{} {verb} `{}` at {}", safe(&one.by), one.step, plain_stamp(one.at));
        item(text, &with(said, &one.comment));
    }
    if !report.decisions.is_empty() {
        section(text, "Decisions");
    }
    for one in &report.decisions {
        let decision = words::title(&one.decision).to_lowercase();
        let about =
            if one.step.is_empty() { String::new() } else { format!(" about `{}`", one.step) };
        let said = format!("{}{about}: {decision}, at {}", safe(&one.by), plain_stamp(one.at));
        item(text, &with(said, &one.comment));
    }
}

fn step(text: &mut String, number: usize, step: &StepReport) {
    line(
        text,
        &format!(
            "\n### {number}. {} ({})\n",
            safe(&step.title),
            words::title(&step.state).to_lowercase()
        ),
    );
    let does = if step.does == step.title { "" } else { &step.does };
    item(text, &with(format!("`{}` (`{}`)", step.id, step.kind), does));
    if !step.within.is_empty() {
        item(text, &safe(&step.within));
    }
    if let Some(ms) = step.duration_ms {
        let attempts = words::count(u64::from(step.attempts), "attempt");
        let failed =
            if step.failures > 0 { format!(", {} failed", step.failures) } else { String::new() };
        item(text, &format!("Took {} in {attempts}{failed}", words::duration(ms)));
    }
    for change in lines(&step.changed) {
        let empty = |text: &str| if text.is_empty() { "nothing".to_owned() } else { safe(text) };
        item(
            text,
            &format!(
                "{}: {} → {}",
                safe(&change.place),
                empty(&change.before),
                empty(&change.after)
            ),
        );
    }
    if let Some(says) = &step.says {
        item(text, &safe(says));
    }
    if let Some(error) = &step.error {
        item(text, &format!("Error or reason: {}", safe(error)));
    }
    if let Some(check) = &step.verification {
        let found = if check.holds { "Checked, holds" } else { "Checked, does not hold" };
        item(text, &with(found.to_owned(), &check.says));
    }
    if let Some(undo) = &step.undo {
        let said =
            format!("Undo, {}: {}", words::title(&undo.state).to_lowercase(), safe(&undo.does));
        item(text, &with(said, undo.says.as_deref().unwrap_or_default()));
    }
}

fn clients(text: &mut String, report: &Report) {
    if !report.convergence.is_empty() {
        section(text, "Clients");
    }
    for one in &report.convergence {
        let share = words::share_percent(one.acked, one.connected);
        let took = words::duration(one.took_ms);
        let said = match one.connected {
            0 => format!(
                "No client was connected, so nobody had to acknowledge revision {}",
                one.revision
            ),
            _ => format!(
                "{} of {} clients ({share}) acknowledged revision {} within {took}",
                one.acked, one.connected, one.revision
            ),
        };
        let missed = if one.reached { "" } else { "; fewer than wanted" };
        item(text, &format!("{said}{missed}"));
    }
}

fn section(text: &mut String, title: &str) {
    line(text, &format!("\n## {title}\n"));
}

fn item(text: &mut String, what: &str) {
    line(text, &format!("- {what}"));
}

fn line(text: &mut String, what: &str) {
    let _ = writeln!(text, "{what}");
}

fn with(said: String, more: &str) -> String {
    if more.is_empty() { said } else { format!("{said}: {}", safe(more)) }
}

/// Text on one line that Markdown leaves as it is. Backticks in pairs go on marking words of the machine.
fn safe(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let paired = parts.len() % 2 == 1;
    let mut safe = String::with_capacity(text.len());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            safe.push_str(if paired { "`" } else { "\\`" });
        }
        let is_code = paired && index % 2 == 1;
        for letter in part.chars() {
            match letter {
                '\n' | '\r' => safe.push(' '),
                '|' => safe.push_str("\\|"),
                '\\' | '*' | '_' | '[' | ']' | '<' | '>' if !is_code => {
                    safe.push('\\');
                    safe.push(letter);
                }
                other => safe.push(other),
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text() {
        assert_eq!(safe("a | b\n# c"), "a \\| b # c");
        assert_eq!(safe("<img> *x* [y](z)"), "\\<img\\> \\*x\\* \\[y\\](z)");
        assert_eq!(safe("`auth_off` is *on*"), "`auth_off` is \\*on\\*");
        assert_eq!(safe("one ` only_one"), "one \\` only\\_one");
    }
}

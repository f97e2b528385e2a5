//! Everything about a file that can be refused before anybody needs it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::blocks::CALLS_MAX;
use crate::format::{self, Parts, Playbook, Step, Wanted};
use crate::plan;
use crate::problem::{Problem, has_errors};
use crate::steps::Undo;
use crate::templates::Library;
use crate::units::duration_text;
use crate::yaml::{Content, Node};
use crate::{expr, inputs};

/// Reads and checks a file. On success the second part holds remarks only; on failure everything that
/// is wrong, in the order of the file.
pub fn load(text: &str, templates: &Library) -> Result<(Playbook, Vec<Problem>), Vec<Problem>> {
    let playbook = match format::parse(text) {
        Ok(playbook) => playbook,
        Err(problems) => return Err(in_order(problems)),
    };
    let problems = in_order(check(&playbook, text, templates));
    if has_errors(&problems) { Err(problems) } else { Ok((playbook, problems)) }
}

/// Everything that is wrong with, or remarkable about, a file. Empty for a clean one.
pub fn lint(text: &str, templates: &Library) -> Vec<Problem> {
    match load(text, templates) {
        Ok((_, remarks)) => remarks,
        Err(problems) => problems,
    }
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems.dedup();
    problems
}

fn check(playbook: &Playbook, text: &str, templates: &Library) -> Vec<Problem> {
    let mut problems = secrets(text);
    let before = problems.len();
    names(playbook, templates, &mut problems);
    if problems.len() > before {
        return problems; // filling in would only say the same again, less well
    }
    let samples: BTreeMap<String, Value> =
        playbook.inputs.iter().map(|input| (input.name.clone(), input.sample())).collect();
    for input in &playbook.inputs {
        if let Some(Value::String(_)) = samples.get(&input.name)
            && input.default.is_none()
            && !input.choices.is_empty()
        {
            for choice in &input.choices {
                let given = [(input.name.clone(), Value::String(choice.clone()))].into();
                if inputs::accept(std::slice::from_ref(input), &given).is_err() {
                    let message = format!("the choice `{choice}` is not a value of its own type");
                    problems.push(Problem::new(format!("spec.inputs.{}", input.name), message));
                }
            }
        }
    }
    let filled = plan::fill(playbook, templates, "production", samples, "a sample reason");
    problems.extend(filled.problems);
    if !has_errors(&problems) {
        times(&filled.plan, &mut problems);
        order(playbook, &filled.plan, &filled.origins, &mut problems);
    }
    problems
}

/// Every name in every expression is declared, and `if:` looks only at earlier steps.
fn names(playbook: &Playbook, templates: &Library, problems: &mut Vec<Problem>) {
    let mut known: Vec<String> =
        ["environment", "reason", "playbook"].iter().map(|name| (*name).to_owned()).collect();
    known.extend(playbook.inputs.iter().map(|input| format!("inputs.{}", input.name)));
    known.extend(playbook.vars.keys().map(|name| format!("vars.{name}")));
    if let Some(node) = &playbook.concurrency_key {
        in_values(node, "spec.concurrency.key", &known, problems);
    }
    let looks = crate::live::NAMES.map(str::to_owned);
    let live: Vec<String> = known.iter().cloned().chain(looks).collect();
    for (index, require) in playbook.require.iter().enumerate() {
        let Wanted::Expression { expr } = &require.wanted else { continue };
        if let Err((message, hint)) = expr::check_names(expr, &live) {
            let path = format!("spec.require[{index}].expr");
            problems.push(Problem::new(path, message).hint(hint));
        }
    }
    for (index, criterion) in playbook.decision.iter().enumerate() {
        let Some(expr) = &criterion.expr else { continue };
        if let Err((message, hint)) = expr::check_names(expr, &live) {
            let path = format!("spec.decision[{index}].expr");
            problems.push(Problem::new(path, message).hint(hint));
        }
    }
    let mut seen = live;
    for (index, step) in playbook.steps.iter().enumerate() {
        names_of(step, &format!("spec.steps[{index}]"), &known, &seen, problems);
        for id in ids(step, templates, 0) {
            seen.extend(["state", "ok", "out.*"].map(|field| format!("steps.{id}.{field}")));
        }
    }
}

/// The names in a step's values are in `known`, those in its condition in `seen`.
fn names_of(
    step: &Step,
    path: &str,
    known: &[String],
    seen: &[String],
    problems: &mut Vec<Problem>,
) {
    let mut here = known.to_vec();
    for item in step.foreach.iter().flatten() {
        in_values(item, &format!("{path}.foreach"), known, problems);
    }
    here.extend(step.foreach.is_some().then(|| "item".to_owned()));
    match &step.parts {
        Some(Parts::Together { steps, .. }) => {
            for (index, inner) in steps.iter().enumerate() {
                let path = format!("{path}.group.steps[{index}]");
                names_of(inner, &path, &here, seen, problems);
            }
        }
        Some(Parts::Call { with: Some(with), .. }) => {
            in_values(with, &format!("{path}.playbook.call.with"), &here, problems);
        }
        Some(Parts::Call { with: None, .. }) => {}
        None => {
            in_values(&step.call.params, &format!("{path}.{}", step.call.kind), &here, problems);
        }
    }
    if let Some(call) = &step.verify {
        in_values(&call.params, &format!("{path}.verify.{}", call.kind), &here, problems);
    }
    if let Some(node) = &step.approve {
        in_values(node, &format!("{path}.approve"), &here, problems);
    }
    if let Some(node) = &step.condition {
        let text = node.text().unwrap_or_default().trim();
        let bare = text.strip_prefix("${{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text);
        if let Err((message, hint)) = expr::check_names(bare, seen) {
            problems.push(Problem::new(format!("{path}.if"), message).at(node.at).hint(hint));
        }
    }
}

/// The ids of the steps that a step stands for, as expressions name them.
fn ids(step: &Step, templates: &Library, depth: usize) -> Vec<String> {
    let own = match &step.foreach {
        None => vec![step.id.clone()],
        Some(items) => (1..=items.len()).map(|n| format!("{}_{n}", step.id)).collect(),
    };
    let inner = match &step.parts {
        None => return own,
        Some(Parts::Together { steps, .. }) => steps,
        Some(Parts::Call { playbook, .. }) => match templates.playbook(playbook) {
            Ok(called) if depth < CALLS_MAX => &called.steps,
            _ => return Vec::new(), // filling in says so
        },
    };
    let inner: Vec<String> = inner.iter().flat_map(|one| ids(one, templates, depth + 1)).collect();
    own.iter().flat_map(|own| inner.iter().map(move |id| format!("{own}.{id}"))).collect()
}

fn in_values(node: &Node, path: &str, known: &[String], problems: &mut Vec<Problem>) {
    match &node.content {
        Content::Scalar { text, .. } if text.contains("${{") => {
            let parts = match expr::split(text) {
                Ok(parts) => parts,
                Err(message) => {
                    problems.push(Problem::new(path, message).at(node.at));
                    return;
                }
            };
            for part in parts {
                if let expr::Part::Expression(expression) = part
                    && let Err((message, hint)) = expr::check_names(expression, known)
                {
                    problems.push(Problem::new(path, message).at(node.at).hint(hint));
                }
            }
        }
        Content::Scalar { .. } => {}
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                in_values(item, &format!("{path}[{index}]"), known, problems);
            }
        }
        Content::Map(pairs) => {
            for (key, value) in pairs {
                in_values(value, &format!("{path}.{}", key.text), known, problems);
            }
        }
    }
}

fn times(plan: &plan::Plan, problems: &mut Vec<Problem>) {
    let (deadline, fixed, slowest) = (plan.deadline_ms, plan.fixed_ms(), plan.slowest_ms());
    if fixed >= deadline {
        let message = format!(
            "the waits alone take {}, and the deadline is {}",
            duration_text(fixed),
            duration_text(deadline)
        );
        problems.push(Problem::new("spec.deadline", message).hint("raise the deadline"));
    } else if slowest > deadline {
        let message = format!(
            "waits, approvals and checks may take {}, and the deadline is {}",
            duration_text(slowest),
            duration_text(deadline)
        );
        problems.push(Problem::new("spec.deadline", message).warning());
    }
}

/// What cannot be undone comes last; what is dangerous is approved.
fn order(playbook: &Playbook, plan: &plan::Plan, origins: &[usize], problems: &mut Vec<Problem>) {
    for (number, (planned, origin)) in plan.steps.iter().zip(origins).enumerate() {
        let Some(step) = playbook.steps.get(*origin) else { continue };
        let path = format!("spec.steps[{origin}]");
        let later = plan.steps.get(number + 1..).unwrap_or_default().iter();
        let group = plan.group_of(planned).map(|(id, _)| id);
        let beside = plan.steps.get(..number).unwrap_or_default().iter();
        let beside = beside.filter(|one| group.is_some() && one.block.as_deref() == group);
        let may_fail = |step: &plan::PlannedStep| step.on_error == format::OnError::Stop;
        if planned.undo == Undo::Impossible && !planned.danger && later.chain(beside).any(may_fail)
        {
            let message = format!("`{}` has no undo, and later steps may fail", planned.kind);
            let hint = "move it to the end, or give the later steps `on_error: continue`";
            problems.push(Problem::new(path.as_str(), message).at(step.at).hint(hint).warning());
        }
        if planned.danger && planned.approve.is_none() {
            let hint = match group {
                None => "add `approve: {roles: [admin]}`",
                Some(_) => "a step of a group has none, so take it out of the group",
            };
            let message = "a dangerous step needs an approval";
            problems.push(Problem::new(path.as_str(), message).at(step.at).hint(hint));
        }
    }
}

/// Marks by which keys and passwords are known, and what to call them.
const SECRETS: [(&str, &str); 9] = [
    ("-----BEGIN", "a private key"),
    ("AKIA", "a cloud access key"),
    ("ghp_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("sk_live_", "a Stripe key"),
    ("hooks.slack.com/services/", "a Slack webhook"),
    ("Bearer ey", "a bearer token"),
];

fn secrets(text: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mark = SECRETS.iter().find_map(|(mark, what)| line.find(mark).map(|at| (at, *what)));
        let lower = line.to_ascii_lowercase();
        let word =
            ["password:", "password=", "passwd:", "api_key:", "secret_key:", "access_token:"]
                .iter()
                .find_map(|word| {
                    let at = lower.find(word)?;
                    let value = lower.get(at + word.len()..)?.trim();
                    let literal = !value.is_empty() && !value.starts_with(['{', '$', '#']);
                    literal.then_some((at, "a password"))
                });
        if let Some((at, what)) = mark.or(word) {
            let column = line.get(..at).map_or(1, |before| before.chars().count() + 1);
            found.push(
                Problem::new("", format!("this looks like {what}"))
                    .at((index + 1, column))
                    .hint("a playbook is read by many and kept for ever; take secrets out of it"),
            );
        }
    }
    found
}

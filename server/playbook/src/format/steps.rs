//! `spec.steps`: what a playbook does, in order.

use super::{Call, OnError, Parts, Retry, STEPS_MAX, Step};
use crate::blocks::{self, AT_ONCE, AT_ONCE_MAX};
use crate::problem::{Problem, suggest};
use crate::read::{Entries, Reader, join};
use crate::steps;
use crate::yaml::{self, Content, Node};

pub(super) fn all_steps(reader: &mut Reader, spec: Entries<'_>) -> Vec<Step> {
    let Some(node) = spec.get("steps") else {
        reader.fault(spec.node, "spec", "`steps` is missing", "");
        return Vec::new();
    };
    let items = reader.list(node, "spec.steps");
    if items.is_empty() && matches!(node.content, Content::List(_)) {
        reader.fault(node, "spec.steps", "a playbook has at least one step", "");
    }
    if items.len() > STEPS_MAX {
        reader.fault(node, "spec.steps", format!("over {STEPS_MAX} steps"), "split the playbook");
    }
    let found = in_order(reader, items, "spec.steps", false);
    for one in found.iter().filter(|one| one.parts.is_some()) {
        // Its steps' rows would look like those of preconditions, conditions, or data rules.
        if let Some(item) = items.iter().find(|item| item.at == one.at)
            && ["require", "preserve", "if"].contains(&one.id.as_str())
        {
            let path = "spec.steps";
            reader.fault(
                item,
                path,
                format!("a {} cannot be called `{}`", one.call.kind, one.id),
                "",
            );
        }
    }
    found
}

/// Steps with different ids.
fn in_order(reader: &mut Reader, items: &[Node], path: &str, is_grouped: bool) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    for (index, item) in items.iter().take(STEPS_MAX).enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(step) = step(reader, item, &path, is_grouped) {
            if let Some(other) = found.iter().find(|other| other.id == step.id) {
                let hint = format!("the step at line {} has it", other.at.0);
                reader.fault(
                    item,
                    &join(&path, "id"),
                    format!("the id `{}` is taken", step.id),
                    hint,
                );
            }
            found.push(step);
        }
    }
    found
}

/// What a step may say beside its kind.
const COMMON: [&str; 11] = [
    "id", "title", "if", "timeout", "retry", "on_error", "danger", "verify", "expires", "approve",
    "foreach",
];

fn step(reader: &mut Reader, node: &Node, path: &str, is_grouped: bool) -> Option<Step> {
    let Some(pairs) = node.pairs() else {
        reader.fault(node, path, format!("a step is a map, not {}", node.noun()), "");
        return None;
    };
    let map = Entries { node };
    let id = reader.name(map, path, "id");
    let mut calls: Vec<_> =
        pairs.iter().filter(|(key, _)| !COMMON.contains(&key.text.as_str())).collect();
    let approve = if calls.is_empty() { None } else { map.get("approve").cloned() };
    if calls.is_empty() {
        calls.extend(pairs.iter().filter(|(key, _)| key.text == "approve"));
    }
    for (key, _) in &calls {
        if steps::find(&key.text).is_none() && !blocks::is_block(&key.text) {
            let hint = suggest(&key.text, steps::registry().map(|kind| kind.name).chain(COMMON));
            let message = format!("`{}` is neither a kind of step nor a key of one", key.text);
            reader
                .problems
                .push(Problem::new(join(path, &key.text), message).at(key.at).hint(hint));
        }
    }
    let call = match calls.as_slice() {
        [(key, params)] => Call { kind: key.text.clone(), params: params.clone() },
        [] => {
            reader.fault(
                node,
                path,
                "the step does nothing",
                "give it one kind, such as `flag.set`",
            );
            return None;
        }
        [(first, _), (second, _), ..] => {
            let message = format!("the step has two kinds, `{}` and `{}`", first.text, second.text);
            reader.fault(node, path, message, "make two steps of it");
            return None;
        }
    };
    if is_grouped {
        refuse_in_group(reader, map, path, &call);
    }
    let parts = parts(reader, map, path, &call);
    let words =
        [("stop", OnError::Stop), ("compensate", OnError::Stop), ("continue", OnError::Continue)];
    let expires_itself = steps::find(&call.kind)
        .is_none_or(|kind| kind.fields().iter().any(|field| field.name == "expires"));
    if let Some(node) = map.get("expires").filter(|_| !expires_itself)
        && steps::find(&call.kind).is_some_and(|kind| !kind.can_undo())
    {
        let message = format!("`{}` has no undo, so it cannot expire", call.kind);
        reader.fault(node, &join(path, "expires"), message, "");
    }
    Some(Step {
        at: node.at,
        title: reader.optional(map, path, "title", 120),
        expires_ms: if expires_itself { None } else { reader.duration(map, path, "expires") },
        call: if expires_itself {
            with_expiry(call, map.get("expires"), reader, path)
        } else {
            call
        },
        condition: map.get("if").cloned(),
        foreach: map.get("foreach").map(|node| foreach(reader, node, &join(path, "foreach"))),
        timeout_ms: reader.duration(map, path, "timeout"),
        retry: map.get("retry").map(|node| retry(reader, node, path)).unwrap_or_default(),
        on_error: reader.word(map, path, "on_error", &words).unwrap_or(OnError::Stop),
        danger: reader.bool(map, path, "danger").unwrap_or(false),
        verify: map.get("verify").and_then(|node| check(reader, node, &join(path, "verify"))),
        approve,
        parts,
        id: id?,
    })
}

/// The steps of a group start together, so nobody can be asked about one of them.
fn refuse_in_group(reader: &mut Reader, map: Entries<'_>, path: &str, call: &Call) {
    if blocks::is_block(&call.kind) {
        let hint = "a group holds plain steps";
        reader.fault(map.node, path, format!("`{}` does not stand in a group", call.kind), hint);
    }
    for key in ["approve", "danger"] {
        if let Some(node) = map.get(key) {
            let message = format!("a step of a group has no `{key}`");
            let hint = "people are asked before: put an `approve` step before the group";
            reader.fault(node, &join(path, key), message, hint);
        }
    }
}

/// What a group or a call stands for.
fn parts(reader: &mut Reader, map: Entries<'_>, path: &str, call: &Call) -> Option<Parts> {
    if !blocks::is_block(&call.kind) {
        return None;
    }
    for key in ["timeout", "retry", "on_error", "danger", "verify", "expires", "approve"] {
        if let Some(node) = map.get(key) {
            let message = format!("`{}` has no `{key}`; its steps have", call.kind);
            let hint = if key == "approve" { "put an `approve` step before it" } else { "" };
            reader.fault(node, &join(path, key), message, hint);
        }
    }
    let path = join(path, &call.kind);
    if call.kind == blocks::GROUP {
        let map = reader.map(&call.params, &path, &["max", "steps"])?;
        let max = reader.whole(map, &path, "max", 1, AT_ONCE_MAX).unwrap_or(AT_ONCE);
        let path = join(&path, "steps");
        let Some(node) = map.get("steps") else {
            reader.fault(map.node, &path, "`steps` is missing", "the steps that run together");
            return None;
        };
        let items = reader.list(node, &path);
        if matches!(node.content, Content::List(_)) && !(1..=STEPS_MAX).contains(&items.len()) {
            reader.fault(node, &path, format!("1 to {STEPS_MAX} steps are expected"), "");
        }
        return Some(Parts::Together { max, steps: in_order(reader, items, &path, true) });
    }
    let map = reader.map(&call.params, &path, &["playbook", "with"])?;
    let playbook = reader.name(map, &path, "playbook");
    let with = map.get("with").cloned();
    if let Some(node) = &with
        && node.pairs().is_none()
    {
        let message = format!("a map is expected, not {}", node.noun());
        reader.fault(node, &join(&path, "with"), message, "inputs by name");
    }
    Some(Parts::Call { playbook: playbook?, with })
}

/// `expires` stands beside the kind, where the eye looks for it, and is one of its parameters.
fn with_expiry(mut call: Call, expires: Option<&Node>, reader: &mut Reader, path: &str) -> Call {
    let Some(expires) = expires else { return call };
    match &mut call.params.content {
        Content::Map(pairs) if !pairs.iter().any(|(key, _)| key.text == "expires") => {
            pairs.push((yaml::Key { at: expires.at, text: "expires".to_owned() }, expires.clone()));
        }
        _ => reader.fault(
            expires,
            &join(path, "expires"),
            "`expires` is given twice, or to nothing",
            "",
        ),
    }
    call
}

/// The values that a step is made for: texts and numbers, up to as many as there may be steps.
fn foreach(reader: &mut Reader, node: &Node, path: &str) -> Vec<Node> {
    let items = reader.list(node, path);
    if matches!(node.content, Content::List(_)) && !(1..=STEPS_MAX).contains(&items.len()) {
        reader.fault(node, path, format!("1 to {STEPS_MAX} values are expected"), "");
    }
    for item in items.iter().filter(|item| item.text().is_none()) {
        reader.fault(item, path, format!("a plain value is expected, not {}", item.noun()), "");
    }
    items.to_vec()
}

fn retry(reader: &mut Reader, node: &Node, path: &str) -> Retry {
    let path = join(path, "retry");
    let Some(map) = reader.map(node, &path, &["times", "backoff"]) else {
        return Retry::default();
    };
    let times = reader.whole(map, &path, "times", 0, 10).unwrap_or(0) as u32;
    Retry { times, backoff_ms: reader.duration(map, &path, "backoff").unwrap_or(1_000) }
}

fn check(reader: &mut Reader, node: &Node, path: &str) -> Option<Call> {
    let Some([(key, params)]) = node.pairs() else {
        reader.fault(node, path, "one read-only kind is expected", "such as {flag.ack: {…}}");
        return None;
    };
    let found = steps::find(&key.text);
    if found.is_some_and(steps::StepKind::read_only) {
        return Some(Call { kind: key.text.clone(), params: params.clone() });
    }
    let message = match found {
        Some(_) => format!("`{}` changes things, so it cannot verify", key.text),
        None => format!("`{}` is not a kind of step", key.text),
    };
    let readers = steps::registry().filter(|kind| kind.read_only).map(|kind| kind.name);
    let problem = Problem::new(join(path, &key.text), message).at(key.at);
    reader.problems.push(problem.hint(suggest(&key.text, readers)));
    None
}

//! `spec.triggers`, `spec.limits` and `spec.secrets`: who and what may start a playbook, and how often.
//!
//! ```yaml
//! secrets: {deploys: env:DEPLOY_HOOK_SECRET}      # env:NAME or file:/path; never the secret itself
//! triggers:
//!   - manual: {roles: [admin], confirm: type_name} # in the console: none | click | type_name
//!   - webhook: {token: deploys, inputs: {reason: /message}}   # a name in secrets; JSON pointers
//!   - alert: {receiver_token: alertmanager, match: {alertname: AuthFailureHigh}, environment: production}
//!   - guard: {flag: auth_rollout, environment: production, approve: one_click}
//!   - schedule: {every: 30d, environment: staging, inputs: {share: 10%}}   # or {at: "03:00", days: [mon], environment: staging}; UTC
//! limits: {cooldown: 10m, ceiling: {runs: 3, per: 1h}}        # for what starts by itself
//! ```

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::alerts::{self, Alert, Given};
use crate::guards::{self, GuardTrigger};
use crate::inputs::Input;
use crate::problem::{Problem, suggest};
use crate::read::{Entries, Reader, join};
use crate::schedule::{self, Schedule};
use crate::yaml::{Content, Node};

/// How a person confirms a start in the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// By pressing a button.
    None,
    /// By holding it.
    #[default]
    Click,
    /// By typing the playbook's name as well.
    TypeName,
}

/// Which people start it, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Manual {
    /// Any of these roles; empty: whoever may run playbooks.
    pub roles: Vec<String>,
    /// In the console.
    pub confirm: Confirm,
}

/// A signed call from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The name in `secrets` of what signs it.
    pub token: String,
    /// Inputs by JSON pointers into the call's body.
    pub inputs: BTreeMap<String, String>,
}

/// Who and what may start a playbook.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Triggers {
    /// People.
    pub manual: Manual,
    /// A signed call.
    pub webhook: Option<Webhook>,
    /// The clock.
    pub schedule: Option<Schedule>,
    /// Alerts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Guards that find harm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardTrigger>,
}

impl Triggers {
    /// Whether something but a person starts it.
    pub fn starts_by_itself(&self) -> bool {
        let calls = self.webhook.is_some() || self.schedule.is_some();
        calls || !self.alerts.is_empty() || !self.guards.is_empty()
    }
}

/// So many runs in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ceiling {
    /// Runs, 1 to 1,000.
    pub runs: u64,
    /// The time, in milliseconds.
    pub per_ms: u64,
}

/// How often it may start by itself in one environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The pause after such a start, in milliseconds.
    pub cooldown_ms: u64,
    /// The most such starts.
    pub ceiling: Option<Ceiling>,
}

const ROLES: [(&str, ()); 4] = [("viewer", ()), ("editor", ()), ("operator", ()), ("admin", ())];

/// Reads `spec.secrets`: a name, and where the secret is.
pub(crate) fn secrets(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let path = "spec.secrets";
    let Some(pairs) = node.pairs() else {
        reader.fault(node, path, format!("a map is expected, not {}", node.noun()), "");
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, value) in pairs {
        let path = join(path, &key.text);
        if !crate::read::is_name(&key.text) {
            let message = "this is not a name";
            let hint = "use letters, digits, `_` and `-`, and start with a letter";
            reader.problems.push(Problem::new(path, message).at(key.at).hint(hint));
            continue;
        }
        let named = value.text().is_some_and(is_reference);
        if let Some(text) = value.text().filter(|_| named) {
            found.insert(key.text.clone(), text.to_owned());
        } else {
            // What was given may be the secret itself, so it is not repeated.
            let message = "secrets are named, not given: `env:NAME` or `file:/absolute/path`";
            reader.fault(value, &path, message, "");
        }
    }
    found
}

fn is_reference(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.split_once(':') {
        Some(("env", rest)) => !rest.is_empty() && rest.chars().all(name),
        Some(("file", rest)) => rest.starts_with('/'),
        _ => false,
    }
}

/// Reads `spec.triggers`.
pub(crate) fn parse(
    reader: &mut Reader,
    node: &Node,
    inputs: &[Input],
    secrets: &BTreeMap<String, String>,
) -> Triggers {
    let mut found = Triggers::default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, item) in reader.list(node, "spec.triggers").iter().enumerate() {
        let path = format!("spec.triggers[{index}]");
        let kinds = ["manual", "webhook", "schedule", "alert", "guard"];
        if reader.map(item, &path, &kinds).is_none() {
            continue;
        }
        let Some([(key, value)]) = item.pairs() else {
            reader.fault(item, &path, "one kind of trigger is expected", "one list item for each");
            continue;
        };
        let (kind, path) = (key.text.as_str(), join(&path, &key.text));
        if seen.contains(&kind) && !["alert", "guard"].contains(&kind) {
            reader.problems.push(Problem::new(path, format!("a second `{kind}`")).at(key.at));
            continue;
        }
        seen.push(kind);
        match kind {
            "manual" => found.manual = manual(reader, value, &path).unwrap_or_default(),
            "webhook" => found.webhook = webhook(reader, value, &path, inputs, secrets),
            "schedule" => {
                found.schedule = schedule::parse(reader, value, &path, inputs);
            }
            "alert" => found.alerts.extend(alerts::parse(reader, value, &path, inputs)),
            "guard" => found.guards.extend(guards::parse(reader, value, &path, inputs)),
            _ => {}
        }
    }
    found
}

fn manual(reader: &mut Reader, node: &Node, path: &str) -> Option<Manual> {
    let map = reader.map(node, path, &["roles", "confirm"])?;
    let mut roles = Vec::new();
    if let Some(list) = map.get("roles") {
        let path = join(path, "roles");
        for (index, item) in reader.list(list, &path).iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = reader.text(item, &path, 40) else { continue };
            if ROLES.iter().any(|(role, ())| *role == text) {
                roles.push(text);
            } else {
                let hint = suggest(&text, ROLES.iter().map(|(role, ())| *role));
                reader.fault(item, &path, format!("`{text}` is not a role"), hint);
            }
        }
    }
    let words =
        [("none", Confirm::None), ("click", Confirm::Click), ("type_name", Confirm::TypeName)];
    let confirm = reader.word(map, path, "confirm", &words).unwrap_or_default();
    Some(Manual { roles, confirm })
}

fn webhook(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    inputs: &[Input],
    secrets: &BTreeMap<String, String>,
) -> Option<Webhook> {
    let map = reader.map(node, path, &["token", "inputs"])?;
    let token = reader.name(map, path, "token");
    if let (Some(token), Some(node)) = (&token, map.get("token"))
        && !secrets.contains_key(token)
    {
        let hint = suggest(token, secrets.keys().map(String::as_str));
        let message = format!("`{token}` is not in `spec.secrets`");
        reader.fault(node, &join(path, "token"), message, hint);
    }
    let given = pointers(reader, map, path, inputs);
    all_given(reader, node, path, inputs, &given);
    Some(Webhook { token: token?, inputs: given })
}

/// What starts by itself has a value for every input.
pub(crate) fn all_given<T>(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    inputs: &[Input],
    given: &BTreeMap<String, T>,
) {
    for input in inputs {
        let has_value = input.default.is_some() || !input.required || input.name == "reason";
        if !has_value && !given.contains_key(&input.name) {
            let message = format!("the input `{}` is required, and this gives it none", input.name);
            reader.fault(node, path, message, "give the input a default, or a value in `inputs`");
        }
    }
}

/// Inputs by value; where there is something to point into, a text that begins with `/` is a JSON pointer.
pub(crate) fn given(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    inputs: &[Input],
    may_point: bool,
) -> BTreeMap<String, Given> {
    let Some(node) = map.get("inputs") else { return BTreeMap::new() };
    let path = join(path, "inputs");
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    if reader.map(node, &path, &names).is_none() {
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    for (key, value) in node.pairs().unwrap_or_default() {
        let path = join(&path, &key.text);
        let Some(text) = reader.text(value, &path, 4_000) else { continue };
        if may_point && text.starts_with('/') {
            found.insert(key.text.clone(), Given::Pointer(text));
            continue;
        }
        let plain = matches!(value.content, Content::Scalar { plain: true, .. });
        let given = if plain { crate::expr::plain_scalar(&text) } else { Value::String(text) };
        let input = inputs.iter().find(|input| input.name == key.text);
        match input.map_or(Ok(given.clone()), |input| input.accept(&given)) {
            Ok(given) => {
                found.insert(key.text.clone(), Given::Value(given));
            }
            Err(message) => reader.fault(value, &path, message, ""),
        }
    }
    found
}

/// Inputs by JSON pointer.
fn pointers(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    inputs: &[Input],
) -> BTreeMap<String, String> {
    let Some(node) = map.get("inputs") else { return BTreeMap::new() };
    let path = join(path, "inputs");
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    if reader.map(node, &path, &names).is_none() {
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    for (key, value) in node.pairs().unwrap_or_default() {
        let path = join(&path, &key.text);
        let Some(pointer) = reader.text(value, &path, 200) else { continue };
        if pointer.starts_with('/') {
            found.insert(key.text.clone(), pointer);
        } else {
            let hint = "such as /deploy/message, into the call's body";
            reader.fault(value, &path, format!("`{pointer}` is not a JSON pointer"), hint);
        }
    }
    found
}

/// Reads `spec.limits`.
pub(crate) fn limits(reader: &mut Reader, node: &Node, triggers: &Triggers) -> Limits {
    let path = "spec.limits";
    let Some(map) = reader.map(node, path, &["cooldown", "ceiling"]) else {
        return Limits::default();
    };
    if !triggers.starts_by_itself() {
        let message = "limits are for what starts by itself, and nothing does here";
        let problem = Problem::new(path, message).at(node.at);
        reader
            .problems
            .push(problem.hint("leave them out, or add `webhook`, `schedule` or `alert`"));
    }
    let ceiling = map.get("ceiling").and_then(|node| {
        let path = join(path, "ceiling");
        let map = reader.map(node, &path, &["runs", "per"])?;
        for key in ["runs", "per"] {
            if map.get(key).is_none() {
                reader.fault(node, &path, format!("`{key}` is missing"), "{runs: 3, per: 1h}");
            }
        }
        let runs = reader.whole(map, &path, "runs", 1, 1_000);
        let per_ms = reader.duration(map, &path, "per");
        Some(Ceiling { runs: runs?, per_ms: per_ms? })
    });
    Limits { cooldown_ms: reader.duration(map, path, "cooldown").unwrap_or(0), ceiling }
}

#[cfg(test)]
mod tests {
    use crate::templates::Library;

    fn problems(spec: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: switchback/v1\nkind: Playbook\nmetadata: {{name: t, title: T}}\nspec:\n{spec}\n  steps:\n  - {{id: a, log: {{message: m}}}}\n"
        );
        let found = crate::lint::lint(&text, &Library::default());
        found.iter().map(|problem| format!("{problem}")).collect()
    }

    #[test]
    fn what_is_right_is_read() {
        let spec = "  inputs: {who: {type: string, required: true}}\n  secrets: {hook: env:HOOK}\n  \
            triggers:\n  - manual: {roles: [admin], confirm: type_name}\n  - webhook: {token: hook, inputs: {who: /a/b}}\n  \
            - alert: {receiver_token: am, match: {alertname: A}, environment: production, approve: none, inputs: {who: /labels/x}}\n  \
            - alert: {receiver_token: am, match: {alertname: B}, environment: staging, wait: 1m, inputs: {who: ada}}\n  \
            - schedule: {every: 1d, environment: staging, inputs: {who: ada}}\n  limits: {cooldown: 10m, ceiling: {runs: 3, per: 1h}}";
        assert_eq!(problems(spec), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_place() {
        for (spec, wanted) in [
            ("  secrets: {hook: hunter2}", "5:19: spec.secrets.hook: secrets are named"),
            (
                "  triggers: [{webhok: {}}]",
                "5:15: spec.triggers[0].webhok: unknown key `webhok` (did you mean `webhook`?)",
            ),
            (
                "  triggers: [{schedule: {every: 1d}}]",
                "5:25: spec.triggers[0].schedule: `environment` is missing",
            ),
            (
                "  triggers: [{webhook: {token: hook}}]",
                "5:32: spec.triggers[0].webhook.token: `hook` is not in `spec.secrets`",
            ),
            (
                "  triggers: [{manual: {roles: [boss]}}]",
                "5:32: spec.triggers[0].manual.roles[0]: `boss` is not a role",
            ),
            (
                "  triggers: [{manual: {}}, {manual: {}}]",
                "5:29: spec.triggers[1].manual: a second `manual`",
            ),
            (
                "  triggers: [{alert: {receiver_token: am, environment: production}}]",
                "5:22: spec.triggers[0].alert: `match` names at least one label",
            ),
            (
                "  inputs: {share: {type: percent, default: 1%}}\n  triggers: [{alert: {receiver_token: am, match: {a: b}, environment: production, inputs: {share: much}}}]",
                "6:99: spec.triggers[0].alert.inputs.share: ",
            ),
            (
                "  inputs: {who: {type: string, required: true}}\n  triggers: [{schedule: {every: 1d, environment: a, inputs: {whom: b}}}]",
                "6:62: spec.triggers[0].schedule.inputs.whom: unknown key `whom`",
            ),
            ("  limits: {cooldown: 1m}", "5:11: spec.limits: limits are for what starts by itself"),
            (
                "  inputs: {who: {type: string, required: true}}\n  secrets: {h: file:/run/h}\n  triggers: [{webhook: {token: h, inputs: {who: a}}}]",
                "7:49: spec.triggers[0].webhook.inputs.who: `a` is not a JSON pointer",
            ),
            (
                "  inputs: {who: {type: string, required: true}}\n  secrets: {h: file:/run/h}\n  triggers: [{webhook: {token: h}}]",
                "7:24: spec.triggers[0].webhook: the input `who` is required",
            ),
        ] {
            let found = problems(spec);
            assert!(found.iter().any(|text| text.starts_with(wanted)), "{wanted}: {found:#?}");
            assert!(!found.join("\n").contains("hunter2"), "{found:#?}");
        }
    }
}

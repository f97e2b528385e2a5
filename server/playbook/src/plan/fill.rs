//! Filling a playbook in: every step with its values, groups and calls in place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    BLIND_VERSION, Condition, PLAIN_VERSION, PLAN_VERSION, Plan, PlannedCheck, PlannedStep,
};
use crate::blocks::{Block, CALLS_MAX, PlannedBlock};
use crate::format::{Call, Parts, Playbook, Require, STEPS_MAX, Step};
use crate::preserve::Preserve;
use crate::problem::Problem;
use crate::steps::{self, Fault, Fields, Resolved};
use crate::templates::Library;
use crate::yaml::Node;
use crate::{expr, inputs, live};

/// A step's full name is no longer, in bytes.
const ID_MAX: usize = 60;

/// A playbook filled in.
pub(crate) struct Filled {
    pub(crate) plan: Plan,
    pub(crate) problems: Vec<Problem>,
    /// For each step of the plan, the number of the file's step that it came from.
    pub(crate) origins: Vec<usize>,
}

/// Fills a playbook in with inputs that were accepted already, and says everything that is wrong.
pub(crate) fn fill(
    playbook: &Playbook,
    templates: &Library,
    environment: &str,
    inputs: BTreeMap<String, Value>,
    reason: &str,
) -> Filled {
    let mut filler = Filler {
        templates,
        environment,
        reason,
        context: context(playbook, environment, reason, &inputs),
        problems: Vec::new(),
        earlier: Vec::new(),
        scope: String::new(),
        prefix: String::new(),
        block: None,
        blocks: Vec::new(),
        require: playbook.require.clone(),
        preserve: playbook.preserve.clone(),
        callers: vec![playbook.name.clone()],
        made: 0,
    };
    let concurrency_key = match &playbook.concurrency_key {
        Some(node) => {
            match expr::resolve(node, "spec.concurrency.key", &filler.context, &mut filler.problems)
            {
                Value::String(key) => key,
                other => other.to_string(),
            }
        }
        None => format!("{}/{environment}", playbook.name),
    };
    let (mut steps, mut origins) = (Vec::new(), Vec::new());
    for (index, step) in playbook.steps.iter().enumerate() {
        steps.extend(filler.all(step, &format!("spec.steps[{index}]")));
        origins.resize(steps.len(), index);
    }
    if steps.len() > STEPS_MAX {
        let message = format!("with every `foreach`, group and call it has over {STEPS_MAX} steps");
        filler.problems.push(Problem::new("spec.steps", message).hint("split the playbook"));
    }
    let plan = Plan {
        version: version(&steps, &filler.blocks),
        playbook: playbook.name.clone(),
        title: playbook.title.clone(),
        source_sha256: playbook.source_sha256.clone(),
        environment: environment.to_owned(),
        reason: reason.to_owned(),
        inputs,
        concurrency_key,
        on_conflict: playbook.on_conflict,
        report_to: playbook.report_to.clone(),
        deadline_ms: playbook.deadline_ms,
        on_deadline: playbook.on_deadline,
        drill: playbook.drill,
        require: filler.require,
        preserve: filler.preserve,
        vars: playbook.vars.clone(),
        blocks: filler.blocks,
        steps,
    };
    Filled { plan, problems: filler.problems, origins }
}

/// The oldest version that can say what the plan says.
fn version(steps: &[PlannedStep], blocks: &[PlannedBlock]) -> u32 {
    let conditions = steps.iter().map(|step| &step.condition);
    let mut conditions = conditions.chain(blocks.iter().map(|block| &block.condition));
    let looks = |one: &Condition| matches!(one, Condition::When(text) if live::looks(text));
    if conditions.any(looks) {
        PLAN_VERSION
    } else if blocks.is_empty() {
        PLAIN_VERSION
    } else {
        BLIND_VERSION
    }
}

/// What the values of a playbook see.
fn context(
    playbook: &Playbook,
    environment: &str,
    reason: &str,
    inputs: &BTreeMap<String, Value>,
) -> Value {
    json!({
        "inputs": inputs, "vars": playbook.vars, "environment": environment, "reason": reason,
        "playbook": playbook.name,
    })
}

struct Filler<'f> {
    templates: &'f Library,
    environment: &'f str,
    reason: &'f str,
    context: Value,
    problems: Vec<Problem>,
    /// Full names and kinds of the steps before this one.
    earlier: Vec<(String, String)>,
    /// How the full names of the steps begin that this one may look at.
    scope: String,
    /// How its own begins.
    prefix: String,
    /// The group or call that it stands in.
    block: Option<String>,
    blocks: Vec<PlannedBlock>,
    require: Vec<Require>,
    preserve: Vec<Preserve>,
    /// The playbook, and those that are called on the way to this step.
    callers: Vec<String>,
    /// How many steps there are so far.
    made: usize,
}

impl Filler<'_> {
    /// Everything that a step stands for. Steps behind it may look at it.
    fn all(&mut self, step: &Step, path: &str) -> Vec<PlannedStep> {
        let planned = self.planned(step, path);
        self.earlier.extend(planned.iter().map(|one| (one.id.clone(), one.kind.clone())));
        planned
    }

    fn planned(&mut self, step: &Step, path: &str) -> Vec<PlannedStep> {
        match &step.foreach {
            None => self.one(step, path),
            Some(items) => self.each(step, items, path),
        }
    }

    fn one(&mut self, step: &Step, path: &str) -> Vec<PlannedStep> {
        if self.made > STEPS_MAX {
            return Vec::new(); // calls within calls could make millions
        }
        match &step.parts {
            None => self.step(step, path).into_iter().collect(),
            Some(Parts::Together { max, steps }) => self.group(step, *max, steps, path),
            Some(Parts::Call { playbook, with }) => {
                self.call_playbook(step, playbook, with.as_ref(), path)
            }
        }
    }

    /// A group's steps: none of them sees another one.
    fn group(&mut self, step: &Step, max: u64, steps: &[Step], path: &str) -> Vec<PlannedStep> {
        let title = step.title.clone().unwrap_or_else(|| "At the same time".to_owned());
        let id = self.begin_block(step, title, Block::Group { max }, path);
        let outer = (self.prefix.clone(), self.block.clone());
        (self.prefix, self.block) = (format!("{id}."), Some(id));
        let mut planned = Vec::new();
        for (index, inner) in steps.iter().enumerate() {
            planned.extend(self.planned(inner, &format!("{path}.group.steps[{index}]")));
        }
        (self.prefix, self.block) = outer;
        let mut written = BTreeSet::new();
        for one in &planned {
            let writes = steps::find(&one.kind).is_some_and(|kind| !kind.read_only());
            let key = one.params.get("key").and_then(Value::as_str).unwrap_or_default();
            if writes && one.kind.starts_with("flag.") && !written.insert(key.to_owned()) {
                let message = format!("two steps of the group change the flag `{key}`");
                let hint = "which comes last would be chance; put one of them after the group";
                self.problems.push(Problem::new(path, message).at(step.at).hint(hint));
            }
        }
        planned
    }

    /// The steps of another playbook, with what it was given.
    fn call_playbook(
        &mut self,
        step: &Step,
        name: &str,
        with: Option<&Node>,
        path: &str,
    ) -> Vec<PlannedStep> {
        let path = format!("{path}.playbook.call");
        let wrong = |message: String| Problem::new(path.as_str(), message).at(step.at);
        let way = |callers: &[String]| format!("{} → {name}", callers.join(" → "));
        if self.callers.iter().any(|caller| caller == name) {
            let message = format!("a playbook would call itself: {}", way(&self.callers));
            self.problems.push(wrong(message));
            return Vec::new();
        }
        if self.callers.len() > CALLS_MAX {
            let message = format!("over {CALLS_MAX} calls deep: {}", way(&self.callers));
            self.problems.push(wrong(message).hint("put the steps of one of them into the other"));
            return Vec::new();
        }
        let called = match self.templates.playbook(name) {
            Ok(called) => called,
            Err(message) => {
                self.problems.push(wrong(message));
                return Vec::new();
            }
        };
        let before = self.problems.len();
        let given = with.map_or(Value::Null, |node| {
            expr::resolve(node, &format!("{path}.with"), &self.context, &mut self.problems)
        });
        let mut given: BTreeMap<String, Value> = match given {
            Value::Object(map) => map.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        if called.inputs.iter().any(|input| input.name == "reason") {
            given.entry("reason".to_owned()).or_insert_with(|| json!(self.reason));
        }
        if self.problems.len() > before {
            return Vec::new();
        }
        let inputs = match inputs::accept(&called.inputs, &given) {
            Ok(inputs) => inputs,
            Err(problems) => {
                let told = problems.into_iter().map(|one| {
                    let message = format!("`{name}`: {}", one.message);
                    let input = one.path.trim_start_matches("inputs.");
                    Problem::new(format!("{path}.with.{input}"), message).at(step.at).hint(one.hint)
                });
                self.problems.extend(told);
                return Vec::new();
            }
        };
        let block = Block::Call {
            playbook: name.to_owned(),
            source_sha256: called.source_sha256.clone(),
            inputs: inputs.clone(),
            vars: called.vars.clone(),
        };
        let title = step.title.clone().unwrap_or_else(|| called.title.clone());
        let id = self.begin_block(step, title, block, &path);
        if self.blocks.last().is_some_and(|block| block.condition != Condition::Never) {
            self.take_rules(called, &id);
        }
        let inner = Self {
            templates: self.templates,
            environment: self.environment,
            reason: self.reason,
            context: context(called, self.environment, self.reason, &inputs),
            problems: Vec::new(),
            earlier: Vec::new(),
            scope: format!("{id}."),
            prefix: format!("{id}."),
            block: Some(id),
            blocks: std::mem::take(&mut self.blocks),
            require: std::mem::take(&mut self.require),
            preserve: std::mem::take(&mut self.preserve),
            callers: self.callers.iter().cloned().chain([name.to_owned()]).collect(),
            made: self.made,
        };
        self.filled_by(inner, called, step, &path)
    }

    /// Lets another filler fill the steps of a called playbook in. What it finds wrong stands in another file, so it is
    /// told at the call.
    fn filled_by(
        &mut self,
        mut inner: Self,
        called: &Playbook,
        step: &Step,
        path: &str,
    ) -> Vec<PlannedStep> {
        let mut planned = Vec::new();
        for (index, one) in called.steps.iter().enumerate() {
            planned.extend(inner.all(one, &format!("spec.steps[{index}]")));
        }
        (self.blocks, self.made) = (inner.blocks, inner.made);
        (self.require, self.preserve) = (inner.require, inner.preserve);
        self.problems.extend(inner.problems.into_iter().map(|one| {
            let message = format!("in `{}`, {}: {}", called.name, one.path, one.message);
            Problem { message, path: path.to_owned(), ..one }.at(step.at)
        }));
        planned
    }

    /// What a called playbook wants to hold, and what must not get lost in it.
    fn take_rules(&mut self, called: &Playbook, id: &str) {
        for require in &called.require {
            let (name, block) = (format!("{id}.{}", require.id), Some(id.to_owned()));
            self.require.push(Require { id: name, block, ..require.clone() });
        }
        for rule in &called.preserve {
            let same =
                |known: &Preserve| Preserve { id: rule.id.clone(), ..known.clone() } == *rule;
            if !self.preserve.iter().any(same) {
                let name = format!("{id}.{}", rule.id);
                self.preserve.push(Preserve { id: name, ..rule.clone() });
            }
        }
    }

    /// Notes a group or a call, and tells its full name.
    fn begin_block(&mut self, step: &Step, title: String, what: Block, path: &str) -> String {
        let id = self.full_name(step, path);
        let condition = self.condition(step.condition.as_ref(), path);
        let around =
            self.block.as_ref().and_then(|id| self.blocks.iter().find(|one| one.id == *id));
        let condition = match around.map(|block| &block.condition) {
            Some(Condition::Never) => Condition::Never,
            _ => condition,
        };
        let within = self.block.clone();
        self.blocks.push(PlannedBlock { id: id.clone(), title, within, condition, what });
        id
    }

    fn full_name(&mut self, step: &Step, path: &str) -> String {
        let id = format!("{}{}", self.prefix, step.id);
        if id.len() > ID_MAX && !self.prefix.is_empty() {
            let message = format!("the step's full name `{id}` is over {ID_MAX} characters");
            self.problems.push(Problem::new(path, message).at(step.at).hint("shorten the ids"));
        }
        id
    }

    /// One step for each value, which its texts call `item`.
    fn each(&mut self, step: &Step, items: &[Node], path: &str) -> Vec<PlannedStep> {
        let mut planned = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{path}.foreach[{index}]");
            let value = expr::resolve(item, &at, &self.context, &mut self.problems);
            if let Value::Object(context) = &mut self.context {
                context.insert("item".to_owned(), value);
            }
            let own = Step { id: format!("{}_{}", step.id, index + 1), ..step.clone() };
            planned.extend(self.one(&own, path));
        }
        if let Value::Object(context) = &mut self.context {
            context.remove("item");
        }
        planned
    }

    fn step(&mut self, step: &Step, path: &str) -> Option<PlannedStep> {
        self.made += 1;
        let kind = steps::find(&step.call.kind)?;
        let resolved = self.call(&step.call, &format!("{path}.{}", step.call.kind))?;
        let verify = step.verify.as_ref().and_then(|call| {
            let resolved = self.call(call, &format!("{path}.verify.{}", call.kind))?;
            let Resolved { params, does, timeout_ms, .. } = resolved;
            Some(PlannedCheck { kind: call.kind.clone(), params, does, timeout_ms })
        });
        let gate = step.approve.as_ref().and_then(|node| {
            let call = Call { kind: "approve".to_owned(), params: node.clone() };
            self.call(&call, &format!("{path}.approve"))?.approve
        });
        let left_out = self.block.as_ref().is_some_and(|id| {
            let around = self.blocks.iter().find(|block| block.id == *id);
            around.is_some_and(|block| block.condition == Condition::Never)
        });
        let condition = self.condition(step.condition.as_ref(), path);
        Some(PlannedStep {
            id: self.full_name(step, path),
            title: step.title.clone().unwrap_or_else(|| resolved.does.clone()),
            kind: step.call.kind.clone(),
            condition: if left_out { Condition::Never } else { condition },
            approve: gate.or(resolved.approve),
            wait_ms: resolved.wait_ms,
            timeout_ms: step.timeout_ms.unwrap_or(resolved.timeout_ms),
            retry: step.retry,
            on_error: step.on_error,
            danger: step.danger || resolved.danger,
            idempotent: kind.idempotent(),
            undo: resolved.undo.unwrap_or_else(|| kind.undo_mode()),
            params: resolved.params,
            does: resolved.does,
            undoes: resolved.undoes,
            verify,
            expires_ms: step.expires_ms,
            block: self.block.clone(),
        })
    }

    /// A value inside SQL text could be SQL itself.
    fn refuse_values_in_sql(&mut self, call: &Call, path: &str) {
        const TEXTS: [&str; 5] = ["sql", "undo", "up_sql", "down_sql", "verify_sql"];
        let pairs = call.params.pairs().unwrap_or_default();
        for (key, node) in pairs.iter().filter(|(key, _)| TEXTS.contains(&key.text.as_str())) {
            if node.text().is_some_and(|text| text.contains("${{")) {
                let path = format!("{path}.{}", key.text);
                let message = "values do not go into the text of SQL";
                let hint = "write $1, and put the value into `params`";
                self.problems.push(Problem::new(path, message).at(node.at).hint(hint));
            }
        }
    }

    /// A value that names a secret, or the host that it goes to, would let whoever starts a run read secrets.
    fn refuse_values_in_addresses(&mut self, node: &Node, path: &str) {
        for (key, value) in node.pairs().unwrap_or_default() {
            let path = format!("{path}.{}", key.text);
            let filled = |text: &str| text.contains("${{");
            let wrong = match (key.text.as_str(), value.text()) {
                ("secret", Some(text)) if filled(text) => "a value does not name a secret",
                ("url", Some(text)) if text.split('/').take(3).any(filled) => {
                    "a value does not name a host"
                }
                _ => "",
            };
            if !wrong.is_empty() {
                let hint = "write it out";
                self.problems.push(Problem::new(path.as_str(), wrong).at(value.at).hint(hint));
            }
            self.refuse_values_in_addresses(value, &path);
        }
    }

    fn call(&mut self, call: &Call, path: &str) -> Option<Resolved> {
        let kind = steps::find(&call.kind)?;
        let before = self.problems.len();
        self.refuse_values_in_sql(call, path);
        if call.kind == "http.request" {
            self.refuse_values_in_addresses(&call.params, path);
        }
        let params = expr::resolve(&call.params, path, &self.context, &mut self.problems);
        if self.problems.len() > before {
            return None;
        }
        let Value::Object(mut map) = params else {
            let message = format!("a map is expected, not {}", call.params.noun());
            let hint = format!("`{}` takes {}", kind.name(), steps::field_names(kind));
            self.problems.push(Problem::new(path, message).at(call.params.at).hint(hint));
            return None;
        };
        let mine = |(id, _): &&(String, String)| id.starts_with(&self.scope);
        let earlier: Vec<_> = self.earlier.iter().filter(mine).cloned().collect();
        self.name_in_full(&mut map, &earlier);
        let fields = Fields { map: &map, templates: self.templates, earlier: &earlier };
        match fields.check_names(kind.fields()).and_then(|()| kind.resolve(&fields)) {
            Ok(resolved) => Some(resolved),
            Err(Fault { field, message, hint }) => {
                // An unknown key is shown at the key, a wrong value at the value.
                let known = kind.fields().iter().any(|known| known.name == field);
                let pairs = call.params.pairs().unwrap_or_default();
                let pair = pairs.iter().find(|(key, _)| key.text == field);
                let at = match pair {
                    Some((_, value)) if known => value.at,
                    Some((key, _)) => key.at,
                    None => call.params.at,
                };
                let path =
                    if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") };
                self.problems.push(Problem::new(path, message).at(at).hint(hint));
                None
            }
        }
    }

    /// A step of a called playbook that names an earlier one of it gets that one's full name.
    fn name_in_full(&self, map: &mut Map<String, Value>, earlier: &[(String, String)]) {
        if let Some(Value::String(of)) = map.get_mut("of") {
            let full = format!("{}{of}", self.scope);
            if earlier.iter().any(|(id, _)| *id == full) {
                *of = full;
            }
        }
    }

    fn condition(&mut self, node: Option<&Node>, path: &str) -> Condition {
        let Some(node) = node else { return Condition::Always };
        let text = node.text().unwrap_or_default().trim();
        let bare = text.strip_prefix("${{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text);
        let after_steps = expr::names(bare)
            .is_ok_and(|names| names.iter().any(|name| name.starts_with("steps.")));
        if after_steps || live::looks(bare) {
            return Condition::When(bare.to_owned());
        }
        match expr::holds(bare, &self.context) {
            Ok(true) => Condition::Always,
            Ok(false) => Condition::Never,
            Err(message) => {
                self.problems.push(Problem::new(format!("{path}.if"), message).at(node.at));
                Condition::Never
            }
        }
    }
}

//! Strict checks at the server's door. SDKs are lenient: what gets past an older server is off
//! there, with a reason.

mod constraint;

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::model::{
    Bucketing, FlagKey, FlagKind, FlagState, Formula, OnStale, Percent, Prerequisite, Rule,
    Segment, Stickiness, ValueType, Variant,
};
pub use crate::ruleset::Problem;

/// Rules of one flag.
pub const RULES_MAX: usize = 100;
/// Constraints of one rule or segment.
pub const CONSTRAINTS_MAX: usize = 100;
/// Segments that one rule names.
pub const SEGMENTS_MAX: usize = 100;
/// Values of one list: of a constraint, of an override, of groups or platforms.
pub const VALUES_MAX: usize = 10_000;
/// Characters of one such value.
pub const VALUE_CHARS_MAX: usize = 1_000;
/// Variants of one flag or rule.
pub const VARIANTS_MAX: usize = 100;
/// The weight of one variant.
pub const WEIGHT_MAX: u32 = 100_000;
/// Overrides of one variant.
pub const OVERRIDES_MAX: usize = 20;
/// Bytes of one value as JSON.
pub const JSON_BYTES_MAX: usize = 64 * 1024;
/// Prerequisites of one flag.
pub const PREREQUISITES_MAX: usize = 20;
/// Characters of a rule's id.
pub const RULE_ID_CHARS_MAX: usize = 60;
/// Characters of other names: fields, variants, salts.
pub const NAME_CHARS_MAX: usize = 100;
/// Characters of titles.
pub const TITLE_CHARS_MAX: usize = 200;
/// The shortest staleness limit, in milliseconds: below the heartbeat it would flap.
pub const STALENESS_MS_MIN: u64 = 1_000;

/// Checks a flag's state. Whether its prerequisites and segments exist is not looked at.
pub fn validate_flag(
    value_type: ValueType,
    state: &FlagState,
    kind: FlagKind,
) -> Result<(), Vec<Problem>> {
    let mut door = Door::default();
    if kind == FlagKind::KillSwitch && value_type != ValueType::Boolean {
        door.refuse("value_type", "must be boolean, as the flag is a kill switch");
    }
    door.value("on_value", value_type, &state.on_value);
    door.value("off_value", value_type, &state.off_value);
    if let OnStale::Value(value) = &state.on_stale {
        door.value("on_stale.value", value_type, value);
    }
    if state.max_staleness_ms.is_some_and(|ms| ms < STALENESS_MS_MIN) {
        door.refuse("max_staleness_ms", format!("must be at least {STALENESS_MS_MIN}"));
    }

    door.count("rules", state.rules.len(), RULES_MAX);
    door.unique("rules", "id", state.rules.iter().map(|rule| rule.id.as_str()));
    for (n, rule) in state.rules.iter().enumerate().take(RULES_MAX) {
        door.within(format!("rules[{n}]"), |door| door.rule(value_type, rule));
    }
    door.variants(value_type, &state.variants);

    door.count("prerequisites", state.prerequisites.len(), PREREQUISITES_MAX);
    door.unique("prerequisites", "flag", state.prerequisites.iter().map(|p| p.flag.as_str()));
    for (n, one) in state.prerequisites.iter().enumerate() {
        let path = format!("prerequisites[{n}].variants");
        door.count(&path, one.variants.len(), VARIANTS_MAX);
        if !one.enabled && !one.variants.is_empty() {
            door.refuse(&path, "must be empty when the other flag has to be off");
        }
    }
    door.answer()
}

/// Checks a segment.
pub fn validate_segment(segment: &Segment) -> Result<(), Vec<Problem>> {
    let mut door = Door::default();
    door.length("name", &segment.name, 0, TITLE_CHARS_MAX);
    door.constraints(&segment.constraints);
    door.answer()
}

/// Looks for a way from `flag` through `prerequisites` back to `flag`; `lookup` gives what another
/// flag asks for. Returns the way, `flag` first and last. For refusing a write that would close a
/// circle.
pub fn find_cycle(
    flag: &FlagKey,
    prerequisites: &[Prerequisite],
    lookup: impl Fn(&FlagKey) -> Option<Vec<FlagKey>>,
) -> Option<Vec<FlagKey>> {
    let mut came_from: HashMap<FlagKey, FlagKey> = HashMap::new();
    let mut open: Vec<(FlagKey, FlagKey)> =
        prerequisites.iter().map(|one| (one.flag.clone(), flag.clone())).collect();
    while let Some((key, from)) = open.pop() {
        if key == *flag {
            let mut way = vec![key, from];
            while let Some(before) = way.last().and_then(|last| came_from.get(last)) {
                way.push(before.clone());
            }
            way.reverse();
            return Some(way);
        }
        if came_from.contains_key(&key) {
            continue;
        }
        came_from.insert(key.clone(), from);
        open.extend(lookup(&key).into_iter().flatten().map(|next| (next, key.clone())));
    }
    None
}

/// Gathers problems, each with the path to it.
#[derive(Default)]
struct Door {
    path: String,
    problems: Vec<Problem>,
}

impl Door {
    fn answer(self) -> Result<(), Vec<Problem>> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }

    fn refuse(&mut self, part: &str, message: impl Into<String>) {
        let dot = if self.path.is_empty() || part.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{part}", self.path);
        self.problems.push(Problem { path, message: message.into() });
    }

    fn within(&mut self, part: impl AsRef<str>, look: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(part.as_ref());
        look(self);
        self.path.truncate(outer);
    }

    fn count(&mut self, part: &str, found: usize, max: usize) {
        if found > max {
            self.refuse(part, format!("may have {max} entries; there are {found}"));
        }
    }

    fn length(&mut self, part: &str, text: &str, min: usize, max: usize) {
        let found = text.chars().count();
        if found < min || found > max {
            self.refuse(part, format!("must have {min} to {max} characters; it has {found}"));
        }
    }

    fn unique<'a>(&mut self, part: &str, what: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = HashSet::new();
        for (n, name) in names.enumerate() {
            if !seen.insert(name) {
                self.refuse(&format!("{part}[{n}].{what}"), format!("`{name}` is there twice"));
            }
        }
    }

    /// Lists of plain texts.
    fn texts(&mut self, part: &str, texts: &[String]) {
        self.count(part, texts.len(), VALUES_MAX);
        for (n, text) in texts.iter().enumerate().take(VALUES_MAX) {
            if text.trim().is_empty() {
                self.refuse(&format!("{part}[{n}]"), "must not be blank");
            } else if text.len() > VALUE_CHARS_MAX {
                self.length(&format!("{part}[{n}]"), text, 1, VALUE_CHARS_MAX);
            }
        }
    }

    /// `null` is allowed for every type: it stands for the type's own meaning, or for no value.
    fn value(&mut self, part: &str, value_type: ValueType, value: &Value) {
        let (is_right, name) = match value_type {
            ValueType::Boolean => (value.is_boolean(), "true or false"),
            ValueType::String => (value.is_string(), "a text"),
            ValueType::Number => (value.is_number(), "a number"),
            ValueType::Json => (true, "any JSON value"),
        };
        if !is_right && !value.is_null() {
            self.refuse(part, format!("must be {name}"));
        }
        let bytes = serde_json::to_vec(value).map_or(0, |json| json.len());
        if bytes > JSON_BYTES_MAX {
            self.refuse(part, format!("may take {JSON_BYTES_MAX} bytes; it takes {bytes}"));
        }
    }

    fn rule(&mut self, value_type: ValueType, rule: &Rule) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
        self.length("id", &rule.id, 1, RULE_ID_CHARS_MAX);
        if !rule.id.chars().all(allowed) {
            self.refuse("id", "may hold letters, digits, `_`, `.`, `~` and `-`");
        }
        if let Some(title) = &rule.title {
            self.length("title", title, 0, TITLE_CHARS_MAX);
        }
        if let Some(salt) = &rule.salt {
            self.length("salt", salt, 1, NAME_CHARS_MAX);
        }
        self.stickiness("stickiness", &rule.stickiness);
        self.bucketing(rule);
        self.texts("groups", &rule.groups);
        self.texts("platforms", &rule.platforms);
        self.count("segments", rule.segments.len(), SEGMENTS_MAX);
        self.unique_segments(&rule.segments);
        self.constraints(&rule.constraints);
        self.variants(value_type, &rule.variants);
    }

    fn bucketing(&mut self, rule: &Rule) {
        let Bucketing { formula, offset } = rule.bucketing;
        if offset.thousandths() + rule.percent.thousandths() > Percent::ALL.thousandths() {
            self.refuse("bucketing.offset", "must be at most 100 together with percent");
        }
        if formula != Formula::Native && rule.stickiness == Stickiness::Random {
            self.refuse("stickiness", "must not be random with the formula of another system");
        }
        if !rule.serve.is_on() && !rule.variants.is_empty() {
            self.refuse("variants", "must be empty on a rule that serves off");
        }
    }

    fn unique_segments(&mut self, segments: &[String]) {
        let mut seen = HashSet::new();
        for (n, key) in segments.iter().enumerate() {
            if !seen.insert(key) {
                self.refuse(&format!("segments[{n}]"), format!("`{key}` is there twice"));
            }
        }
    }

    fn stickiness(&mut self, part: &str, stickiness: &Stickiness) {
        match stickiness {
            Stickiness::Field(name) if name == "groups" || name == "current_time" => {
                self.refuse(part, format!("`{name}` cannot be bucketed"));
            }
            Stickiness::Field(name) => self.length(part, name, 1, NAME_CHARS_MAX),
            Stickiness::Default | Stickiness::Random => {}
        }
    }

    fn variants(&mut self, value_type: ValueType, variants: &[Variant]) {
        self.count("variants", variants.len(), VARIANTS_MAX);
        self.unique("variants", "name", variants.iter().map(|variant| variant.name.as_str()));
        if !variants.is_empty() && variants.iter().all(|variant| variant.weight == 0) {
            self.refuse("variants", "must have a weight above 0");
        }
        for (n, variant) in variants.iter().enumerate().take(VARIANTS_MAX) {
            self.within(format!("variants[{n}]"), |door| door.variant(value_type, variant));
        }
    }

    fn variant(&mut self, value_type: ValueType, variant: &Variant) {
        self.length("name", &variant.name, 1, NAME_CHARS_MAX);
        self.value("value", value_type, &variant.value);
        if variant.weight > WEIGHT_MAX {
            self.refuse("weight", format!("must be 0 to {WEIGHT_MAX}"));
        }
        if let Some(stickiness) = &variant.stickiness {
            self.stickiness("stickiness", stickiness);
        }
        self.count("overrides", variant.overrides.len(), OVERRIDES_MAX);
        for (n, one) in variant.overrides.iter().enumerate().take(OVERRIDES_MAX) {
            self.within(format!("overrides[{n}]"), |door| {
                door.length("field", &one.field, 1, NAME_CHARS_MAX);
                door.texts("values", &one.values);
            });
        }
    }
}

//! Our document in flagd's language (flag definitions, schema v0): rules as JSONLogic. A rule that it cannot say exactly
//! makes the whole flag defer to the caller's default, with the reason in the flag's metadata.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use switchback_core::model::{
    Bucketing, Constraint, Document, Flag, FlagEntry, Formula, Operator, Percent, Rule, Segment,
    Stickiness, ValueType, Variant,
};

use super::export::{Exported, Selection, constraints, unsayable};

/// The address of the schema, which flagd's tools look up.
const SCHEMA: &str = "https://flagd.dev/schema/v0/flags.json";

/// The whole document.
pub fn definition_of(document: &Document) -> Value {
    let mut flags = Map::new();
    for (key, entry) in &document.flags {
        let flag = match entry {
            FlagEntry::Known(flag) => flag_of(flag, document),
            FlagEntry::Unreadable { error, .. } => {
                deferring(&json!(false), &format!("cannot be read: {error}"))
            }
        };
        flags.insert(key.clone(), flag);
    }
    json!({
        "$schema": SCHEMA,
        "metadata": {"flagSetId": document.environment, "version": document.revision.to_string()},
        "flags": flags,
    })
}

/// The definition as a file: every flag exactly, or not at all. It names no revision, so that it changes with its
/// flags only.
pub fn file_of(selection: &Selection<'_>) -> Exported {
    let mut exported = Exported::default();
    let mut flags = BTreeMap::new();
    for (key, flag) in selection.flags() {
        let written = flag.and_then(|flag| {
            inexact(flag, selection.document).map_or(Ok(flag), Err)?;
            Ok((flag, flag_of(flag, selection.document)))
        });
        let (flag, mut written) = match written {
            Ok(written) => written,
            Err(reason) => {
                exported.refused.insert(key.to_owned(), reason);
                continue;
            }
        };
        let state = &flag.state;
        if (state.killed || !state.enabled) && !state.rules.is_empty() {
            let note = "is off: its rules stay behind, as flagd would ask them";
            exported.notes.insert(key.to_owned(), note.to_owned());
        }
        let description = selection.description(key);
        if let Some(written) = written.as_object_mut() {
            written.remove("metadata");
            if !description.is_empty() {
                written.insert("metadata".to_owned(), json!({"description": description}));
            }
        }
        flags.insert(key, written);
    }
    let file = json!({
        "$schema": SCHEMA,
        "metadata": {"flagSetId": selection.document.environment},
        "flags": flags,
    });
    exported.flags = flags.len();
    exported.text = serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
    exported
}

/// Why flagd would not decide the same for everybody; `None` when it does.
fn inexact(flag: &Flag, document: &Document) -> Option<String> {
    let state = &flag.state;
    if state.killed || !state.enabled {
        return None;
    }
    if let Some(reason) = unsayable(flag, document) {
        return Some(reason);
    }
    if is_nothing(&state.on_value, flag.value_type) && gives_on(flag) {
        return Some("has no value when on".to_owned());
    }
    if state.expires_at.is_some_and(|end| end % 1_000 != 0) {
        return Some("ends within a second, and flagd counts whole ones".to_owned());
    }
    for rule in &state.rules {
        let sticky = rule.variants.first().and_then(|first| first.stickiness.as_ref());
        let splits = rule.variants.iter().filter(|one| one.weight > 0).count() > 1;
        let is_default = rule.percent < Percent::ALL && rule.stickiness == Stickiness::Default
            || splits && *sticky.unwrap_or(&rule.stickiness) == Stickiness::Default;
        if is_default {
            let name = rule.title.as_deref().unwrap_or(&rule.id);
            return Some(format!(
                "rule `{name}` sticks to the user or else to the session, where flagd takes one of them; let it stick to user_id"
            ));
        }
    }
    if constraints(flag, document).any(|one| one.operator == Operator::DateAfter) {
        return Some("begins after a moment, and flagd counts whole seconds".to_owned());
    }
    targeting_of(flag, document).err()
}

/// A value that leaves it to the app's code.
/// What flagd cannot say of a flag, were it on.
pub fn unsaid(flag: &Flag, document: &Document) -> Option<String> {
    targeting_of(flag, document).err()
}

fn is_nothing(value: &Value, value_type: ValueType) -> bool {
    value.is_null() && value_type != ValueType::Boolean
}

/// Whether somebody gets the flag's on value.
fn gives_on(flag: &Flag) -> bool {
    let state = &flag.state;
    let is_bare = |list: &[Variant]| list.is_empty() || list.iter().any(|one| one.value.is_null());
    let own = is_bare(&state.variants);
    let by_rule = |rule: &Rule| match rule.variants.as_slice() {
        [] => own,
        list => is_bare(list) || (list.len() > 1 && !needs_unit(rule)),
    };
    let mut rules = state.rules.iter().filter(|rule| rule.serve.is_on());
    if state.rules.is_empty() { own } else { rules.any(by_rule) }
}

fn flag_of(flag: &Flag, document: &Document) -> Value {
    let state = &flag.state;
    let off = value_or(&state.off_value, flag.value_type, false);
    let on = value_or(&state.on_value, flag.value_type, true);
    let is_on = state.enabled && !state.killed;
    match targeting_of(flag, document) {
        Err(reason) if is_on => deferring(&off, &reason),
        // Switched off, and its off value is known: said as a variant rather than as DISABLED, which means "as coded".
        _ if !is_on => {
            let name = off_of(flag);
            let mut variants = json!({"off": off, "on": on});
            if let (true, Some(variants)) = (name.is_null(), variants.as_object_mut()) {
                variants.remove("off");
            }
            json!({
                "state": "ENABLED", "variants": variants, "defaultVariant": name,
                "metadata": {"switchbackReason": if state.killed { "killed" } else { "disabled" }},
            })
        }
        Err(reason) => deferring(&off, &reason),
        Ok(Targeting { variants, default, logic }) => {
            let mut written =
                json!({"state": "ENABLED", "variants": variants, "defaultVariant": default});
            if let (Some(logic), Some(written)) = (logic, written.as_object_mut()) {
                written.insert("targeting".to_owned(), logic);
            }
            written
        }
    }
}

/// The variant of those for whom the flag is off; none, and so the app's own default, where it has no off value.
fn off_of(flag: &Flag) -> Value {
    if is_nothing(&flag.state.off_value, flag.value_type) { Value::Null } else { json!("off") }
}

/// A flag that cannot be said: whoever asks gets the default that is in its code.
fn deferring(off: &Value, reason: &str) -> Value {
    json!({
        "state": "ENABLED", "variants": {"off": off}, "defaultVariant": null,
        "metadata": {"switchbackInexpressible": reason},
    })
}

struct Targeting {
    variants: Map<String, Value>,
    default: Value,
    logic: Option<Value>,
}

fn value_or(value: &Value, value_type: ValueType, meaning: bool) -> Value {
    match (value, value_type) {
        (Value::Null, ValueType::Boolean) => Value::Bool(meaning),
        (Value::Null, ValueType::String) => json!(""),
        (Value::Null, ValueType::Number) => json!(0),
        (Value::Null, ValueType::Json) => json!({}),
        _ => value.clone(),
    }
}

fn targeting_of(flag: &Flag, document: &Document) -> Result<Targeting, String> {
    let state = &flag.state;
    if !state.prerequisites.is_empty() {
        return Err("it has prerequisites".to_owned());
    }
    let mut variants = Map::new();
    variants.insert("on".to_owned(), value_or(&state.on_value, flag.value_type, true));
    let off = off_of(flag);
    if !off.is_null() {
        variants.insert("off".to_owned(), value_or(&state.off_value, flag.value_type, false));
    }
    for variant in state.variants.iter().chain(state.rules.iter().flat_map(|rule| &rule.variants)) {
        let value = match &variant.value {
            Value::Null => variants.get("on").cloned().unwrap_or_default(),
            value => value.clone(),
        };
        if variants.get(&variant.name).is_some_and(|known| *known != value) {
            return Err(format!("the variant `{}` has two values", variant.name));
        }
        variants.insert(variant.name.clone(), value);
    }
    let outcome_of_flag =
        outcome(&state.variants, Bucketing::default(), &flag.salt, &Stickiness::Default, false)?;
    let mut branches = Vec::new();
    let mut default = if state.rules.is_empty() { outcome_of_flag.clone() } else { off.clone() };
    for rule in &state.rules {
        let condition = condition_of(rule, flag, document)?;
        let result = match (rule.serve.is_on(), rule.variants.is_empty()) {
            (false, _) => off.clone(),
            (true, true) => outcome_of_flag.clone(),
            (true, false) => {
                let salt = rule.salt.as_deref().unwrap_or(&flag.salt);
                let has_unit = needs_unit(rule);
                outcome(&rule.variants, rule.bucketing, salt, &rule.stickiness, has_unit)?
            }
        };
        let Some(condition) = condition else {
            default = result; // everybody: no later rule is asked
            break;
        };
        branches.extend([condition, result]);
    }
    if let Some(end) = state.expires_at {
        let is_over = json!({">=": [{"var": "$flagd.timestamp"}, (end + 999) / 1_000]});
        branches.splice(0..0, [is_over, off.clone()]);
    }
    let is_name = default.is_string() || default.is_null();
    if is_name && branches.is_empty() {
        return Ok(Targeting { variants, default, logic: None });
    }
    // What an outcome of nothing means there.
    let name = if is_name && !off.is_null() { default.clone() } else { off };
    let logic = if branches.is_empty() {
        default
    } else {
        branches.push(default);
        json!({"if": branches})
    };
    Ok(Targeting { variants, default: name, logic: Some(logic) })
}

/// Which variant those get that are let in. `has_unit`: those without are not among them.
fn outcome(
    variants: &[Variant],
    bucketing: Bucketing,
    salt: &str,
    stickiness: &Stickiness,
    has_unit: bool,
) -> Result<Value, String> {
    let weighted: Vec<&Variant> = variants.iter().filter(|variant| variant.weight > 0).collect();
    if variants.iter().any(|variant| !variant.overrides.is_empty()) {
        return Err("its variants have overrides".to_owned());
    }
    match weighted.as_slice() {
        [] => Ok(json!("on")),
        [one] => Ok(json!(one.name)),
        many if bucketing.formula == Formula::Flagd => {
            let first = variants.first().and_then(|first| first.stickiness.as_ref());
            let unit = unit_of(first.unwrap_or(stickiness))?;
            let mut parts = vec![bucketed(salt, unit)];
            parts.extend(many.iter().map(|variant| json!([variant.name, variant.weight])));
            let drawn = json!({"fractional": parts});
            // Who has no unit has no variant here, and always one there.
            let is_sure = has_unit && first.is_none();
            Ok(if is_sure { drawn } else { json!({"if": [is_there(unit), drawn, "on"]}) })
        }
        _ => Err("its variants are chosen by another formula than flagd's".to_owned()),
    }
}

/// Whether a rule asks for its unit in words, so that it need not be said again.
fn needs_unit(rule: &Rule) -> bool {
    let unit = unit_of(&rule.stickiness);
    rule.constraints.iter().any(|one| {
        one.operator == Operator::IsSet && !one.inverted && attribute(&one.field) == unit
    })
}

/// What flagd's `fractional` hashes: the salt, then the unit.
fn bucketed(salt: &str, unit: &str) -> Value {
    json!({"cat": [salt, {"var": unit}]})
}

fn is_there(attribute: &str) -> Value {
    json!({"!=": [{"var": attribute}, null]})
}

/// The attribute that is bucketed.
fn unit_of(stickiness: &Stickiness) -> Result<&str, String> {
    match stickiness {
        Stickiness::Default => Ok("targetingKey"),
        Stickiness::Field(name) => attribute(name),
        Stickiness::Random => Err("flagd draws nothing at random".to_owned()),
    }
}

/// What a field of ours is called there.
fn attribute(field: &str) -> Result<&str, String> {
    Ok(match field {
        "user_id" | "userId" => "targetingKey",
        "session_id" => "sessionId",
        "app_version" => "appVersion",
        "remote_address" => "remoteAddress",
        "app_name" => "appName",
        "current_time" | "environment" => {
            return Err(format!("flagd does not know the field `{field}`"));
        }
        other => other.strip_prefix("properties.").unwrap_or(other),
    })
}

fn condition_of(rule: &Rule, flag: &Flag, document: &Document) -> Result<Option<Value>, String> {
    let name = rule.title.as_deref().unwrap_or(&rule.id);
    let mut all = Vec::new();
    if !rule.platforms.is_empty() {
        all.push(json!({"in": [{"var": "platform"}, rule.platforms]}));
    }
    if !rule.groups.is_empty() {
        all.push(json!({"some": [{"var": "groups"}, {"in": [{"var": ""}, rule.groups]}]}));
    }
    for constraint in &rule.constraints {
        all.push(constraint_of(constraint).map_err(|error| format!("rule `{name}`: {error}"))?);
    }
    for key in &rule.segments {
        let Some(Segment { constraints, .. }) = document.segments.get(key) else {
            return Err(format!("rule `{name}` names the segment `{key}`, which is not there"));
        };
        for constraint in constraints {
            all.push(
                constraint_of(constraint).map_err(|error| format!("segment `{key}`: {error}"))?,
            );
        }
    }
    let is_split = rule.bucketing != Bucketing::default();
    if rule.percent < Percent::ALL {
        if rule.bucketing.formula != Formula::Flagd {
            return Err(format!("rule `{name}` lets in a share by another formula than flagd's"));
        }
        let unit = unit_of(&rule.stickiness).map_err(|error| format!("rule `{name}`: {error}"))?;
        let salt = rule.salt.as_deref().unwrap_or(&flag.salt);
        let [start, inside, whole] =
            [rule.bucketing.offset, rule.percent, Percent::ALL].map(Percent::thousandths);
        let parts = [(false, start), (true, inside), (false, whole.saturating_sub(start + inside))];
        let parts = parts.into_iter().filter(|(_, weight)| *weight > 0);
        let mut share = vec![bucketed(salt, unit)];
        share.extend(parts.map(|(is_in, weight)| json!([is_in, weight])));
        // Who has no unit is out here, and there in the bucket of the salt alone.
        if !needs_unit(rule) {
            all.push(is_there(unit));
        }
        all.push(json!({"fractional": share}));
    } else if !is_split && let Stickiness::Field(field) = &rule.stickiness {
        all.push(is_there(attribute(field)?)); // nobody is left out but those without it
    }
    Ok(match all.len() {
        0 => None,
        1 => all.pop(),
        _ => Some(json!({"and": all})),
    })
}

fn constraint_of(one: &Constraint) -> Result<Value, String> {
    use Operator as O;
    if matches!(one.field.as_str(), "current_time" | "currentTime") {
        return time_of(one);
    }
    let field = attribute(&one.field)?;
    if one.case_insensitive {
        return Err("flagd always minds case".to_owned());
    }
    if field == "groups" {
        return Err("a condition on `groups` is not a rule's groups".to_owned());
    }
    let var = json!({"var": field});
    let values = one.values.iter().map(|value| value.trim()).filter(|value| !value.is_empty());
    let values: Vec<&str> = values.collect();
    let any = |each: &dyn Fn(&str) -> Value| match values.as_slice() {
        [one] => each(one),
        many => json!({"or": many.iter().map(|value| each(value)).collect::<Vec<_>>()}),
    };
    let first = || values.first().copied().ok_or_else(|| "it has no value".to_owned());
    let number = || first()?.parse::<f64>().map_err(|_| "it compares with no number".to_owned());
    // Comparisons with nothing are false here; in JSONLogic nothing counts as 0.
    let present = |test: Value| json!({"and": [{"!=": [var, null]}, test]});
    let test = match one.operator {
        O::In => json!({"in": [var, values]}),
        O::NotIn => json!({"!": {"in": [var, values]}}),
        O::StrContains => present(any(&|value| json!({"in": [value, var]}))),
        O::StrStartsWith => present(any(&|value| json!({"starts_with": [var, value]}))),
        O::StrEndsWith => present(any(&|value| json!({"ends_with": [var, value]}))),
        O::NumEq => present(json!({"==": [var, number()?]})),
        O::NumGt => present(json!({">": [var, number()?]})),
        O::NumGte => present(json!({">=": [var, number()?]})),
        O::NumLt => present(json!({"<": [var, number()?]})),
        O::NumLte => present(json!({"<=": [var, number()?]})),
        O::SemverEq => present(json!({"sem_ver": [var, "=", first()?]})),
        O::SemverGt => present(json!({"sem_ver": [var, ">", first()?]})),
        O::SemverGte => present(json!({"sem_ver": [var, ">=", first()?]})),
        O::SemverLt => present(json!({"sem_ver": [var, "<", first()?]})),
        O::SemverLte => present(json!({"sem_ver": [var, "<=", first()?]})),
        O::IsSet => json!({"!=": [var, null]}),
        O::DateAfter | O::DateBefore => return time_of(one),
        O::Regex | O::InCidr => {
            return Err("flagd knows no regular expressions and no networks".to_owned());
        }
    };
    Ok(if one.inverted { json!({"!": test}) } else { test })
}

/// The time, which flagd counts in whole seconds.
fn time_of(one: &Constraint) -> Result<Value, String> {
    use Operator as O;
    let text = one.values.first().map_or("", |value| value.trim());
    let ms = if matches!(one.operator, O::DateAfter | O::DateBefore) {
        text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
    } else {
        text.parse().ok()
    };
    let ms: i64 = ms.ok_or("it compares with no time")?;
    let sign = match one.operator {
        O::DateBefore | O::NumLt => "<",
        O::NumGte => ">=",
        O::DateAfter => ">",
        _ => return Err("flagd counts the time in seconds".to_owned()),
    };
    if ms % 1_000 != 0 {
        return Err("it compares with a part of a second, and flagd counts whole ones".to_owned());
    }
    let test = json!({sign: [{"var": "$flagd.timestamp"}, ms / 1_000]});
    Ok(if one.inverted { json!({"!": test}) } else { test })
}

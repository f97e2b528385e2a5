//! Our document in flagd's language (flag definitions, schema v0): rules as JSONLogic. A rule that it cannot say exactly
//! makes the whole flag defer to the caller's default, with the reason in the flag's metadata.

use serde_json::{Map, Value, json};
use switchback_core::model::{
    Bucketing, Constraint, Document, Flag, FlagEntry, Formula, Operator, Percent, Rule, Segment,
    Stickiness, ValueType, Variant,
};

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

/// Why flagd cannot say a flag; `None` when it can.
pub fn inexpressible(flag: &Flag, document: &Document) -> Option<String> {
    if flag.state.killed || !flag.state.enabled {
        return None;
    }
    targeting_of(flag, document).err()
}

fn flag_of(flag: &Flag, document: &Document) -> Value {
    let state = &flag.state;
    let off = value_or(&state.off_value, flag.value_type, false);
    let on = value_or(&state.on_value, flag.value_type, true);
    let is_on = state.enabled && !state.killed;
    match targeting_of(flag, document) {
        Err(reason) if is_on => deferring(&off, &reason),
        // Switched off, and its off value is known: said as a variant rather than as DISABLED, which means "as coded".
        _ if !is_on => json!({
            "state": "ENABLED", "variants": {"off": off, "on": on}, "defaultVariant": "off",
            "metadata": {"switchbackReason": if state.killed { "killed" } else { "disabled" }},
        }),
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

/// A flag that cannot be said: whoever asks gets the default that is in its code.
fn deferring(off: &Value, reason: &str) -> Value {
    json!({
        "state": "ENABLED", "variants": {"off": off}, "defaultVariant": null,
        "metadata": {"switchbackInexpressible": reason},
    })
}

struct Targeting {
    variants: Map<String, Value>,
    default: String,
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
    variants.insert("off".to_owned(), value_or(&state.off_value, flag.value_type, false));
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
    let outcome_of_flag = outcome(&state.variants, Bucketing::default(), &flag.salt)?;
    let mut branches = Vec::new();
    let mut default = if state.rules.is_empty() { outcome_of_flag.clone() } else { json!("off") };
    for rule in &state.rules {
        let condition = condition_of(rule, flag, document)?;
        let result = match (rule.serve.is_on(), rule.variants.is_empty()) {
            (false, _) => json!("off"),
            (true, true) => outcome_of_flag.clone(),
            (true, false) => {
                let salt = rule.salt.as_deref().unwrap_or(&flag.salt);
                outcome(&rule.variants, rule.bucketing, salt)?
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
        branches.splice(0..0, [is_over, json!("off")]);
    }
    let name = match &default {
        Value::String(name) if branches.is_empty() => {
            return Ok(Targeting { variants, default: name.clone(), logic: None });
        }
        Value::String(name) => name.clone(),
        _ => "off".to_owned(),
    };
    let logic = if branches.is_empty() {
        default
    } else {
        branches.push(default);
        json!({"if": branches})
    };
    Ok(Targeting { variants, default: name, logic: Some(logic) })
}

/// Which variant those get that are let in.
fn outcome(variants: &[Variant], bucketing: Bucketing, salt: &str) -> Result<Value, String> {
    let weighted: Vec<&Variant> = variants.iter().filter(|variant| variant.weight > 0).collect();
    if variants.iter().any(|variant| !variant.overrides.is_empty()) {
        return Err("its variants have overrides".to_owned());
    }
    match weighted.as_slice() {
        [] => Ok(json!("on")),
        [one] => Ok(json!(one.name)),
        many if bucketing.formula == Formula::Flagd => {
            let mut parts = vec![bucketed(salt)];
            parts.extend(many.iter().map(|variant| json!([variant.name, variant.weight])));
            Ok(json!({"fractional": parts}))
        }
        _ => Err("its variants are chosen by another formula than flagd's".to_owned()),
    }
}

/// What flagd's `fractional` hashes: the salt, then the user.
fn bucketed(salt: &str) -> Value {
    json!({"cat": [salt, {"var": "targetingKey"}]})
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
    if rule.percent < Percent::ALL {
        if rule.bucketing.formula != Formula::Flagd || rule.bucketing.offset != Percent::NONE {
            return Err(format!("rule `{name}` lets in a share by another formula than flagd's"));
        }
        if rule.stickiness != Stickiness::Default
            && rule.stickiness != Stickiness::Field("user_id".to_owned())
        {
            return Err(format!("rule `{name}` does not stick to the user"));
        }
        let salt = rule.salt.as_deref().unwrap_or(&flag.salt);
        let (inside, whole) = (rule.percent.thousandths(), Percent::ALL.thousandths());
        all.push(json!({"fractional": [bucketed(salt), [true, inside], [false, whole - inside]]}));
    }
    Ok(match all.len() {
        0 => None,
        1 => all.pop(),
        _ => Some(json!({"and": all})),
    })
}

fn constraint_of(one: &Constraint) -> Result<Value, String> {
    use Operator as O;
    let field = match one.field.as_str() {
        "user_id" | "userId" => "targetingKey",
        "session_id" => "sessionId",
        "app_version" => "appVersion",
        "remote_address" => "remoteAddress",
        "app_name" => "appName",
        "current_time" | "environment" => {
            return Err(format!("flagd does not know the field `{}`", one.field));
        }
        other => other.strip_prefix("properties.").unwrap_or(other),
    };
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
        O::DateAfter | O::DateBefore => {
            let at: jiff::Timestamp =
                first()?.parse().map_err(|_| "it compares with no time".to_owned())?;
            let sign = if one.operator == O::DateAfter { ">" } else { "<" };
            json!({sign: [{"var": "$flagd.timestamp"}, at.as_second()]})
        }
        O::Regex | O::InCidr => {
            return Err("flagd knows no regular expressions and no networks".to_owned());
        }
    };
    Ok(if one.inverted { json!({"!": test}) } else { test })
}

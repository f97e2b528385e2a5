//! A flag's state as a form holds it: texts, right or wrong, so that nothing typed is lost.

mod parts;

use switchback_app::{AppError, Wrong};
use switchback_core::model::{
    FlagKey, FlagState, OnStale, Percent, Prerequisite, Rule, Serve, Stickiness, ValueType,
};
use switchback_playbook::units;

use super::fields::{Fields, split};
use super::words::format_at;
pub use parts::{ConstraintDraft, OverrideDraft, PrerequisiteDraft, VariantDraft, read_value};
use parts::{
    join, keep, moment, prerequisite_draft, read_variants, to_variants, value_text, variant_draft,
};

/// Platforms that have a box of their own.
pub const PLATFORMS: [(&str, &str); 4] =
    [("ios", "iOS"), ("android", "Android"), ("web", "Web"), ("server", "Server")];

/// The whole form.
#[derive(Clone, Debug, Default)]
pub struct StateDraft {
    pub enabled: bool,
    pub rules: Vec<RuleDraft>,
    pub variants: Vec<VariantDraft>,
    pub prerequisites: Vec<PrerequisiteDraft>,
    pub on_value: String,
    pub off_value: String,
    pub expires_at: String,
    pub max_staleness: String,
    pub on_stale: String,
    pub on_stale_value: String,
    pub impressions: bool,
    /// The id of the element that is to have the focus next.
    pub focus: String,
}

/// One rule.
#[derive(Clone, Debug, Default)]
pub struct RuleDraft {
    pub id: String,
    pub title: String,
    pub groups: String,
    pub platforms: Vec<String>,
    pub other_platforms: String,
    pub constraints: Vec<ConstraintDraft>,
    pub segments: Vec<String>,
    pub percent: String,
    pub stickiness: String,
    pub salt: String,
    /// As JSON: people choose it by importing, not by hand.
    pub bucketing: String,
    pub serves_off: bool,
    pub variants: Vec<VariantDraft>,
}

impl RuleDraft {
    /// Whether a platform's box is ticked.
    pub fn has_platform(&self, platform: &str) -> bool {
        self.platforms.iter().any(|own| own == platform)
    }

    /// Whether a segment's box is ticked.
    pub fn has_segment(&self, segment: &str) -> bool {
        self.segments.iter().any(|own| own == segment)
    }
}

impl StateDraft {
    /// What the form shows first.
    pub fn of(state: &FlagState, value_type: ValueType) -> Self {
        let (on_stale, on_stale_value) = match &state.on_stale {
            OnStale::KeepLast => ("keep_last", String::new()),
            OnStale::Off => ("off", String::new()),
            OnStale::Value(value) => ("value", value_text(value, value_type)),
        };
        Self {
            enabled: state.enabled,
            rules: state.rules.iter().map(|rule| rule_draft(rule, value_type)).collect(),
            variants: state.variants.iter().map(|one| variant_draft(one, value_type)).collect(),
            prerequisites: state.prerequisites.iter().map(prerequisite_draft).collect(),
            on_value: value_text(&state.on_value, value_type),
            off_value: value_text(&state.off_value, value_type),
            expires_at: state
                .expires_at
                .map(|at| format_at(at, "%Y-%m-%dT%H:%M:%S"))
                .unwrap_or_default(),
            max_staleness: state.max_staleness_ms.map(units::duration_text).unwrap_or_default(),
            on_stale: on_stale.to_owned(),
            on_stale_value,
            impressions: state.impressions,
            focus: String::new(),
        }
    }

    /// What was sent.
    pub fn read(form: &Fields) -> Self {
        let rules = form.indexes("rules");
        Self {
            enabled: form.is("enabled"),
            rules: rules.iter().map(|index| read_rule(form, &format!("rules.{index}"))).collect(),
            variants: read_variants(form, "variants"),
            prerequisites: form
                .indexes("prerequisites")
                .iter()
                .map(|index| {
                    let text =
                        |name: &str| form.text(&format!("prerequisites.{index}.{name}")).to_owned();
                    PrerequisiteDraft {
                        flag: text("flag"),
                        state: text("state"),
                        variants: text("variants"),
                    }
                })
                .collect(),
            on_value: form.text("on_value").to_owned(),
            off_value: form.text("off_value").to_owned(),
            expires_at: form.text("expires_at").to_owned(),
            max_staleness: form.text("max_staleness").to_owned(),
            on_stale: form.text("on_stale").to_owned(),
            on_stale_value: form.text("on_stale_value").to_owned(),
            impressions: form.is("impressions"),
            focus: String::new(),
        }
    }

    /// The state that this means, or everything that is wrong with it.
    pub fn to_state(&self, value_type: ValueType) -> Result<FlagState, AppError> {
        let mut wrong = Vec::new();
        let rules = self.rules.iter().enumerate();
        let state = FlagState {
            enabled: self.enabled,
            killed: false,
            rules: rules
                .map(|(n, rule)| to_rule(rule, &format!("rules[{n}]"), value_type, &mut wrong))
                .collect(),
            variants: to_variants(&self.variants, "variants", value_type, &mut wrong),
            prerequisites: self.to_prerequisites(&mut wrong),
            on_value: keep(read_value("on_value", &self.on_value, value_type), &mut wrong),
            off_value: keep(read_value("off_value", &self.off_value, value_type), &mut wrong),
            expires_at: match self.expires_at.as_str() {
                "" => None,
                text => keep(moment("expires_at", text).map(Some), &mut wrong),
            },
            max_staleness_ms: match self.max_staleness.as_str() {
                "" => None,
                text => {
                    let read = units::parse_duration(text).map(Some);
                    keep(read.map_err(|why| AppError::invalid("max_staleness_ms", why)), &mut wrong)
                }
            },
            on_stale: match self.on_stale.as_str() {
                "off" => OnStale::Off,
                "value" => {
                    let value = read_value("on_stale.value", &self.on_stale_value, value_type);
                    OnStale::Value(keep(value, &mut wrong))
                }
                _ => OnStale::KeepLast,
            },
            impressions: self.impressions,
        };
        if wrong.is_empty() { Ok(state) } else { Err(AppError::Invalid(wrong)) }
    }

    fn to_prerequisites(&self, wrong: &mut Vec<Wrong>) -> Vec<Prerequisite> {
        let mut all = Vec::new();
        for (n, one) in self.prerequisites.iter().enumerate() {
            let field = format!("prerequisites[{n}].flag");
            match FlagKey::try_from(one.flag.as_str()) {
                Ok(flag) => all.push(Prerequisite {
                    flag,
                    enabled: one.state != "off",
                    variants: split(&one.variants),
                }),
                Err(error) => wrong.push(Wrong { field, message: error.to_string() }),
            }
        }
        all
    }

    /// Does what a button of the form says, such as `rule.up.2`.
    pub fn apply(&mut self, action: &str) {
        let parts: Vec<&str> = action.split('.').collect();
        let at = |index: usize| parts.get(index).and_then(|text| text.parse::<usize>().ok());
        let (noun, verb) =
            (parts.first().copied().unwrap_or_default(), parts.get(1).copied().unwrap_or_default());
        match (noun, verb) {
            ("rule", "add") => {
                let id = self.free_id();
                self.focus = format!("rule-{}-percent", self.rules.len());
                let percent = if self.rules.is_empty() { "100" } else { "0" };
                self.rules.push(RuleDraft {
                    id,
                    percent: percent.to_owned(),
                    stickiness: "default".to_owned(),
                    ..RuleDraft::default()
                });
            }
            ("rule", "move") => self.carry_rule(at(2), at(3)),
            ("rule", _) => self.move_rule(verb, at(2)),
            ("constraint", "add") => {
                if let Some(rule) = at(2).and_then(|index| self.rules.get_mut(index)) {
                    self.focus = format!(
                        "rule-{}-constraint-{}",
                        at(2).unwrap_or(0),
                        rule.constraints.len()
                    );
                    let operator = "IN".to_owned();
                    rule.constraints
                        .push(ConstraintDraft { operator, ..ConstraintDraft::default() });
                }
            }
            ("constraint", "remove") => {
                if let Some(rule) = at(2).and_then(|index| self.rules.get_mut(index)) {
                    remove(&mut rule.constraints, at(3));
                    self.focus = format!("rule-{}-constraint-add", at(2).unwrap_or(0));
                }
            }
            ("variant", "add") => {
                let fresh = VariantDraft { weight: "50".to_owned(), ..VariantDraft::default() };
                if let Some(index) = at(2) {
                    if let Some(rule) = self.rules.get_mut(index) {
                        self.focus = format!("rule-{index}-variant-{}", rule.variants.len());
                        rule.variants.push(fresh);
                    }
                } else {
                    self.focus = format!("variant-{}", self.variants.len());
                    self.variants.push(fresh);
                }
            }
            ("variant", "remove") => match (at(2), at(3)) {
                (Some(rule), Some(index)) => {
                    if let Some(rule) = self.rules.get_mut(rule) {
                        remove(&mut rule.variants, Some(index));
                    }
                }
                (index, _) => remove(&mut self.variants, index.or(at(2))),
            },
            ("override", "add") => {
                let place = parts.get(2).copied().unwrap_or_default();
                if let Some((id, variant)) = self.variant_mut(place, at(3)) {
                    let focus = format!("{id}-override-{}", variant.overrides.len());
                    let field = "user_id".to_owned();
                    variant.overrides.push(OverrideDraft { field, values: String::new() });
                    self.focus = focus;
                }
            }
            ("override", "remove") => {
                let place = parts.get(2).copied().unwrap_or_default();
                if let Some((id, variant)) = self.variant_mut(place, at(3)) {
                    remove(&mut variant.overrides, at(4));
                    self.focus = format!("{id}-override-add");
                }
            }
            ("prerequisite", "add") => {
                self.focus = format!("prerequisite-{}", self.prerequisites.len());
                let state = "on".to_owned();
                self.prerequisites
                    .push(PrerequisiteDraft { state, ..PrerequisiteDraft::default() });
            }
            ("prerequisite", "remove") => remove(&mut self.prerequisites, at(2)),
            _ => {}
        }
    }

    /// A variant of a rule, or of the flag itself (`-`), with the id of its first field.
    fn variant_mut(
        &mut self,
        rule: &str,
        index: Option<usize>,
    ) -> Option<(String, &mut VariantDraft)> {
        let index = index?;
        if rule == "-" {
            return Some((format!("variant-{index}"), self.variants.get_mut(index)?));
        }
        let rule: usize = rule.parse().ok()?;
        let variant = self.rules.get_mut(rule)?.variants.get_mut(index)?;
        Some((format!("rule-{rule}-variant-{index}"), variant))
    }

    /// Takes a rule out and puts it where another one stands.
    fn carry_rule(&mut self, from: Option<usize>, to: Option<usize>) {
        let (Some(from), Some(to)) = (from, to) else { return };
        if from < self.rules.len() && to < self.rules.len() {
            let rule = self.rules.remove(from);
            self.rules.insert(to, rule);
            self.focus = format!("rule-{to}-percent");
        }
    }

    fn move_rule(&mut self, verb: &str, index: Option<usize>) {
        let Some(index) = index.filter(|index| *index < self.rules.len()) else { return };
        let to = match verb {
            "up" => index.saturating_sub(1),
            "down" => (index + 1).min(self.rules.len() - 1),
            "remove" => {
                self.rules.remove(index);
                "rule-add".clone_into(&mut self.focus);
                return;
            }
            _ => return,
        };
        self.rules.swap(index, to);
        self.focus = format!("rule-{to}-{verb}");
    }

    fn free_id(&self) -> String {
        let taken = |id: &str| self.rules.iter().any(|rule| rule.id == id);
        let numbers = (self.rules.len() + 1)..;
        numbers.map(|n| format!("rule-{n}")).find(|id| !taken(id)).unwrap_or_default()
    }
}

fn remove<T>(list: &mut Vec<T>, index: Option<usize>) {
    if let Some(index) = index.filter(|index| *index < list.len()) {
        list.remove(index);
    }
}

fn rule_draft(rule: &Rule, value_type: ValueType) -> RuleDraft {
    let own = |name: &String| PLATFORMS.iter().any(|(known, _)| known == name);
    let (platforms, others): (Vec<String>, Vec<String>) =
        rule.platforms.iter().cloned().partition(own);
    RuleDraft {
        id: rule.id.clone(),
        title: rule.title.clone().unwrap_or_default(),
        groups: join(&rule.groups),
        platforms,
        other_platforms: join(&others),
        constraints: rule.constraints.iter().map(ConstraintDraft::of).collect(),
        segments: rule.segments.clone(),
        percent: rule.percent.to_string(),
        stickiness: rule.stickiness.clone().into(),
        salt: rule.salt.clone().unwrap_or_default(),
        bucketing: if rule.bucketing.is_native() {
            String::new()
        } else {
            serde_json::to_string(&rule.bucketing).unwrap_or_default()
        },
        serves_off: !rule.serve.is_on(),
        variants: rule.variants.iter().map(|one| variant_draft(one, value_type)).collect(),
    }
}

fn read_rule(form: &Fields, prefix: &str) -> RuleDraft {
    let text = |name: &str| form.text(&format!("{prefix}.{name}")).to_owned();
    RuleDraft {
        id: text("id"),
        title: text("title"),
        groups: text("groups"),
        platforms: form.all(&format!("{prefix}.platforms")),
        other_platforms: text("other_platforms"),
        constraints: ConstraintDraft::read(form, &format!("{prefix}.constraints")),
        segments: form.all(&format!("{prefix}.segments")),
        percent: text("percent"),
        stickiness: text("stickiness"),
        salt: text("salt"),
        bucketing: text("bucketing"),
        serves_off: text("serve") == "off",
        variants: read_variants(form, &format!("{prefix}.variants")),
    }
}

fn to_rule(draft: &RuleDraft, path: &str, value_type: ValueType, wrong: &mut Vec<Wrong>) -> Rule {
    let mut platforms = draft.platforms.clone();
    platforms.extend(split(&draft.other_platforms));
    let percent = draft.percent.trim_end_matches(['%', ' ']).replace(',', ".");
    let percent = percent.parse::<f64>().ok().and_then(|share| Percent::try_from(share).ok());
    let percent = percent.unwrap_or_else(|| {
        let message = "0 to 100, in steps of 0.001".to_owned();
        wrong.push(Wrong { field: format!("{path}.percent"), message });
        Percent::NONE
    });
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let constraints = draft.constraints.iter().enumerate();
    Rule {
        id: draft.id.clone(),
        title: some(&draft.title),
        groups: split(&draft.groups),
        platforms,
        constraints: constraints
            .filter_map(|(n, one)| one.to_constraint(&format!("{path}.constraints[{n}]"), wrong))
            .collect(),
        segments: draft.segments.clone(),
        percent,
        stickiness: Stickiness::from(draft.stickiness.clone()),
        salt: some(&draft.salt),
        bucketing: serde_json::from_str(&draft.bucketing).unwrap_or_default(),
        serve: if draft.serves_off { Serve::Off } else { Serve::On },
        variants: to_variants(&draft.variants, &format!("{path}.variants"), value_type, wrong),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state() -> FlagState {
        serde_json::from_value(json!({
            "enabled": true,
            "rules": [
                {"id": "beta", "groups": ["beta", "staff"], "platforms": ["ios", "tv"], "percent": 12.5,
                 "stickiness": "session_id", "segments": ["eu"],
                 "constraints": [{"field": "mail", "operator": "REGEX", "values": ["a{1,3}"], "inverted": true}],
                 "variants": [{"name": "a", "weight": 10, "value": true,
                               "overrides": [{"field": "user_id", "values": ["u1"]}]}]},
                {"id": "rest", "percent": 1, "stickiness": "default"},
            ],
            "prerequisites": [{"flag": "other", "enabled": false}],
            "expires_at": 1_700_000_000_000_i64, "max_staleness_ms": 900_000, "on_stale": "off",
        }))
        .unwrap()
    }

    #[test]
    fn a_state_survives_the_form() {
        let draft = StateDraft::of(&state(), ValueType::Boolean);

        assert_eq!(draft.to_state(ValueType::Boolean).unwrap(), state());
    }

    #[test]
    fn rules_move_and_stay_whole() {
        let mut draft = StateDraft::of(&state(), ValueType::Boolean);

        draft.apply("rule.down.0");
        draft.apply("rule.add");
        draft.apply("rule.remove.9");

        let ids: Vec<_> = draft.rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["rest", "beta", "rule-3"]);
    }

    #[test]
    fn a_rule_is_carried_to_where_another_stands() {
        let mut draft = StateDraft::of(&state(), ValueType::Boolean);
        draft.apply("rule.add");

        draft.apply("rule.move.2.0");
        draft.apply("rule.move.0.7");

        let ids: Vec<_> = draft.rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["rule-3", "beta", "rest"]);
    }

    #[test]
    fn whom_a_variant_is_always_given_to_has_fields() {
        let mut draft = StateDraft::of(&state(), ValueType::Boolean);

        draft.apply("variant.add");
        draft.apply("override.add.-.0");
        draft.apply("override.add.0.0");
        draft.apply("override.remove.0.0.0");
        draft.apply("override.add.9.0");

        assert_eq!(draft.variants[0].overrides[0].field, "user_id");
        assert_eq!(draft.rules[0].variants[0].overrides.len(), 1);
        assert_eq!(draft.rules[0].variants[0].overrides[0].values, "");
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        let mut draft = StateDraft::of(&state(), ValueType::Boolean);
        draft.rules[1].percent = "many".to_owned();

        let Err(AppError::Invalid(wrong)) = draft.to_state(ValueType::Boolean) else { panic!() };

        assert_eq!(wrong[0].field, "rules[1].percent");
    }
}

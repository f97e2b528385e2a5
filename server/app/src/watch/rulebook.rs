//! Which alert rules there are: shipped ones, those of the operator's folder, and those that were written here, which win.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use switchback_core::model::Millis;
use switchback_playbook::Problem;
use switchback_store::{Role, StoreError, TemplateVersion};
use switchback_watch::rule::{Condition, Origin, Outside, Rule};

use crate::App;
use crate::error::{AppError, Wrong};
use crate::who::{EVERYWHERE, Who};

/// Rules that may be written here at most.
const RULES_MAX: usize = 200;

/// A rule with where it comes from.
#[derive(Clone, Debug)]
pub struct KnownRule {
    /// What it says.
    pub rule: Rule,
    /// Its text.
    pub source: String,
    /// The newest version that was written here; 0: none.
    pub version: u64,
    /// Whether it was written here; otherwise it is shipped, or lies in the operator's folder.
    pub is_own: bool,
    /// When it was changed here, in UTC milliseconds, and by whom.
    pub changed: Option<(Millis, String)>,
}

/// What is wrong with a rule's text.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct RuleProblem {
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// Where in the document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = Problem::new(&self.path, &self.message).hint(&self.hint);
        match self.line.zip(self.column) {
            Some(at) => problem.at(at).fmt(out),
            None => problem.fmt(out),
        }
    }
}

impl From<Problem> for RuleProblem {
    fn from(problem: Problem) -> Self {
        let Problem { line, column, path, message, hint, .. } = problem;
        Self { line, column, path, message, hint }
    }
}

impl App {
    /// Every rule by name, as the database and the files have them now.
    pub(super) async fn rule_book(&self) -> Result<BTreeMap<String, KnownRule>, StoreError> {
        let own = self.store.list_alert_rules().await?;
        let catalogue = self.catalogue.load();
        let mut rules: BTreeMap<String, KnownRule> = BTreeMap::new();
        for (name, (rule, source)) in &catalogue.alert_rules {
            let version = own.iter().find(|version| version.name == *name);
            let known = KnownRule {
                rule: rule.clone(),
                source: source.clone(),
                version: version.map_or(0, |version| version.version),
                is_own: false,
                changed: version.map(|version| (version.created_at, version.created_by.clone())),
            };
            rules.insert(name.clone(), known);
        }
        for TemplateVersion { name, version, source, created_at, created_by } in own {
            let Some(source) = source else { continue };
            match Rule::parse(&source) {
                Ok(rule) => {
                    let changed = Some((created_at, created_by));
                    let known = KnownRule { rule, source, version, is_own: true, changed };
                    rules.insert(name, known);
                }
                Err(problems) => {
                    let first = problems.first().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(rule = name, "an alert rule cannot be read: {first}");
                }
            }
        }
        Ok(rules)
    }

    /// One rule.
    pub async fn get_alert_rule(&self, who: &Who, name: &str) -> Result<KnownRule, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at alert rules")?;
        let found = self.rule_book().await?.remove(name);
        found.ok_or_else(|| AppError::NotFound { kind: "alert rule", key: name.to_owned() })
    }

    /// What is wrong with a rule's text; nothing when it may be kept.
    pub async fn check_alert_rule(
        &self,
        who: &Who,
        source: &str,
    ) -> Result<Vec<RuleProblem>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "check alert rules")?;
        let rule = match Rule::parse(source) {
            Ok(rule) => rule,
            Err(problems) => return Ok(problems.into_iter().map(RuleProblem::from).collect()),
        };
        let mut problems = Vec::new();
        let mut fault = |path: &str, message: String| {
            problems.push(RuleProblem::from(Problem::new(path, message)));
        };
        let environments = self.known_environments();
        for key in &rule.environments {
            if !environments.iter().any(|known| known.key == *key) {
                fault("spec.environments", format!("there is no environment `{key}`"));
            }
        }
        if let Some(playbook) = &rule.playbook
            && let Err(error) = self.catalogue.load().get(playbook)
        {
            fault("spec.playbook", error.to_string());
        }
        if let Condition::Value(Outside { origin: Origin::Source(name), .. }) = &rule.when
            && self.store.get_data_source(name).await.is_err()
        {
            fault("spec.when.value.source", format!("there is no data source `{name}`"));
        }
        let known = self.rule_book().await?;
        for name in &rule.inhibited_by {
            if !known.contains_key(name) {
                fault("spec.inhibited_by", format!("there is no alert rule `{name}`"));
            }
        }
        let channels = self.store.list_channels().await?;
        for (index, step) in rule.escalate.iter().enumerate() {
            for name in &step.channels {
                if !channels.iter().any(|one| one.key == *name || one.kind == *name) {
                    let path = format!("spec.escalate[{index}].channels");
                    fault(&path, format!("there is no channel `{name}`, and none of that kind"));
                }
            }
        }
        Ok(problems)
    }

    /// Keeps a new version of a rule. `expected`: the version that it was made from.
    ///
    /// # Errors
    /// The text is no rule: every fault; or somebody else saved meanwhile.
    pub async fn put_alert_rule(
        &self,
        who: &Who,
        name: &str,
        source: &str,
        expected: Option<u64>,
    ) -> Result<KnownRule, AppError> {
        who.must(Role::Editor, EVERYWHERE, "write alert rules")?;
        let problems = self.check_alert_rule(who, source).await?;
        if !problems.is_empty() {
            let wrong = problems
                .into_iter()
                .map(|problem| Wrong { field: "source".to_owned(), message: problem.to_string() });
            return Err(AppError::Invalid(wrong.collect()));
        }
        if let Ok(rule) = Rule::parse(source) {
            if rule.name != name {
                let message = format!("the text names another rule, and this is `{name}`");
                return Err(AppError::invalid("source", message));
            }
            if matches!(rule.when, Condition::Value(_)) {
                // It asks databases and addresses that editors may not ask themselves.
                who.must(Role::Admin, EVERYWHERE, "write alert rules that ask data sources")?;
            }
        }
        let own = self.store.list_alert_rules().await?;
        let last = own.iter().find(|version| version.name == name);
        if last.is_none() && own.len() >= RULES_MAX {
            let message = format!("there are {RULES_MAX} rules of your own, which is the most");
            return Err(AppError::Refused(message));
        }
        let expected = expected.unwrap_or(last.map_or(0, |version| version.version));
        self.store.put_alert_rule(name, expected, Some(source), &self.stamp(who, "")).await?;
        self.get_alert_rule(who, name).await
    }

    /// Removes what was written here; a shipped rule of the same name counts again.
    pub async fn reset_alert_rule(&self, who: &Who, name: &str) -> Result<(), AppError> {
        who.must(Role::Editor, EVERYWHERE, "remove alert rules")?;
        let known = self.get_alert_rule(who, name).await?;
        if !known.is_own {
            let message = format!("`{name}` was not written here, so it cannot be removed here");
            return Err(AppError::Refused(message));
        }
        let by = self.stamp(who, "");
        Ok(self.store.put_alert_rule(name, known.version, None, &by).await.map(drop)?)
    }
}

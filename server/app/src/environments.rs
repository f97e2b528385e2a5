//! Projects and environments: lists, making, protecting, and putting one back to a moment in time.

use std::collections::BTreeMap;

use serde::Serialize;
use switchback_core::model::{FlagState, Millis, Segment};
use switchback_store::{Environment, NewEnvironment, Project, RestoredFlag, Role};

use super::App;
use super::diff::{Difference, diff};
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// Pages of the console that stand where an environment's would.
const PAGES: [&str; 6] = ["checks", "events", "parts", "repairs", "settings", "theme"];

/// What putting an environment back would change.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct RestorePreview {
    /// The environment's revision that this was worked out at; name it to go ahead.
    pub revision: u64,
    /// The moment asked for, in UTC milliseconds.
    pub at: Millis,
    /// Flags that would change, with each difference.
    pub flags: Vec<FlagDifference>,
    /// Flags that did not exist then: they stay as they are.
    pub newer_flags: Vec<String>,
    /// Segments that differ from then: they stay as they are, and are named so that nobody is
    /// surprised.
    pub segments: Vec<String>,
    /// Clients connected now.
    pub clients: u64,
}

/// How one flag would change.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct FlagDifference {
    /// The flag.
    pub key: String,
    /// Its differences, from now to then.
    pub differences: Vec<Difference>,
}

impl App {
    /// Projects, by key.
    pub async fn list_projects(&self, who: &Who) -> Result<Vec<Project>, AppError> {
        must_see_something(who)?;
        Ok(self.store.list_projects().await?)
    }

    /// Makes a project.
    pub async fn create_project(
        &self,
        who: &Who,
        key: &str,
        name: &str,
        description: &str,
    ) -> Result<Project, AppError> {
        who.must(Role::Admin, EVERYWHERE, "make projects")?;
        check_key("key", key)?;
        let (name, description) = (name.to_owned(), description.to_owned());
        let created_at = self.clock.now();
        let project = Project { key: key.to_owned(), name, description, created_at };
        if !self.store.create_project(&project, &self.stamp(who, "")).await? {
            return Err(AppError::Exists { kind: "project", key: key.to_owned() });
        }
        Ok(project)
    }

    /// Environments that someone may look at, in their order.
    pub async fn list_environments(&self, who: &Who) -> Result<Vec<Environment>, AppError> {
        let all = self.store.list_environments().await?;
        Ok(all.into_iter().filter(|env| who.can(Role::Viewer, &env.key)).collect())
    }

    /// Makes an environment; every boolean flag is off in it.
    pub async fn create_environment(
        &self,
        who: &Who,
        new: NewEnvironment,
    ) -> Result<Environment, AppError> {
        who.must(Role::Admin, EVERYWHERE, "make environments")?;
        check_key("key", &new.key)?;
        if PAGES.contains(&new.key.as_str()) {
            let message = format!("`{}` is a page of the console: choose another key", new.key);
            return Err(AppError::invalid("key", message));
        }
        if !self.store.create_environment(&new, &self.stamp(who, "")).await? {
            return Err(AppError::Exists { kind: "environment", key: new.key });
        }
        let made = self.store.get_environment(&new.key).await?;
        self.remember_environment(&made);
        self.hub.feed(&made.key, None).await?;
        tracing::info!(environment.key = made.key, "environment `{}` made", made.key);
        Ok(made)
    }

    /// Says whether changes in an environment must be given a reason.
    pub async fn protect_environment(
        &self,
        who: &Who,
        key: &str,
        protected: bool,
    ) -> Result<Environment, AppError> {
        who.must(Role::Admin, key, "protect environments")?;
        self.store.protect_environment(key, protected, &self.stamp(who, "")).await?;
        let environment = self.store.get_environment(key).await?;
        self.remember_environment(&environment);
        Ok(environment)
    }

    /// What putting every flag of an environment back to a moment would change. Changes nothing.
    pub async fn preview_restore(
        &self,
        who: &Who,
        environment: &str,
        at: Millis,
    ) -> Result<RestorePreview, AppError> {
        who.must(Role::Viewer, environment, "look")?;
        Ok(self.plan_restore(environment, at).await?.0)
    }

    /// Puts every flag of an environment back to a moment, in one revision. `expected` is the
    /// revision of the preview that the person saw.
    pub async fn restore_environment(
        &self,
        who: &Who,
        environment: &str,
        at: Millis,
        expected: u64,
        reason: &str,
    ) -> Result<RestorePreview, AppError> {
        who.must(Role::Operator, environment, "restore an environment")?;
        let by = self.stamp_in(who, environment, reason).await?;
        let (mut preview, flags) = self.plan_restore(environment, at).await?;
        if preview.revision != expected {
            return Err(AppError::Conflict { current: preview.revision });
        }
        if flags.is_empty() {
            return Err(AppError::Refused("nothing differs from that moment".to_owned()));
        }
        preview.revision = self.store.restore_flags(environment, &flags, expected, &by).await?;
        self.announce(News::Environment(environment.to_owned())).await;
        tracing::info!(
            environment.key = environment,
            revision = preview.revision,
            "{} flags of `{environment}` put back to an earlier moment",
            flags.len(),
        );
        Ok(preview)
    }

    async fn plan_restore(
        &self,
        environment: &str,
        at: Millis,
    ) -> Result<(RestorePreview, Vec<RestoredFlag>), AppError> {
        if at > self.clock.now() {
            return Err(AppError::invalid("at", "that moment has not come yet"));
        }
        let revision = self.store.get_environment(environment).await?.revision;
        let then = self.store.changes_as_of(environment, at).await?;
        let mut states: BTreeMap<String, Option<FlagState>> = BTreeMap::new();
        let mut segments = BTreeMap::new();
        for change in then {
            match change.subject_kind.as_str() {
                "flag" => {
                    let state = change.after.map(serde_json::from_value).transpose();
                    let state = state.map_err(|error| AppError::Internal(Box::new(error)))?;
                    states.insert(change.subject, state);
                }
                "segment" => {
                    segments.insert(change.subject, change.after);
                }
                _ => {}
            }
        }
        let mut preview = RestorePreview {
            revision,
            at,
            flags: Vec::new(),
            newer_flags: Vec::new(),
            segments: Vec::new(),
            clients: self.hub.convergence(environment, None).connected,
        };
        let mut restored = Vec::new();
        for row in self.store.list_flags(environment, false).await? {
            let key = row.flag.key.as_str().to_owned();
            match states.remove(&key) {
                Some(Some(state)) if state != row.state => {
                    let differences = difference_of(&row.state, &state);
                    preview.flags.push(FlagDifference { key: key.clone(), differences });
                    restored.push(RestoredFlag { key, state });
                }
                Some(_) => {}
                None => preview.newer_flags.push(key),
            }
        }
        for row in self.store.list_segments(environment).await? {
            let then = segments.remove(row.segment.key.as_str()).flatten();
            let then: Option<Segment> = then.and_then(|value| serde_json::from_value(value).ok());
            if then.as_ref() != Some(&row.segment) {
                preview.segments.push(row.segment.key.as_str().to_owned());
            }
        }
        Ok((preview, restored))
    }
}

/// What differs between two states of a flag.
pub fn difference_of(before: &FlagState, after: &FlagState) -> Vec<Difference> {
    let (before, after) = (serde_json::to_value(before).ok(), serde_json::to_value(after).ok());
    diff(before.as_ref(), after.as_ref())
}

/// Keys of projects, environments and components: what a URL and a token can hold.
pub(crate) fn check_key(field: &str, key: &str) -> Result<(), AppError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if key.is_empty() || key.len() > 60 || !key.chars().all(allowed) {
        let message = format!("`{key}` is not a key: 1 to 60 of a-z, 0-9, - and _");
        return Err(AppError::invalid(field, message));
    }
    Ok(())
}

fn must_see_something(who: &Who) -> Result<(), AppError> {
    if who.roles.is_empty() {
        return who.must(Role::Viewer, EVERYWHERE, "look");
    }
    Ok(())
}

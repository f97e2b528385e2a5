//! Who acts: a person, a token, a run, or the server itself, and what they may do where.

use std::collections::BTreeMap;

use switchback_store::{Role, Stamp};

use super::App;
use super::error::AppError;

/// Someone who acts.
#[derive(Clone, Debug, PartialEq)]
pub struct Who {
    /// As the log shows them: an e-mail, `token:<name>`, `run:<id>`, `switchback`.
    pub name: String,
    /// The user's id, for a person.
    pub user_id: Option<String>,
    /// A role per environment; `*` is every environment that is not named.
    pub roles: BTreeMap<String, Role>,
    /// The run on whose behalf this is.
    pub run_id: Option<String>,
    /// Why they do what they do, where the request itself does not say.
    pub reason: String,
}

/// Environments: every one.
pub const EVERYWHERE: &str = "*";

impl Who {
    /// The server itself: seeds, expiries, jobs.
    pub fn system() -> Self {
        Self::with_role("switchback", Role::Admin)
    }

    /// Someone with one role everywhere.
    pub fn with_role(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            user_id: None,
            roles: BTreeMap::from([(EVERYWHERE.to_owned(), role)]),
            run_id: None,
            reason: String::new(),
        }
    }

    /// Their role in an environment; `None`: they may not even look.
    pub fn role_in(&self, environment: &str) -> Option<Role> {
        self.roles.get(environment).or_else(|| self.roles.get(EVERYWHERE)).copied()
    }

    /// True where they have at least this role.
    pub fn can(&self, role: Role, environment: &str) -> bool {
        self.role_in(environment).is_some_and(|own| own >= role)
    }

    /// Their roles in an environment: each includes the ones before it.
    pub fn roles_in(&self, environment: &str) -> Vec<Role> {
        let own = self.role_in(environment);
        let all = [Role::Viewer, Role::Editor, Role::Operator, Role::Admin];
        all.into_iter().filter(|role| own.is_some_and(|own| *role <= own)).collect()
    }

    /// Whether they have one of these roles, by name; none named: any will do.
    pub fn has_one_of(&self, roles: &[String], environment: &str) -> bool {
        let own = self.roles_in(environment);
        roles.is_empty() || own.iter().any(|own| roles.iter().any(|role| role == role_name(*own)))
    }

    /// What a request says, or else what came beside it.
    pub fn reason_or<'a>(&'a self, said: &'a str) -> &'a str {
        if said.trim().is_empty() { &self.reason } else { said }
    }

    /// Refuses those who do not have at least this role.
    pub fn must(
        &self,
        role: Role,
        environment: &str,
        action: &'static str,
    ) -> Result<(), AppError> {
        if self.can(role, environment) {
            return Ok(());
        }
        let environment = environment.to_owned();
        Err(AppError::Forbidden { action, environment, role: role_name(role) })
    }
}

/// A role's word.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Editor => "editor",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// Reasons are cut off above this, in characters.
const REASON_MAX: usize = 1_000;

impl App {
    /// The record that a write carries.
    pub fn stamp(&self, who: &Who, reason: &str) -> Stamp {
        let reason = who.reason_or(reason);
        Stamp {
            actor: who.name.clone(),
            reason: reason.trim().chars().take(REASON_MAX).collect(),
            at: self.clock.now(),
            emergency: false,
            run_id: who.run_id.clone(),
            id: self.ids.next("chg"),
        }
    }

    /// The same for an environment; a protected one wants to know why.
    pub async fn stamp_in(
        &self,
        who: &Who,
        environment: &str,
        reason: &str,
    ) -> Result<Stamp, AppError> {
        let environment = self.get_environment(environment).await?;
        if environment.protected && who.reason_or(reason).trim().is_empty() {
            let name = &environment.name;
            let message = format!("{name} is protected: say why you change it");
            return Err(AppError::invalid("reason", message));
        }
        Ok(self.stamp(who, reason))
    }
}

//! What an empty database is given: environments, projects, the three auth flags, components, and
//! what the environment's `SWITCHBACK_INIT_*` variables ask for.

use switchback_core::model::{FlagKind, FlagState, OnStale, Percent, ValueType};
use switchback_store::{
    Component, ComponentStatus, FlagRecord, NewEnvironment, NewFlag, Project, Role, TokenKind,
};

use super::App;
use super::error::AppError;
use super::flags::everybody;
use super::tokens::{TokenDraft, parse_token};
use super::users::UserDraft;
use super::who::{EVERYWHERE, Who};
use crate::config::Init;

/// A bypass that nobody can withdraw must not live on: SDKs drop it after this long without word.
const BYPASS_STALENESS_MS: u64 = 15 * 60_000;

impl App {
    /// Fills an empty database; returns a development SDK token, unless tokens were given. Every part
    /// is skipped where it is there already, so that a start that died half-way is finished by the next.
    pub async fn seed(&self, init: &Init) -> Result<Option<String>, AppError> {
        let system = Who::system();
        let environments = [
            ("development", "Development", false),
            ("staging", "Staging", false),
            ("production", "Production", true),
        ];
        for (position, (key, name, protected)) in environments.into_iter().enumerate() {
            let new = NewEnvironment {
                key: key.to_owned(),
                name: name.to_owned(),
                kind: key.to_owned(),
                protected,
                position: position as i64,
            };
            self.store.create_environment(&new, &self.stamp(&system, "first start")).await?;
        }
        for (key, name, description) in [
            ("default", "Default", "Flags of the app."),
            ("auth", "Sign-in", "Who must sign in, and what happens when that breaks."),
        ] {
            let project = Project {
                key: key.to_owned(),
                name: name.to_owned(),
                description: description.to_owned(),
                created_at: self.clock.now(),
            };
            self.store.create_project(&project, &self.stamp(&system, "first start")).await?;
        }
        for (position, (key, name, description)) in [
            ("auth", "Sign-in", "Signing in, signing up and staying signed in."),
            ("app", "App", "Everything else."),
        ]
        .into_iter()
        .enumerate()
        {
            let component = Component {
                key: key.to_owned(),
                name: name.to_owned(),
                description: description.to_owned(),
                status: ComponentStatus::Operational,
                position: position as i64,
                group: None,
                only_show_if_degraded: false,
                created_at: self.clock.now(),
                updated_at: 0,
            };
            self.store.put_component(&component, &self.stamp(&system, "first start")).await?;
        }
        for environment in self.store.list_environments().await? {
            self.remember_environment(&environment);
        }
        self.seed_auth_flags(&system).await?;
        self.seed_access(&system, init).await
    }

    async fn seed_auth_flags(&self, system: &Who) -> Result<(), AppError> {
        let on = FlagState { enabled: true, ..FlagState::default() };
        let flags = [
            (
                "auth_enabled",
                FlagKind::KillSwitch,
                "Whether anybody has to sign in at all. Off: everybody goes on without.",
                on.clone(),
            ),
            (
                "auth_bypass",
                FlagKind::Operational,
                "Lets everybody in while sign-in is broken. Always time-boxed.",
                FlagState {
                    max_staleness_ms: Some(BYPASS_STALENESS_MS),
                    on_stale: OnStale::Off,
                    ..FlagState::default()
                },
            ),
            (
                "auth_rollout",
                FlagKind::Release,
                "The share of users that has to sign in.",
                FlagState { rules: vec![everybody(Percent::ALL)], ..on },
            ),
        ];
        for (key, kind, description, state) in flags {
            let flag_key = key.try_into().map_err(|error: switchback_core::model::KeyError| {
                AppError::Internal(Box::new(error))
            })?;
            let record = FlagRecord {
                key: flag_key,
                project: "auth".to_owned(),
                kind,
                value_type: ValueType::Boolean,
                salt: key.to_owned(),
                description: description.to_owned(),
                owner: String::new(),
                tags: vec!["auth".to_owned()],
                lifetime_days: None,
                created_at: self.clock.now(),
                created_by: system.name.clone(),
                archived_at: None,
            };
            let stamp = self.stamp(system, "first start");
            match self.store.create_flag(&NewFlag { record, state }, &stamp).await {
                Ok(()) | Err(switchback_store::StoreError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn seed_access(&self, system: &Who, init: &Init) -> Result<Option<String>, AppError> {
        if let Some((email, password)) = &init.admin {
            let draft = UserDraft {
                email: email.clone(),
                name: String::new(),
                password: password.clone(),
                roles: [(EVERYWHERE.to_owned(), Role::Admin)].into(),
            };
            self.create_user(system, draft).await?;
        }
        for (kind, name, texts) in [
            (TokenKind::Api, "first admin token", &init.admin_tokens),
            (TokenKind::Server, "first server token", &init.client_tokens),
            (TokenKind::Browser, "first browser token", &init.frontend_tokens),
            (TokenKind::Events, "first events token", &init.event_tokens),
        ] {
            for text in texts {
                let (project, environment) = parse_token(text)?;
                let draft = TokenDraft {
                    name: name.to_owned(),
                    kind,
                    project: project.to_owned(),
                    environment: environment.to_owned(),
                    role: Role::Admin,
                };
                self.keep_token(system, draft, text).await?;
            }
        }
        if !init.client_tokens.is_empty() {
            return Ok(None);
        }
        let draft = TokenDraft {
            name: "development SDK".to_owned(),
            kind: TokenKind::Server,
            project: EVERYWHERE.to_owned(),
            environment: "development".to_owned(),
            role: Role::Viewer,
        };
        Ok(Some(self.create_token(system, draft).await?.1))
    }
}

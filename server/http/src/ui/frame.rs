//! What surrounds every page: where one is, whether it is live, and the way back.

use std::sync::Arc;

use switchback_app::{App, EVERYWHERE, Who};
use switchback_store::{Environment, Role};

use super::visit::Toast;
use super::words::{Lasting, When, count, iso, plain_stamp};

/// The playbook behind the button at the top.
pub const ROLLBACK: &str = "auth-rollback";
/// What its reason says until somebody types a better one.
const ROLLBACK_REASON: &str = "Sign-in is failing; rolled back from the console.";

/// The frame's values.
pub struct Frame {
    /// The page's name, for the window's title.
    pub title: String,
    /// Which entry of the rail is current.
    pub nav: &'static str,
    /// The environment's key.
    pub environment: String,
    /// Its name.
    pub name: String,
    /// Its stripe: `production`, `staging`, `development` or `other`.
    pub kind: &'static str,
    /// Whether changes need a reason.
    pub protected: bool,
    /// Its revision when the page was made.
    pub revision: u64,
    /// Clients that are connected.
    pub clients: u64,
    /// Environments to switch to.
    pub environments: Vec<Place>,
    /// Who is signed in.
    pub who: String,
    /// Two letters for them.
    pub initials: String,
    /// `auto`, `light` or `dark`.
    pub theme: &'static str,
    /// What was done just now.
    pub toast: Option<Toast>,
    /// When the page was made.
    pub now: i64,
    /// Whether they may change flags here.
    pub can_edit: bool,
    /// Whether they may kill flags and run playbooks here.
    pub can_operate: bool,
    /// Whether they may handle incidents.
    pub can_tell: bool,
    /// Whether they run the place.
    pub is_admin: bool,
    /// Whether there is a playbook behind the button.
    pub has_rollback: bool,
    /// Why nothing starts by itself now.
    pub automation_off: Option<String>,
    /// The reason that the panel begins with.
    pub rollback_reason: &'static str,
    /// The flag whose page this is, as part of an address.
    pub flag: Option<String>,
}

/// An environment to switch to.
pub struct Place {
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Its stripe.
    pub kind: &'static str,
    /// Whether it is the current one.
    pub current: bool,
}

impl Frame {
    /// A frame around a page of one environment.
    pub fn new(
        app: &Arc<App>,
        who: &Who,
        own: &Environment,
        all: Vec<Environment>,
        nav: &'static str,
        title: String,
    ) -> Self {
        let converged = app.hub.convergence(&own.key, None);
        let place = |environment: Environment| Place {
            current: environment.key == own.key,
            kind: kind_of(&environment),
            key: environment.key,
            name: environment.name,
        };
        Self {
            title,
            nav,
            kind: kind_of(own),
            environment: own.key.clone(),
            name: own.name.clone(),
            protected: own.protected,
            revision: converged.revision.max(own.revision),
            clients: converged.connected,
            environments: all.into_iter().map(place).collect(),
            who: who.name.clone(),
            initials: who.name.chars().take(2).collect::<String>().to_uppercase(),
            theme: "auto",
            toast: None,
            now: app.clock.now(),
            can_edit: who.can(Role::Editor, &own.key),
            can_operate: who.can(Role::Operator, &own.key),
            can_tell: who.can(Role::Operator, EVERYWHERE),
            is_admin: who.can(Role::Admin, EVERYWHERE),
            has_rollback: app.catalogue.load().playbooks.contains_key(ROLLBACK),
            automation_off: None,
            rollback_reason: ROLLBACK_REASON,
            flag: None,
        }
    }

    /// The address of a page of this environment: `url("flags")`.
    pub fn url(&self, rest: &str) -> String {
        if rest.is_empty() {
            return format!("/ui/{}", self.environment);
        }
        format!("/ui/{}/{rest}", self.environment)
    }

    /// The part of the address behind the environment that another environment has too.
    pub fn section(&self) -> String {
        let section = match self.nav {
            "flags" => match &self.flag {
                Some(flag) => return format!("/flags/{flag}"), // every environment has every flag
                None => "/flags",
            },
            "segments" => "/segments",
            "clients" => "/clients",
            "playbooks" => "/playbooks",
            "alerts" => "/alerts",
            "incidents" => "/incidents",
            "log" => "/log",
            "sessions" => "/watch/sessions",
            _ => "",
        };
        section.to_owned()
    }

    /// A moment, beside the time of this page.
    pub fn ago(&self, at: &i64) -> When {
        When { at: *at, now: self.now }
    }

    /// How long something goes on already, at the time of this page.
    pub fn lasting(&self, at: &i64) -> Lasting {
        Lasting { at: *at, now: self.now }
    }

    /// A moment as it is, for names that must differ.
    pub fn stamp(&self, at: &i64) -> String {
        plain_stamp(*at)
    }

    /// When the page was made, for machines.
    pub fn now_iso(&self) -> String {
        iso(self.now)
    }

    /// `r412`, as the top says it.
    pub fn revision_text(&self) -> String {
        format!("r{}", self.revision)
    }

    /// `1,204 connected clients`.
    pub fn clients_text(&self) -> String {
        count(self.clients, "connected client")
    }

    /// Where an asset is.
    pub fn asset(&self, name: &str) -> String {
        super::assets::url(name)
    }
}

fn kind_of(environment: &Environment) -> &'static str {
    match environment.kind.as_str() {
        "production" => "production",
        "staging" => "staging",
        "development" => "development",
        _ => "other",
    }
}

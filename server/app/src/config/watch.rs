//! What is kept of the app's users: how they are named, and for how long.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The watch over logins and sessions of the app's users.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// `hashed` or `plain`: how the app's users are kept.
    pub user_ids: UserIds,
    /// A session ends after this long without activity, in hours.
    pub session_idle_hours: u32,
    /// How long ended sessions are kept, in days.
    pub sessions_days: u32,
    /// How long auth events are kept, in days; their counts are kept longer.
    pub auth_log_days: u32,
    /// Databases whose Supabase Auth tables are read.
    pub supabase: Vec<Supabase>,
}

/// A database whose Supabase Auth tables are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Supabase {
    /// The data source, a PostgreSQL.
    pub source: String,
    /// The environment whose logins they are.
    pub environment: String,
    /// From one look to the next, in seconds: 2 to 3600.
    #[serde(default = "every_s")]
    pub every_s: u32,
}

fn every_s() -> u32 {
    10
}

/// How the app's users are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserIds {
    /// As a keyed hash, which cannot be led back to the id without the database.
    #[default]
    Hashed,
    /// As the app sends them.
    Plain,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            user_ids: UserIds::default(),
            session_idle_hours: 24,
            sessions_days: 400,
            auth_log_days: 30,
            supabase: Vec::new(),
        }
    }
}

impl Watch {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limits = [
            ("watch.session_idle_hours", self.session_idle_hours, 8_760),
            ("watch.sessions_days", self.sessions_days, 3_650),
            ("watch.auth_log_days", self.auth_log_days, 3_650),
        ];
        for (key, value, high) in limits {
            if !(1..=high).contains(&value) {
                return Err(ConfigError(format!("{key} is {value}; it must be 1 to {high}")));
            }
        }
        for (place, one) in self.supabase.iter().enumerate() {
            let key = format!("watch.supabase[{place}]");
            if !(2..=3_600).contains(&one.every_s) {
                let message = format!("{key}.every_s is {}; it must be 2 to 3600", one.every_s);
                return Err(ConfigError(message));
            }
            if one.source.is_empty() || one.environment.is_empty() {
                return Err(ConfigError(format!("{key} needs `source` and `environment`")));
            }
            let is_same = |other: &Supabase| {
                other.source == one.source && other.environment == one.environment
            };
            if self.supabase.iter().take(place).any(is_same) {
                return Err(ConfigError(format!("{key} is there twice")));
            }
        }
        Ok(())
    }
}

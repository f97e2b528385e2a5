//! Sessions of the app's users: who is in, for how long, and ending them. (The console's own are in `users.rs`.)

mod intake;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_store::{
    After, AuthEventRow, Role, SessionDay, SessionFilter, SessionPick, Stamp, StoreError,
    UserSession, version_rank,
};

pub(crate) use intake::Intake;
pub use intake::{
    ACTIVITY_MAX, Activity, LoggedIn, LoginDraft, RevokedPage, SessionState, id_of_key,
};

use super::App;
use super::error::AppError;
use super::user_keys::is_user_key;
use super::who::Who;
use crate::config::UserIds;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Sessions that one transaction ends at most.
const BATCH: i64 = 500;
/// Sessions that one request revokes at most: it must answer in time, and says how many are left.
const REVOKED_AT_ONCE: u64 = 20_000;
/// Sessions that may be named one by one.
const IDS_MAX: usize = 500;
/// Rows that one statement forgets, so that logins never wait long for it.
const FORGET_AT_ONCE: i64 = 1_000;
/// "Just now", in milliseconds.
const RECENT_MS: Millis = 15 * 60_000;
const MINUTE_MS: Millis = 60_000;
const DAY_MS: Millis = 86_400_000;
/// Days that can be asked for.
const DAYS_MAX: u32 = 3_660;

/// Which open sessions. What is not given does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionWish {
    /// Such as `ios`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Exactly this version of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// Versions of the app below this one, such as `2.4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below_version: Option<String>,
    /// The country, as the app says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Began before this moment, in UTC milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_before: Option<Millis>,
    /// Began at this moment or later, in UTC milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_after: Option<Millis>,
    /// Without activity for so many minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
}

/// What is to be revoked: one of the three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// These sessions.
    Ids(Vec<String>),
    /// All of this user, as the app or the list names them.
    User(String),
    /// All that match; an empty wish matches every open session.
    Matching(SessionWish),
}

/// What a revocation did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Revoked {
    /// Open sessions that matched before.
    pub matching: u64,
    /// Sessions that were ended.
    pub revoked: u64,
    /// Open sessions that still match; ask again for these.
    pub left: u64,
}

/// Who is in, in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SessionSummary {
    /// Open sessions.
    pub open: u64,
    /// Open sessions with activity in the last 15 minutes.
    pub active: u64,
    /// Sessions that began in the last 15 minutes.
    pub came: u64,
    /// Sessions that began today (UTC).
    pub today: u64,
    /// Open sessions that have been idle for more than half of the limit.
    pub idle: u64,
    /// The limit of idleness, in hours.
    pub idle_hours: u32,
    /// How long sessions that ended yesterday (UTC) were on average, in seconds.
    pub average_yesterday_seconds: Option<u64>,
}

/// A day, with its average.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DayOfSessions {
    /// Its sessions.
    #[serde(flatten)]
    pub day: SessionDay,
    /// How long those that ended were on average, in seconds; absent when none did.
    pub average_seconds: Option<u64>,
}

impl SessionWish {
    /// True when every open session is meant.
    pub fn is_everybody(&self) -> bool {
        *self == Self::default()
    }

    fn filter(&self, now: Millis) -> Result<SessionFilter, AppError> {
        let rank_below = match &self.below_version {
            None => None,
            Some(version) => Some(version_rank(version).ok_or_else(|| {
                let message = format!("`{version}` is not a version, such as 2.4.0");
                AppError::invalid("below_version", message)
            })?),
        };
        for (field, text) in [
            ("platform", &self.platform),
            ("app_version", &self.app_version),
            ("country", &self.country),
        ] {
            if let Some(text) = text {
                intake::ident(field, text.clone())?;
            }
        }
        Ok(SessionFilter {
            platform: self.platform.clone(),
            app_version: self.app_version.clone(),
            rank_below,
            country: self.country.clone(),
            started_before: self.started_before,
            started_from: self.started_after,
            idle_since: self.idle_minutes.map(|minutes| now - Millis::from(minutes) * MINUTE_MS),
        })
    }
}

impl App {
    /// Open sessions that match, those first that were active last.
    pub async fn list_open_sessions(
        &self,
        who: &Who,
        environment: &str,
        wish: &SessionWish,
        cursor: Option<&str>,
        limit: i64,
    ) -> Result<Vec<UserSession>, AppError> {
        who.must(Role::Viewer, environment, "look at sessions")?;
        self.get_environment(environment).await?;
        let filter = wish.filter(self.clock.now())?;
        Ok(self.store.list_open_sessions(environment, &filter, &after(cursor)?, limit).await?)
    }

    /// A user's sessions, the newest first.
    pub async fn list_sessions_of_user(
        &self,
        who: &Who,
        environment: &str,
        user: &str,
        cursor: Option<&str>,
        limit: i64,
    ) -> Result<Vec<UserSession>, AppError> {
        who.must(Role::Viewer, environment, "look at sessions")?;
        self.get_environment(environment).await?;
        let key = self.key_of_user(user)?;
        Ok(self.store.list_sessions_of_user(environment, &key, &after(cursor)?, limit).await?)
    }

    /// Who is in, in figures.
    pub async fn summarize_sessions(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<SessionSummary, AppError> {
        who.must(Role::Viewer, environment, "look at sessions")?;
        self.get_environment(environment).await?;
        let now = self.clock.now();
        let today = now.div_euclid(DAY_MS) * DAY_MS;
        let half = now - self.session_idle_ms() / 2;
        let days = self.store.list_session_days(environment, today - DAY_MS).await?;
        let of = |at: Millis| days.iter().find(|one| one.day == at);
        Ok(SessionSummary {
            open: self.store.sum_open_sessions(environment).await?,
            active: self
                .store
                .count_active_sessions(environment, (now - RECENT_MS, Millis::MAX))
                .await?,
            came: self.store.count_sessions_since(environment, now - RECENT_MS).await?,
            today: of(today).map_or(0, |day| day.started),
            idle: self.store.count_active_sessions(environment, (Millis::MIN, half)).await?,
            idle_hours: self.config.watch.session_idle_hours,
            average_yesterday_seconds: of(today - DAY_MS).and_then(average),
        })
    }

    /// The last days, the oldest first; those without a session are empty.
    pub async fn list_session_days(
        &self,
        who: &Who,
        environment: &str,
        days: u32,
    ) -> Result<Vec<DayOfSessions>, AppError> {
        who.must(Role::Viewer, environment, "look at sessions")?;
        if !(1..=DAYS_MAX).contains(&days) {
            let message = format!("{days} is not a number of days; use 1 to {DAYS_MAX}");
            return Err(AppError::invalid("days", message));
        }
        self.get_environment(environment).await?;
        let today = self.clock.now().div_euclid(DAY_MS) * DAY_MS;
        let from = today - Millis::from(days - 1) * DAY_MS;
        let known = self.store.list_session_days(environment, from).await?;
        let all = (0..Millis::from(days)).map(|place| {
            let at = from + place * DAY_MS;
            let none = SessionDay { day: at, started: 0, ended: 0, seconds: 0 };
            let day = known.iter().find(|one| one.day == at).copied().unwrap_or(none);
            DayOfSessions { average_seconds: average(&day), day }
        });
        Ok(all.collect())
    }

    /// How many open sessions a revocation would end.
    pub async fn preview_revoke(
        &self,
        who: &Who,
        environment: &str,
        what: &Revoke,
    ) -> Result<u64, AppError> {
        who.must(Role::Viewer, environment, "look at sessions")?;
        self.get_environment(environment).await?;
        self.count_to_revoke(environment, what, self.clock.now()).await
    }

    /// Ends sessions of users and puts them on the list for the apps. Refuses when more than `at_most` match.
    pub async fn revoke_sessions(
        &self,
        who: &Who,
        environment: &str,
        what: &Revoke,
        at_most: Option<u64>,
        reason: &str,
    ) -> Result<Revoked, AppError> {
        who.must(Role::Operator, environment, "revoke sessions")?;
        if who.reason_or(reason).trim().is_empty() {
            return Err(AppError::invalid("reason", "say why: it stands on the log"));
        }
        let by = self.stamp_in(who, environment, reason).await?;
        let matching = self.count_to_revoke(environment, what, by.at).await?;
        if let Some(most) = at_most.filter(|most| matching > *most) {
            let message = format!("{matching} sessions match by now, more than {most}: look again");
            return Err(AppError::Refused(message));
        }
        let mut revoked = 0;
        while revoked < REVOKED_AT_ONCE {
            let first = (revoked == 0).then_some(&by);
            let ended = self.revoke_some(environment, what, by.at, first).await?;
            revoked += ended;
            if ended == 0 {
                break;
            }
        }
        let left = matching.saturating_sub(revoked);
        let left =
            if left == 0 { 0 } else { self.count_to_revoke(environment, what, by.at).await? };
        tracing::info!(environment.key = environment, revoked, "{revoked} sessions revoked");
        Ok(Revoked { matching, revoked, left })
    }

    /// Open sessions that began by `until` and match.
    pub(super) async fn count_to_revoke(
        &self,
        environment: &str,
        what: &Revoke,
        until: Millis,
    ) -> Result<u64, AppError> {
        match self.pick(what, until)? {
            SessionPick::Matching(filter) => {
                Ok(self.store.count_open_sessions(environment, &filter).await?)
            }
            SessionPick::Ids(ids) => {
                let found = self.store.find_user_sessions(environment, &ids).await?;
                Ok(found.iter().filter(|session| session.ended_at.is_none()).count() as u64)
            }
            SessionPick::User(key) => Ok(self.store.count_open_of_user(environment, &key).await?),
        }
    }

    /// Revokes a batch. `by`: the change log is told, too.
    pub(super) async fn revoke_some(
        &self,
        environment: &str,
        what: &Revoke,
        until: Millis,
        by: Option<&Stamp>,
    ) -> Result<u64, AppError> {
        let pick = self.pick(what, until)?;
        let wanted = self.say(what);
        let counting = |rows: &[(&str, &AuthEventRow)]| self.count_session_events(rows);
        let by = by.map(|by| (by, &wanted));
        let now = self.clock.now();
        Ok(self.store.revoke_user_sessions(environment, &pick, (now, BATCH), by, &counting).await?)
    }

    fn pick(&self, what: &Revoke, until: Millis) -> Result<SessionPick, AppError> {
        Ok(match what {
            Revoke::Ids(ids) => {
                if ids.is_empty() || ids.len() > IDS_MAX {
                    let message = format!("name 1 to {IDS_MAX} sessions");
                    return Err(AppError::invalid("ids", message));
                }
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                let ids: Result<Vec<_>, _> =
                    ids.into_iter().map(|id| intake::ident("ids", id)).collect();
                SessionPick::Ids(ids?)
            }
            Revoke::User(user) => SessionPick::User(self.key_of_user(user)?),
            Revoke::Matching(wish) => {
                let mut filter = wish.filter(until)?;
                // Who comes in after the decision is not meant by it.
                let end = until.saturating_add(1);
                filter.started_before = Some(filter.started_before.map_or(end, |at| at.min(end)));
                SessionPick::Matching(filter)
            }
        })
    }

    /// What was wanted, for the log: never a user's id where ids are hashed.
    fn say(&self, what: &Revoke) -> Value {
        match what {
            Revoke::Ids(ids) => {
                json!({"sessions": ids.iter().take(20).collect::<Vec<_>>(), "count": ids.len()})
            }
            Revoke::User(user) => json!({"user_key": self.key_of_user(user).unwrap_or_default()}),
            Revoke::Matching(wish) if wish.is_everybody() => json!("every open session"),
            Revoke::Matching(wish) => json!(wish),
        }
    }

    /// The name that a user has here, of their id or of that name itself.
    fn key_of_user(&self, user: &str) -> Result<String, AppError> {
        let user = intake::ident("user", user.to_owned())?;
        let is_key = self.config.watch.user_ids == UserIds::Hashed && is_user_key(&user);
        Ok(if is_key { user } else { self.user_key(&user) })
    }

    /// Ends what has been idle for too long and forgets what is too old, for the life of the server. Every node may: of two
    /// that end one session, one does.
    pub(super) async fn keep_sessions(self: Arc<Self>) {
        loop {
            let kept = async {
                self.expire_idle_sessions().await?;
                self.forget_old_sessions().await
            };
            if let Err(error) = kept.await {
                tracing::debug!(error = %error, "idle sessions could not be ended; the next look will");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn expire_idle_sessions(&self) -> Result<(), StoreError> {
        let counting = |rows: &[(&str, &AuthEventRow)]| self.count_session_events(rows);
        for environment in self.known_environments() {
            loop {
                let now = self.clock.now();
                let since = now - self.session_idle_ms();
                let key = &environment.key;
                let ended =
                    self.store.expire_user_sessions(key, since, (now, BATCH), &counting).await?;
                if ended == 0 {
                    break;
                }
                tracing::debug!(environment.key = key, ended, "{ended} idle sessions ended");
            }
        }
        Ok(())
    }

    /// Forgets ended sessions that are older than is set.
    async fn forget_old_sessions(&self) -> Result<(), StoreError> {
        let days = Millis::from(self.config.watch.sessions_days);
        let before = self.clock.now() - days * DAY_MS;
        for environment in self.known_environments() {
            let key = &environment.key;
            while self.store.forget_user_sessions(key, before, FORGET_AT_ONCE).await? > 0 {}
        }
        Ok(())
    }
}

/// The cursor of the page that follows one that ends with this session.
pub fn cursor_of(at: Millis, id: &str) -> String {
    format!("{at}.{id}")
}

fn after(cursor: Option<&str>) -> Result<After, AppError> {
    let Some(cursor) = cursor.filter(|text| !text.is_empty()) else { return Ok(After::default()) };
    let wrong = || AppError::invalid("cursor", "use the `next` of the page before");
    let (at, id) = cursor.split_once('.').ok_or_else(wrong)?;
    Ok(After { at: at.parse().map_err(|_| wrong())?, id: id.to_owned() })
}

fn average(day: &SessionDay) -> Option<u64> {
    day.seconds.checked_div(day.ended)
}

//! Sessions of the app's users, not of the console: who is in, who was, for how long.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::Column::Text;
use crate::db::{Bulk, Param, Row, params, sql};
use crate::error::StoreError;

/// The conditions of a [`SessionFilter`], as `$1` to `$8`; what is looked for is open.
macro_rules! open_and_matching {
    () => {
        "environment = $1 AND ended_at IS NULL AND last_activity_at < $2 \
         AND (CAST($3 AS TEXT) IS NULL OR platform = $3) AND (CAST($4 AS TEXT) IS NULL OR app_version = $4) \
         AND (CAST($5 AS BIGINT) IS NULL OR version_rank < $5) AND (CAST($6 AS TEXT) IS NULL OR country = $6) \
         AND (CAST($7 AS BIGINT) IS NULL OR started_at < $7) AND (CAST($8 AS BIGINT) IS NULL OR started_at >= $8)"
    };
}

// Joined rather than `(environment, id) IN (VALUES ...)`, for which SQLite reads the whole table.
pub(crate) static BY_ID: Bulk = Bulk::new(
    "SELECT s.* FROM (VALUES",
    &[Text, Text],
    ") AS v JOIN user_sessions AS s ON s.environment = v.column1 AND s.id = v.column2",
);
pub(crate) static OPEN_OF_USERS: Bulk = Bulk::new(
    "SELECT s.* FROM (VALUES",
    &[Text, Text],
    ") AS v JOIN user_sessions AS s ON s.environment = v.column1 AND s.user_key = v.column2 WHERE s.ended_at IS NULL",
);

sql! {
    FIND = "SELECT * FROM user_sessions WHERE environment = $1 AND id = $2";
    LIST = concat!("SELECT * FROM user_sessions WHERE ", open_and_matching!(), " AND last_activity_at <= $9 \
            AND (last_activity_at < $9 OR id < $10) ORDER BY last_activity_at DESC, id DESC LIMIT $11");
    COUNT = concat!("SELECT COUNT(*) AS n FROM user_sessions WHERE ", open_and_matching!());
    PICK = concat!("SELECT * FROM user_sessions WHERE ", open_and_matching!(), " ORDER BY last_activity_at LIMIT $9");
    OF_USER = "SELECT * FROM user_sessions WHERE environment = $1 AND user_key = $2 AND started_at <= $3 \
               AND (started_at < $3 OR id < $4) ORDER BY started_at DESC, id DESC LIMIT $5";
    OPEN_OF_USER = "SELECT COUNT(*) AS n FROM user_sessions WHERE environment = $1 AND user_key = $2 AND ended_at IS NULL";
    ACTIVE = "SELECT COUNT(*) AS n FROM user_sessions WHERE environment = $1 AND ended_at IS NULL \
              AND last_activity_at >= $2 AND last_activity_at < $3";
    CAME = "SELECT COUNT(*) AS n FROM user_sessions WHERE environment = $1 AND started_at >= $2";
    OPEN = "SELECT CAST(COALESCE(SUM(started) - SUM(ended), 0) AS BIGINT) AS n FROM session_days WHERE environment = $1";
    MOST_AT_ONCE = "SELECT MAX(n) AS n FROM (SELECT COUNT(*) AS n FROM user_sessions WHERE environment = $1 \
                    AND started_at >= $2 AND ended_at IS NULL GROUP BY user_key) AS by_user";
    MOST_PLACES = "SELECT MAX(n) AS n FROM (SELECT COUNT(DISTINCT CASE WHEN country IS NULL AND device IS NULL AND platform IS NULL \
                   THEN NULL ELSE COALESCE(country, '') || '|' || COALESCE(device, '') || '|' || COALESCE(platform, '') END) AS n \
                   FROM user_sessions WHERE environment = $1 AND started_at >= $2 GROUP BY user_key) AS by_user";
    DAYS = "SELECT day, started, ended, seconds FROM session_days WHERE environment = $1 AND day >= $2 ORDER BY day";
    REVOKED = "SELECT id, user_key, ended_at, revoked_seq FROM user_sessions WHERE environment = $1 AND revoked_seq > $2 \
               ORDER BY revoked_seq LIMIT $3";
    LAST_REVOKED = "SELECT last_seq FROM session_feeds WHERE environment = $1";
    FORGET = "DELETE FROM user_sessions WHERE environment = $1 AND id IN (SELECT id FROM user_sessions \
              WHERE environment = $1 AND started_at < $2 AND ended_at IS NOT NULL LIMIT $3)";
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The user left.
    Logout,
    /// Nobody was active for too long.
    Expired,
    /// The team ended it.
    Revoked,
    /// The app began another one in its place.
    Replaced,
}

/// A session of one of the app's users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct UserSession {
    /// The app's id, or ours.
    pub id: String,
    /// The user: hashed, or as the app knows them, by setting.
    pub user_key: String,
    /// When it began, in UTC milliseconds.
    pub started_at: Millis,
    /// When the user was last active; exact to a minute.
    pub last_activity_at: Millis,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// From its start to its end, or to the last activity of one that expired, in seconds.
    pub session_duration_seconds: Option<i64>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Such as `ios`.
    pub platform: Option<String>,
    /// The app's version.
    pub app_version: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// The device, in the app's words.
    pub device: Option<String>,
}

/// Which open sessions; `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this platform.
    pub platform: Option<String>,
    /// Of exactly this version.
    pub app_version: Option<String>,
    /// Of a version below this one, as [`version_rank`] puts it.
    pub rank_below: Option<i64>,
    /// From this country.
    pub country: Option<String>,
    /// That began before this moment.
    pub started_before: Option<Millis>,
    /// That did not begin before this moment.
    pub started_from: Option<Millis>,
    /// Without activity since this moment.
    pub idle_since: Option<Millis>,
}

/// Sessions of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SessionDay {
    /// The day's midnight, in UTC milliseconds.
    pub day: Millis,
    /// Sessions that began.
    pub started: u64,
    /// Sessions that ended.
    pub ended: u64,
    /// How long those that ended were, all together, in seconds.
    pub seconds: u64,
}

/// A session that was revoked, for the apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RevokedSession {
    /// The session.
    pub id: String,
    /// The user, as they are kept.
    pub user_key: String,
    /// When, in UTC milliseconds.
    pub revoked_at: Millis,
    /// Its place in the list.
    #[serde(skip)]
    pub seq: u64,
}

/// A place in a list that is sorted by time and id.
#[derive(Clone, Debug)]
pub struct After {
    /// The time of the row before.
    pub at: Millis,
    /// Its id.
    pub id: String,
}

impl Default for After {
    /// The beginning, newest first.
    fn default() -> Self {
        Self { at: Millis::MAX, id: String::new() }
    }
}

/// Where a version stands among others: its first three numbers. `None` for what has none, or larger ones than 999,999.
pub fn version_rank(version: &str) -> Option<i64> {
    let version = version.trim().trim_start_matches(['v', 'V']);
    let mut rank = 0;
    let mut parts = version.split('.');
    for place in 0..3 {
        let part = parts.next().unwrap_or("0");
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let digits = part.get(..digits).unwrap_or_default();
        if digits.len() > 6 || (place == 0 && digits.is_empty()) {
            return None;
        }
        rank = rank * 1_000_000 + digits.parse().unwrap_or(0);
    }
    Some(rank)
}

impl SessionFilter {
    pub(crate) fn params(&self, environment: &str) -> Vec<Param> {
        params![
            environment,
            self.idle_since.unwrap_or(Millis::MAX),
            &self.platform,
            &self.app_version,
            self.rank_below,
            &self.country,
            self.started_before,
            self.started_from,
        ]
    }
}

impl Store {
    /// One session.
    pub async fn find_user_session(
        &self,
        environment: &str,
        id: &str,
    ) -> Result<Option<UserSession>, StoreError> {
        self.db.one(FIND, params![environment, id]).await?.as_ref().map(read).transpose()
    }

    /// Sessions by id, in no order; those that are not known are absent.
    pub async fn find_user_sessions(
        &self,
        environment: &str,
        ids: &[String],
    ) -> Result<Vec<UserSession>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let rows = BY_ID.write(&mut tx, ids.iter().map(|id| params![environment, id])).await?;
        rows.iter().map(read).collect()
    }

    /// Open sessions that match, after a place, those first that were active last.
    pub async fn list_open_sessions(
        &self,
        environment: &str,
        filter: &SessionFilter,
        after: &After,
        limit: i64,
    ) -> Result<Vec<UserSession>, StoreError> {
        let mut params = filter.params(environment);
        params.extend(params![after.at, &after.id, limit]);
        self.db.all(LIST, params).await?.iter().map(read).collect()
    }

    /// How many open sessions match.
    pub async fn count_open_sessions(
        &self,
        environment: &str,
        filter: &SessionFilter,
    ) -> Result<u64, StoreError> {
        let row = self.db.one(COUNT, filter.params(environment)).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// How many sessions of a user are open.
    pub async fn count_open_of_user(
        &self,
        environment: &str,
        user_key: &str,
    ) -> Result<u64, StoreError> {
        let row = self.db.one(OPEN_OF_USER, params![environment, user_key]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// A user's sessions after a place, the newest first.
    pub async fn list_sessions_of_user(
        &self,
        environment: &str,
        user_key: &str,
        after: &After,
        limit: i64,
    ) -> Result<Vec<UserSession>, StoreError> {
        let params = params![environment, user_key, after.at, &after.id, limit];
        self.db.all(OF_USER, params).await?.iter().map(read).collect()
    }

    /// The most sessions that one user has open of those that began since a moment.
    pub async fn most_sessions_at_once(
        &self,
        environment: &str,
        since: Millis,
    ) -> Result<u64, StoreError> {
        let row = self.db.one(MOST_AT_ONCE, params![environment, since]).await?;
        let most = row.map(|row| row.opt_int("n")).transpose()?.flatten().unwrap_or(0);
        Ok(most.max(0).cast_unsigned())
    }

    /// The most places and devices from which one user began sessions since a moment; none when no session began.
    pub async fn most_places_of_a_user(
        &self,
        environment: &str,
        since: Millis,
    ) -> Result<Option<u64>, StoreError> {
        let row = self.db.one(MOST_PLACES, params![environment, since]).await?;
        let most = row.map(|row| row.opt_int("n")).transpose()?.flatten();
        Ok(most.map(|most| most.max(0).cast_unsigned()))
    }

    /// How many sessions are open: what began less what ended, by day, so that nobody is counted.
    pub async fn sum_open_sessions(&self, environment: &str) -> Result<u64, StoreError> {
        let row = self.db.one(OPEN, params![environment]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Open sessions whose last activity lies from a moment until before another.
    pub async fn count_active_sessions(
        &self,
        environment: &str,
        (from, until): (Millis, Millis),
    ) -> Result<u64, StoreError> {
        let row = self.db.one(ACTIVE, params![environment, from, until]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Sessions that began since a moment.
    pub async fn count_sessions_since(
        &self,
        environment: &str,
        since: Millis,
    ) -> Result<u64, StoreError> {
        let row = self.db.one(CAME, params![environment, since]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Days from one on, the oldest first; days without a session are absent.
    pub async fn list_session_days(
        &self,
        environment: &str,
        from: Millis,
    ) -> Result<Vec<SessionDay>, StoreError> {
        let rows = self.db.all(DAYS, params![environment, from]).await?;
        rows.iter()
            .map(|row| {
                Ok(SessionDay {
                    day: row.int("day")?,
                    started: row.unsigned("started")?,
                    ended: row.unsigned("ended")?,
                    seconds: row.unsigned("seconds")?,
                })
            })
            .collect()
    }

    /// Revoked sessions after a place in their list, the oldest first. None is ever added before one that was read.
    pub async fn list_revoked_sessions(
        &self,
        environment: &str,
        after: u64,
        limit: i64,
    ) -> Result<Vec<RevokedSession>, StoreError> {
        let rows = self.db.all(REVOKED, params![environment, after, limit]).await?;
        rows.iter()
            .map(|row| {
                Ok(RevokedSession {
                    id: row.text("id")?,
                    user_key: row.text("user_key")?,
                    revoked_at: row.int("ended_at")?,
                    seq: row.unsigned("revoked_seq")?,
                })
            })
            .collect()
    }

    /// The newest place in the list of revoked sessions.
    pub async fn last_revoked_session(&self, environment: &str) -> Result<u64, StoreError> {
        let row = self.db.one(LAST_REVOKED, params![environment]).await?;
        row.map_or(Ok(0), |row| row.unsigned("last_seq"))
    }

    /// Forgets at most `limit` ended sessions that began before a moment. Returns how many.
    pub async fn forget_user_sessions(
        &self,
        environment: &str,
        before: Millis,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![environment, before, limit]).await
    }
}

/// The statement that picks open sessions, for a write.
pub(crate) const fn pick() -> &'static str {
    PICK
}

pub(crate) fn read(row: &Row) -> Result<UserSession, StoreError> {
    let end_reason = match row.opt_text("end_reason")? {
        Some(_) => Some(row.word("end_reason")?),
        None => None,
    };
    Ok(UserSession {
        id: row.text("id")?,
        user_key: row.text("user_key")?,
        started_at: row.int("started_at")?,
        last_activity_at: row.int("last_activity_at")?,
        ended_at: row.opt_int("ended_at")?,
        session_duration_seconds: row.opt_int("session_duration_seconds")?,
        end_reason,
        platform: row.opt_text("platform")?,
        app_version: row.opt_text("app_version")?,
        country: row.opt_text("country")?,
        device: row.opt_text("device")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_their_numbers() {
        let rank = |text| version_rank(text).unwrap();

        assert!(rank("1.9.0") < rank("1.10.0") && rank("2") > rank("1.999.999"));
        assert_eq!((rank("v1.2"), rank("1.2.0-beta.3")), (rank("1.2.0"), rank("1.2.0")));
        assert_eq!(
            (version_rank("nightly"), version_rank(""), version_rank("1234567.0")),
            (None, None, None)
        );
    }
}

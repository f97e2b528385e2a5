//! How sessions of the app's users begin, go on and end: many at once, each with its row in `user_auth_log`, its counts
//! and its day in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use switchback_core::model::Millis;

use crate::Store;
use crate::auth_counts::{self, Count};
use crate::auth_events::{self, AuthEventRow};
use crate::changes::{Entry, Stamp};
use crate::db::Column::{Int, Text};
use crate::db::{Bulk, Row, Tx, params, sql, word};
use crate::error::StoreError;
use crate::user_session_rounds::{Round, rounds};
use crate::user_sessions::{
    BY_ID, EndReason, OPEN_OF_USERS, SessionFilter, UserSession, pick, read, version_rank,
};

pub(crate) static START: Bulk = Bulk::new(
    "INSERT INTO user_sessions (environment, id, user_key, started_at, last_activity_at, platform, app_version, \
     version_rank, country, device) VALUES",
    &[Text, Text, Text, Int, Int, Text, Text, Int, Text, Text],
    "ON CONFLICT (environment, id) DO NOTHING RETURNING environment, id",
);
/// Of two that end a session at once, one is told that it did. Nobody ends one whose user came back meanwhile.
pub(crate) static END: Bulk = Bulk::new(
    "UPDATE user_sessions SET ended_at = CAST(v.column3 AS BIGINT), \
     session_duration_seconds = CAST(v.column4 AS BIGINT), end_reason = v.column5, revoked_seq = CAST(v.column6 AS BIGINT) \
     FROM (VALUES",
    &[Text, Text, Int, Int, Text, Int, Int],
    ") AS v WHERE environment = v.column1 AND id = v.column2 AND ended_at IS NULL \
     AND last_activity_at <= CAST(v.column7 AS BIGINT) RETURNING environment, id",
);
/// At most one write a minute for each session.
pub(crate) static TOUCH: Bulk = Bulk::new(
    "UPDATE user_sessions SET last_activity_at = CAST(v.column3 AS BIGINT) FROM (VALUES",
    &[Text, Text, Int],
    ") AS v WHERE environment = v.column1 AND id = v.column2 AND ended_at IS NULL \
     AND last_activity_at < CAST(v.column3 AS BIGINT) - 60000",
);
pub(crate) static ADD_DAY: Bulk = Bulk::new(
    "INSERT INTO session_days (environment, day, started, ended, seconds) VALUES",
    &[Text, Int, Int, Int, Int],
    "ON CONFLICT (environment, day) DO UPDATE SET started = session_days.started + excluded.started, \
     ended = session_days.ended + excluded.ended, seconds = session_days.seconds + excluded.seconds",
);

sql! {
    TAKE_SEQ = "INSERT INTO session_feeds (environment, last_seq) VALUES ($1, $2) ON CONFLICT (environment) \
                DO UPDATE SET last_seq = session_feeds.last_seq + excluded.last_seq RETURNING last_seq";
}

const DAY_MS: Millis = 86_400_000;
/// The name under which these events stand in `user_auth_log`.
const SOURCE: &str = "sessions";

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A user's, all that are open.
    User(String),
    /// One.
    Session(String),
}

/// One write of an app.
#[derive(Clone, Debug)]
pub enum SessionWrite {
    /// A session begins, unless it is there.
    Start {
        /// The environment.
        environment: String,
        /// The session.
        session: UserSession,
        /// The session in whose place it is.
        replaces: Option<String>,
    },
    /// Sessions end.
    End {
        /// The environment.
        environment: String,
        /// Which.
        whose: Whose,
        /// When, in UTC milliseconds.
        at: Millis,
    },
    /// Users are active.
    Touch {
        /// The environment.
        environment: String,
        /// Their sessions.
        ids: Vec<String>,
        /// When, in UTC milliseconds.
        at: Millis,
    },
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWritten {
    /// The session as it is, and whether this write began it.
    Started(Box<UserSession>, bool),
    /// So many ended.
    Ended(u64),
    /// It was noted.
    Touched,
}

/// Which open sessions are revoked.
#[derive(Clone, Debug)]
pub enum SessionPick {
    /// These.
    Ids(Vec<String>),
    /// All of a user.
    User(String),
    /// Those that match.
    Matching(SessionFilter),
}

/// Says what events add to the counts, each with its environment.
pub type Counting<'a> = &'a (dyn Fn(&[(&str, &AuthEventRow)]) -> Vec<Count> + Send + Sync);

type Key = (String, String);

/// What a transaction has to write beside the sessions themselves.
#[derive(Default)]
struct Ledger {
    events: BTreeMap<String, Vec<AuthEventRow>>,
    days: BTreeMap<(String, Millis), (u64, u64, u64)>,
}

impl Store {
    /// Does an app's writes as if in their order, all or none. `now` is when they are written, in UTC milliseconds.
    pub async fn write_user_sessions(
        &self,
        writes: &[SessionWrite],
        now: Millis,
        counting: Counting<'_>,
    ) -> Result<Vec<SessionWritten>, StoreError> {
        let mut tx = self.db.begin().await?;
        let mut ledger = Ledger::default();
        let mut done = Vec::with_capacity(writes.len());
        for Round { starts, touches, ends } in rounds(writes) {
            let told = start(&mut tx, &mut ledger, &starts.1, now).await?;
            done.extend(starts.0.into_iter().zip(told));
            let told = touch(&mut tx, &touches.1).await?;
            done.extend(touches.0.into_iter().zip(told));
            let told = leave(&mut tx, &mut ledger, &ends.1, now).await?;
            done.extend(ends.0.into_iter().zip(told));
        }
        ledger.write(&mut tx, counting).await?;
        tx.commit().await?;
        done.sort_unstable_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, written)| written).collect())
    }

    /// Ends at most `limit` sessions without activity since a moment. Returns how many.
    pub async fn expire_user_sessions(
        &self,
        environment: &str,
        idle_since: Millis,
        (now, limit): (Millis, i64),
        counting: Counting<'_>,
    ) -> Result<u64, StoreError> {
        let filter = SessionFilter { idle_since: Some(idle_since), ..SessionFilter::default() };
        let mut params = filter.params(environment);
        params.extend(params![limit]);
        // Looked at outside the transaction: nearly always there is nothing to do.
        let rows = self.db.all(pick(), params).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let mut ledger = Ledger::default();
        let found = all_at(keyed(&rows)?, now);
        let ended = end(&mut tx, &mut ledger, found, (EndReason::Expired, now)).await?;
        ledger.write(&mut tx, counting).await?;
        tx.commit().await?;
        Ok(ended.len() as u64)
    }

    /// Revokes at most `limit` open sessions and puts them on the list for the apps. With a stamp the change log is told
    /// what was wanted, too. Returns how many.
    pub async fn revoke_user_sessions(
        &self,
        environment: &str,
        which: &SessionPick,
        (now, limit): (Millis, i64),
        by: Option<(&Stamp, &serde_json::Value)>,
        counting: Counting<'_>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        // The list's lock first: who revokes at the same moment on another node picks from what this one leaves.
        tx.one(TAKE_SEQ, params![environment, 0_i64]).await?;
        let rows = match which {
            SessionPick::Ids(ids) => {
                let ids = ids.iter().take(limit.max(0) as usize).map(|id| params![environment, id]);
                BY_ID.write(&mut tx, ids.collect::<Vec<_>>().into_iter()).await?
            }
            SessionPick::User(user) => {
                OPEN_OF_USERS.write(&mut tx, std::iter::once(params![environment, user])).await?
            }
            SessionPick::Matching(filter) => {
                let mut params = filter.params(environment);
                params.extend(params![limit]);
                tx.all(pick(), params).await?
            }
        };
        let mut ledger = Ledger::default();
        let mut found = keyed(&rows)?;
        found.retain(|(_, session)| session.ended_at.is_none());
        found.truncate(limit.max(0) as usize);
        let found = all_at(found, now);
        let ended = end(&mut tx, &mut ledger, found, (EndReason::Revoked, now)).await?;
        if let Some((by, wanted)) = by.filter(|_| !ended.is_empty()) {
            let entry = Entry {
                environment: Some(environment),
                revision: None,
                kind: "session",
                subject: environment,
                action: "revoke",
                before: None,
                after: Some(json!({"revoked": wanted}).to_string()),
            };
            tx.log(by, 0, entry).await?;
        }
        ledger.write(&mut tx, counting).await?;
        tx.commit().await?;
        Ok(ended.len() as u64)
    }
}

async fn start(
    tx: &mut Tx,
    ledger: &mut Ledger,
    run: &[&SessionWrite],
    now: Millis,
) -> Result<Vec<SessionWritten>, StoreError> {
    let mut wanted: Vec<(&String, &UserSession, &Option<String>)> = run
        .iter()
        .filter_map(|write| match write {
            SessionWrite::Start { environment, session, replaces } => {
                Some((environment, session, replaces))
            }
            _ => None,
        })
        .collect();
    let asked = wanted.clone();
    // By id, so that two nodes with the same sessions never wait for each other.
    wanted.sort_unstable_by_key(|(environment, session, _)| (*environment, &session.id));
    let written = START.write(tx, wanted.iter().map(|(place, one, _)| begin(place, one))).await?;
    let mut new: BTreeSet<Key> = keys(&written)?;
    let mut replaced = Vec::new();
    let mut old = Vec::new();
    let mut places = Vec::with_capacity(asked.len());
    for (environment, session, replaces) in &asked {
        let key = ((*environment).clone(), session.id.clone());
        let is_new = new.remove(&key);
        if is_new {
            ledger.started(environment, session, now);
            let others = replaces.iter().filter(|id| **id != session.id);
            replaced
                .extend(others.map(|id| ((*environment).clone(), id.clone(), &session.user_key)));
        } else {
            old.push(key.clone());
        }
        places.push((key, is_new));
    }
    replace(tx, ledger, &replaced, now).await?;
    let known: BTreeMap<Key, UserSession> = if old.is_empty() {
        BTreeMap::new()
    } else {
        let rows = BY_ID.write(tx, old.iter().map(|(place, id)| params![place, id])).await?;
        keyed(&rows)?.into_iter().map(|(place, one)| ((place, one.id.clone()), one)).collect()
    };
    let answers = places.into_iter().zip(&asked).map(|((key, is_new), (_, session, _))| {
        let session = known.get(&key).unwrap_or(session);
        SessionWritten::Started(Box::new(session.clone()), is_new)
    });
    Ok(answers.collect())
}

/// Ends sessions in whose place others began; only those of the same user.
async fn replace(
    tx: &mut Tx,
    ledger: &mut Ledger,
    replaced: &[(String, String, &String)],
    now: Millis,
) -> Result<(), StoreError> {
    if replaced.is_empty() {
        return Ok(());
    }
    let ids = replaced.iter().map(|(place, id, _)| params![place, id]);
    let rows = BY_ID.write(tx, ids).await?;
    let mut found = keyed(&rows)?;
    found.retain(|(place, one)| {
        let is_meant = |(environment, id, user): &(String, String, &String)| {
            environment == place && *id == one.id && **user == one.user_key
        };
        one.ended_at.is_none() && replaced.iter().any(is_meant)
    });
    end(tx, ledger, all_at(found, now), (EndReason::Replaced, now)).await.map(drop)
}

async fn leave(
    tx: &mut Tx,
    ledger: &mut Ledger,
    run: &[&SessionWrite],
    now: Millis,
) -> Result<Vec<SessionWritten>, StoreError> {
    let asked: Vec<(&String, &Whose, Millis)> = run
        .iter()
        .filter_map(|write| match write {
            SessionWrite::End { environment, whose, at } => Some((environment, whose, *at)),
            _ => None,
        })
        .collect();
    let (mut users, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for (environment, whose, _) in &asked {
        match whose {
            Whose::User(user) => users.insert((*environment, user)),
            Whose::Session(id) => ids.insert((*environment, id)),
        };
    }
    let mut rows =
        OPEN_OF_USERS.write(tx, users.iter().map(|(p, user)| params![*p, *user])).await?;
    rows.extend(BY_ID.write(tx, ids.iter().map(|(p, id)| params![*p, *id])).await?);
    let mut open: BTreeMap<Key, UserSession> = keyed(&rows)?
        .into_iter()
        .filter(|(_, session)| session.ended_at.is_none())
        .map(|(place, session)| ((place, session.id.clone()), session))
        .collect();
    // Each session belongs to the first who asked for it.
    let mut found = Vec::with_capacity(open.len());
    let mut owners: BTreeMap<Key, usize> = BTreeMap::new();
    let mut of_user: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    for (key, session) in &open {
        let user = (key.0.clone(), session.user_key.clone());
        of_user.entry(user).or_default().push(key.clone());
    }
    for (place, (environment, whose, at)) in asked.iter().enumerate() {
        let mine = match whose {
            Whose::User(user) => {
                of_user.remove(&((*environment).clone(), user.clone())).unwrap_or_default()
            }
            Whose::Session(id) => vec![((*environment).clone(), id.clone())],
        };
        for key in mine {
            if let Some(session) = open.remove(&key) {
                found.push((key.0.clone(), session, *at));
                owners.insert(key, place);
            }
        }
    }
    let mut counts = vec![0; asked.len()];
    for key in end(tx, ledger, found, (EndReason::Logout, now)).await? {
        if let Some(count) = owners.get(&key).and_then(|place| counts.get_mut(*place)) {
            *count += 1;
        }
    }
    Ok(counts.into_iter().map(SessionWritten::Ended).collect())
}

async fn touch(tx: &mut Tx, run: &[&SessionWrite]) -> Result<Vec<SessionWritten>, StoreError> {
    let mut latest: BTreeMap<(&String, &String), Millis> = BTreeMap::new();
    for write in run {
        let SessionWrite::Touch { environment, ids, at } = write else { continue };
        for id in ids {
            let seen = latest.entry((environment, id)).or_insert(*at);
            *seen = (*seen).max(*at);
        }
    }
    TOUCH.write(tx, latest.iter().map(|((place, id), at)| params![*place, *id, *at])).await?;
    Ok(run.iter().map(|_| SessionWritten::Touched).collect())
}

/// A session of an environment that ends, and when.
type Ending = (String, UserSession, Millis);

fn all_at(found: Vec<(String, UserSession)>, at: Millis) -> Vec<Ending> {
    found.into_iter().map(|(environment, session)| (environment, session, at)).collect()
}

/// Ends open sessions for a reason, each at its moment. Returns those that this call ended.
async fn end(
    tx: &mut Tx,
    ledger: &mut Ledger,
    mut found: Vec<Ending>,
    (reason, now): (EndReason, Millis),
) -> Result<BTreeSet<Key>, StoreError> {
    if found.is_empty() {
        return Ok(BTreeSet::new());
    }
    found.sort_unstable_by(|a, b| (&a.0, &a.1.id).cmp(&(&b.0, &b.1.id)));
    let mut seqs = match reason {
        EndReason::Revoked => Some(take_seqs(tx, &found).await?),
        _ => None,
    };
    let text = word(&reason)?;
    let mut values = Vec::with_capacity(found.len());
    for (environment, session, at) in &mut found {
        let until = if reason == EndReason::Expired { session.last_activity_at } else { *at };
        let ended_at = (*at).max(session.started_at);
        session.ended_at = Some(ended_at);
        session.session_duration_seconds = Some((until - session.started_at).max(0) / 1000);
        session.end_reason = Some(reason);
        let guard =
            if reason == EndReason::Expired { session.last_activity_at } else { Millis::MAX };
        let seq: Option<i64> = seqs.as_mut().and_then(|all| {
            let next = all.get_mut(environment.as_str())?;
            *next += 1;
            Some(*next)
        });
        values.push(params![
            &*environment,
            &session.id,
            ended_at,
            session.session_duration_seconds,
            &text,
            seq,
            guard,
        ]);
    }
    let ended = keys(&END.write(tx, values.into_iter()).await?)?;
    for (environment, session, _) in found {
        let key = (environment, session.id.clone());
        if ended.contains(&key) {
            ledger.ended(&key.0, &session, now);
        }
    }
    Ok(ended)
}

/// Takes as many places in each environment's list as there are sessions of it. Returns the place before the first. The list is
/// locked until the transaction ends, so that readers see places in their order.
async fn take_seqs(tx: &mut Tx, found: &[Ending]) -> Result<BTreeMap<String, i64>, StoreError> {
    let mut sizes: BTreeMap<&str, i64> = BTreeMap::new();
    for (environment, ..) in found {
        *sizes.entry(environment).or_insert(0) += 1;
    }
    let mut before = BTreeMap::new();
    for (environment, size) in sizes {
        let row = tx.one(TAKE_SEQ, params![environment, size]).await?;
        let last = row.map_or(Ok(size), |row| row.int("last_seq"))?;
        before.insert(environment.to_owned(), last - size);
    }
    Ok(before)
}

impl Ledger {
    fn started(&mut self, environment: &str, session: &UserSession, now: Millis) {
        let day = midnight(session.started_at);
        self.days.entry((environment.to_owned(), day)).or_default().0 += 1;
        self.tell(environment, session, ("session_start", session.started_at, now));
    }

    fn ended(&mut self, environment: &str, session: &UserSession, now: Millis) {
        let at = session.ended_at.unwrap_or(now);
        let seconds = session.session_duration_seconds.unwrap_or(0).max(0).cast_unsigned();
        let day = self.days.entry((environment.to_owned(), midnight(at))).or_default();
        (day.1, day.2) = (day.1 + 1, day.2 + seconds);
        let kind = match session.end_reason {
            Some(EndReason::Revoked) => "session_revoked",
            _ => "session_end",
        };
        self.tell(environment, session, (kind, at, now));
    }

    fn tell(
        &mut self,
        environment: &str,
        session: &UserSession,
        (kind, at, now): (&str, Millis, Millis),
    ) {
        self.events.entry(environment.to_owned()).or_default().push(AuthEventRow {
            id: format!("{kind}:{}", session.id),
            kind: kind.to_owned(),
            at,
            received_at: now,
            user_key: Some(session.user_key.clone()),
            session_id: Some(session.id.clone()),
            platform: session.platform.clone(),
            app_version: session.app_version.clone(),
            country: session.country.clone(),
            latency_ms: None,
            error: None,
            variants: None,
            source: SOURCE.to_owned(),
        });
    }

    /// Writes days and counts last, in one order everywhere: their rows are everybody's.
    async fn write(self, tx: &mut Tx, counting: Counting<'_>) -> Result<(), StoreError> {
        let mut new = Vec::new();
        for (environment, rows) in &self.events {
            for place in auth_events::insert(tx, environment, rows).await? {
                new.extend(rows.get(place).map(|row| (environment.as_str(), row)));
            }
        }
        let days = self.days.into_iter().map(|((environment, day), (started, ended, seconds))| {
            params![environment, day, started, ended, seconds]
        });
        ADD_DAY.write(tx, days.collect::<Vec<_>>().into_iter()).await?;
        auth_counts::add(tx, counting(&new)).await
    }
}

fn midnight(at: Millis) -> Millis {
    at.div_euclid(DAY_MS) * DAY_MS
}

fn begin(environment: &str, session: &UserSession) -> Vec<crate::db::Param> {
    params![
        environment,
        &session.id,
        &session.user_key,
        session.started_at,
        session.last_activity_at,
        &session.platform,
        &session.app_version,
        session.app_version.as_deref().and_then(version_rank),
        &session.country,
        &session.device,
    ]
}

fn keys(rows: &[Row]) -> Result<BTreeSet<Key>, StoreError> {
    rows.iter().map(|row| Ok((row.text("environment")?, row.text("id")?))).collect()
}

fn keyed(rows: &[Row]) -> Result<Vec<(String, UserSession)>, StoreError> {
    rows.iter().map(|row| Ok((row.text("environment")?, read(row)?))).collect()
}

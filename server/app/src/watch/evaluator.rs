//! The one node that looks: each five seconds it shows the guards what arrived, does what follows, and moves the rollouts.
//!
//! What guards have seen is in the database now and then, and what they saw since is in the events: a node that takes over
//! reads both and stands where the other stood. Every save names the version that it was made from, so that of two nodes
//! one is heard.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchback_core::model::Millis;
use switchback_playbook::alerts::{Approve, Given};
use switchback_store::{
    ActRow, AuthEventRow, CountFilter, GuardBeside, GuardRow, Role, StoreError,
};
use switchback_watch::action::{Act, Next, Surroundings, next_action};
use switchback_watch::baseline::{Count, usual};
use switchback_watch::guard::{Arrivals, Guard, GuardState, Reading, Standing, Verdict, observe};
use switchback_watch::once::Once;

use super::figures::{SILENT_MS, Window, tells_failures};
use super::guards::{GuardSettings, TICK_MS, settings_of};
use super::rules::LiveRules;
use super::ticks::{Flags, Metric, Ticked, count, user_of};
use super::words::{act_word, kind_of};
use crate::App;
use crate::automation::Wish;
use crate::error::AppError;
use crate::probes::is_probe;
use crate::who::Who;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const LEASE: &str = "watch";
const LEASE_MS: Millis = 10_000;
/// How long after its end a tick is read: what arrived in it is committed by then.
const LAG_MS: Millis = 1_500;
/// How far back a node that takes over reads, in milliseconds.
const CATCH_UP_MS: Millis = 600_000;
/// How often the states of guards are saved when nothing changes, in milliseconds.
const SAVE_EVERY_MS: Millis = 30_000;
/// How often the usual failure rate is looked up again, in milliseconds.
const USUAL_EVERY_MS: Millis = 60_000;
/// Users that are remembered for one guard, to tell new ones.
const USERS_MAX: usize = 500_000;
/// How long one person is waited for who is asked whether a playbook may start, in milliseconds.
const ASK_MS: u64 = 3_600_000;
const EVENTS_MAX: i64 = 200_000;
/// How far back users who failed are remembered by a node that takes over, in milliseconds.
const REMEMBERED_MS: Millis = 86_400_000;
const WEEK_MS: Millis = 7 * 86_400_000;

/// What this node has in memory while it is the one that looks.
#[derive(Default)]
struct Live {
    guards: HashMap<String, Watched>,
    usual: HashMap<(String, Metric), (Millis, Option<f64>)>,
    done_until: Millis,
}

/// A guard in memory.
struct Watched {
    row: GuardRow,
    settings: GuardSettings,
    guard: Guard,
    state: GuardState,
    verdict: Option<Verdict>,
    saved_at: Millis,
    /// Users that were seen; none when they were not all seen by this node.
    users: Option<HashSet<u64>>,
    /// Users who failed since the start, by metric: each is one fact.
    failed: HashMap<Metric, Once>,
}

impl App {
    /// Looks, for the life of the server, while this node holds the lease.
    pub(crate) async fn run_watch(self: Arc<Self>) {
        let mut live = Live::default();
        let mut rules = LiveRules::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.clock.now();
            let end = (now - LAG_MS) / TICK_MS * TICK_MS;
            if end <= live.done_until {
                continue;
            }
            let node = self.hub.node.as_str();
            match self.store.hold_lease(LEASE, node, (now, now + LEASE_MS)).await {
                Ok(true) => {}
                Ok(false) => {
                    live = Live { done_until: end, ..Live::default() };
                    rules = LiveRules::default();
                    continue;
                }
                Err(error) => {
                    tracing::debug!(error = %error, "the watch cannot look");
                    continue;
                }
            }
            match self.look_at_guards(&mut live, end).await {
                Ok(()) => live.done_until = end,
                Err(error) => {
                    tracing::warn!(error = %error, "the watch could not look; it will again");
                    live.guards.clear(); // what is in memory may not be what is kept
                }
            }
            self.look_at_rules(&mut rules, end).await;
        }
    }

    async fn look_at_guards(
        self: &Arc<Self>,
        live: &mut Live,
        end: Millis,
    ) -> Result<(), AppError> {
        let rows = self.store.list_armed_guards().await?;
        let known: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        live.guards.retain(|id, _| known.contains(id.as_str()));
        for row in &rows {
            let is_known =
                live.guards.get(&row.id).is_some_and(|known| known.row.version == row.version);
            if !is_known && let Ok(settings) = settings_of(row) {
                live.guards.insert(row.id.clone(), Watched::new(row.clone(), settings));
            }
        }
        let environments: HashSet<String> = rows.into_iter().map(|row| row.environment).collect();
        for environment in &environments {
            self.show_ticks(live, environment, end).await?;
        }
        let mut guarded: BTreeMap<String, (Verdict, Next)> = BTreeMap::new();
        let ids: Vec<String> = live.guards.keys().cloned().collect();
        for id in ids {
            let Some(watched) = live.guards.get_mut(&id) else { continue };
            let Some(verdict) = watched.verdict.clone() else { continue };
            match self.follow(watched, &verdict, end).await {
                Ok(next) => {
                    guarded.insert(id, (verdict, next));
                }
                // Somebody else changed it: it is read again at the next look.
                Err(AppError::Conflict { .. }) => {
                    live.guards.remove(&id);
                }
                Err(error) => return Err(error),
            }
        }
        for row in self.store.list_open_rollouts().await? {
            if let Err(error) = self.move_rollout(&row, &guarded, end).await {
                match error {
                    AppError::Conflict { .. } => {}
                    error => {
                        tracing::warn!(rollout.id = row.id, error = %error, "a rollout does not move");
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows the guards of an environment the ticks that they have not seen.
    async fn show_ticks(
        &self,
        live: &mut Live,
        environment: &str,
        end: Millis,
    ) -> Result<(), AppError> {
        let mine = |watched: &&Watched| watched.row.environment == environment;
        let since = live.guards.values().filter(mine).map(|one| one.row.seen_until).min();
        let from = since.unwrap_or(end).max(end - CATCH_UP_MS) / TICK_MS * TICK_MS;
        let newest = self.newest_event(environment).await?;
        let mut at = from;
        while at < end {
            let (tick_from, tick_end) = (at, at + TICK_MS);
            at = tick_end;
            let events = self.events_between(environment, (tick_from, tick_end)).await?;
            let ticked = Ticked::of(&events);
            let flags = ticked.by_flag();
            let is_heard = newest >= tick_end - SILENT_MS
                || events.iter().any(|event| guards_hear(&event.source));
            let ids: Vec<String> = live
                .guards
                .values()
                .filter(|one| one.row.environment == environment && one.row.seen_until < tick_end)
                .map(|one| one.row.id.clone())
                .collect();
            for id in ids {
                let metrics = live
                    .guards
                    .get(&id)
                    .map(|one| one.settings.metrics.clone())
                    .unwrap_or_default();
                let mut readings = Vec::with_capacity(metrics.len());
                for metric in metrics {
                    let usual = self.usual_of(live, environment, metric, tick_end).await?;
                    let Some(watched) = live.guards.get_mut(&id) else { continue };
                    if !watched.failed.contains_key(&metric) {
                        let known = self.failed_before(&watched.row, metric, tick_from).await?;
                        watched.failed.insert(metric, known);
                    }
                    let GuardSettings { flag, treated, .. } = &watched.settings;
                    let failed = watched.failed.entry(metric).or_default();
                    let tick = is_heard.then(|| flags.tick(flag, treated, metric, failed));
                    readings.push(Reading { tick, usual });
                }
                let rule = live.guards.get(&id).and_then(|one| one.settings.rule.clone());
                let flag = live.guards.get(&id).map(|one| one.settings.flag.clone());
                let share = match &flag {
                    Some(flag) => self.current_share(environment, flag, rule.as_deref()).await?,
                    None => None,
                };
                let Some(watched) = live.guards.get_mut(&id) else { continue };
                let arrivals =
                    watched.arrivals(&flags, share.map_or(0.0, |share| share.as_f64() / 100.0));
                let Watched { state, guard, .. } = watched;
                watched.verdict = Some(observe(state, guard, &readings, arrivals, tick_end));
                watched.row.seen_until = tick_end;
            }
        }
        Ok(())
    }

    /// When the last event of an environment arrived from a sender that guards hear.
    async fn newest_event(&self, environment: &str) -> Result<Millis, StoreError> {
        let sources = self.store.list_auth_sources(environment).await?;
        let heard = sources.iter().filter(|source| guards_hear(&source.source));
        Ok(heard.map(|source| source.last_at).max().unwrap_or(0))
    }

    /// What arrived from a moment until before another.
    pub(super) async fn events_between(
        &self,
        environment: &str,
        span: (Millis, Millis),
    ) -> Result<Vec<AuthEventRow>, StoreError> {
        self.store.list_auth_events_arrived(environment, span, EVENTS_MAX).await
    }

    /// Who failed from a guard's start until a moment, for a node that takes over.
    async fn failed_before(
        &self,
        row: &GuardRow,
        metric: Metric,
        until: Millis,
    ) -> Result<Once, StoreError> {
        if row.since >= until {
            return Ok(Once::default());
        }
        let (_, bad) = metric.kinds();
        let since = row.since.max(until - REMEMBERED_MS);
        let found = self
            .store
            .list_users_of_kind(&row.environment, bad.word(), (since, until), EVENTS_MAX)
            .await?;
        let mut once = Once::default();
        for name in &found {
            once.admits(user_of(name), true);
        }
        Ok(once)
    }

    /// The usual failure rate of a metric: of the same time in the last weeks, else of the last hour.
    async fn usual_of(
        &self,
        live: &mut Live,
        environment: &str,
        metric: Metric,
        now: Millis,
    ) -> Result<Option<f64>, StoreError> {
        let key = (environment.to_owned(), metric);
        if let Some((at, found)) = live.usual.get(&key)
            && now - at < USUAL_EVERY_MS
        {
            return Ok(*found);
        }
        let found = self.usual_failure(environment, metric, now).await?;
        live.usual.insert(key, (now, found));
        Ok(found)
    }

    pub(super) async fn usual_failure(
        &self,
        environment: &str,
        metric: Metric,
        now: Millis,
    ) -> Result<Option<f64>, StoreError> {
        let mut weeks = Vec::new();
        for week in 1..=4 {
            let middle = now - week * WEEK_MS;
            let window = Window { from: middle - 1_800_000, until: middle + 1_800_000 };
            let (all, bad) = self.attempts(environment, metric, window).await?;
            weeks.push(count(all - bad, bad));
        }
        // The last five minutes are what is judged; they must not judge themselves.
        let filter = CountFilter {
            environment,
            width_s: 60,
            dimension: "all",
            from: now - 3_600_000,
            until: now - 300_000,
        };
        let (good, bad) = metric.kinds();
        let mut minutes: BTreeMap<Millis, Count> = BTreeMap::new();
        for (at, kind, _, n) in self.store.list_auth_counts(&filter).await? {
            let minute = minutes.entry(at).or_default();
            if kind == good.word() || kind == bad.word() {
                minute.users += n;
            }
            if kind == bad.word() {
                minute.bad += n;
            }
        }
        let minutes: Vec<Count> = minutes.into_values().collect();
        Ok(usual(&weeks, &minutes))
    }

    /// Does what follows from a verdict, and keeps it.
    async fn follow(
        self: &Arc<Self>,
        watched: &mut Watched,
        verdict: &Verdict,
        now: Millis,
    ) -> Result<Next, AppError> {
        let before = watched.row.verdict.as_ref();
        let was = before.and_then(|said| said.get("standing")).map(kind_of).unwrap_or_default();
        let is = verdict.standing.word();
        let changed = was != is;
        let next = self.next_of(watched, verdict, now).await?;
        let acts = matches!(next.act, Act::PutBack | Act::RunPlaybook { .. } | Act::Freeze);
        if !changed && !acts && now - watched.saved_at < SAVE_EVERY_MS {
            return Ok(next);
        }
        let mut row = watched.row.clone();
        row.state = Some(json!(watched.state));
        row.verdict = Some(json!(verdict));
        if changed {
            row.standing_since = now;
        }
        let mut beside = GuardBeside {
            point: Some((now, point(verdict))),
            at: self.clock.now(),
            ..GuardBeside::default()
        };
        let by = Who::with_role(&format!("guard:{}", row.id), Role::Operator);
        let reason: String = next.words.chars().take(900).collect();
        let mut done = None;
        match &next.act {
            Act::PutBack => {
                let moved =
                    self.put_flag_back(&by, &row.environment, &watched.settings, &reason).await?;
                let share = watched.settings.back_to;
                done = Some(if moved {
                    format!("`{}` was put back to {share} %.", row.flag)
                } else {
                    format!("`{}` lets in no more than {share} % already.", row.flag)
                });
                "acted".clone_into(&mut row.phase);
            }
            Act::RunPlaybook { name, approval } => {
                let ask = approval.then_some(ASK_MS);
                done = Some(self.run_for_guard(&row, name, ask, &reason, BTreeMap::new()).await?);
                "acted".clone_into(&mut row.phase);
            }
            Act::Freeze => {
                beside.freeze = Some(&reason);
                done = Some(
                    "Nothing happens by itself here until somebody ends the freeze.".to_owned(),
                );
            }
            Act::Nothing | Act::Warn | Act::Hold => {}
        }
        if matches!(next.act, Act::PutBack | Act::RunPlaybook { .. }) {
            let started = self.run_who_waits_for(&row, &next.act, &reason).await?;
            done =
                done.map(|done| started.into_iter().fold(done, |all, one| format!("{all} {one}")));
        }
        if let Some(done) = &done {
            beside.act = Some(ActRow {
                id: self.ids.next("act"),
                environment: row.environment.clone(),
                flag: Some(row.flag.clone()),
                guard: Some(row.id.clone()),
                at: beside.at,
                act: act_word(&next.act).to_owned(),
                words: format!("{reason} {done}"),
            });
        }
        if changed || done.is_some() {
            beside.message = self.guard_message(&row, verdict, &next, done.as_deref(), &was);
        }
        self.save_guard(&row, beside).await?;
        row.version += 1;
        watched.row = row;
        watched.saved_at = now;
        Ok(next)
    }

    async fn next_of(
        &self,
        watched: &Watched,
        verdict: &Verdict,
        now: Millis,
    ) -> Result<Next, AppError> {
        let quiet = Surroundings::default();
        if verdict.standing != Standing::Bad {
            return Ok(next_action(&watched.guard, verdict, &quiet, now));
        }
        let environment = &watched.row.environment;
        let acts = self
            .store
            .list_acts(environment, now - watched.guard.cool_down_ms.max(600_000))
            .await?;
        let times: Vec<Millis> =
            acts.iter().filter(|act| act.act != "freeze").map(|act| act.at).collect();
        let of_flag = acts.iter().filter(|act| act.act != "freeze");
        let around = Surroundings {
            automation_off: self.store.automation_off().await?.is_some(),
            frozen: self.store.find_freeze(environment).await?.is_some(),
            flag_acted: of_flag
                .filter(|act| act.flag.as_deref() == Some(&watched.row.flag))
                .map(|act| act.at)
                .max(),
            environment_acted: &times,
        };
        Ok(next_action(&watched.guard, verdict, &around, now))
    }

    /// Playbooks whose triggers name the flag, beside the one that the guard itself runs.
    async fn run_who_waits_for(
        self: &Arc<Self>,
        row: &GuardRow,
        act: &Act,
        reason: &str,
    ) -> Result<Vec<String>, AppError> {
        let own = match act {
            Act::RunPlaybook { name, .. } => Some(name.as_str()),
            _ => None,
        };
        let catalogue = self.catalogue.load_full();
        let mut said = Vec::new();
        for (name, known) in
            catalogue.playbooks.iter().filter(|(name, _)| Some(name.as_str()) != own)
        {
            let wanted = known.triggers.guards.iter();
            let wanted =
                wanted.filter(|one| one.flag == row.flag && one.environment == row.environment);
            for trigger in wanted {
                let ask = (trigger.approve == Approve::OneClick).then_some(trigger.wait_ms);
                let given = trigger.inputs.iter().map(|(name, given)| match given {
                    Given::Value(value) => (name.clone(), value.clone()),
                    Given::Pointer(text) => (name.clone(), json!(text)), // there is nothing to point into
                });
                said.push(self.run_for_guard(row, name, ask, reason, given.collect()).await?);
            }
        }
        Ok(said)
    }

    async fn run_for_guard(
        self: &Arc<Self>,
        row: &GuardRow,
        name: &str,
        ask_ms: Option<u64>,
        reason: &str,
        given: BTreeMap<String, serde_json::Value>,
    ) -> Result<String, AppError> {
        let mut inputs = BTreeMap::from([("reason".to_owned(), json!(reason))]);
        inputs.extend(given);
        let wish = Wish {
            playbook: name.to_owned(),
            environment: row.environment.clone(),
            trigger: "alert",
            by: format!("guard:{}", row.id),
            reason: reason.to_owned(),
            inputs,
            ask: ask_ms.map(|ms| (format!("A guard of `{}` asks to run this.", row.flag), ms)),
            noted: json!({"guard": row.id, "flag": row.flag}),
            once: Some(switchback_store::Once {
                actor: format!("guard:{}", row.id),
                key: row.since.to_string(),
                fingerprint: name.to_owned(),
            }),
        };
        match self.start_by_itself(wish).await {
            Ok(run) => Ok(format!("Run {run} of `{name}` was started.")),
            Err(
                error @ (AppError::Refused(_) | AppError::Invalid(_) | AppError::NotFound { .. }),
            ) => Ok(format!("`{name}` could not be started: {error}")),
            Err(error) => Err(error),
        }
    }
}

impl Watched {
    fn new(row: GuardRow, settings: GuardSettings) -> Self {
        let guard = settings.guard();
        let text = row.state.as_ref().map(ToString::to_string).unwrap_or_default();
        let state = GuardState::read(&text, &guard, row.since);
        // Only who saw them all can tell who is new.
        let users = row.state.is_none().then(HashSet::new);
        Self {
            saved_at: row.seen_until,
            row,
            settings,
            guard,
            state,
            verdict: None,
            users,
            failed: HashMap::new(),
        }
    }

    /// New users of a tick, while all of them fit in memory.
    fn arrivals(&mut self, flags: &Flags<'_>, share: f64) -> Option<Arrivals> {
        let users = self.users.as_mut()?;
        let mut news = Arrivals { share, ..Arrivals::default() };
        for (user, is_treated) in flags.users(&self.settings.flag, &self.settings.treated) {
            if users.insert(user) {
                *(if is_treated { &mut news.treated } else { &mut news.control }) += 1;
            }
        }
        if users.len() > USERS_MAX {
            self.users = None;
            return None;
        }
        Some(news)
    }
}

/// A point of a guard's line.
fn point(verdict: &Verdict) -> serde_json::Value {
    json!({
        "evidence": verdict.evidence, "bound": verdict.bound, "standing": verdict.standing.word(),
        "treated": verdict.treated, "control": verdict.control, "ratio": verdict.ratio,
    })
}

/// Whether a sender says anything to guards: it tells of users, and would tell of what does not work for them.
fn guards_hear(source: &str) -> bool {
    tells_failures(source) && !is_probe(source)
}

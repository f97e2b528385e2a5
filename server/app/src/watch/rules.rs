//! The look at the alert rules: each reading moves a state, and what follows of it is kept and told in one transaction.
//!
//! Only the node that holds the watch's lease looks. States are saved when they change and now and then, each naming the
//! version that it was made from: a node that takes over goes on from there, and of two that look one is heard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::json;
use switchback_core::model::Millis;
use switchback_store::{
    AlertBatch, AlertRow, AlertStateRow, ChannelRow, Component, ComponentStatus, Silence,
    StoreError,
};
use switchback_watch::alert::{Change, Due, Phase, Reading, State, due};
use switchback_watch::rule::{Condition, Rule};

use super::figures::failures_heard_at;
use super::readings::{Place, Usuals};
use super::rulebook::KnownRule;
use super::telling::{News, Said};
use crate::App;
use crate::alerts::{AlertEvent, AlertStatus};
use crate::error::AppError;

/// How often states are saved when nothing changes, in milliseconds.
const SAVE_EVERY_MS: Millis = 30_000;
/// Playbooks are started by alerts that are no older than this, in milliseconds.
const STARTS_MS: Millis = 600_000;
/// Open incidents that are looked at.
const OPEN_MAX: i64 = 100;
/// Where alerts of our own come from; playbooks name it as the receiver's token.
pub(super) const OURS: &str = "switchback";

/// What this node has in memory while it is the one that looks.
#[derive(Default)]
pub(super) struct LiveRules {
    states: HashMap<(String, String), Kept>,
    usuals: Usuals,
    is_loaded: bool,
    done_until: Millis,
}

#[derive(Clone, Default)]
struct Kept {
    state: State,
    version: u64,
    saved_at: Millis,
}

/// What a look sees beside the readings.
struct Around {
    open: Vec<AlertRow>,
    silences: Vec<Silence>,
    components: Vec<Component>,
    /// Incidents of our own runs by the component that they put out, and nothing did before.
    announced: BTreeMap<String, String>,
    channels: Vec<ChannelRow>,
}

/// One rule in one environment, as a look found it.
struct Looked<'r> {
    rule: &'r Rule,
    key: (String, String),
    before: Kept,
    after: State,
    change: Option<Change>,
}

impl App {
    /// Looks at every rule once a tick. What fails is looked at again, from what is kept.
    pub(super) async fn look_at_rules(self: &Arc<Self>, live: &mut LiveRules, end: Millis) {
        if end <= live.done_until {
            return;
        }
        match self.look_once(live, end).await {
            Ok(()) => live.done_until = end,
            // Another node saved first: what is kept counts, and this tick is over.
            Err(AppError::Conflict { .. }) => {
                *live = LiveRules { done_until: end, ..LiveRules::default() };
            }
            Err(error) => {
                tracing::warn!(error = %error, "the alert rules could not be looked at; they will be");
                *live = LiveRules { done_until: live.done_until, ..LiveRules::default() };
            }
        }
    }

    async fn look_once(
        self: &Arc<Self>,
        live: &mut LiveRules,
        end: Millis,
    ) -> Result<(), AppError> {
        if !live.is_loaded {
            for row in self.store.list_alert_states().await? {
                // What another release wrote and this one cannot read begins anew.
                let state = serde_json::from_value(row.state).unwrap_or_default();
                let kept = Kept { state, version: row.version, saved_at: row.at };
                live.states.insert((row.rule, row.environment), kept);
            }
            live.is_loaded = true;
        }
        let book = self.rule_book().await?;
        let components = self.store.list_components().await?;
        let around = Around {
            open: self.store.list_open_alerts(None).await?,
            silences: self.store.list_silences(self.clock.now()).await?,
            announced: self.announced_outages(&components).await?,
            components,
            channels: self.store.list_channels().await?,
        };
        for environment in self.known_environments() {
            let key = environment.key.as_str();
            let looked = self.read_rules(live, &book, &around, key, end).await?;
            self.follow_rules(live, &looked, &around, key, end).await?;
        }
        self.start_playbooks(&around.open, &book, end).await;
        Ok(())
    }

    /// Who announces an outage need not be woken by it. One that was known before goes on firing.
    async fn announced_outages(
        &self,
        components: &[Component],
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let down: Vec<&Component> =
            components.iter().filter(|one| one.status.is_outage()).collect();
        if down.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut open = self.store.list_incidents(true, None, None, OPEN_MAX).await?;
        open.retain(|incident| incident.run_id.is_some());
        let announced = down.into_iter().filter_map(|one| {
            let by = open.iter().find(|incident| {
                incident.components.contains_key(&one.key) && one.updated_at >= incident.created_at
            })?;
            Some((one.key.clone(), by.name.clone()))
        });
        Ok(announced.collect())
    }

    async fn read_rules<'r>(
        self: &Arc<Self>,
        live: &mut LiveRules,
        book: &'r BTreeMap<String, KnownRule>,
        around: &Around,
        environment: &str,
        end: Millis,
    ) -> Result<Vec<Looked<'r>>, StoreError> {
        let sources = self.store.list_auth_sources(environment).await?;
        let place = Place {
            environment,
            end,
            heard_at: sources.iter().map(|source| source.last_at).max(),
            failures_heard_at: failures_heard_at(&sources),
            components: &around.components,
        };
        let holds =
            |rule: &&Rule| rule.enabled && rule.environments.iter().any(|key| key == environment);
        let mut rules: Vec<&Rule> = book.values().map(|one| &one.rule).filter(holds).collect();
        // What arrives between two readings must not fire a rule before the one that explains it.
        rules.sort_by_key(|rule| rule.inhibited_by.is_empty());
        let mut looked = Vec::new();
        for rule in rules {
            let key = (rule.name.clone(), environment.to_owned());
            let before = live.states.get(&key).cloned().unwrap_or_default();
            let reading: Reading = self.reading(&mut live.usuals, place, &rule.when).await?;
            let (after, change) = before.state.step(reading, rule, end);
            looked.push(Looked { rule, key, before, after, change });
        }
        Ok(looked)
    }

    /// Keeps what the readings changed in an environment, and tells of it.
    async fn follow_rules(
        &self,
        live: &mut LiveRules,
        looked: &[Looked<'_>],
        around: &Around,
        environment: &str,
        end: Millis,
    ) -> Result<(), AppError> {
        let firing: BTreeSet<&str> = looked
            .iter()
            .filter(|one| one.after.phase == Phase::Firing)
            .map(|one| one.rule.name.as_str())
            .collect();
        let mut batch = AlertBatch { at: self.clock.now(), ..AlertBatch::default() };
        let mut news = Vec::new();
        for one in looked {
            let is_moved = one.before.version == 0
                || one.change.is_some()
                || one.before.state.phase != one.after.phase
                || one.before.state.no_data_since.is_some() != one.after.no_data_since.is_some();
            if is_moved || end - one.before.saved_at >= SAVE_EVERY_MS {
                batch.states.push(state_row(&one.key, one.before.version, one.after, end));
            }
            let own = |alert: &&AlertRow| {
                alert.source == OURS
                    && alert.environment == environment
                    && alert.rule == one.rule.name
            };
            let open = around.open.iter().find(own);
            let quiet = quiet_why(one.rule, environment, &firing, around, batch.at);
            let (alert, said) = self.alert_after(one, open, quiet, environment, end);
            news.extend(said.map(|said| News { alert: alert.clone(), rule: Some(one.rule), said }));
            if open != Some(&alert) && !alert.id.is_empty() {
                batch.alerts.push(alert);
            }
        }
        for alert in &around.open {
            let is_ours = alert.source == OURS && alert.environment == environment;
            if !is_ours || looked.iter().any(|one| one.rule.name == alert.rule) {
                continue;
            }
            // Its rule is gone, or holds here no more.
            let over = AlertRow { resolved_at: Some(end), ..alert.clone() };
            if over.was_told {
                news.push(News { alert: over.clone(), rule: None, said: Said::Gone });
            }
            batch.alerts.push(over);
            let key = (alert.rule.clone(), environment.to_owned());
            if let Some(kept) = live.states.get(&key) {
                batch.states.push(state_row(&key, kept.version, State::default(), end));
            }
        }
        if !(batch.states.is_empty() && batch.alerts.is_empty()) {
            batch.messages = self.alert_messages(environment, &news, &around.channels);
            self.store.save_alerts(&batch).await?;
        }
        for row in &batch.states {
            let key = (row.rule.clone(), row.environment.clone());
            let kept = live.states.entry(key).or_default();
            (kept.version, kept.saved_at) = (row.version + 1, end);
            kept.state = State::default();
        }
        for one in looked {
            live.states.entry(one.key.clone()).or_default().state = one.after;
        }
        Ok(())
    }

    /// The alert of a rule after a look, and what is said of it. An alert without an id: there is none.
    fn alert_after(
        &self,
        one: &Looked<'_>,
        open: Option<&AlertRow>,
        quiet: Option<String>,
        environment: &str,
        end: Millis,
    ) -> (AlertRow, Option<Said>) {
        let Looked { rule, after, change, .. } = one;
        let words = rule.words(after.value, environment);
        let mut alert = match (open, change) {
            (Some(open), _) => open.clone(),
            (None, _) if after.phase != Phase::Firing => return (nothing(), None),
            // Also where a state fires whose alert was forgotten.
            (None, _) => AlertRow {
                id: self.ids.next("alr"),
                source: OURS.to_owned(),
                rule: rule.name.clone(),
                environment: environment.to_owned(),
                title: rule.title.clone(),
                severity: rule.severity.word().to_owned(),
                labels: rule.labels.clone(),
                words: words.clone(),
                fired_at: end,
                ..nothing()
            },
        };
        if after.phase != Phase::Firing {
            alert.resolved_at = Some(end);
            let said = alert.was_told.then_some(Said::Resolved);
            return (alert, said);
        }
        let is_quiet = quiet.is_some();
        alert.quiet_why = quiet;
        if is_quiet {
            return (alert, None);
        }
        if rule.escalate.is_empty() && !alert.was_told {
            alert.was_told = true;
            alert.words = words;
            return (alert, Some(Said::Fired(Vec::new())));
        }
        let told = usize::try_from(alert.told_steps).unwrap_or(usize::MAX);
        let said = match due(rule, alert.fired_at, alert.acked_until, told, end) {
            None => None,
            Some(Due::Again) => {
                (alert.acked_by, alert.acked_until) = (None, None);
                alert.words = words;
                let steps = rule.escalate.iter().take(told);
                let channels = steps.flat_map(|step| step.channels.clone()).collect();
                Some(Said::Again(channels))
            }
            Some(Due::Step(place)) => {
                let channels = rule.escalate.get(place).map(|step| step.channels.clone());
                let is_first = !alert.was_told;
                (alert.was_told, alert.told_steps) = (true, alert.told_steps + 1);
                alert.words = words;
                let channels = channels.unwrap_or_default();
                Some(if is_first { Said::Fired(channels) } else { Said::Escalated(channels) })
            }
        };
        (alert, said)
    }

    /// Starts the playbooks whose triggers want an alert of ours. The same alert starts one once, so that a start that a dead
    /// node left out is made up for.
    async fn start_playbooks(
        self: &Arc<Self>,
        open: &[AlertRow],
        book: &BTreeMap<String, KnownRule>,
        end: Millis,
    ) {
        for alert in open {
            let is_new = alert.source == OURS && alert.fired_at >= end - STARTS_MS;
            if !is_new || alert.quiet_why.is_some() || !book.contains_key(&alert.rule) {
                continue;
            }
            let mut labels = alert.labels.clone();
            labels.insert("alertname".to_owned(), alert.rule.clone());
            labels.insert("environment".to_owned(), alert.environment.clone());
            labels.insert("severity".to_owned(), alert.severity.clone());
            let event = AlertEvent {
                status: AlertStatus::Firing,
                labels,
                annotations: BTreeMap::from([("summary".to_owned(), alert.words.clone())]),
                starts_at: alert.fired_at.to_string(),
                ends_at: String::new(),
                generator_url: String::new(),
                fingerprint: alert.id.clone(),
            };
            if let Err(error) = self.own_alert_fired(OURS, &event).await {
                tracing::warn!(error = %error, alert.id, "an alert's playbooks could not be started; they will be");
            }
        }
    }
}

fn nothing() -> AlertRow {
    AlertRow {
        id: String::new(),
        source: String::new(),
        rule: String::new(),
        environment: String::new(),
        title: String::new(),
        severity: String::new(),
        labels: BTreeMap::new(),
        words: String::new(),
        fired_at: 0,
        resolved_at: None,
        told_steps: 0,
        was_told: false,
        quiet_why: None,
        acked_by: None,
        acked_until: None,
        version: 0,
    }
}

fn state_row(key: &(String, String), version: u64, state: State, at: Millis) -> AlertStateRow {
    let (rule, environment) = key.clone();
    AlertStateRow { rule, environment, state: json!(state), version, at }
}

/// Why nobody is told of a rule now.
fn quiet_why(
    rule: &Rule,
    environment: &str,
    firing: &BTreeSet<&str>,
    around: &Around,
    now: Millis,
) -> Option<String> {
    if let Some(other) = rule.inhibited_by.iter().find(|name| firing.contains(name.as_str())) {
        return Some(format!("`{other}` fires, which explains it."));
    }
    let component = rule.labels.get("component");
    let is_maintained = |one: &&Component| {
        Some(&one.key) == component && one.status == ComponentStatus::UnderMaintenance
    };
    if let Some(found) = around.components.iter().find(is_maintained) {
        return Some(format!("{} is under maintenance.", found.name));
    }
    if let Condition::ComponentDown { component } = &rule.when
        && let Some(incident) = around.announced.get(component)
    {
        return Some(format!("A run of ours announced it: “{incident}”."));
    }
    let silence = around.silences.iter().find(|one| {
        one.starts_at <= now
            && now < one.ends_at
            && one.rule.as_ref().is_none_or(|name| *name == rule.name)
            && one.environment.as_ref().is_none_or(|key| key == environment)
            && one.labels.iter().all(|(name, value)| rule.labels.get(name) == Some(value))
    })?;
    Some(format!("Silenced by {}: {}", silence.created_by, silence.comment))
}

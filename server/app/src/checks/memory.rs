//! What a node knows of a pack between two sweeps: queries that were looked over, who is broken, what was fixed just now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_checks::event_mode::Settings;
use switchback_checks::finding::{Standing, State};
use switchback_checks::health::Figures;
use switchback_checks::limits::{Breaker, Spent};
use switchback_checks::{Check, LabelKind, subject};
use switchback_core::model::Millis;
use switchback_source::{Detector, Repairer, Row, Source, SourceError};
use switchback_store::{CheckStateRow, FindingRow, StoreError};

use super::lint::{remedy_of, tables_of};
use crate::App;

/// A fix is remembered so long, in milliseconds: who is back within it was fixed in vain.
pub(super) const REMEMBERED_MS: Millis = 86_400_000;
/// How often what is known is read again, in milliseconds: other nodes look as well when a person asks them.
const RELOAD_MS: Millis = 60_000;
/// Connections of the monitor's own pool.
const CONNECTIONS: u32 = 2;
/// Of a pack's interval, how much a statement may take, in percent.
const STATEMENT_PERCENT: u64 = 90;

/// What the last look of a check saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct CheckState {
    /// What it found; `None` until it worked once.
    pub figures: Option<Figures>,
    /// Of these, how many came to be in the last ten minutes; `None` when the check cannot tell.
    pub recent: Option<u64>,
    /// Findings that a person ignores.
    pub ignored: u64,
    /// Findings whose fix does not stick.
    pub stuck: u64,
    /// When it looked last and could, in UTC milliseconds.
    pub looked_at: Millis,
    /// How long the query for what came to be lately took, in microseconds; 0: it was not asked for.
    pub took_us: u64,
    /// How long the query for everything took, in microseconds.
    pub took_full_us: u64,
    /// Why the last look failed.
    pub error: Option<String>,
    /// Why nothing is fixed though there is something to fix.
    pub held: Option<String>,
    /// Keys fixed since monitoring began here.
    pub fixed: u64,
}

/// One check's part.
#[derive(Default)]
pub(super) struct OfCheck {
    /// The check as it was when the queries were looked over.
    check: Option<Check>,
    detector: Option<Detector>,
    repairer: Option<Repairer>,
    pub rows: BTreeMap<String, FindingRow>,
    pub standings: BTreeMap<String, Standing>,
    pub state: CheckState,
    pub saved: CheckState,
    pub population: Option<(Millis, u64)>,
    /// When everything was looked at, in UTC milliseconds; 0: never by this node.
    pub full_at: Millis,
    /// When `last_seen` was written.
    pub touched_at: Millis,
}

/// A pack's memory.
#[derive(Default)]
pub(super) struct Memory {
    pool: Option<(switchback_source::Settings, Arc<Source>)>,
    replica: Option<(switchback_source::Settings, Arc<Source>)>,
    pub checks: BTreeMap<String, OfCheck>,
    pub spent: Spent,
    pub breaker: Breaker,
    loaded_at: Option<Millis>,
    /// A look has begun and not ended. Where the next one finds this set, whoever asked hung up in its middle: what is known is
    /// half of it, and is read again.
    pub is_underway: bool,
    /// Whether the journal may know of fixes that the findings do not.
    pub is_behind: bool,
    has_states: bool,
    pub saved_at: Millis,
    pub swept_at: Millis,
}

impl Memory {
    /// Reads what is known of the pack's findings, when that is old.
    pub async fn load(&mut self, app: &App, pack: &str) -> Result<(), StoreError> {
        let now = app.clock.now();
        if std::mem::take(&mut self.is_underway) {
            (self.loaded_at, self.has_states) = (None, false);
        }
        if self.loaded_at.is_some_and(|at| now - at < RELOAD_MS) {
            return Ok(());
        }
        for of_check in self.checks.values_mut() {
            of_check.rows.clear();
            of_check.standings.clear();
        }
        for row in app.store.list_known_findings(pack, now - REMEMBERED_MS).await? {
            self.checks.entry(row.check.clone()).or_default().keep(row);
        }
        if !self.has_states {
            self.has_states = true;
            for row in app.store.list_check_states().await? {
                if row.pack == pack {
                    let state: CheckState = serde_json::from_value(row.state).unwrap_or_default();
                    let of_check = self.checks.entry(row.check).or_default();
                    self.swept_at = self.swept_at.max(state.looked_at);
                    (of_check.state, of_check.saved) = (state.clone(), state);
                }
            }
            let minute = app.store.count_fixed(pack, now - 60_000).await?;
            self.spent.note(now, minute);
        }
        self.loaded_at = Some(now);
        self.is_behind = true;
        Ok(())
    }

    /// The monitor's own connections, whose statements end before the next sweep. The second one only looks.
    pub async fn pools(
        &mut self,
        app: &App,
        settings: &Settings,
        every_ms: u64,
    ) -> Result<(Arc<Source>, Arc<Source>), crate::AppError> {
        let narrowed = |source: &Source| {
            let mut own = source.settings().clone();
            own.connections_max = CONNECTIONS;
            own.statement_timeout_ms =
                own.statement_timeout_ms.min(every_ms * STATEMENT_PERCENT / 100).max(10);
            own.lock_timeout_ms = own.lock_timeout_ms.min(own.statement_timeout_ms);
            own.mirror = None;
            own
        };
        let own = narrowed(&*app.source(&settings.source).await?);
        let pool = reuse(&mut self.pool, own);
        let replica = match &settings.replica {
            Some(name) => {
                let own = narrowed(&*app.source(name).await?);
                reuse(&mut self.replica, own)
            }
            None => Arc::clone(&pool),
        };
        Ok((pool, replica))
    }

    /// The queries were looked over by a database that is not there any more, or has changed.
    pub fn forget_queries(&mut self) {
        for of_check in self.checks.values_mut() {
            (of_check.detector, of_check.repairer) = (None, None);
        }
    }

    /// Keys of a check that a person ignores.
    pub fn ignored(&self, check: &str) -> BTreeSet<String> {
        let standings = self.checks.get(check).map(|one| &one.standings);
        let all = standings.into_iter().flatten();
        let ignored = all.filter(|(_, one)| one.state == State::Ignored);
        ignored.map(|(key, _)| key.clone()).collect()
    }

    /// What is known is to be read again.
    pub fn forget_findings(&mut self) {
        self.loaded_at = None;
    }

    /// How every check stands now.
    pub fn all_states(&self, pack: &str) -> Vec<CheckStateRow> {
        let row = |(name, of_check): (&String, &OfCheck)| CheckStateRow {
            pack: pack.to_owned(),
            check: name.clone(),
            state: json!(of_check.state),
            at: self.swept_at,
        };
        self.checks.iter().map(row).collect()
    }

    /// The states that are to be saved, as they are not what was saved last.
    pub fn states(&mut self, pack: &str, now: Millis) -> Vec<CheckStateRow> {
        let mut rows = Vec::new();
        for (name, of_check) in &mut self.checks {
            if of_check.saved == of_check.state {
                continue;
            }
            of_check.saved = of_check.state.clone();
            rows.push(CheckStateRow {
                pack: pack.to_owned(),
                check: name.clone(),
                state: json!(of_check.state),
                at: now,
            });
        }
        rows
    }
}

fn reuse(
    slot: &mut Option<(switchback_source::Settings, Arc<Source>)>,
    wanted: switchback_source::Settings,
) -> Arc<Source> {
    if let Some((settings, source)) = slot
        && *settings == wanted
    {
        return Arc::clone(source);
    }
    let source = Source::new(wanted.clone());
    *slot = Some((wanted, Arc::clone(&source)));
    source
}

impl OfCheck {
    /// Remembers a finding.
    pub fn keep(&mut self, row: FindingRow) {
        let state = State::WORDS.iter().find(|(word, _)| *word == row.state);
        let standing = Standing {
            state: state.map(|(_, state)| *state).unwrap_or_default(),
            attempts: row.attempts,
            fixed_at: row.fixed_at,
        };
        self.standings.insert(row.key.clone(), standing);
        self.rows.insert(row.key.clone(), row);
    }

    /// Forgets fixes that are old, and who is gone.
    pub fn tidy(&mut self, now: Millis) {
        let is_old = |one: &Standing| !one.state.is_present() && now - one.fixed_at > REMEMBERED_MS;
        let old: Vec<String> = self
            .standings
            .iter()
            .filter(|(_, one)| is_old(one))
            .map(|(key, _)| key.clone())
            .collect();
        for key in old {
            self.standings.remove(&key);
            self.rows.remove(&key);
        }
    }

    /// The check's query, looked over.
    pub async fn detector(
        &mut self,
        source: &Source,
        check: &Check,
    ) -> Result<Detector, SourceError> {
        if self.check.as_ref() != Some(check) {
            (self.detector, self.repairer) = (None, None);
            self.check = Some(check.clone());
        }
        if let Some(detector) = &self.detector {
            return Ok(detector.clone());
        }
        let detector = source.detector(&check.detect).await?;
        self.detector = Some(detector.clone());
        Ok(detector)
    }

    /// The check's fix, looked over.
    pub async fn repairer(
        &mut self,
        source: &Source,
        check: &Check,
    ) -> Result<Option<Repairer>, SourceError> {
        let Some(fix) = &check.fix else { return Ok(None) };
        let detector = self.detector(source, check).await?;
        if let Some(repairer) = &self.repairer {
            return Ok(Some(repairer.clone()));
        }
        let tables = tables_of(fix);
        let repairer = source.repairer(detector, &remedy_of(fix, &tables)).await?;
        self.repairer = Some(repairer.clone());
        Ok(Some(repairer))
    }
}

impl App {
    /// Keys of a check that a person ignores.
    pub(super) async fn ignored_of(
        &self,
        pack: &str,
        check: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let memory = self.checks.memory(pack);
        let mut memory = memory.lock().await;
        memory.load(self, pack).await?;
        Ok(memory.ignored(check))
    }

    /// A finding as it is kept, of what a query gave for its key.
    pub(super) fn finding_of(
        &self,
        pack: &str,
        check: &Check,
        keeps_labels: bool,
        (key, row): (&str, &Row),
        now: Millis,
    ) -> FindingRow {
        let text = |name: &str| match row.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            None | Some(serde_json::Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        let label = text("label");
        let class = Some(text("class")).filter(|class| !class.is_empty());
        let kind = check.label;
        let is_kept = keeps_labels && kind != LabelKind::None && !label.is_empty();
        let others = row.iter().filter(|(name, _)| {
            !["key", "label", "class", "platform", "since"].contains(&name.as_str())
        });
        let others: switchback_source::Row =
            others.map(|(name, value)| (name.clone(), value.clone())).collect();
        let is_nobody = kind == LabelKind::None;
        FindingRow {
            pack: pack.to_owned(),
            check: check.name.clone(),
            key: key.to_owned(),
            state: State::Open.word().to_owned(),
            class: cut(class.as_deref().unwrap_or(&check.class), 60),
            label: cut(&subject::mask(&label, kind), 200),
            label_hash: if is_nobody || label.is_empty() {
                String::new()
            } else {
                self.subject_hash(&label)
            },
            full_label: is_kept.then(|| cut(&label, 500)),
            // They may be anybody's: an e-mail address beside a telephone number.
            detail: ((is_kept || is_nobody) && !others.is_empty())
                .then(|| cut(&json!(others).to_string(), 4_000)),
            country: subject::country(&label, kind).unwrap_or_default(),
            platform: cut(&text("platform"), 60),
            first_seen: now,
            last_seen: now,
            ..FindingRow::default()
        }
    }
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

//! What must not get lost, over the data sources and the store: looked at before a run, and compared after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use switchback_playbook::journal::Lease;
use switchback_playbook::ports::{Look, PortError, Preservation};
use switchback_playbook::preserve::{Preserve, Rule};
use switchback_source::keys::{Comparison, Difference, Key, Named, Packer, Present};
use switchback_source::{Columns, Source};

use super::{Ports, fence_of, port_error, source_error};

/// Keys that a sentence names, at most.
const NAMED_MAX: usize = 5;

/// A table as one look saw it.
struct Seen {
    rows: u64,
    present: Arc<Present>,
    /// The keys, packed; empty where no rule asks for them.
    chunks: Vec<String>,
    /// Sums by column.
    sums: BTreeMap<String, String>,
    took_ms: i64,
}

#[async_trait]
impl Preservation for Ports {
    async fn measure(&self, lease: &Lease, rule: &Preserve) -> Result<Look, PortError> {
        let seen = self.see(rule, true).await?;
        let present = Arc::clone(&seen.present);
        if let Some(key) = aside(move || present.twice()).await? {
            let message = format!(
                "data source `{}`: two rows of {} share the key {} (or its hash {key:016x}), so lost rows could hide",
                rule.source,
                rule.table,
                rule.key.join(", ")
            );
            return Err(PortError::Refused(message));
        }
        let store = &self.app.store;
        store.put_preserved(&fence_of(lease), &rule.id, &seen.chunks).await.map_err(port_error)?;
        let says = format!("{}: {}", rule.table, rows(seen.rows));
        Ok(Look { holds: true, says, detail: seen.detail(rule) })
    }

    async fn compare(
        &self,
        run_id: &str,
        rule: &Preserve,
        before: &Value,
    ) -> Result<Look, PortError> {
        let seen = self.see(rule, false).await?;
        let difference = if keyed(rule) {
            self.differences(run_id, rule, &seen.present).await?
        } else {
            Difference::default()
        };
        let mut detail = seen.detail(rule);
        detail.insert("rows_before".to_owned(), before.get("rows").cloned().unwrap_or_default());
        if difference.missing.count > 0 {
            detail.insert("missing".to_owned(), json!(difference.missing));
        }
        if difference.changed.count > 0 {
            detail.insert("changed".to_owned(), json!(difference.changed));
        }
        let broken: Vec<String> =
            rule.rules.iter().filter_map(|one| broken(one, before, &seen, &difference)).collect();
        let had = before.get("rows").and_then(Value::as_u64).unwrap_or_default();
        let says = if broken.is_empty() {
            format!("{} ({} before, {} now)", rule.says(), had, seen.rows)
        } else {
            format!("{}: {}", rule.table, broken.join("; "))
        };
        Ok(Look { holds: broken.is_empty(), says, detail })
    }
}

impl Ports {
    /// Looks at a table. `keep` also packs the keys.
    async fn see(&self, rule: &Preserve, keep: bool) -> Result<Seen, PortError> {
        let begun = self.app.clock.now();
        let source = self.source(&rule.source).await?;
        let failed = |error| source_error(&rule.source, &error);
        let (mut present, mut chunks) = (Present::default(), Vec::new());
        let count = if keyed(rule) {
            (present, chunks) = survey(&source, rule, keep).await.map_err(failed)?;
            present.rows()
        } else {
            source.count(&rule.table).await.map_err(failed)?
        };
        let mut sums = BTreeMap::new();
        for one in &rule.rules {
            if let Rule::SumUnchanged(column) = one {
                let sum = source.sum(&rule.table, column).await.map_err(failed)?;
                sums.insert(column.clone(), sum);
            }
        }
        let took_ms = self.app.clock.now() - begun;
        Ok(Seen { rows: count, present: Arc::new(present), chunks, sums, took_ms })
    }

    async fn differences(
        &self,
        run_id: &str,
        rule: &Preserve,
        present: &Arc<Present>,
    ) -> Result<Difference, PortError> {
        let mut comparison = Comparison::new(Arc::clone(present));
        for number in 0.. {
            let chunk = self.app.store.get_preserved(run_id, &rule.id, number).await;
            let Some(chunk) = chunk.map_err(port_error)? else { break };
            let added = aside(move || comparison.add(&chunk).map(|()| comparison)).await?;
            comparison = added.map_err(|error| source_error(&rule.source, &error))?;
        }
        aside(move || comparison.finish()).await
    }
}

/// Works where blocking is allowed.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PortError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| PortError::Unavailable(error.to_string()))
}

/// Whether rows are compared one by one.
fn keyed(rule: &Preserve) -> bool {
    let by_key = |one: &Rule| matches!(one, Rule::NoLoss | Rule::Equal | Rule::ColumnsUnchanged(_));
    rule.rules.iter().any(by_key)
}

async fn survey(
    source: &Source,
    rule: &Preserve,
    keep: bool,
) -> Result<(Present, Vec<String>), switchback_source::SourceError> {
    let mut wanted: Vec<String> = Vec::new();
    for one in &rule.rules {
        if let Rule::ColumnsUnchanged(columns) = one {
            wanted.extend(columns.iter().cloned());
        }
    }
    let columns = match () {
        () if rule.rules.contains(&Rule::Equal) => Columns::All,
        () if wanted.is_empty() => Columns::None,
        () => Columns::Some(&wanted),
    };
    let mut packer = Packer::new(columns != Columns::None);
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut each = |key: Key<'_>, columns: u64| {
        let hash = key.hash();
        if keep {
            packer.push(if rule.pii { Key::Hash(hash) } else { key }, columns);
        }
        found.push((hash, columns));
    };
    source.survey(&rule.table, &rule.key, columns, &mut each).await?;
    Ok((Present::new(found), packer.finish()))
}

impl Seen {
    fn detail(&self, rule: &Preserve) -> Map<String, Value> {
        let mut detail = Map::new();
        detail.insert("rows".to_owned(), json!(self.rows));
        if keyed(rule) {
            detail.insert("digest".to_owned(), json!(self.present.digest()));
        }
        if !self.sums.is_empty() {
            detail.insert("sums".to_owned(), json!(self.sums));
        }
        detail.insert("took_ms".to_owned(), json!(self.took_ms));
        detail
    }
}

/// What is wrong under one rule: a sentence.
fn broken(rule: &Rule, before: &Value, seen: &Seen, difference: &Difference) -> Option<String> {
    let had = before.get("rows").and_then(Value::as_u64).unwrap_or_default();
    let lost = || named(&difference.missing, "lost");
    let changed = || named(&difference.changed, "changed");
    match rule {
        Rule::NoLoss => lost(),
        Rule::ColumnsUnchanged(_) => changed(),
        Rule::Equal => lost().or_else(changed).or_else(|| {
            let new = seen.rows.saturating_sub(had);
            (new > 0).then(|| format!("{} new", is_or_are(new)))
        }),
        Rule::Gte if seen.rows < had => Some(format!("{} before, {} now", rows(had), seen.rows)),
        Rule::Gte => None,
        Rule::Delta { percent_milli, rows: most } => {
            let moved = seen.rows.abs_diff(had);
            let share = u128::from(moved) * 100_000;
            let too_many = most.is_some_and(|most| moved > most)
                || percent_milli.is_some_and(|most| share > u128::from(had) * u128::from(most));
            too_many.then(|| {
                format!("the number of rows moved by {moved}, from {had} to {}", seen.rows)
            })
        }
        Rule::SumUnchanged(column) => {
            let was = before
                .pointer(&format!("/sums/{column}"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let is = seen.sums.get(column).map_or("", String::as_str);
            (was != is).then(|| format!("the sum of {column} was {was} and is {is}"))
        }
    }
}

fn named(keys: &Named, what: &str) -> Option<String> {
    let shown: Vec<&str> = keys.names.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = if keys.count > shown.len() as u64 { ", …" } else { "" };
    (keys.count > 0)
        .then(|| format!("{} {what}: {}{more}", is_or_are(keys.count), shown.join(", ")))
}

fn is_or_are(count: u64) -> String {
    format!("{} {}", rows(count), if count == 1 { "is" } else { "are" })
}

fn rows(count: u64) -> String {
    format!("{count} {}", if count == 1 { "row" } else { "rows" })
}

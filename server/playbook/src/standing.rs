//! What an approval rests on: the flags and rows that the step and those after it change, as they were when people
//! were asked. When that has moved, what they said is void.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::journal::Lease;
use crate::plan::{Condition, Plan};
use crate::ports::World;
use crate::steps::{self, At};

/// A rehearsal's rows may differ by this share of what they were, in percent.
pub const ROWS_PERCENT: u64 = 20;

/// One thing that a step changes, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// A flag.
    Flag {
        /// Its key.
        key: String,
        /// Its revision.
        revision: u64,
    },
    /// Rows of a data source that a script would change.
    Rows {
        /// The source's name.
        source: String,
        /// How many.
        rows: u64,
    },
}

/// What was seen, by step. What could not be seen is left out, and is no reason to void anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing(pub BTreeMap<String, Sight>);

impl Standing {
    /// Looks at everything that the step of this index and those after it would change. Changes nothing.
    pub async fn look(plan: &Plan, index: usize, lease: &Lease, world: &World) -> Self {
        let (outputs, revisions) = (BTreeMap::new(), BTreeSet::new());
        let mut seen = BTreeMap::new();
        for step in plan.steps.iter().skip(index) {
            let Some(kind) = steps::find(&step.kind) else { continue };
            if step.condition == Condition::Never {
                continue;
            }
            let at = At {
                plan,
                step,
                params: &step.params,
                lease,
                attempt: 1,
                done: None,
                outputs: &outputs,
                revisions: &revisions,
                forced: false,
                world,
            };
            if let Some(sight) = kind.sight(&at).await {
                seen.insert(step.id.clone(), sight);
            }
        }
        Self(seen)
    }

    /// What differs so much that nobody can be said to have agreed to it: a sentence without its full stop.
    pub fn moved(&self, now: &Self) -> Option<String> {
        let mut found = BTreeSet::new();
        for (step, before) in &self.0 {
            match (before, now.0.get(step)) {
                (
                    Sight::Flag { key, revision: before },
                    Some(Sight::Flag { revision: after, .. }),
                ) if before != after => {
                    found.insert(format!(
                        "flag `{key}` was changed meanwhile (revision {after}, it was {before})"
                    ));
                }
                (Sight::Rows { source, rows: before }, Some(Sight::Rows { rows: after, .. }))
                    if differs(*before, *after) =>
                {
                    found.insert(format!(
                        "step `{step}` would now change {after} rows of `{source}`, it was {before}"
                    ));
                }
                _ => {}
            }
        }
        (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join("; "))
    }
}

fn differs(before: u64, after: u64) -> bool {
    u128::from(before.abs_diff(after)) * 100 > u128::from(before) * u128::from(ROWS_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: u64) -> Standing {
        Standing([("s".to_owned(), Sight::Rows { source: "shop".to_owned(), rows })].into())
    }

    #[test]
    fn a_fifth_more_or_less_is_still_the_same() {
        assert_eq!(rows(100).moved(&rows(120)), None);
        assert_eq!(rows(100).moved(&rows(80)), None);
        let moved = "step `s` would now change 121 rows of `shop`, it was 100";
        assert_eq!(rows(100).moved(&rows(121)).as_deref(), Some(moved));
        assert!(rows(0).moved(&rows(1)).is_some());
        assert!(rows(u64::MAX).moved(&rows(0)).is_some());
    }

    #[test]
    fn what_cannot_be_seen_moves_nothing() {
        assert_eq!(rows(100).moved(&Standing::default()), None);
        assert_eq!(Standing::default().moved(&rows(100)), None);
    }
}

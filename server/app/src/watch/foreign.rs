//! Taking events of other systems in: in their own words, turned into ours, and then as any others.

use std::sync::Arc;

use serde_json::Value;
use switchback_watch::event::BATCH_MAX;
use switchback_watch::foreign::{Format, Found};

use super::events::{Before, EventsTaken, Refusal, TOLD_MAX};
use crate::App;
use crate::error::AppError;

/// Different unknown names of one batch that are told apart.
const NAMES_MAX: usize = 50;

/// A batch in our own words: what is an event of ours with its place in the batch, and what became of the rest.
pub(super) struct Translated {
    pub events: Vec<Value>,
    places: Vec<u64>,
    pub said: EventsTaken,
    /// Why the last of what was refused was.
    pub why: Option<String>,
    has_no_failures: bool,
}

impl App {
    /// Takes a batch of another system's events, by a token of this name. What says nothing of logins is counted as
    /// `ignored`, and a name that is not known is refused by its name.
    ///
    /// Fails as [`take_auth_events`](Self::take_auth_events) does.
    pub async fn take_foreign_events(
        self: &Arc<Self>,
        environment: &str,
        token: &str,
        format: Format,
        values: Vec<Value>,
    ) -> Result<EventsTaken, AppError> {
        if values.len() > BATCH_MAX {
            let message = format!("{} events; at most {BATCH_MAX} in one batch", values.len());
            return Err(AppError::invalid("events", message));
        }
        if values.is_empty() {
            return Ok(EventsTaken::default());
        }
        let Translated { events, places, mut said, why, has_no_failures } =
            tokio::task::spawn_blocking(move || translate(format, &values))
                .await
                .map_err(|error| AppError::Internal(error.into()))?;
        self.metrics.auth_events_refused.inc_by(said.refused);
        let suffix = if has_no_failures { "-audit" } else { "" };
        let source = format!("token:{token}/{}{suffix}", format.word());
        let before = Before { source, refused: (said.refused, why) };
        let taken = self.take_batch(environment, before, events).await?;
        said.taken = taken.taken;
        said.duplicates = taken.duplicates;
        said.refused += taken.refused;
        for mut refusal in taken.refusals {
            refusal.index = usize::try_from(refusal.index)
                .ok()
                .and_then(|index| places.get(index).copied())
                .unwrap_or(refusal.index);
            said.refusals.push(refusal);
        }
        said.refusals.sort_by_key(|refusal| refusal.index);
        said.refusals.truncate(TOLD_MAX);
        Ok(said)
    }
}

pub(super) fn translate(format: Format, values: &[Value]) -> Translated {
    let mut all = Translated {
        events: Vec::new(),
        places: Vec::new(),
        said: EventsTaken::default(),
        why: None,
        has_no_failures: values.iter().all(|value| format.has_no_failures(value)),
    };
    for (index, value) in values.iter().enumerate() {
        let index = index as u64;
        let (code, detail) = match format.translate(value) {
            Found::Event(event) => {
                all.events.push(event);
                all.places.push(index);
                continue;
            }
            Found::Other => {
                all.said.ignored += 1;
                continue;
            }
            Found::Unknown(name) => {
                let names = &mut all.said.unknown;
                if names.len() < NAMES_MAX || names.contains_key(&name) {
                    *names.entry(name.clone()).or_insert(0) += 1;
                }
                ("unknown_event", format!("`{name}` is no event of {} here", format.word()))
            }
            Found::Unreadable(detail) => ("invalid", detail),
        };
        all.said.refused += 1;
        all.why = Some(format!("{code}: {detail}"));
        if all.said.refusals.len() < TOLD_MAX {
            all.said.refusals.push(Refusal { index, id: None, code: code.to_owned(), detail });
        }
    }
    all
}

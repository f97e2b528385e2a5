//! What alert rules learn of packs of checks.

use switchback_core::model::Millis;
use switchback_store::StoreError;
use switchback_watch::alert::Reading;
use switchback_watch::rule::{Bad, Consistency};

use super::health::{PackView, pack_view};
use crate::App;

impl App {
    /// What a rule about packs reads: of the packs that it is about the worst one.
    pub(crate) async fn consistency_reading(
        &self,
        wanted: &Consistency,
        now: Millis,
    ) -> Result<Reading, StoreError> {
        let states = self.store.list_check_states().await?;
        let book = self.check_book().await?;
        let mut worst: Option<f64> = None;
        for known in book.values() {
            let is_meant = wanted.pack.as_ref().is_none_or(|name| *name == known.pack.name);
            if !is_meant || known.settings.source.is_empty() {
                continue;
            }
            let view = pack_view(known, &states, 0, now);
            if let Some(value) = value_of(&view, wanted.bad, now) {
                worst = Some(worst.map_or(value, |so_far: f64| so_far.max(value)));
            }
        }
        Ok(worst.map_or(Reading::NoData, Reading::Value))
    }
}

/// Too high is bad: the share that is broken, the time since the last sweep, findings whose fix does not stick.
fn value_of(view: &PackView, bad: Bad, now: Millis) -> Option<f64> {
    match bad {
        Bad::HealthBelow(_) => view.health.map(|health| 1.0 - health),
        // A pause is meant; an interval that is longer than the rule's is no silence. A check that fails is silent, though others
        // of its pack look.
        Bad::SilentFor(_) => view.every_ms.map(|every| {
            let failing = view.checks.iter().filter(|check| check.state.error.is_some());
            let longest =
                failing.map(|check| check.state.looked_at).fold(view.swept_at, Millis::min);
            let since = now - longest.max(view.settings.mode_since);
            (since - every.cast_signed()).max(0) as f64
        }),
        Bad::StuckAbove(_) => {
            Some(view.checks.iter().map(|check| check.state.stuck).sum::<u64>() as f64)
        }
    }
}

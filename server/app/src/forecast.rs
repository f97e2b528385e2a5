//! How long a run will take, from how long earlier good runs of the same playbook took in the same environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::Plan;
use switchback_playbook::plan::{Condition, PlannedStep};
use switchback_playbook::state::StepState;
use switchback_store::StepTimes;

use super::App;
use super::error::AppError;
use super::playbooks::RunDetail;
use super::report::{rows_of, span};
use super::who::Who;
use switchback_store::Role;

/// Earlier runs that are looked at.
pub const RUNS_MAX: i64 = 20;

/// What earlier runs let one expect of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Forecast {
    /// How many earlier runs this is taken from; without any, nothing is expected.
    pub from_runs: u64,
    /// Half of the runs took at most this, in milliseconds, with this plan's waits.
    pub p50_ms: Option<i64>,
    /// 19 of 20 took at most this, in milliseconds, with this plan's waits.
    pub p95_ms: Option<i64>,
    /// The plan's limit, in milliseconds.
    pub deadline_ms: u64,
    /// Whether a slow run of it would take longer than the limit.
    pub exceeds_deadline: bool,
    /// The plan's steps, in order.
    pub steps: Vec<StepForecast>,
}

/// What earlier runs let one expect of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct StepForecast {
    /// Its name.
    pub id: String,
    /// In how many earlier runs it ran.
    pub from_runs: u64,
    /// Half of them took at most this, in milliseconds.
    pub p50_ms: Option<i64>,
    /// 19 of 20 took at most this, in milliseconds.
    pub p95_ms: Option<i64>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Progress {
    /// 0 to 100; 100 only when it is over.
    pub percent: u64,
    /// What is left, in milliseconds; absent without earlier runs.
    pub left_ms: Option<i64>,
    /// How many earlier runs this is taken from.
    pub from_runs: u64,
    /// Whether it would then end after its deadline.
    pub exceeds_deadline: bool,
}

/// The waits of a stored plan.
#[derive(Deserialize)]
struct Waits {
    steps: Vec<Wait>,
}

#[derive(Deserialize)]
struct Wait {
    id: String,
    #[serde(default)]
    wait_ms: u64,
}

impl Forecast {
    /// From earlier runs' times. What a step had to wait is taken out, and what it will have to is put in.
    pub fn of(plan: &Plan, runs: &[StepTimes]) -> Self {
        let mut totals = Vec::new();
        let mut by_step: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for run in runs.iter().filter(|run| !run.steps.is_empty()) {
            let waits: Waits =
                serde_json::from_str(&run.plan).unwrap_or(Waits { steps: Vec::new() });
            let waited = |id: &str| {
                let wait = waits.steps.iter().find(|step| step.id == id);
                wait.map_or(0, |step| step.wait_ms.cast_signed())
            };
            let mut waited_in_all = 0;
            for (id, took_ms) in &run.steps {
                waited_in_all += waited(id);
                by_step.entry(id).or_default().push((took_ms - waited(id)).max(0));
            }
            totals.push((run.took_ms - waited_in_all).max(0));
        }
        let fixed = plan.fixed_ms().cast_signed();
        let step = |step: &PlannedStep| {
            let runs = step.condition != Condition::Never;
            let mut times = by_step.remove(step.id.as_str()).filter(|_| runs).unwrap_or_default();
            let wait = step.wait_ms.cast_signed();
            times.sort_unstable();
            StepForecast {
                id: step.id.clone(),
                from_runs: times.len() as u64,
                p50_ms: percentile(&times, 50).map(|ms| ms + wait),
                p95_ms: percentile(&times, 95).map(|ms| ms + wait),
            }
        };
        let steps = plan.steps.iter().map(step).collect();
        totals.sort_unstable();
        let p95_ms = percentile(&totals, 95).map(|ms| ms + fixed);
        Self {
            from_runs: totals.len() as u64,
            p50_ms: percentile(&totals, 50).map(|ms| ms + fixed),
            p95_ms,
            deadline_ms: plan.deadline_ms,
            exceeds_deadline: p95_ms.is_some_and(|ms| ms > plan.deadline_ms.cast_signed()),
            steps,
        }
    }

    /// How far a run is at a moment, in UTC milliseconds. Nobody can say while it unwinds or waits for a decision.
    pub fn progress(&self, detail: &RunDetail, now: Millis) -> Option<Progress> {
        let from_runs = self.from_runs;
        if detail.state.is_over() {
            let left_ms = Some(0);
            return Some(Progress { percent: 100, left_ms, from_runs, exceeds_deadline: false });
        }
        if detail.view.compensating.is_some() || detail.view.parked.is_some() {
            return None;
        }
        let mut left = 0;
        let mut settled = 0_u64;
        let steps = detail.plan.steps.iter().zip(&detail.view.steps).zip(&self.steps);
        for ((step, seen), expected) in steps {
            let over = matches!(
                seen.state,
                StepState::Done | StepState::Verified | StepState::Failed | StepState::Skipped
            );
            if over || step.condition == Condition::Never {
                settled += 1;
                continue;
            }
            let begun = span(rows_of(&detail.log, &step.id)).map_or(now, |(from, _)| from);
            let wait = step.wait_ms.cast_signed();
            left += (expected.p50_ms.unwrap_or(wait) - (now - begun)).max(0);
        }
        let elapsed = (now - detail.run.created_at).max(0);
        let percent = if from_runs > 0 {
            elapsed.saturating_mul(100).checked_div(elapsed + left).unwrap_or(0).cast_unsigned()
        } else {
            (settled * 100).checked_div(detail.plan.steps.len() as u64).unwrap_or(0)
        };
        Some(Progress {
            percent: percent.min(99),
            left_ms: (from_runs > 0).then_some(left),
            from_runs,
            exceeds_deadline: from_runs > 0 && now + left > detail.run.deadline_at,
        })
    }
}

/// The smallest of sorted values that so many of a hundred do not exceed.
fn percentile(sorted: &[i64], of_hundred: usize) -> Option<i64> {
    let rank = (sorted.len() * of_hundred).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

impl App {
    /// What earlier runs let one expect of a plan.
    pub async fn forecast(
        self: &Arc<Self>,
        who: &Who,
        plan: &Plan,
        before: Option<&str>,
    ) -> Result<Forecast, AppError> {
        who.must(Role::Viewer, &plan.environment, "look at runs")?;
        let (playbook, environment) = (plan.playbook.as_str(), plan.environment.as_str());
        let runs = self.store.list_step_times(playbook, environment, before, RUNS_MAX).await?;
        Ok(Forecast::of(plan, &runs))
    }

    /// How far a run is, as earlier ones let one expect; `None` when nobody can say.
    pub async fn progress_of(
        self: &Arc<Self>,
        who: &Who,
        detail: &RunDetail,
    ) -> Result<Option<Progress>, AppError> {
        let forecast = self.forecast(who, &detail.plan, Some(&detail.run.id)).await?;
        Ok(forecast.progress(detail, self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let sorted: Vec<i64> = (1..=20).collect();

        assert_eq!(percentile(&sorted, 50), Some(10));
        assert_eq!(percentile(&sorted, 95), Some(19));
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}

//! `flag.ack`: waits until the connected clients have acknowledged the run's changes.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
};
use crate::ports::Converged;
use crate::units::{duration_text, percent_text};

/// How often the count is looked at, in milliseconds: well below the 300 ms that a rollback may take.
const LOOK_EVERY_MS: u64 = 20;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    thousandths: u32,
    within_ms: u64,
    must: bool,
}

impl Params {
    fn reached(&self, status: &Converged) -> bool {
        // In whole numbers: 99 of 100 are 99 %, exactly.
        u128::from(status.acked) * 100_000
            >= u128::from(status.connected) * u128::from(self.thousandths)
    }
}

fn words(status: &Converged) -> String {
    if status.connected == 0 {
        return format!(
            "no client is connected, so nobody has to acknowledge revision {}",
            status.revision
        );
    }
    format!(
        "{} of {} clients acknowledged revision {}",
        status.acked, status.connected, status.revision
    )
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.ack"
    }

    fn about(&self) -> &'static str {
        "Waits until a share of the connected clients has acknowledged the change."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "at_least", about: "the share of the connected clients, such as 99%" },
            Field { name: "within", about: "how long to wait for them" },
            Field { name: "on_timeout", about: "fail or continue" },
        ]
    }

    fn read_only(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            thousandths: fields.percent("at_least")?,
            within_ms: fields.duration("within")?,
            must: fields.word("on_timeout", &[("fail", true), ("continue", false)])?,
        };
        let share = percent_text(params.thousandths);
        let within = duration_text(params.within_ms);
        let then = if params.must { "fail" } else { "go on all the same" };
        let does = format!(
            "Wait up to {within} until {share} of the clients have the change, else {then}"
        );
        // The step ends by itself; the limit is only for a count that never comes back.
        let timeout_ms = params.within_ms + 5_000;
        Ok(Resolved { timeout_ms, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let mut effect = Effect::none();
        match at.world.convergence.status(&at.plan.environment, None).await {
            Ok(status) if status.connected == 0 => effect.warnings.push(words(&status)),
            Ok(status) => effect.clients = Answer::Known(status.connected),
            Err(error) => effect.clients = Answer::Unknown(error.to_string()),
        }
        effect
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let begun = at.now();
        let give_up = begun.saturating_add_unsigned(params.within_ms);
        loop {
            let status = at.world.convergence.status(&at.plan.environment, at.revision()).await?;
            let now = at.now();
            let (reached, took_ms) = (params.reached(&status), now - begun);
            if reached || (now >= give_up && !params.must) {
                return Ok(Ran::Done(json!({
                    "says": words(&status), "connected": status.connected, "acked": status.acked,
                    "at_revision": status.revision, "reached": reached, "took_ms": took_ms,
                })));
            }
            if now >= give_up {
                let within = duration_text(params.within_ms);
                return Err(StepError::passing(format!("only {} within {within}", words(&status))));
            }
            at.world
                .clock
                .sleep_until(now.saturating_add_unsigned(LOOK_EVERY_MS).min(give_up))
                .await;
        }
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        match self.run(at).await {
            Ok(Ran::Done(seen)) => Ok(Check::Holds(
                seen.get("says").and_then(|v| v.as_str()).unwrap_or_default().to_owned(),
            )),
            Ok(Ran::Committed) => Ok(Check::Holds(String::new())),
            Err(StepError::Failed { message, .. }) => Ok(Check::Broken(message)),
            Err(error) => Err(error),
        }
    }
}

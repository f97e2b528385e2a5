//! `consistency.run`: looks at a pack of consistency checks, or repairs what it finds, and wants it to be healthy afterwards.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
    Undo,
};
use crate::consistency::{PackHealth, PackWish, RepairState};
use crate::journal::Phase;
use crate::units::{parse_percent, percent_text};

/// The default limit of one attempt, in milliseconds: a million rows take minutes.
const LIMIT_MS: u64 = 1_800_000;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    wish: PackWish,
    repair: bool,
    /// The health that it wants, in thousandths of a percent.
    health: u32,
}

impl Params {
    fn is_enough(&self, look: PackHealth) -> bool {
        look.health * 100_000.0 >= f64::from(self.health)
    }

    fn says(&self, look: PackHealth) -> String {
        let percent = (look.health * 10_000.0).floor() / 100.0;
        format!("`{}` is at {percent} %, {} found", self.wish.pack, look.found)
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "consistency.run"
    }

    fn about(&self) -> &'static str {
        "Looks at a pack of consistency checks, or repairs what it finds, and wants it to be healthy."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "pack", about: "the pack" },
            Field { name: "check", about: "only this check" },
            Field {
                name: "window",
                about: "only what came to be so long ago at most, such as 10m",
            },
            Field { name: "repair", about: "true: repairs what it finds; an undo puts it back" },
            Field { name: "health", about: "the health that it wants, default 100%" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let wish = PackWish {
            pack: fields.text("pack", 60)?,
            check: fields.text_or_none("check", 60)?,
            window_ms: fields.duration_or_none("window")?,
        };
        let repair = fields.any("repair").is_some() && fields.bool("repair")?;
        let health = match fields.text_or_none("health", 20)? {
            Some(text) => parse_percent(&text).map_err(|why| Fault::new("health", why))?,
            None => 100_000,
        };
        let pack = match &wish.check {
            Some(check) => format!("`{}/{check}`", wish.pack),
            None => format!("`{}`", wish.pack),
        };
        let wanted = percent_text(health);
        let (does, undoes, undo) = if repair {
            (format!("Repair what {pack} finds"), format!("Take back what {pack} repaired"), None)
        } else {
            (format!("Want {pack} to be at {wanted}"), String::new(), Some(Undo::NotNeeded))
        };
        let params = Params { wish, repair, health };
        Ok(Resolved { undoes, undo, timeout_ms: LIMIT_MS, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        if params.repair {
            return match at.world.consistency.would_repair(&params.wish).await {
                Ok(count) => {
                    let message = format!("would repair {count}");
                    let change = (Value::Null, json!({"message": message, "rows": count}));
                    Effect { change: Answer::Known(Some(change)), ..Effect::none() }
                }
                Err(error) => {
                    Effect { change: Answer::Unknown(error.to_string()), ..Effect::none() }
                }
            };
        }
        match at.world.consistency.look(&params.wish).await {
            Ok(look) if params.is_enough(look) => Effect::none(),
            Ok(look) => Effect {
                warnings: vec![format!("the step would fail: {}", params.says(look))],
                ..Effect::none()
            },
            Err(error) => Effect { warnings: vec![error.to_string()], ..Effect::none() },
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        if !params.repair {
            let look = at.world.consistency.look(&params.wish).await?;
            if params.is_enough(look) {
                return Ok(Ran::Done(json!({"says": params.says(look)})));
            }
            return Err(StepError::permanent(params.says(look)));
        }
        let key = at.key("do");
        at.world.consistency.start(&key, &params.wish).await?;
        let state = wait(at, &key).await?;
        Ok(Ran::Done(detail(&params, &state)))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        let params: Params = at.read()?;
        if !params.repair {
            return Ok(None);
        }
        let state = at.world.consistency.state(&at.key("do")).await?;
        Ok(state.filter(|state| state.is_over && !state.is_failed).map(|s| detail(&params, &s)))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let params: Params = at.read()?;
        let look = at.world.consistency.look(&params.wish).await?;
        let says = params.says(look);
        Ok(if params.is_enough(look) { Check::Holds(says) } else { Check::Broken(says) })
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let key = at.key("do");
        if !params.repair || at.world.consistency.state(&key).await?.is_none() {
            return Ok(Ran::Done(json!({"says": "it had not happened"})));
        }
        at.world.consistency.start_undo(&key).await?;
        let state = wait(at, &key).await?;
        if state.conflicts > 0 {
            let conflicts = state.conflicts;
            return Err(StepError::Conflict(format!(
                "{conflicts} rows were changed by somebody else since, and left alone"
            )));
        }
        Ok(Ran::Done(json!({"says": "what was repaired is as it was"})))
    }
}

/// Waits for a run of repairs, and tells how far it is.
async fn wait(at: &At<'_>, key: &str) -> Result<RepairState, StepError> {
    let mut told = 0;
    loop {
        let Some(state) = at.world.consistency.state(key).await? else {
            return Err(StepError::permanent("the run of repairs is not there any more"));
        };
        if state.is_failed {
            let why = state.message.unwrap_or_default();
            return Err(StepError::permanent(format!("the repair failed: {why}")));
        }
        if state.is_over {
            return Ok(state);
        }
        if state.healed >= told + 10_000 {
            told = state.healed;
            let says = format!("{} of {} repaired", state.healed, state.found);
            let detail = json!({"progress": state.healed, "says": says});
            at.world.journal.append(at.lease, at.entry(Phase::Note, detail)).await?;
            at.world.progress.moved(&at.lease.run_id);
        }
        let next = at.now() + i64::try_from(LOOK_EVERY.as_millis()).unwrap_or(i64::MAX);
        at.world.clock.sleep_until(next).await;
    }
}

fn detail(params: &Params, state: &RepairState) -> Value {
    let RepairState { found, healed, left, .. } = state;
    let says = format!("`{}`: {healed} of {found} repaired, {left} still found", params.wish.pack);
    json!({"says": says, "found": found, "healed": healed, "left": left})
}

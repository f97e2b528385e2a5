//! `session.revoke`: ends open sessions of the app's users, so that they sign in again.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_core::model::Millis;

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
    Undo,
};
use crate::journal::Phase;
use crate::sessions::SessionWish;
use crate::units::duration_words;

/// The default limit of one attempt, in milliseconds: a million sessions take minutes.
const LIMIT_MS: u64 = 600_000;
/// How often the log says how far it is, in sessions.
const TELL_EVERY: u64 = 10_000;
const MINUTE_MS: u64 = 60_000;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    wish: SessionWish,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "session.revoke"
    }

    fn about(&self) -> &'static str {
        "Ends open sessions of the app's users that began before the step; nothing brings them back."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "platform", about: "of this platform, such as ios" },
            Field { name: "app_version", about: "of exactly this version of the app" },
            Field { name: "below_version", about: "of versions of the app below this one" },
            Field { name: "country", about: "from this country" },
            Field { name: "idle", about: "without activity for so long, such as 2h" },
            Field { name: "all", about: "true instead of the others: every open session" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Impossible
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let minutes = |ms: u64| {
            let minutes = u32::try_from(ms / MINUTE_MS).ok().filter(|minutes| *minutes > 0);
            minutes.ok_or_else(|| Fault::new("idle", "at least a minute is expected"))
        };
        let idle_minutes = fields.duration_or_none("idle")?.map(minutes).transpose()?;
        let wish = SessionWish {
            platform: fields.text_or_none("platform", 100)?,
            app_version: fields.text_or_none("app_version", 100)?,
            below_version: fields.text_or_none("below_version", 100)?,
            country: fields.text_or_none("country", 100)?,
            idle_minutes,
        };
        if let Some(version) = &wish.below_version
            && !version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
        {
            let fault = Fault::new("below_version", format!("`{version}` is not a version"));
            return Err(fault.hint("such as 2.4.0"));
        }
        let is_everybody = wish == SessionWish::default();
        let all = fields.any("all").is_some() && fields.bool("all")?;
        if is_everybody != all {
            let fault = Fault::new("all", "either conditions or `all: true` are expected");
            return Err(fault.hint("such as {platform: ios, below_version: 2.4}"));
        }
        let does = format!("End {} of the app's users", words(&wish));
        let resolved = Resolved::new(&Params { wish }, does);
        Ok(Resolved { danger: true, timeout_ms: LIMIT_MS, ..resolved })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let counted = at.world.sessions.count(&at.plan.environment, &params.wish, at.now()).await;
        match counted {
            Ok(count) => {
                let change = (json!({"open_sessions": count}), json!({"open_sessions": 0}));
                let warnings = vec![format!("{count} sessions end; nothing brings them back")];
                Effect { change: Answer::Known(Some(change)), warnings, ..Effect::none() }
            }
            Err(error) => {
                let change = Answer::Unknown(error.to_string());
                Effect { change, ..Effect::none() }
            }
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let Params { wish } = at.read()?;
        let (environment, until) = (&at.plan.environment, at.now());
        let sessions = &at.world.sessions;
        let matching = sessions.count(environment, &wish, until).await?;
        let (mut revoked, mut told) = (0, 0);
        loop {
            let ended = sessions.revoke(environment, &wish, until, revoked == 0).await?;
            if ended == 0 {
                break;
            }
            revoked += ended;
            if revoked - told >= TELL_EVERY {
                told = revoked;
                let detail =
                    json!({"progress": revoked, "says": format!("{revoked} of {matching} ended")});
                at.world.journal.append(at.lease, at.entry(Phase::Note, detail)).await?;
                at.world.progress.moved(&at.lease.run_id);
            }
        }
        let says = format!("{revoked} sessions ended");
        Ok(Ran::Done(json!({"revoked": revoked, "until": until, "says": says})))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let Params { wish } = at.read()?;
        let until = at.done.and_then(|done| Millis::deserialize(done.get("until")?).ok());
        let until = until.unwrap_or_else(|| at.now());
        let left = at.world.sessions.count(&at.plan.environment, &wish, until).await?;
        Ok(if left == 0 {
            Check::Holds("none of them is open any more".to_owned())
        } else {
            Check::Broken(format!("{left} of them are open"))
        })
    }
}

fn words(wish: &SessionWish) -> String {
    let mut parts = Vec::new();
    parts.extend(wish.platform.as_ref().map(|text| format!("on {text}")));
    parts.extend(wish.app_version.as_ref().map(|text| format!("of version {text}")));
    parts.extend(wish.below_version.as_ref().map(|text| format!("of versions below {text}")));
    parts.extend(wish.country.as_ref().map(|text| format!("from {text}")));
    let idle = wish.idle_minutes.map(|minutes| duration_words(u64::from(minutes) * MINUTE_MS));
    parts.extend(idle.map(|text| format!("idle for {text}")));
    if parts.is_empty() {
        return "every open session".to_owned();
    }
    format!("the open sessions {}", parts.join(", "))
}

//! `notify.in_app`: shows a message inside the apps.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::ports::Notice;
use crate::units::duration_text;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    severity: String,
    title: String,
    message: String,
    expires_ms: u64,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "notify.in_app"
    }

    fn about(&self) -> &'static str {
        "Shows a message inside the connected apps; it cannot be unsent."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "severity", about: "info (default), warning or critical" },
            Field { name: "title", about: "a short line" },
            Field { name: "message", about: "the message" },
            Field { name: "expires", about: "how long it is shown; default 1h" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Impossible
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let words = [("info", "info"), ("warning", "warning"), ("critical", "critical")];
        let params = Params {
            severity: fields.word("severity", &words)?.to_owned(),
            title: fields.text("title", 100)?,
            message: fields.text("message", 500)?,
            expires_ms: fields.duration_or_none("expires")?.unwrap_or(3_600_000),
        };
        let shown = duration_text(params.expires_ms);
        let does = format!("Tell the apps for {shown}: \"{}\"", params.title);
        Ok(Resolved::new(&params, does))
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let clients = match at.world.convergence.status(&at.plan.environment, None).await {
            Ok(status) => Answer::Known(status.connected),
            Err(error) => Answer::Unknown(error.to_string()),
        };
        let change = Answer::Known(Some((Value::Null, at.params.clone())));
        Effect { change, clients, warnings: Vec::new() }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let notice = Notice {
            severity: params.severity,
            title: params.title,
            message: params.message,
            expires_at: at.now().saturating_add_unsigned(params.expires_ms),
        };
        at.world.notices.post(&at.key("run"), &at.plan.environment, &notice).await?;
        Ok(Ran::Done(json!({"notice": notice})))
    }
}

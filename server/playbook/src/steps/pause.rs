//! `pause`: waits until somebody lets the run go on; whoever started it may.

use async_trait::async_trait;
use serde_json::json;

use super::{At, Fault, Field, Fields, Ran, Resolved, StepError, StepKind};
use crate::plan::{Approval, OnTimeout};
use crate::units::duration_text;

/// The kind.
pub struct Kind;

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn about(&self) -> &'static str {
        "Waits until somebody lets the run go on; whoever started it may."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "message", about: "what they look at before" },
            Field { name: "timeout", about: "how long to wait for them; default 5m" },
            Field { name: "on_timeout", about: "stop (default), skip or proceed" },
        ]
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let choices =
            [("stop", OnTimeout::Stop), ("skip", OnTimeout::Skip), ("proceed", OnTimeout::Proceed)];
        let approval = Approval {
            roles: Vec::new(),
            min: 1,
            timeout_ms: fields.duration_or_none("timeout")?.unwrap_or(300_000),
            on_timeout: fields.word("on_timeout", &choices)?,
            message: fields.text_or_none("message", 500)?.unwrap_or_default(),
            own: true,
        };
        let within = duration_text(approval.timeout_ms);
        let does = format!("Wait up to {within} until somebody lets it go on");
        Ok(Resolved { approve: Some(approval), ..Resolved::new(&json!({}), does) })
    }

    /// Somebody said so before, and there is no effect.
    async fn run(&self, _: &At<'_>) -> Result<Ran, StepError> {
        Ok(Ran::Done(json!({})))
    }
}

//! `approve`: waits for people to agree.

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
        "approve"
    }

    fn about(&self) -> &'static str {
        "Waits until enough people of the right roles have agreed."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "roles", about: "any of these roles; none: anybody who may approve" },
            Field { name: "min", about: "how many different people; default 1" },
            Field { name: "timeout", about: "how long to wait for them; default 5m" },
            Field { name: "on_timeout", about: "stop (default), skip or proceed" },
            Field { name: "message", about: "what they are asked" },
        ]
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let choices =
            [("stop", OnTimeout::Stop), ("skip", OnTimeout::Skip), ("proceed", OnTimeout::Proceed)];
        let approval = Approval {
            roles: fields.list("roles")?,
            min: fields.whole("min", 1, 10, 1)? as u32,
            timeout_ms: fields.duration_or_none("timeout")?.unwrap_or(300_000),
            on_timeout: fields.word("on_timeout", &choices)?,
            message: fields.text_or_none("message", 500)?.unwrap_or_default(),
            own: false,
        };
        let who = if approval.roles.is_empty() {
            "operators".into()
        } else {
            approval.roles.join(" or ")
        };
        let within = duration_text(approval.timeout_ms);
        let does = format!("Ask {} of {who} to agree within {within}", approval.min);
        Ok(Resolved { approve: Some(approval), ..Resolved::new(&json!({}), does) })
    }

    /// The agreement comes before the effect, and there is none.
    async fn run(&self, _: &At<'_>) -> Result<Ran, StepError> {
        Ok(Ran::Done(json!({})))
    }
}

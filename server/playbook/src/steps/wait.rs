//! `wait`: lets time pass.

use async_trait::async_trait;
use serde_json::json;

use super::{At, Fault, Field, Fields, Ran, Resolved, StepError, StepKind};
use crate::units::duration_text;

/// The kind.
pub struct Kind;

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "wait"
    }

    fn about(&self) -> &'static str {
        "Lets time pass; it survives a restart without starting over."
    }

    fn fields(&self) -> &'static [Field] {
        &[Field { name: "for", about: "how long, such as 30s" }]
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let wait_ms = fields.duration("for")?;
        let does = format!("Wait {}", duration_text(wait_ms));
        Ok(Resolved { wait_ms, ..Resolved::new(&json!({"for_ms": wait_ms}), does) })
    }

    /// The wait comes before the effect, and there is none.
    async fn run(&self, _: &At<'_>) -> Result<Ran, StepError> {
        Ok(Ran::Done(json!({})))
    }
}

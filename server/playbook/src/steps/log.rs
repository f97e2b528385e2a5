//! `log`: leaves a remark in the run's log.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{At, Fault, Field, Fields, Ran, Resolved, StepError, StepKind};

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    message: String,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "log"
    }

    fn about(&self) -> &'static str {
        "Leaves a remark in the run's log."
    }

    fn fields(&self) -> &'static [Field] {
        &[Field { name: "message", about: "the remark" }]
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { message: fields.text("message", 1_000)? };
        let does = format!("Note: {}", params.message);
        Ok(Resolved::new(&params, does))
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        Ok(Ran::Done(json!({"message": at.read::<Params>()?.message})))
    }
}

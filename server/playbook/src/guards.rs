//! `guard`: a guard that finds harm starts a playbook.
//!
//! ```yaml
//! triggers:
//!   - guard: {flag: auth_rollout, environment: production, approve: one_click, wait: 15m, inputs: {share: 10%}}
//! ```
//!
//! The playbook starts beside what the guard does by itself. `reason` is what the guard says, unless it is given.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::alerts::{self, Approve, Given};
use crate::inputs::Input;
use crate::read::Reader;
use crate::triggers;
use crate::yaml::Node;

/// A guard that starts a playbook.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuardTrigger {
    /// The flag that it watches.
    pub flag: String,
    /// The environment's key.
    pub environment: String,
    /// Whether a person says yes first.
    pub approve: Approve,
    /// How long that person is waited for, in milliseconds.
    pub wait_ms: u64,
    /// Values for inputs.
    pub inputs: BTreeMap<String, Given>,
}

/// Reads `guard`.
pub(crate) fn parse(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    inputs: &[Input],
) -> Option<GuardTrigger> {
    let keys = ["flag", "environment", "approve", "wait", "inputs"];
    let map = reader.map(node, path, &keys)?;
    let flag = reader.required(map, path, "flag", 100);
    let (approve, wait_ms) = alerts::asked(reader, map, path);
    let given = triggers::given(reader, map, path, inputs, false);
    triggers::all_given(reader, node, path, inputs, &given);
    Some(GuardTrigger {
        approve,
        wait_ms,
        inputs: given,
        environment: reader.name(map, path, "environment")?,
        flag: flag?,
    })
}

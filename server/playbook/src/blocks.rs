//! Groups and calls: steps that do nothing themselves and stand for others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::Playbook;
use crate::plan::{Condition, Plan, PlannedStep};
use crate::problem::suggest;
use crate::steps::{Field, KindInfo, Undo};
use crate::templates::Library;

/// Steps that run at the same time.
pub const GROUP: &str = "group";
/// The steps of another playbook.
pub const CALL: &str = "playbook.call";
/// How many steps of a group run at once, unless it says so.
pub const AT_ONCE: u64 = 5;
/// How many may.
pub const AT_ONCE_MAX: u64 = 10;
/// How deep playbooks may call each other.
pub const CALLS_MAX: usize = 3;

/// Whether a kind's name is that of a group or a call.
pub fn is_block(kind: &str) -> bool {
    kind == GROUP || kind == CALL
}

/// Groups and calls, for people.
pub fn registry() -> [KindInfo; 2] {
    [
        KindInfo {
            name: GROUP,
            about: "Runs its steps at the same time; each has its own rows in the log, and each is undone.",
            read_only: false,
            undo: Undo::Automatic,
            fields: &[
                Field { name: "max", about: "how many at once: 1 to 10, 5 if absent" },
                Field { name: "steps", about: "the steps; none sees what another one did" },
            ],
        },
        KindInfo {
            name: CALL,
            about: "Runs the steps of another playbook in its place, with its data rules and approvals.",
            read_only: false,
            undo: Undo::Automatic,
            fields: &[
                Field { name: "playbook", about: "the other playbook's name" },
                Field { name: "with", about: "values for its inputs, by name" },
            ],
        },
    ]
}

/// A group or a call in a plan. Its steps stand in the plan like any others and name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedBlock {
    /// Its name, which its steps' names begin with.
    pub id: String,
    /// What people read.
    pub title: String,
    /// The group or call that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Whether its steps run.
    pub condition: Condition,
    /// What it is.
    #[serde(flatten)]
    pub what: Block,
}

/// What stands for other steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Block {
    /// So many steps at once.
    #[serde(rename = "group")]
    Group {
        /// How many.
        max: u64,
    },
    /// Another playbook.
    #[serde(rename = "playbook.call")]
    Call {
        /// Its name.
        playbook: String,
        /// SHA-256 of its file, in hex.
        source_sha256: String,
        /// What it was given.
        inputs: BTreeMap<String, Value>,
        /// Its constants.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        vars: BTreeMap<String, Value>,
    },
}

impl Library {
    /// Adds a playbook that others may call; one of the same name is replaced.
    pub fn insert_playbook(&mut self, playbook: Playbook) {
        self.playbooks.insert(playbook.name.clone(), playbook);
    }

    /// The playbook of this name, or a sentence with the nearest name.
    pub fn playbook(&self, name: &str) -> Result<&Playbook, String> {
        self.playbooks.get(name).ok_or_else(|| {
            let hint = suggest(name, self.playbooks.keys().map(String::as_str));
            format!("there is no playbook `{name}` ({hint})")
        })
    }
}

impl Plan {
    /// The group or call of this name.
    pub fn block(&self, id: &str) -> Option<&PlannedBlock> {
        self.blocks.iter().find(|block| block.id == id)
    }

    /// The groups and calls that a step stands in, from the inside out.
    pub fn blocks_of<'p>(
        &'p self,
        step: &'p PlannedStep,
    ) -> impl Iterator<Item = &'p PlannedBlock> {
        self.around(step.block.as_deref())
    }

    /// A block and those that it stands in, from the inside out.
    pub fn around<'p>(&'p self, id: Option<&'p str>) -> impl Iterator<Item = &'p PlannedBlock> {
        // Blocks stand after those around them, so that this ends whatever a stored plan says.
        let mut wanted = id;
        self.blocks.iter().rev().filter(move |block| {
            let is_it = wanted == Some(block.id.as_str());
            if is_it {
                wanted = block.within.as_deref();
            }
            is_it
        })
    }

    /// The group whose steps a step runs beside, and how many of them run at once.
    pub fn group_of(&self, step: &PlannedStep) -> Option<(&str, u64)> {
        let block = self.block(step.block.as_deref()?)?;
        match block.what {
            Block::Group { max } => Some((block.id.as_str(), max)),
            Block::Call { .. } => None,
        }
    }

    /// What a step stands in, in words; empty when it stands for itself.
    pub fn place_of(&self, step: &PlannedStep) -> String {
        let says = |block: &PlannedBlock| match &block.what {
            Block::Group { max: 1 } => format!("One of `{}`, one after the other", block.id),
            Block::Group { max } => format!("One of `{}`, up to {max} at once", block.id),
            Block::Call { playbook, .. } => {
                format!("A step of the playbook `{playbook}`, called by `{}`", block.id)
            }
        };
        self.blocks_of(step).map(says).collect::<Vec<_>>().join(". ")
    }

    /// Whether a step runs: the first condition around it that is not plain, or its own.
    pub fn runs(&self, step: &PlannedStep) -> Condition {
        let around = self.blocks_of(step).map(|block| &block.condition);
        let found = around.filter(|condition| **condition != Condition::Always).last();
        match (&step.condition, found) {
            (Condition::Never, _) | (_, None) => step.condition.clone(),
            (_, Some(outer)) => outer.clone(),
        }
    }
}

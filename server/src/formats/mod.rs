//! Other systems' flag files, as text in and out: pure functions between their shapes and ours. What cannot be said on
//! the other side is a [`Note`], never an approximation.

pub mod flagd_definition;
pub mod ofrep;
pub mod unleash;

use serde::Serialize;
use switchback_core::model::{FlagKind, FlagState, Segment, ValueType};

/// What was read from another system's file.
#[derive(Debug, Default)]
pub struct Imported {
    /// The flags, by key.
    pub flags: Vec<ImportedFlag>,
    /// The segments, by key.
    pub segments: Vec<Segment>,
    /// What to know before it is applied.
    pub notes: Vec<Note>,
}

/// A flag that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedFlag {
    /// Its name there; a valid [`switchback_core::model::FlagKey`], or the flag was left out with a note.
    pub key: String,
    /// What it is for.
    pub kind: FlagKind,
    /// The type of its values.
    pub value_type: ValueType,
    /// What people wrote about it.
    pub description: String,
    /// Separates its buckets; what the other system hashes with.
    pub salt: String,
    /// Its state.
    pub state: FlagState,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Worth knowing; decisions are the same.
    Info,
    /// Some contexts may be decided otherwise; the message says which.
    Differs,
    /// The flag, or this part of it, is left out.
    LeftOut,
}

/// Something that does not map one to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// The flag or segment that it is about; empty: the file.
    pub about: String,
    /// Where in it, such as `strategies[0].constraints[1]`.
    pub path: String,
    /// What, and why.
    pub message: String,
}

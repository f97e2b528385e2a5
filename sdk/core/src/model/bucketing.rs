//! How a rule puts units in buckets, and what it gives to those that it admits.

use serde::{Deserialize, Serialize};

use super::Percent;

/// A formula, and where on its scale the rule's share starts.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bucketing {
    /// How a unit becomes a number.
    pub formula: Formula,
    /// The rule admits the slots from here on: with `offset` 50 and `percent` 20 those from 50 % to 70 %. Lets the
    /// outcomes of one split be rules of their own. With `percent` at most 100.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: Percent,
}

impl Bucketing {
    /// Switchback's own formula from 0 on.
    pub fn is_native(&self) -> bool {
        *self == Self::default()
    }
}

/// How a unit becomes a number. All but the first are other systems', kept by rules that were imported from
/// them, so that no user changes sides on the way.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// Switchback's and Unleash's: see [`crate::slot`].
    #[default]
    Native,
    /// flagd's `fractional`: MurmurHash3 x86 32-bit of salt and unit, scaled by multiply and shift.
    Flagd,
    /// LaunchDarkly's: the first 60 bits of SHA-1 of `salt.unit`; the salt is `flagKey.flagSalt`, or the seed.
    /// A missing unit counts as 0.
    #[serde(rename = "launchdarkly")]
    LaunchDarkly,
    /// GrowthBook's version 1: FNV-1a 32-bit of unit and salt, modulo 1,000.
    #[serde(rename = "growthbook_v1")]
    GrowthBookV1,
    /// GrowthBook's version 2: FNV-1a 32-bit of the decimal FNV-1a of salt and unit, modulo 10,000.
    #[serde(rename = "growthbook_v2")]
    GrowthBookV2,
    /// Flagsmith's: MD5 of `salt,unit` modulo 9,999 over 9,998; for multivariate values (below the limit). A salt
    /// that holds a comma is the start of the text as it is.
    Flagsmith,
    /// The same, for percentage splits of segments (the limit included).
    FlagsmithSplit,
}

/// What a rule gives to those that it admits.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Serve {
    /// The flag is on.
    #[default]
    On,
    /// The flag is off, and no later rule is asked.
    Off,
}

impl Serve {
    /// Whether the flag is on.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(percent: &Percent) -> bool {
    *percent == Percent::NONE
}

//! The small types that flags are made of: keys, kinds, shares, stickiness.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a flag key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, or over 100 characters.
    #[error("a key has 1 to 100 characters; this one has {found}")]
    Length {
        /// The length that was given.
        found: usize,
    },
    /// A character outside `A-Z a-z 0-9 _ . ~ -`.
    #[error("a key may hold letters, digits, `_`, `.`, `~` and `-`; `{found}` is not allowed")]
    Character {
        /// The first character that is not allowed.
        found: char,
    },
}

/// A flag's permanent name, such as `auth_bypass`.
///
/// Checked once, on the way in; every later layer may rely on its shape. It never holds a `:`,
/// which keeps `salt:unit` unambiguous when a unit is bucketed.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlagKey(String);

impl FlagKey {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FlagKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
        match (text.len(), text.chars().find(|c| !allowed(*c))) {
            (_, Some(found)) => Err(KeyError::Character { found }),
            (found @ (0 | 101..), None) => Err(KeyError::Length { found }),
            (_, None) => Ok(Self(text)),
        }
    }
}

impl TryFrom<&str> for FlagKey {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        Self::try_from(text.to_owned())
    }
}

impl From<FlagKey> for String {
    fn from(key: FlagKey) -> Self {
        key.0
    }
}

impl fmt::Display for FlagKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a flag is for. It changes how people treat the flag, never how it evaluates.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagKind {
    /// Turns a new piece of work on, step by step.
    #[default]
    Release,
    /// Compares variants.
    Experiment,
    /// Changes how the system runs.
    Operational,
    /// Turns something that works off in an emergency.
    KillSwitch,
    /// Says who may use something.
    Permission,
}

/// The JSON type of a flag's values.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// `true` when on, `false` when off.
    #[default]
    Boolean,
    /// A text.
    String,
    /// A number; 1 stays 1 and 1.0 stays 1.0.
    Number,
    /// Any JSON value.
    Json,
}

/// A share from 0 to 100 %, in steps of 0.001 %. In JSON it is a number such as `25` or `0.125`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "f64"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(100_000);

    /// A share in thousandths of a percent, 0 to 100,000; more is an error.
    pub fn from_thousandths(thousandths: u32) -> Result<Self, PercentError> {
        if thousandths > Self::ALL.0 {
            return Err(PercentError { found: f64::from(thousandths) / 1000.0 });
        }
        Ok(Self(thousandths))
    }

    /// The share in thousandths of a percent, 0 to 100,000.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// The share in percent, 0.0 to 100.0.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// A number that is not a share.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a percentage is 0 to 100 in steps of 0.001; this is {found}")]
pub struct PercentError {
    found: f64,
}

impl TryFrom<f64> for Percent {
    type Error = PercentError;

    fn try_from(percent: f64) -> Result<Self, PercentError> {
        let thousandths = percent * 1000.0;
        let whole = thousandths.round();
        if !(0.0..=100_000.0).contains(&whole) || (thousandths - whole).abs() > 1e-6 {
            return Err(PercentError { found: percent });
        }
        Ok(Self(whole as u32))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.as_f64())
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            to.serialize_u32(self.0 / 1000)
        } else {
            to.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::try_from(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// Which field of the context is bucketed.
///
/// In JSON a plain text: `default` (the user id, else the session id), `random`, or a field's name.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub enum Stickiness {
    /// The user id, else the session id; with neither, the context is not admitted.
    #[default]
    Default,
    /// A fresh draw for each evaluation.
    Random,
    /// A named field of the context.
    Field(String),
}

impl From<String> for Stickiness {
    fn from(text: String) -> Self {
        match text.as_str() {
            "default" | "" => Self::Default,
            "random" => Self::Random,
            _ => Self::Field(text),
        }
    }
}

impl From<Stickiness> for String {
    fn from(stickiness: Stickiness) -> Self {
        match stickiness {
            Stickiness::Default => "default".to_owned(),
            Stickiness::Random => "random".to_owned(),
            Stickiness::Field(name) => name,
        }
    }
}

//! The domain types of a flag document: what is stored, what travels, what people edit.
//!
//! Parsing is strict: a field that this release does not know is an error. The server refuses such
//! input; an SDK keeps the document and turns only the flag in question off (see [`FlagEntry`]).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A moment, in UTC milliseconds since 1970.
pub type Millis = i64;

/// An environment's counter: +1 per committed change, no gaps.
pub type Revision = u64;

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

/// How a constraint compares; the names are Unleash's, plus `IS_SET`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the field's own and say it all")]
pub enum Operator {
    In,
    NotIn,
    StrContains,
    StrStartsWith,
    StrEndsWith,
    NumEq,
    NumGt,
    NumGte,
    NumLt,
    NumLte,
    DateAfter,
    DateBefore,
    SemverEq,
    SemverGt,
    SemverGte,
    SemverLt,
    SemverLte,
    Regex,
    InCidr,
    IsSet,
}

/// One test on a context field. On `groups`, and on any property that is a list, it holds when one
/// element satisfies it (`NOT_IN`: when none is in the list).
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// The context field: `user_id`, `session_id`, `groups`, `platform`, `app_version`, `country`,
    /// `remote_address`, `app_name`, `environment`, `current_time`, or a property's name.
    pub field: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with: any one of these. Operators `NUM_*`, `DATE_*`, `SEMVER_*` and `REGEX`
    /// take exactly one; `IS_SET` takes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Turns the answer round.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inverted: bool,
    /// `STR_*` and `REGEX` ignore case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub case_insensitive: bool,
}

/// A named outcome with weight and value.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// 1 to 100 characters, unique in its list.
    pub name: String,
    /// Share among the list's total; 0 to 100,000.
    pub weight: u32,
    /// The value that the variant gives; `null` gives the flag's on value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Which field is bucketed; `None` takes the rule's, then `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stickiness: Option<Stickiness>,
    /// Contexts that get this variant whatever their bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// Contexts whose `field` is one of `values`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The context field.
    pub field: String,
    /// Any of these.
    pub values: Vec<String>,
}

/// One strategy of a flag. Everything named must hold; then the rollout admits its share.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Stable within the flag, 1 to 60 characters; it names the rule in reasons.
    pub id: String,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The context is in one of these groups; empty: any context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The context is on one of these platforms (`ios`, `android`, `web`, `server`, or the app's own
    /// word); empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// All must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Keys of segments, all of which must hold. A missing segment never holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// The share that is let in.
    #[serde(default = "everybody")]
    pub percent: Percent,
    /// Which field is bucketed.
    #[serde(default)]
    pub stickiness: Stickiness,
    /// Separates this rule's buckets from others'; `None` takes the flag's salt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Used instead of the flag's variants when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// Another flag that must be on (or off, or on a variant) first.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Prerequisite {
    /// The other flag.
    pub flag: FlagKey,
    /// Whether it must be on (`true`) or off.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// With `enabled`: the other flag's variant must be one of these; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
}

/// What an SDK does with a flag when it cannot confirm freshness for `max_staleness_ms`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Go on with the last known state.
    #[default]
    KeepLast,
    /// Evaluate to off.
    Off,
    /// Give this value, as on.
    Value(Value),
}

/// What a flag is in one environment: the part that changes, is logged and can be restored.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlagState {
    /// Off here means off for everybody.
    pub enabled: bool,
    /// The switch above all rules; beats `enabled`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub killed: bool,
    /// The first that admits wins; none at all admits everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Used when the rule that admitted has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// All must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prerequisites: Vec<Prerequisite>,
    /// The value when on; `null` on a boolean flag means `true`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub on_value: Value,
    /// The value when off; `null` on a boolean flag means `false`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub off_value: Value,
    /// From this moment on the flag evaluates to off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// How long an SDK may trust the flag without word from the server, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness_ms: Option<u64>,
    /// What happens after that.
    #[serde(default, skip_serializing_if = "is_keep_last")]
    pub on_stale: OnStale,
    /// SDKs report each evaluation as an impression event.
    #[serde(default, skip_serializing_if = "is_false")]
    pub impressions: bool,
}

/// A flag as it travels in a document: its identity and its state in this environment.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Its permanent name, unique in the server.
    pub key: FlagKey,
    /// The project that it belongs to.
    pub project: String,
    /// What it is for.
    #[serde(default)]
    pub kind: FlagKind,
    /// The type of its values.
    #[serde(default)]
    pub value_type: ValueType,
    /// Separates its buckets from other flags'; the key at creation.
    pub salt: String,
    /// Its state here.
    pub state: FlagState,
}

/// A saved, shared list of constraints; all must hold.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Its permanent name; the shape of a flag key.
    pub key: FlagKey,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// All must hold; an empty list admits everybody.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}

/// A flag of a document, or what is left of one that this release cannot read.
#[derive(Clone, Debug, PartialEq)]
pub enum FlagEntry {
    /// A flag that is understood.
    Known(Box<Flag>),
    /// A flag that is not: it evaluates to off, with an error as the reason.
    Unreadable {
        /// Its key.
        key: String,
        /// What was wrong.
        error: String,
        /// The entry as it came, so that it can be passed on unchanged.
        raw: Value,
    },
}

impl FlagEntry {
    /// The flag's key.
    pub fn key(&self) -> &str {
        match self {
            Self::Known(flag) => flag.key.as_str(),
            Self::Unreadable { key, .. } => key,
        }
    }
}

impl Serialize for FlagEntry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(flag) => flag.serialize(to),
            Self::Unreadable { raw, .. } => raw.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for FlagEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Value::deserialize(from)?;
        match Flag::deserialize(&raw) {
            Ok(flag) => Ok(Self::Known(Box::new(flag))),
            Err(error) => match raw.get("key").and_then(Value::as_str) {
                Some(key) => {
                    Ok(Self::Unreadable { key: key.to_owned(), error: error.to_string(), raw })
                }
                None => Err(serde::de::Error::custom("a flag without a key")),
            },
        }
    }
}

/// Everything that one environment says to one scope of clients.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Document {
    /// The database's random id; revisions compare only within one.
    pub epoch: String,
    /// The environment's key.
    pub environment: String,
    /// The environment's revision that this is.
    pub revision: Revision,
    /// Flags by key.
    #[serde(with = "by_key")]
    pub flags: BTreeMap<String, FlagEntry>,
    /// Segments by key. One that this release cannot read is replaced by one that never holds.
    #[serde(deserialize_with = "lenient::segment_map")]
    pub segments: BTreeMap<String, Segment>,
}

/// The field of the constraint that stands in for a segment that could not be read. It has no
/// values, so it never holds.
pub(crate) const UNREADABLE: &str = "unreadable";

/// Segments that this release cannot read turn off what depends on them, not the whole document.
pub(crate) mod lenient {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer};
    use serde_json::Value;

    use super::{Constraint, FlagKey, Operator, Segment, UNREADABLE};

    pub(crate) fn segment_map<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, Segment>, D::Error> {
        let raw = BTreeMap::<String, Value>::deserialize(from)?;
        let read = |(key, raw)| Some((key, segment(&raw)?)); // without a key: missing, never holds
        Ok(raw.into_iter().filter_map(read).collect())
    }

    pub(crate) fn segment_list<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Segment>, D::Error> {
        let raw = Vec::<Value>::deserialize(from)?;
        let read =
            |raw| segment(raw).ok_or_else(|| serde::de::Error::custom("a segment without a key"));
        raw.iter().map(read).collect()
    }

    fn segment(raw: &Value) -> Option<Segment> {
        Segment::deserialize(raw).ok().or_else(|| {
            let key = FlagKey::try_from(raw.get("key")?.as_str()?).ok()?;
            let never = Constraint {
                field: UNREADABLE.to_owned(),
                operator: Operator::In,
                values: Vec::new(),
                inverted: false,
                case_insensitive: false,
            };
            Some(Segment { key, name: String::new(), constraints: vec![never] })
        })
    }
}

/// Flags travel as a list, as each carries its key.
mod by_key {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::FlagEntry;

    pub fn serialize<S: Serializer>(
        flags: &BTreeMap<String, FlagEntry>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(flags.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, FlagEntry>, D::Error> {
        let flags = Vec::<FlagEntry>::deserialize(from)?;
        Ok(flags.into_iter().map(|flag| (flag.key().to_owned(), flag)).collect())
    }
}

fn everybody() -> Percent {
    Percent::ALL
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn is_keep_last(on_stale: &OnStale) -> bool {
    *on_stale == OnStale::KeepLast
}

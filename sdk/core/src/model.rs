//! The domain types of a flag document: what is stored, what travels, what people edit.
//!
//! Parsing is strict: a field that this release does not know is an error. The server refuses such
//! input; an SDK keeps the document and turns only the flag in question off (see [`FlagEntry`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

mod bucketing;
mod scalars;

pub use bucketing::{Bucketing, Formula, Serve};
pub use scalars::{FlagKey, FlagKind, KeyError, Percent, PercentError, Stickiness, ValueType};

/// A moment, in UTC milliseconds since 1970.
pub type Millis = i64;

/// An environment's counter: +1 per committed change, no gaps.
pub type Revision = u64;

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
    /// `remote_address`, `app_name`, `environment`, `current_time`, or a property's name;
    /// `properties.user_id` is the property of that name.
    pub field: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with: any one of these. Operators `NUM_*`, `DATE_*`, `SEMVER_*` and `REGEX`
    /// take exactly one; `IS_SET` takes none.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
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
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
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
    /// How units are put in buckets; imported rules keep the formula of the system that they are from.
    #[serde(default, skip_serializing_if = "Bucketing::is_native")]
    pub bucketing: Bucketing,
    /// Whether those that it admits get the flag on or off.
    #[serde(default, skip_serializing_if = "Serve::is_on")]
    pub serve: Serve,
    /// Used instead of the flag's variants when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

impl Rule {
    /// A rule that admits everybody.
    pub fn everybody(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: None,
            groups: Vec::new(),
            platforms: Vec::new(),
            constraints: Vec::new(),
            segments: Vec::new(),
            percent: Percent::ALL,
            stickiness: Stickiness::Default,
            salt: None,
            bucketing: Bucketing::default(),
            serve: Serve::On,
            variants: Vec::new(),
        }
    }
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

impl Document {
    /// Reads a document from JSON, as `serde_json` does, but without a detour where this release understands every flag
    /// and segment: nearly always, and then in half the time.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        /// A document without anything that cannot be read.
        #[derive(Deserialize)]
        struct Understood {
            epoch: String,
            environment: String,
            revision: Revision,
            #[expect(clippy::vec_box, reason = "they stay in their boxes")]
            flags: Vec<Box<Flag>>,
            segments: BTreeMap<String, Segment>,
        }
        let Ok(read) = serde_json::from_str::<Understood>(text) else {
            return serde_json::from_str(text);
        };
        let flags = read.flags.into_iter();
        Ok(Self {
            epoch: read.epoch,
            environment: read.environment,
            revision: read.revision,
            flags: flags.map(|flag| (flag.key.to_string(), FlagEntry::Known(flag))).collect(),
            segments: read.segments,
        })
    }
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

/// A list that may be long and stays for as long as the document does: without room for more.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let mut texts = Vec::<String>::deserialize(from)?;
    texts.shrink_to_fit();
    Ok(texts)
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

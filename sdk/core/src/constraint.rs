//! Constraints, compiled: everything in them is parsed once.
//!
//! Semantics are Unleash's (client specification 6.1.0): values are trimmed and empty ones dropped,
//! `NOT_IN` holds for a missing value and nothing else does, `inverted` turns the answer round. A
//! constraint that cannot be understood never holds, inverted or not.

mod set;
mod text;

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use crate::context::{Field, Found, Query, parse_ip};
use crate::model::{Constraint, Millis, Operator};
use crate::version::Version;
use set::sample;
pub(crate) use set::{Set, Texts};
use text::Pattern;

/// The most memory that one compiled regular expression may take, in bytes.
pub const REGEX_SIZE_BYTES_MAX: usize = 1 << 20;

/// One test on a context field.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) field: Field,
    op: Op,
    inverted: bool,
}

#[derive(Debug)]
enum Op {
    In(Set),
    NotIn(Set),
    Text(Place, Box<[Pattern]>),
    Number(Compare, f64),
    /// Against the time of the decision, whatever the field: so does Unleash.
    Date(Compare, Millis),
    Version(Compare, OwnedVersion),
    Regex(Regex),
    Cidr(Box<[IpNet]>),
    IsSet,
    /// Not understood.
    Never,
}

/// Where a text must be found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Anywhere,
    Start,
    End,
}

#[derive(Clone, Copy, Debug)]
enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug)]
struct OwnedVersion {
    numbers: [u64; 3],
    pre: Box<str>,
}

/// What is wrong with a constraint: the part (`values`, `field`) and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) part: &'static str,
    pub(crate) message: String,
}

impl Test {
    /// Never fails: what is not understood never holds, and the fault says why.
    pub(crate) fn compile(constraint: &Constraint, texts: &mut Texts) -> (Self, Option<Fault>) {
        let field = Field::new(&constraint.field);
        let (op, fault) = match parse(constraint, &field, texts) {
            Ok(op) => (op, None),
            Err(message) => (Op::Never, Some(Fault { part: "values", message })),
        };
        (Self { field, op, inverted: constraint.inverted }, fault)
    }

    #[inline]
    pub(crate) fn holds(&self, query: &Query<'_>) -> bool {
        let held = match (&self.op, query.find(&self.field)) {
            (Op::Never, _) => return false,
            (Op::Date(compare, at), _) => {
                query.moment.now_ms.is_some_and(|now| compare.holds(now.cmp(at)))
            }
            (op, Found::Missing) => matches!(op, Op::NotIn(_)),
            (Op::IsSet, _) => true,
            (Op::NotIn(set), Found::List(list)) => {
                !list.iter().any(|text| set.contains(text, query.texts))
            }
            (op, Found::List(list)) => list.iter().any(|text| op.holds_for(text, query.texts)),
            (Op::Number(compare, bound), Found::Number(number, _)) => {
                compare.holds_for(number, *bound)
            }
            (Op::Number(compare, bound), Found::Time(now_ms)) => {
                compare.holds_for(now_ms as f64, *bound)
            }
            (_, Found::Time(_)) => false,
            (Op::Version(compare, bound), Found::Version(version)) => {
                version.compare(&bound.borrow()).is_some_and(|order| compare.holds(order))
            }
            (Op::Cidr(nets), Found::Address(_, ip)) => ip.is_some_and(|ip| is_within(nets, ip)),
            (op, Found::Text(text) | Found::Number(_, text) | Found::Address(text, _)) => {
                op.holds_for(text, query.texts)
            }
            (op, Found::Version(version)) => op.holds_for(version.text(), query.texts),
        };
        held != self.inverted
    }

    pub(crate) fn uses_time(&self) -> bool {
        matches!(self.op, Op::Date(..)) || self.field.is_current_time()
    }

    /// What the context has to compare, for explanations.
    pub(crate) fn found<'q>(&self, query: &'q Query<'q>) -> Found<'q> {
        match self.op {
            Op::Date(..) => query.moment.now_ms.map_or(Found::Missing, Found::Time),
            _ => query.find(&self.field),
        }
    }
}

impl Op {
    fn holds_for(&self, text: &str, texts: &Texts) -> bool {
        match self {
            Self::In(set) => set.contains(text, texts),
            Self::NotIn(set) => !set.contains(text, texts),
            Self::Text(place, patterns) => patterns.iter().any(|p| p.is_found(*place, text)),
            Self::Number(compare, bound) => {
                number(text).is_some_and(|number| compare.holds_for(number, *bound))
            }
            Self::Version(compare, bound) => Version::strict(text.trim())
                .is_some_and(|version| compare.holds(version.compare(&bound.borrow()))),
            Self::Regex(regex) => regex.is_match(text),
            Self::Cidr(nets) => parse_ip(text).is_some_and(|ip| is_within(nets, ip)),
            Self::IsSet => true,
            Self::Date(..) | Self::Never => false,
        }
    }
}

fn parse(constraint: &Constraint, field: &Field, shared: &mut Texts) -> Result<Op, String> {
    use Operator as O;
    let values = || constraint.values.iter().map(|value| value.trim()).filter(|v| !v.is_empty());
    let one = || values().next().ok_or_else(|| "needs a value".to_owned());
    let texts = |place| {
        let patterns = values().map(|value| Pattern::new(value, constraint.case_insensitive));
        Op::Text(place, patterns.collect())
    };
    let compare = Compare::of(constraint.operator);
    Ok(match constraint.operator {
        O::In => Op::In(Set::new(values(), shared)),
        O::NotIn => Op::NotIn(Set::new(values(), shared)),
        O::StrContains => texts(Place::Anywhere),
        O::StrStartsWith => texts(Place::Start),
        O::StrEndsWith => texts(Place::End),
        O::NumEq | O::NumGt | O::NumGte | O::NumLt | O::NumLte => {
            let text = one()?;
            Op::Number(compare, number(text).ok_or_else(|| format!("`{text}` is not a number"))?)
        }
        O::DateAfter | O::DateBefore => {
            let text = one()?;
            let time: jiff::Timestamp = text.parse().map_err(|_| {
                format!("`{text}` is not a time such as 2027-01-31T08:00:00Z (RFC 3339)")
            })?;
            Op::Date(compare, time.as_millisecond())
        }
        O::SemverEq | O::SemverGt | O::SemverGte | O::SemverLt | O::SemverLte => {
            let text = one()?;
            let version =
                if field.is_app_version() { Version::lenient(text) } else { Version::strict(text) };
            let version =
                version.ok_or_else(|| format!("`{text}` is not a version such as 3.2.0"))?;
            Op::Version(compare, OwnedVersion { numbers: version.numbers, pre: version.pre.into() })
        }
        O::Regex => {
            one()?;
            // As it is written: a blank at its end belongs to it.
            let pattern = constraint.values.iter().find(|value| !value.trim().is_empty());
            let regex = RegexBuilder::new(pattern.map_or("", |pattern| pattern))
                .case_insensitive(constraint.case_insensitive)
                .size_limit(REGEX_SIZE_BYTES_MAX)
                .build()
                .map_err(|error| format!("is not a regular expression: {error}"))?;
            regex.is_match(""); // makes its caches now rather than in the first decision
            Op::Regex(regex)
        }
        O::InCidr => Op::Cidr(values().filter_map(net).collect()),
        O::IsSet => Op::IsSet,
    })
}

impl Compare {
    fn of(operator: Operator) -> Self {
        use Operator as O;
        match operator {
            O::NumGt | O::SemverGt | O::DateAfter => Self::Greater,
            O::NumGte | O::SemverGte => Self::GreaterOrEqual,
            O::NumLt | O::SemverLt | O::DateBefore => Self::Less,
            O::NumLte | O::SemverLte => Self::LessOrEqual,
            _ => Self::Equal,
        }
    }

    #[inline]
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }

    fn holds_for(self, left: f64, right: f64) -> bool {
        left.partial_cmp(&right).is_some_and(|order| self.holds(order))
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

impl OwnedVersion {
    fn borrow(&self) -> Version<'_> {
        Version { numbers: self.numbers, pre: &self.pre }
    }
}

/// A finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A network; a lone address is a network of one.
pub(crate) fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| parse_ip(text).map(IpNet::from))
}

fn is_within(nets: &[IpNet], ip: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&ip))
}

/// For explanations: `country in [de, fr]`.
pub(crate) struct Shown<'t>(pub(crate) &'t Test, pub(crate) &'t Texts);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(test, texts) = self;
        let field = test.field.name();
        if test.inverted {
            out.write_str("not: ")?;
        }
        match &test.op {
            Op::In(set) => write!(out, "{field} in {}", set.shown(texts)),
            Op::NotIn(set) => write!(out, "{field} not in {}", set.shown(texts)),
            Op::Text(place, patterns) => {
                let verb = match place {
                    Place::Anywhere => "contains",
                    Place::Start => "starts with",
                    Place::End => "ends with",
                };
                write!(out, "{field} {verb} {}", sample(patterns.iter().map(Pattern::as_str)))
            }
            Op::Number(compare, bound) => write!(out, "{field} {} {bound}", compare.sign()),
            Op::Date(compare, at) => {
                write!(out, "current_time {} {}", compare.sign(), Found::Time(*at))
            }
            Op::Version(compare, OwnedVersion { numbers: [major, minor, patch], pre }) => {
                let dash = if pre.is_empty() { "" } else { "-" };
                write!(out, "{field} {} {major}.{minor}.{patch}{dash}{pre}", compare.sign())
            }
            Op::Regex(regex) => write!(out, "{field} matches /{regex}/"),
            Op::Cidr(nets) => {
                let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
                write!(out, "{field} in network {}", sample(nets.iter().map(String::as_str)))
            }
            Op::IsSet => write!(out, "{field} is set"),
            Op::Never => write!(out, "{field}: not understood, never holds"),
        }
    }
}

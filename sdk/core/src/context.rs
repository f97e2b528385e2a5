//! What the caller knows about whom it asks for.

mod body;
mod read;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::ops::Range;

pub use body::ContextBody;
pub(crate) use read::{Field, Found, Known, Query, Unit};

use crate::model::Millis;
use crate::version::Version;

/// What a decision needs and only the caller can know: the time, the freshness, a random number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Now. Without it nothing expires and no `DATE_*` constraint holds.
    pub now_ms: Option<Millis>,
    /// How long the server has not been heard of, in milliseconds.
    pub stale_for_ms: u64,
    /// A random number, for the stickiness `random`.
    pub draw: u32,
}

/// Whom a decision is for. Texts may be borrowed, so building one costs little.
///
/// An empty text is the same as none.
///
/// ```
/// use switchback_core::Context;
///
/// let context = Context::new().user_id("u-17").groups(["beta"]).platform("ios").app_version("3.2");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context<'a> {
    user_id: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    groups: Vec<Cow<'a, str>>,
    platform: Option<Cow<'a, str>>,
    app_version: Option<AppVersion<'a>>,
    country: Option<Cow<'a, str>>,
    remote_address: Option<Address<'a>>,
    app_name: Option<Cow<'a, str>>,
    environment: Option<Cow<'a, str>>,
    properties: Vec<(Cow<'a, str>, Property<'a>)>,
    moment: Moment,
}

impl<'a> Context<'a> {
    /// A context that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The user.
    #[must_use]
    pub fn user_id(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.user_id = some(text);
        self
    }

    /// The session.
    #[must_use]
    pub fn session_id(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.session_id = some(text);
        self
    }

    /// Adds groups that the user is a member of.
    #[must_use]
    pub fn groups<T: Into<Cow<'a, str>>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.groups.extend(names.into_iter().map(Into::into));
        self
    }

    /// `ios`, `android`, `web`, `server`, or the app's own word.
    #[must_use]
    pub fn platform(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.platform = some(text);
        self
    }

    /// The app's version; `3.2` counts as `3.2.0`. Parsed here, once.
    #[must_use]
    pub fn app_version(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.app_version = some(text).map(AppVersion::new);
        self
    }

    /// ISO 3166 code.
    #[must_use]
    pub fn country(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.country = some(text);
        self
    }

    /// IPv4 or IPv6. Parsed here, once.
    #[must_use]
    pub fn remote_address(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.remote_address = some(text).map(|text| Address { ip: parse_ip(&text), text });
        self
    }

    /// The app's name.
    #[must_use]
    pub fn app_name(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.app_name = some(text);
        self
    }

    /// The environment; without it, the ruleset's own.
    #[must_use]
    pub fn environment(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.environment = some(text);
        self
    }

    /// Anything else. The last one of a name counts.
    #[must_use]
    pub fn property(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<Property<'a>>,
    ) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// The time of the decision.
    #[must_use]
    pub fn now_ms(mut self, now_ms: Millis) -> Self {
        self.moment.now_ms = Some(now_ms);
        self
    }

    /// How long the server has not been heard of.
    #[must_use]
    pub fn stale_for_ms(mut self, stale_for_ms: u64) -> Self {
        self.moment.stale_for_ms = stale_for_ms;
        self
    }

    /// A random number, for the stickiness `random`.
    #[must_use]
    pub fn draw(mut self, draw: u32) -> Self {
        self.moment.draw = draw;
        self
    }

    /// Whether there is a user or a session to bucket.
    pub fn has_unit(&self) -> bool {
        self.user_id.is_some() || self.session_id.is_some()
    }

    /// The user, or else the session.
    #[inline]
    pub fn unit(&self) -> Option<&str> {
        self.user_id.as_deref().or(self.session_id.as_deref())
    }

    /// Time, freshness and draw, as set so far.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    #[inline]
    pub(crate) fn moment_ref(&self) -> &Moment {
        &self.moment
    }
}

/// A value of the app's own. Numbers keep their text, so that text operators cost nothing later.
#[derive(Clone, Debug, PartialEq)]
pub enum Property<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number, and how it is written.
    Number {
        /// Its value.
        value: f64,
        /// Its text; 1.0 is `1`.
        text: Box<str>,
    },
    /// `true` or `false`.
    Bool(bool),
    /// Texts; a constraint holds when it does for one of them.
    List(Vec<Cow<'a, str>>),
}

impl<'a> From<&'a str> for Property<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Property<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<bool> for Property<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Property<'_> {
    fn from(value: f64) -> Self {
        Self::Number { value, text: value.to_string().into() }
    }
}

impl From<i64> for Property<'_> {
    fn from(value: i64) -> Self {
        Self::Number { value: value as f64, text: value.to_string().into() }
    }
}

impl From<i32> for Property<'_> {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<u64> for Property<'_> {
    fn from(value: u64) -> Self {
        Self::Number { value: value as f64, text: value.to_string().into() }
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<Vec<T>> for Property<'a> {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl<'a, T: Into<Cow<'a, str>>, const N: usize> From<[T; N]> for Property<'a> {
    fn from(list: [T; N]) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

/// The app's version as text, with its parts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppVersion<'a> {
    text: Cow<'a, str>,
    /// `None`: the text is no version.
    parts: Option<([u64; 3], Range<usize>)>,
}

impl<'a> AppVersion<'a> {
    fn new(text: Cow<'a, str>) -> Self {
        let parts = Version::lenient(text.trim()).map(|version| {
            // Pre-release identifiers hold no `+`, and only they follow the first `-`.
            let start = text.find('-').map_or(0, |dash| dash + 1);
            (version.numbers, start..start + version.pre.len())
        });
        Self { text, parts }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How it compares to another version; `None` when the text is no version.
    #[inline]
    pub(crate) fn compare(&self, other: &Version<'_>) -> Option<Ordering> {
        let (numbers, pre) = self.parts.as_ref()?;
        let order = numbers.cmp(&other.numbers);
        if order.is_ne() || (pre.is_empty() && other.pre.is_empty()) {
            return Some(order);
        }
        Some(Version { numbers: *numbers, pre: self.text.get(pre.clone())? }.compare(other))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Address<'a> {
    text: Cow<'a, str>,
    ip: Option<IpAddr>,
}

/// An address; IPv4 written as IPv6 counts as IPv4.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn some<'a>(text: impl Into<Cow<'a, str>>) -> Option<Cow<'a, str>> {
    Some(text.into()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_keeps_its_pre_release() {
        let compare = |text, other| {
            let other = Version::strict(other).unwrap();
            AppVersion::new(Cow::Borrowed(text)).compare(&other)
        };

        assert_eq!(compare("3.2", "3.2.0"), Some(Ordering::Equal));
        assert_eq!(compare("3.2.1-rc.1+b-5", "3.2.1-rc.1"), Some(Ordering::Equal));
        assert_eq!(compare("3.2.1-rc.1", "3.2.1"), Some(Ordering::Less));
        assert_eq!(compare("3.2.1+b-5", "3.2.1"), Some(Ordering::Equal));
        assert_eq!(compare("3.2.1+b-5", "3.2.1-a"), Some(Ordering::Greater));
        assert_eq!(compare("soon", "3.2.1"), None);
    }
}

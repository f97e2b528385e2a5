//! Reading a context: fields by number instead of by name.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::{AppVersion, Context, Moment, Property};
use crate::constraint::Texts;
use crate::model::{Millis, Stickiness};

/// A context at a moment: what every decision takes.
pub(crate) struct Query<'q> {
    pub(crate) context: &'q Context<'q>,
    pub(crate) moment: &'q Moment,
    /// The ruleset's environment, for contexts that name none.
    pub(crate) environment: &'q str,
    /// The ruleset's, which its lists are made of.
    pub(crate) texts: &'q Texts,
    /// For decisions of many flags.
    pub(crate) known: Option<&'q Known>,
}

/// The numbers that a context's groups and platform have among a ruleset's texts, looked up once for many decisions.
pub(crate) struct Known {
    /// 0: in no list.
    platform: u32,
    groups: [u32; Self::GROUPS_MAX],
    count: usize,
}

impl Known {
    /// With more groups that are in lists, each decision looks them up.
    const GROUPS_MAX: usize = 14;

    pub(crate) fn of(context: &Context<'_>, texts: &Texts) -> Option<Self> {
        let platform = context.platform.as_deref().and_then(|platform| texts.find(platform));
        let mut known =
            Self { platform: platform.unwrap_or(0), groups: [0; Self::GROUPS_MAX], count: 0 };
        for number in context.groups.iter().filter_map(|group| texts.find(group)) {
            *known.groups.get_mut(known.count)? = number;
            known.count += 1;
        }
        Some(known)
    }

    #[inline]
    pub(crate) fn platform(&self) -> Option<u32> {
        (self.platform != 0).then_some(self.platform)
    }

    #[inline]
    pub(crate) fn groups(&self) -> &[u32] {
        self.groups.get(..self.count).unwrap_or_default()
    }
}

/// What a context holds under a field.
#[derive(Clone, Copy)]
pub(crate) enum Found<'q> {
    Missing,
    Text(&'q str),
    Number(f64, &'q str),
    Version(&'q AppVersion<'q>),
    Address(&'q str, Option<IpAddr>),
    List(&'q [Cow<'q, str>]),
    Time(Millis),
}

/// A context field, its name looked up when the ruleset was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    place: Place,
    name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    UserId,
    SessionId,
    Groups,
    Platform,
    AppVersion,
    Country,
    RemoteAddress,
    AppName,
    Environment,
    CurrentTime,
    Property,
}

impl Field {
    /// Takes our names and Unleash's (`userId`); anything else is a property.
    pub(crate) fn new(name: &str) -> Self {
        let place = match name {
            "user_id" | "userId" => Place::UserId,
            "session_id" | "sessionId" => Place::SessionId,
            "groups" => Place::Groups,
            "platform" => Place::Platform,
            "app_version" | "appVersion" => Place::AppVersion,
            "country" => Place::Country,
            "remote_address" | "remoteAddress" => Place::RemoteAddress,
            "app_name" | "appName" => Place::AppName,
            "environment" => Place::Environment,
            "current_time" | "currentTime" => Place::CurrentTime,
            _ => Place::Property,
        };
        let name = if place == Place::Property { property_name(name) } else { name };
        Self { place, name: name.into() }
    }

    /// As people write it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_app_version(&self) -> bool {
        self.place == Place::AppVersion
    }

    pub(crate) fn is_current_time(&self) -> bool {
        self.place == Place::CurrentTime
    }
}

/// `properties.user_id` is the property that is called like a field of ours.
fn property_name(name: &str) -> &str {
    name.strip_prefix("properties.").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// Which field is bucketed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Default,
    Random,
    Field(Field),
}

impl From<&Stickiness> for Unit {
    fn from(stickiness: &Stickiness) -> Self {
        match stickiness {
            Stickiness::Default => Self::Default,
            Stickiness::Random => Self::Random,
            Stickiness::Field(name) => Self::Field(Field::new(name)),
        }
    }
}

impl<'q> Query<'q> {
    /// A field that is not set falls back on the property of the same name.
    #[inline]
    pub(crate) fn find(&'q self, field: &Field) -> Found<'q> {
        let context = self.context;
        let text = match field.place {
            Place::UserId => &context.user_id,
            Place::SessionId => &context.session_id,
            Place::Platform => &context.platform,
            Place::Country => &context.country,
            Place::AppName => &context.app_name,
            Place::AppVersion => match &context.app_version {
                Some(version) => return Found::Version(version),
                None => &None,
            },
            Place::RemoteAddress => match &context.remote_address {
                Some(address) => return Found::Address(&address.text, address.ip),
                None => &None,
            },
            Place::Groups if !context.groups.is_empty() => return Found::List(&context.groups),
            Place::Environment if context.environment.is_none() => {
                return Found::Text(self.environment);
            }
            Place::Environment => &context.environment,
            Place::CurrentTime => {
                return self.moment.now_ms.map_or(Found::Missing, Found::Time);
            }
            Place::Groups | Place::Property => &None,
        };
        match text {
            Some(text) => Found::Text(text),
            None => self.find_property(&field.name),
        }
    }

    fn find_property(&'q self, name: &str) -> Found<'q> {
        let mut properties = self.context.properties.iter().rev();
        match properties.find(|(found, _)| found == name) {
            None => Found::Missing,
            Some((_, Property::Text(text))) => Found::Text(text),
            Some((_, Property::Number { value, text })) => Found::Number(*value, text),
            Some((_, Property::Bool(true))) => Found::Text("true"),
            Some((_, Property::Bool(false))) => Found::Text("false"),
            Some((_, Property::List(list))) if list.is_empty() => Found::Missing,
            Some((_, Property::List(list))) => Found::List(list),
        }
    }

    /// What is bucketed unless a rule says otherwise: the user, or else the session.
    #[inline]
    pub(crate) fn usual_unit(&'q self) -> Option<&'q str> {
        self.context.unit()
    }

    /// The text that is bucketed. A random unit has none: the draw stands in.
    #[inline]
    pub(crate) fn unit(&'q self, unit: &Unit) -> Option<&'q str> {
        match unit {
            Unit::Default => self.usual_unit(),
            Unit::Random => None,
            Unit::Field(field) => match self.find(field) {
                Found::Text(text) | Found::Number(_, text) | Found::Address(text, _) => Some(text),
                Found::Version(version) => Some(version.text()),
                Found::Missing | Found::List(_) | Found::Time(_) => None,
            }
            .filter(|text| !text.is_empty()),
        }
    }

    pub(crate) fn groups(&'q self) -> &'q [Cow<'q, str>] {
        &self.context.groups
    }

    pub(crate) fn platform(&'q self) -> Option<&'q str> {
        self.context.platform.as_deref()
    }
}

/// What was found, for explanations.
impl fmt::Display for Found<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("not set"),
            Self::Text(text) | Self::Number(_, text) | Self::Address(text, _) => {
                write!(out, "`{text}`")
            }
            Self::Version(version) => write!(out, "`{}`", version.text()),
            Self::List(list) => write!(out, "`{}`", list.join("`, `")),
            Self::Time(now_ms) => match jiff::Timestamp::from_millisecond(*now_ms) {
                Ok(time) => write!(out, "{time}"),
                Err(_) => write!(out, "{now_ms} ms"),
            },
        }
    }
}

//! What a probe is told: where to look, how often, and when a component moves.

use serde::{Deserialize, Serialize};
use switchback_source::Credentials;
use switchback_store::ComponentStatus;

use super::flow::{self, FlowStep};
use crate::error::Wrong;

/// The longest time that a look may take, in milliseconds.
pub const TIMEOUT_MAX_MS: i64 = 30_000;

/// A probe.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeSettings {
    /// Its permanent name.
    pub name: String,
    /// The component that it looks at.
    pub component: String,
    /// How it looks.
    pub check: Check,
    /// From one look to the next, in seconds: 10 to 3600.
    #[serde(default = "interval_s")]
    pub interval_s: u64,
    /// How long a look may take, in milliseconds: 100 to 30000, and less than the interval.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Failures in a row after which the component moves: 1 to 20.
    #[serde(default = "failures")]
    pub failures: u64,
    /// Successes in a row after which it moves back: 1 to 20.
    #[serde(default = "successes")]
    pub successes: u64,
    /// Where it moves to.
    #[serde(default = "state")]
    pub state: ComponentStatus,
    /// Whether it looks.
    #[serde(default = "is_enabled")]
    pub is_enabled: bool,
}

/// How a probe looks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// Asks an address.
    Http {
        /// The address.
        url: String,
        /// Statuses that are well; none: 200 to 299.
        #[serde(default)]
        status: Vec<u16>,
        /// A text that the answer holds.
        #[serde(default)]
        text: String,
    },
    /// Opens a connection.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Asks a data source one query; it must give a row.
    Sql {
        /// The data source.
        source: String,
        /// The query; it cannot write.
        query: String,
        /// What the first column of the first row says; empty: anything.
        #[serde(default)]
        text: String,
    },
    /// Signs in, as a person does: posts a name and a password.
    Login {
        /// The address.
        url: String,
        /// Where `name:password` is: `env:NAME` or `file:/absolute/path`.
        credentials: Credentials,
        /// The field of the name.
        #[serde(default = "name_field")]
        name_field: String,
        /// The field of the password.
        #[serde(default = "password_field")]
        password_field: String,
        /// Posts a form instead of JSON.
        #[serde(default)]
        is_form: bool,
        /// Statuses that are well; none: 200 to 399.
        #[serde(default)]
        status: Vec<u16>,
        /// A text that the answer holds.
        #[serde(default)]
        text: String,
        /// The environment whose logins tell of it, as auth events; empty: none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        environment: String,
    },
    /// Signs in by requests one after the other, with cookies and tokens carried over.
    LoginFlow {
        /// Where `name:password` is: `env:NAME` or `file:/absolute/path`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials: Option<Credentials>,
        /// The requests.
        steps: Vec<FlowStep>,
        /// The environment whose logins tell of it, as auth events; empty: none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        environment: String,
    },
}

fn interval_s() -> u64 {
    60
}

fn timeout_ms() -> u64 {
    5_000
}

fn failures() -> u64 {
    3
}

fn successes() -> u64 {
    2
}

fn state() -> ComponentStatus {
    ComponentStatus::MajorOutage
}

fn is_enabled() -> bool {
    true
}

fn name_field() -> String {
    "email".to_owned()
}

fn password_field() -> String {
    "password".to_owned()
}

const TEXT_MAX: usize = 2_000;

impl ProbeSettings {
    /// Everything that is out of its range.
    pub fn faults(&self) -> Vec<Wrong> {
        let limits = [
            ("interval_s", self.interval_s, 10, 3_600),
            ("timeout_ms", self.timeout_ms, 100, TIMEOUT_MAX_MS.unsigned_abs()),
            ("failures", self.failures, 1, 20),
            ("successes", self.successes, 1, 20),
        ];
        let wrong = |field: &str, message: String| Wrong { field: field.to_owned(), message };
        let mut found: Vec<Wrong> = limits
            .into_iter()
            .filter(|(_, is, low, high)| is < low || is > high)
            .map(|(field, is, low, high)| {
                wrong(field, format!("{is} is not between {low} and {high}"))
            })
            .collect();
        if self.timeout_ms > self.interval_s.saturating_mul(1_000) {
            found.push(wrong("timeout_ms", "it is over the interval".to_owned()));
        }
        if matches!(self.state, ComponentStatus::Operational | ComponentStatus::UnderMaintenance) {
            found.push(wrong("state", "it must be a trouble".to_owned()));
        }
        found.extend(self.check.faults().into_iter().map(|(field, message)| wrong(field, message)));
        found
    }
}

impl Check {
    /// The environment whose auth events tell how a sign-in went.
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Login { environment, .. } | Self::LoginFlow { environment, .. } => {
                Some(environment.as_str()).filter(|key| !key.is_empty())
            }
            _ => None,
        }
    }

    /// What cannot be looked at.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut address = |url: &str| match url::Url::parse(url) {
            Ok(url) if !["http", "https"].contains(&url.scheme()) => {
                found.push(("check.url", "it must begin with http:// or https://".to_owned()));
            }
            Ok(url) if url.password().is_some() || !url.username().is_empty() => {
                found.push((
                    "check.url",
                    "it holds a password; a login names credentials".to_owned(),
                ));
            }
            Ok(_) => {}
            Err(_) => found.push(("check.url", "the address cannot be read".to_owned())),
        };
        let (status, texts): (&[u16], Vec<&str>) = match self {
            Self::Http { url, status, text } => {
                address(url);
                (status, vec![url, text])
            }
            Self::Login { url, status, text, name_field, password_field, .. } => {
                address(url);
                if name_field.is_empty() || password_field.is_empty() {
                    found.push(("check.name_field", "both fields need a name".to_owned()));
                }
                (status, vec![url, text, name_field, password_field])
            }
            Self::Tcp { address } => {
                let port = address.rsplit_once(':').and_then(|(host, port)| {
                    (!host.is_empty()).then(|| port.parse::<u16>().ok())?
                });
                if port.is_none_or(|port| port == 0) {
                    found.push(("check.address", "use host:port".to_owned()));
                }
                (&[], vec![address])
            }
            Self::LoginFlow { credentials, steps, .. } => {
                found.extend(flow::faults(steps, credentials.is_some()));
                (&[], Vec::new())
            }
            Self::Sql { source, query, text } => {
                if source.is_empty() || query.trim().is_empty() {
                    found.push(("check.query", "name a data source and a query".to_owned()));
                }
                (&[], vec![query, text])
            }
        };
        if status.iter().any(|one| !(100..600).contains(one)) {
            found.push(("check.status", "a status is 100 to 599".to_owned()));
        }
        if texts.iter().any(|text| text.len() > TEXT_MAX) {
            found.push(("check", format!("a text is over {TEXT_MAX} bytes")));
        }
        found
    }
}

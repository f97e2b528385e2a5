//! What an export to another system's language takes and gives. A flag is written whole and exactly, or refused with
//! the reason.

use std::collections::BTreeMap;

use switchback_core::model::{Constraint, Document, Flag, FlagEntry, OnStale, Stickiness};

/// Fields of ours; a property of the same name cannot be told from them in other languages.
const FIELDS: [&str; 16] = [
    "user_id",
    "userId",
    "session_id",
    "sessionId",
    "groups",
    "platform",
    "app_version",
    "appVersion",
    "country",
    "remote_address",
    "remoteAddress",
    "app_name",
    "appName",
    "environment",
    "current_time",
    "currentTime",
];

/// What is to be written.
#[derive(Clone, Copy)]
pub struct Selection<'d> {
    /// The whole environment.
    pub document: &'d Document,
    /// Only the flags of this project.
    pub project: Option<&'d str>,
    /// What people wrote about flags, by key.
    pub descriptions: &'d BTreeMap<String, String>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Exported {
    /// The file: the same bytes for the same flags.
    pub text: String,
    /// Flags in it.
    pub flags: usize,
    /// Flags that are not, with the reason.
    pub refused: BTreeMap<String, String>,
    /// What stays behind of flags that are; nobody's decision changes.
    pub notes: BTreeMap<String, String>,
}

impl<'d> Selection<'d> {
    /// The flags that are asked for, by key.
    pub(super) fn flags(&self) -> impl Iterator<Item = (&'d str, Result<&'d Flag, String>)> {
        let of_project = |entry: &FlagEntry| match (entry, self.project) {
            (FlagEntry::Known(flag), Some(project)) => flag.project == project,
            _ => true,
        };
        let entries = self.document.flags.iter().filter(move |(_, entry)| of_project(entry));
        entries.map(|(key, entry)| match entry {
            FlagEntry::Known(flag) => (key.as_str(), Ok(&**flag)),
            FlagEntry::Unreadable { error, .. } => {
                (key.as_str(), Err(format!("cannot be read: {error}")))
            }
        })
    }

    /// What people wrote about a flag.
    pub(super) fn description(&self, key: &str) -> String {
        self.descriptions.get(key).cloned().unwrap_or_default()
    }
}

/// A system whose SDKs decide by themselves, in a language that cannot say a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// The system.
    pub system: &'static str,
    /// What its language does not say.
    pub reason: String,
    /// What its SDKs do meanwhile.
    pub meanwhile: &'static str,
}

/// Which systems' SDKs cannot be told a flag, as it would be when on.
pub fn unsaid(document: &Document, key: &str) -> Vec<Unsaid> {
    let Some(FlagEntry::Known(flag)) = document.flags.get(key) else { return Vec::new() };
    let unleash = super::unleash::unsaid(flag, document).map(|reason| Unsaid {
        system: "Unleash",
        reason,
        meanwhile: "its server SDKs are not told of the flag, and have it off",
    });
    let flagd = super::flagd_definition::unsaid(flag, document).map(|reason| Unsaid {
        system: "flagd",
        reason,
        meanwhile: "flagd leaves the value to the app's code",
    });
    unleash.into_iter().chain(flagd).collect()
}

/// What no other language says.
pub(super) fn unsayable(flag: &Flag, document: &Document) -> Option<String> {
    let state = &flag.state;
    if state.max_staleness_ms.is_some() && state.on_stale != OnStale::KeepLast {
        return Some("changes when the server has not been heard of for a while".to_owned());
    }
    let is_hidden = |name: &&str| {
        name.strip_prefix("properties.").is_some_and(|property| FIELDS.contains(&property))
    };
    let found = fields(flag, document).into_iter().find(is_hidden)?;
    Some(format!("asks for `{found}`, a property that is called like a field"))
}

/// Every constraint that the flag's rules ask, those of segments included.
pub(super) fn constraints<'d>(
    flag: &'d Flag,
    document: &'d Document,
) -> impl Iterator<Item = &'d Constraint> {
    flag.state.rules.iter().flat_map(|rule| {
        let segments = rule.segments.iter().filter_map(|key| document.segments.get(key));
        rule.constraints.iter().chain(segments.flat_map(|segment| &segment.constraints))
    })
}

/// Every context field that the flag names.
fn fields<'d>(flag: &'d Flag, document: &'d Document) -> Vec<&'d str> {
    let state = &flag.state;
    let asked = constraints(flag, document).map(|one| one.field.as_str());
    let variants = state.rules.iter().flat_map(|rule| &rule.variants).chain(&state.variants);
    let forced = variants.clone().flat_map(|one| &one.overrides).map(|one| one.field.as_str());
    let sticky = state.rules.iter().map(|rule| &rule.stickiness);
    let sticky = sticky.chain(variants.filter_map(|one| one.stickiness.as_ref()));
    let sticky = sticky.filter_map(|stickiness| match stickiness {
        Stickiness::Field(name) => Some(name.as_str()),
        Stickiness::Default | Stickiness::Random => None,
    });
    asked.chain(forced).chain(sticky).collect()
}

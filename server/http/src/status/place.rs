//! Where the pages stand, and so where their links lead: on this server, or as files anywhere.

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this server.
    Server,
    /// As files; the text leads from the file to the top folder: empty, or `../`.
    Files(&'static str),
}

impl Place {
    /// The page with everything.
    pub fn home(self) -> String {
        match self {
            Self::Server => "/status".to_owned(),
            Self::Files(up) => format!("{up}index.html"),
        }
    }

    /// The page of an incident.
    pub fn incident(self, id: &str) -> String {
        match self {
            Self::Server => format!("/status/incidents/{id}"),
            Self::Files(up) => format!("{up}incidents/{id}.html"),
        }
    }

    /// The page of a month.
    pub fn month(self, month: &str) -> String {
        match self {
            Self::Server => format!("/status/history?month={month}"),
            Self::Files(up) => format!("{up}history/{month}.html"),
        }
    }

    /// A feed or the badge.
    pub fn file(self, name: &str) -> String {
        match self {
            Self::Server => format!("/status/{name}"),
            Self::Files(up) => format!("{up}{name}"),
        }
    }

    /// The state as JSON.
    pub fn json(self) -> String {
        match self {
            Self::Server => "/status.json".to_owned(),
            Self::Files(up) => format!("{up}status.json"),
        }
    }

    /// Where people ask for news; files take no forms.
    pub fn subscribe(self) -> Option<&'static str> {
        (self == Self::Server).then_some("/status/subscribe")
    }

    /// Whether the pages are files.
    pub fn is_files(self) -> bool {
        self != Self::Server
    }
}

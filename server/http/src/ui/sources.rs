//! Data sources: which there are, whether they answer, and setting one.

use actix_web::web::Path;
use askama::Template;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::sources::{SourceTest, SourceView};
use switchback_source::{Access, Credentials, Dialect, Settings, Tested};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// Limits with a field of their own: name, label, unit.
const LIMITS: [(&str, &str, &str); 4] = [
    ("connections_max", "Connections", "at most"),
    ("statement_timeout_ms", "A statement may run", "ms"),
    ("lock_timeout_ms", "It may wait for a lock", "ms"),
    ("rows_max", "A query may give", "rows"),
];
const FIELDS: [&str; 8] = [
    "name",
    "credentials",
    "scratch",
    "access",
    "connections_max",
    "statement_timeout_ms",
    "lock_timeout_ms",
    "rows_max",
];

#[derive(Template)]
#[template(path = "pages/sources.html")]
struct SourcesPage {
    frame: Frame,
    sentence: Words,
    sources: Vec<SourceView>,
    tested: Option<(String, SourceTest)>,
    /// The one that the form shows, if it is there already.
    edited: Option<SourceView>,
    removed: Option<String>,
    form: Fields,
    faults: Faults,
}

impl SourcesPage {
    fn limits(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &LIMITS
    }

    fn dialect(&self, tested: &Tested) -> &'static str {
        match tested.dialect {
            Dialect::Postgres => "PostgreSQL",
            Dialect::Sqlite => "SQLite",
        }
    }

    fn writes(&self, source: &SourceView) -> bool {
        source.settings.access == Access::ReadWrite
    }

    fn by(&self, source: &SourceView) -> String {
        words::actor(&source.updated_by)
    }

    fn limits_of(&self, source: &SourceView) -> String {
        let Settings { connections_max, statement_timeout_ms, rows_max, .. } = source.settings;
        format!(
            "{}, {} a statement, {}",
            words::count(u64::from(connections_max), "connection"),
            words::duration(statement_timeout_ms as i64),
            words::count(rows_max, "row"),
        )
    }

    /// Environments whose flags may be mirrored.
    fn environments(&self) -> Vec<String> {
        self.frame.environments.iter().map(|one| one.key.clone()).collect()
    }

    /// How far a mirror of flags is, and whether that is well.
    fn mirror_of(&self, source: &SourceView) -> Option<(String, &'static str)> {
        let environment = source.settings.mirror.as_ref()?;
        let known = source.mirror.as_ref().filter(|known| known.environment == *environment);
        Some(match known {
            None => (format!("{environment}: not yet looked at"), ""),
            Some(known) if known.error.is_some() => {
                let why = known.error.as_deref().unwrap_or_default();
                (format!("{environment}: behind. {why}"), "bad")
            }
            Some(known) => {
                let behind = known.newest.saturating_sub(known.revision);
                let lag =
                    if behind == 0 { "up to date".to_owned() } else { format!("{behind} behind") };
                (
                    format!("{environment}: r{}, {lag}", known.revision),
                    if behind == 0 { "good" } else { "warn" },
                )
            }
        })
    }

    /// What a field shows: what was sent, else what is set, else the default.
    fn value(&self, field: &str) -> String {
        if let Some(text) = self.form.some(field) {
            return text;
        }
        let settings = match &self.edited {
            Some(source) => serde_json::to_value(&source.settings),
            None => Ok(
                json!({"connections_max": 4, "statement_timeout_ms": 30_000, "lock_timeout_ms": 1_000, "rows_max": 1_000}),
            ),
        };
        match settings.unwrap_or_default().get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&FIELDS)
    }
}

/// `GET /ui/settings/sources?edit=&remove=`.
pub async fn page(visit: Visit, query: Fields) -> Answer {
    ok(&page_of(&visit, query, Faults::default(), None).await?)
}

async fn page_of(
    visit: &Visit,
    form: Fields,
    faults: Faults,
    tested: Option<(String, SourceTest)>,
) -> Result<SourcesPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Data sources").await?;
    let sources = visit.list_sources(&visit.who).await?;
    let find = |name: Option<String>| {
        let name = name?;
        sources.iter().find(|source| source.settings.name == name).cloned()
    };
    let sentence = match sources.len() as u64 {
        0 => Words::say("No data source yet. ")
            .and("Playbooks may then ask the app's own databases whether all is well."),
        count => {
            let writable = sources.iter().filter(|one| one.settings.access == Access::ReadWrite);
            let writable = match writable.count() {
                0 => "none may be written to".to_owned(),
                1 => "1 may be written to".to_owned(),
                more => format!("{more} may be written to"),
            };
            Words::default()
                .strong(&words::count(count, "data source"))
                .and(&format!("; {writable}."))
        }
    };
    let edited = find(form.some("edit"));
    let removed = find(form.some("remove")).map(|source| source.settings.name);
    Ok(SourcesPage { frame, sentence, sources, tested, edited, removed, form, faults })
}

/// `POST /ui/settings/sources`.
pub async fn put(visit: Visit, form: Fields) -> Answer {
    let settings = || -> Result<Settings, AppError> {
        let credentials: Result<Credentials, String> =
            form.text("credentials").to_owned().try_into();
        let scratch = form.some("scratch").map(Credentials::try_from);
        Ok(Settings {
            name: form.text("name").to_owned(),
            description: form.text("description").to_owned(),
            credentials: credentials.map_err(|why| AppError::invalid("credentials", why))?,
            access: if form.is("write") { Access::ReadWrite } else { Access::ReadOnly },
            connections_max: form.number("connections_max")?,
            statement_timeout_ms: form.number("statement_timeout_ms")?,
            lock_timeout_ms: form.number("lock_timeout_ms")?,
            rows_max: form.number("rows_max")?,
            scratch: scratch.transpose().map_err(|why| AppError::invalid("scratch", why))?,
            mirror: form.some("mirror"),
        })
    };
    let made = match settings() {
        Ok(settings) => {
            let (name, reason) = (settings.name.clone(), form.text("reason"));
            let is_off = settings.mirror.is_none();
            match visit.put_source(&visit.who, settings, reason).await {
                Ok(made) if is_off && made.settings.mirror.is_some() => {
                    visit.mirror_flags(&visit.who, &name, None, reason).await
                }
                other => other,
            }
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(made) => {
            let text = format!("{} is set. Test it.", made.settings.name);
            Ok(Visit::done("/ui/settings/sources", &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults, None).await?)
        }
    }
}

/// `POST /ui/settings/sources/{source}/test`.
pub async fn test(visit: Visit, path: Path<String>) -> Answer {
    let tested = visit.test_source(&visit.who, &path).await?;
    let tested = Some((path.into_inner(), tested));
    ok(&page_of(&visit, Fields::default(), Faults::default(), tested).await?)
}

/// `POST /ui/settings/sources/{source}/remove`.
pub async fn remove(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    visit.delete_source(&visit.who, &path, form.text("reason")).await?;
    let text = format!("{path} is forgotten; the database itself is as it was.");
    Ok(Visit::done("/ui/settings/sources", &Toast::say(text)))
}

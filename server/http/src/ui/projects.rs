//! Projects: what they hold, and making one.

use askama::Template;
use switchback_app::flags::FlagFilter;

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

struct Row {
    key: String,
    name: String,
    description: String,
    flags: usize,
    on: usize,
    created_at: i64,
}

#[derive(Template)]
#[template(path = "pages/projects.html")]
struct ProjectsPage {
    frame: Frame,
    sentence: Words,
    rows: Vec<Row>,
    form: Fields,
    faults: Faults,
}

/// `GET /ui/settings/projects`.
pub async fn page(visit: Visit) -> Answer {
    ok(&page_of(&visit, Fields::default(), Faults::default()).await?)
}

async fn page_of(visit: &Visit, form: Fields, faults: Faults) -> Result<ProjectsPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Projects").await?;
    let projects = visit.list_projects(&visit.who).await?;
    let flags = visit.list_flags(&visit.who, &frame.environment, &FlagFilter::default()).await?;
    let rows = projects.into_iter().map(|project| {
        let own = flags.iter().filter(|row| row.flag.project == project.key);
        let (flags, on) = own.fold((0, 0), |(all, on), row| {
            (all + 1, on + usize::from(row.state.enabled && !row.state.killed))
        });
        Row {
            key: project.key,
            name: project.name,
            description: project.description,
            flags,
            on,
            created_at: project.created_at,
        }
    });
    let rows: Vec<Row> = rows.collect();
    let sentence = Words::default()
        .strong(&words::count(rows.len() as u64, "project"))
        .and(&format!(" with {}.", words::count(flags.len() as u64, "flag")))
        .and(" A token can be limited to one project; its SDKs then see no other flag.");
    Ok(ProjectsPage { frame, sentence, rows, form, faults })
}

/// `POST /ui/settings/projects`.
pub async fn make(visit: Visit, form: Fields) -> Answer {
    let key = form.text("key");
    let name = form.some("name").unwrap_or_else(|| words::title(key));
    match visit.create_project(&visit.who, key, &name, form.text("description")).await {
        Ok(made) => {
            let text = format!("{} made.", made.name);
            Ok(Visit::done("/ui/settings/projects", &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults).await?)
        }
    }
}

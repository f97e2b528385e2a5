//! Changing how a pack is monitored, and looking now.

use actix_web::HttpResponse;
use actix_web::web::Path;
use switchback_app::AppError;
use switchback_app::checks::settings::SettingsChange;
use switchback_checks::event_mode::{Event, Mode};

use super::{home, pack};
use crate::ui::Answer;
use crate::ui::fields::{Faults, Fields};
use crate::ui::visit::{Toast, Visit};
use crate::ui::words;

const MINUTE_MS: i64 = 60_000;

/// `POST /ui/checks/{pack}`: one `command`.
pub async fn change(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let name = path.into_inner();
    let command = form.text("command").to_owned();
    let changed = match change_of(&visit, &name, &command, &form).await {
        Ok((change, says)) => {
            visit.change_check_settings(&visit.who, &name, change).await.map(|_| says)
        }
        Err(error) => Err(error),
    };
    match changed {
        Ok(says) => Ok(back(&name, says)),
        Err(AppError::Conflict { .. }) => {
            Ok(back(&name, "It has changed meanwhile; look again.".to_owned()))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            if command == "use" {
                return home::refused(&visit, &name, form, faults).await;
            }
            pack::refused(&visit, &name, form, faults).await
        }
    }
}

/// What a command changes, and what is said when it is done.
async fn change_of(
    visit: &Visit,
    name: &str,
    command: &str,
    form: &Fields,
) -> Result<(SettingsChange, String), AppError> {
    let change =
        SettingsChange { reason: form.text("reason").to_owned(), ..SettingsChange::default() };
    Ok(match command {
        "use" => {
            let source = form.text("source").to_owned();
            if source.is_empty() {
                return Err(AppError::invalid("source", "choose a data source"));
            }
            let says = format!("In use with {source}.");
            let mode = Some(mode_of(form)?);
            (SettingsChange { source: Some(source), mode, ..change }, says)
        }
        "mode" => {
            let mode = mode_of(form)?;
            let says = match mode {
                Mode::Off => "The monitor is off.",
                Mode::Observe => "It looks, and changes nothing.",
                Mode::Fix => "It looks, and will fix.",
            };
            let skip_observing = mode == Mode::Fix && form.is("at_once");
            (SettingsChange { mode: Some(mode), skip_observing, ..change }, says.to_owned())
        }
        "pause" => (SettingsChange { paused: Some(true), ..change }, "Paused.".to_owned()),
        "go_on" => (SettingsChange { paused: Some(false), ..change }, "It goes on.".to_owned()),
        "event" => {
            let minutes: i64 = form.number("event_minutes")?;
            let says = match minutes {
                0 => "Event mode is off.".to_owned(),
                minutes => {
                    let time = words::duration(minutes.saturating_mul(MINUTE_MS));
                    format!("Event mode is on for {time}.")
                }
            };
            (SettingsChange { event_minutes: Some(minutes), ..change }, says)
        }
        "add_event" => {
            let mut events = events_of(visit, name).await?;
            events.push(event_of(form)?);
            events.sort_by_key(|event| event.starts_at);
            (SettingsChange { events: Some(events), ..change }, "The event is planned.".to_owned())
        }
        "remove_event" => {
            let (starts_at, ends_at): (i64, i64) =
                (form.number("starts_at")?, form.number("ends_at")?);
            let mut events = events_of(visit, name).await?;
            events.retain(|event| (event.starts_at, event.ends_at) != (starts_at, ends_at));
            let says = "The event is planned no more.".to_owned();
            (SettingsChange { events: Some(events), ..change }, says)
        }
        "source" => {
            let text = |field: &str| Some(form.text(field).to_owned());
            let mode = form.text("source").is_empty().then_some(Mode::Off);
            let change = SettingsChange {
                source: text("source"),
                replica: text("replica"),
                keeps_labels: Some(form.is("keeps_labels")),
                mode,
                ..change
            };
            (change, "The data source is set.".to_owned())
        }
        other => return Err(AppError::invalid("command", format!("`{other}` is no command"))),
    })
}

fn mode_of(form: &Fields) -> Result<Mode, AppError> {
    let word = form.text("mode");
    let mode = Mode::WORDS.iter().find(|(known, _)| *known == word).map(|(_, mode)| *mode);
    mode.ok_or_else(|| AppError::invalid("mode", "off, observe or fix is expected"))
}

async fn events_of(visit: &Visit, name: &str) -> Result<Vec<Event>, AppError> {
    Ok(visit.get_check_pack(&visit.who, name).await?.settings.events)
}

fn event_of(form: &Fields) -> Result<Event, AppError> {
    let moment = |field: &str| {
        words::read_moment(form.text(field))
            .ok_or_else(|| AppError::invalid(field, "a day and a time are expected, in UTC"))
    };
    let lead: i64 = form.number("lead_minutes")?;
    Ok(Event {
        name: form.text("event_name").chars().take(100).collect(),
        starts_at: moment("event_starts")?,
        ends_at: moment("event_ends")?,
        lead_ms: lead.saturating_mul(MINUTE_MS),
    })
}

/// `POST /ui/checks/{pack}/look`: sweeps now, without fixing.
pub async fn look(visit: Visit, path: Path<String>) -> Answer {
    let name = path.into_inner();
    match visit.run_checks_now(&visit.who, &name, None).await {
        Ok(view) => {
            let says = match view.found {
                0 => "Looked: all is whole.".to_owned(),
                found => format!("Looked: {} found.", words::number(found)),
            };
            Ok(back(&name, says))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            pack::refused(&visit, &name, Fields::default(), faults).await
        }
    }
}

fn back(pack: &str, says: String) -> HttpResponse {
    Visit::done(&format!("/ui/checks/{pack}"), &Toast::say(says))
}

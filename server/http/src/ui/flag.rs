//! One flag: its head, its tabs, and what can be done to it.

use actix_web::web::Path;
use askama::Template;
use serde_json::Value;
use switchback_app::flags::{FlagDescription, Switch};
use switchback_app::live::client::Protocol;
use switchback_app::{AppError, EVERYWHERE};
use switchback_core::model::FlagKind;
use switchback_formats::export::{self, Unsaid};
use switchback_store::{FlagRow, Role};

use super::diff_lines::whom;
use super::fields::{Faults, Fields};
use super::flag_tabs::{Activity, Confirm, Revision, TryIt};
use super::flags::{FlagLine, is_on, share_of};
use super::frame::Frame;
use super::rules::Editor;
use super::visit::{Toast, Visit, is_local};
use super::words::{self, Words, word};
use super::{Answer, ok, unprocessable};

/// What stands below the head.
pub enum Tab {
    Rules(Box<Editor>),
    Try(Box<TryIt>),
    Activity(Activity),
    History(Vec<Revision>, Option<Confirm>),
    Settings(Settings),
}

/// What people read about a flag, as a form.
pub struct Settings {
    pub description: String,
    pub owner: String,
    pub tags: String,
    pub kind: String,
    pub lifetime_days: String,
    pub project: String,
    pub salt: String,
    pub value_type: String,
    pub created_at: i64,
    pub created_by: String,
    pub faults: Faults,
    pub can_archive: bool,
}

#[derive(Template)]
#[template(path = "pages/flag.html")]
pub struct FlagPage {
    frame: Frame,
    flag: FlagLine,
    sentence: Words,
    tab: Tab,
    tab_name: &'static str,
    /// Systems whose SDKs cannot be told its rules, and whether such are connected.
    unsaid: Vec<(Unsaid, bool)>,
    confirm_on: bool,
}

const TABS: [(&str, &str); 5] = [
    ("rules", "Rules"),
    ("try", "Try it"),
    ("activity", "Activity"),
    ("history", "History"),
    ("settings", "Settings"),
];

impl FlagPage {
    fn tabs(&self) -> &'static [(&'static str, &'static str)] {
        &TABS
    }

    fn base(&self) -> String {
        self.frame.url(&format!("flags/{}", self.flag.key))
    }
}

/// `GET /ui/{environment}/flags/{flag}?tab=`.
pub async fn page(visit: Visit, path: Path<(String, String)>, query: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let row = visit.get_flag(&visit.who, &environment, &key).await?;
    let tab = match query.text("tab") {
        "try" => Tab::Try(Box::new(TryIt::of(&visit, &environment, &key, &query).await?)),
        "activity" => Tab::Activity(Activity::of(&visit, &environment, &key).await?),
        "history" => {
            let confirm = Confirm::of(&visit, &environment, &row, &query).await?;
            Tab::History(Revision::list(&visit, &environment, &key, &query).await?, confirm)
        }
        "settings" => Tab::Settings(settings_of(&visit, &row, Faults::default())),
        _ => Tab::Rules(Box::new(Editor::of(&visit, &row, &environment).await?)),
    };
    let mut page = page_of(&visit, &environment, &row, tab).await?;
    page.confirm_on = query.is("turn_on");
    ok(&page)
}

/// The page around a tab.
pub async fn page_of(
    visit: &Visit,
    environment: &str,
    row: &FlagRow,
    tab: Tab,
) -> Result<FlagPage, super::UiError> {
    let frame = visit.frame(environment, "flags", row.flag.key.as_str()).await?;
    let usage = visit.latest_usage(&visit.who, environment).await?;
    let used = usage.get(row.flag.key.as_str()).map_or(0, |(_, count)| *count);
    let tab_name = match tab {
        Tab::Rules(_) => "rules",
        Tab::Try(_) => "try",
        Tab::Activity(_) => "activity",
        Tab::History(..) => "history",
        Tab::Settings(_) => "settings",
    };
    let sentence = sentence(visit, &frame, row);
    let flag = FlagLine::of(row, used, frame.now);
    let unsaid = match tab {
        Tab::Rules(_) | Tab::Settings(_) => unsaid(visit, environment, row).await?,
        _ => Vec::new(),
    };
    Ok(FlagPage { flag, sentence, tab, tab_name, unsaid, confirm_on: false, frame })
}

/// Systems whose SDKs cannot be told the flag, and whether such are connected now.
async fn unsaid(
    visit: &Visit,
    environment: &str,
    row: &FlagRow,
) -> Result<Vec<(Unsaid, bool)>, AppError> {
    let snapshot = visit.hub.feed(environment, None).await?.current();
    let found = export::unsaid(&snapshot.document, row.flag.key.as_str());
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let clients = visit.hub.clients(environment);
    let here = |system: &str| {
        clients.iter().any(|client| match client.protocol {
            Protocol::UnleashPolling | Protocol::UnleashStreaming => system == "Unleash",
            Protocol::Flagd => system == "flagd",
            _ => false,
        })
    };
    let with_clients = |one: Unsaid| {
        let here = here(one.system);
        (one, here)
    };
    Ok(found.into_iter().map(with_clients).collect())
}

fn sentence(visit: &Visit, frame: &Frame, row: &FlagRow) -> Words {
    let (state, now) = (&row.state, frame.now);
    let share = share_of(state, now);
    let words = Words::default();
    let mut words = if state.killed {
        words
            .strong("Killed")
            .and(&format!(" in {}: off for everybody, whatever the rules say.", frame.name))
    } else if !is_on(state, now) {
        words.strong("Off").and(&format!(" for everybody in {}.", frame.name))
    } else if state.rules.is_empty() || (state.rules.len() == 1 && share >= 100.0) {
        let whom = state
            .rules
            .first()
            .map_or_else(|| Words::say("everybody"), |rule| whom(rule, "everybody"));
        words.strong("On").and(" for ").join(&whom).and(&format!(" in {}.", frame.name))
    } else if let [only] = state.rules.as_slice() {
        let share = words::percent(only.percent.as_f64());
        let words = words
            .strong("On")
            .and(" for ")
            .strong(&share)
            .and(" of ")
            .join(&whom(only, "everybody"));
        words.and(&format!(" in {}.", frame.name))
    } else {
        words
            .and(&format!("On in {} by ", frame.name))
            .strong(&format!("{} rules", state.rules.len()))
            .and(&format!(", for up to {}.", words::percent(share)))
    };
    words = words
        .and(&format!(" {} changed it ", words::actor(&row.updated_by)))
        .when(row.updated_at, now)
        .and(".");
    let seen = visit.hub.convergence(&frame.environment, Some(row.revision));
    match seen.connected {
        0 => words.and(" No client is connected."),
        all => words.and(&format!(
            " {} of {} have it.",
            words::number(seen.acked),
            words::count(all, "client"),
        )),
    }
}

fn settings_of(visit: &Visit, row: &FlagRow, faults: Faults) -> Settings {
    let flag = &row.flag;
    Settings {
        description: flag.description.clone(),
        owner: flag.owner.clone(),
        tags: flag.tags.join(", "),
        kind: word(&flag.kind),
        lifetime_days: flag.lifetime_days.map(|days| days.to_string()).unwrap_or_default(),
        project: flag.project.clone(),
        salt: flag.salt.clone(),
        value_type: word(&flag.value_type),
        created_at: flag.created_at,
        created_by: flag.created_by.clone(),
        faults,
        can_archive: visit.who.can(Role::Admin, EVERYWHERE),
    }
}

fn place(environment: &str, key: &str) -> String {
    format!("/ui/{environment}/flags/{key}")
}

fn back_to(form: &Fields, otherwise: &str) -> String {
    let back = form.text("back");
    if is_local(back) { back.to_owned() } else { otherwise.to_owned() }
}

/// `POST .../enabled`: the switch. Off at once; on after a panel that asks why.
pub async fn set_enabled(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let enabled = form.is("enabled");
    let reason = form.some("reason").unwrap_or_else(|| {
        if enabled { String::new() } else { "Turned off from the console.".to_owned() }
    });
    let minutes = form.some("for").map(|_| form.number("for")).transpose()?;
    let expires_at = minutes
        .filter(|_| enabled)
        .map(|minutes: i64| visit.clock.now().saturating_add(minutes.saturating_mul(60_000)));
    let switch = Switch { enabled, expires_at };
    let changed = visit.set_flag_enabled(&visit.who, &environment, &key, switch, &reason).await?;
    let own = place(&environment, &key);
    let (word, undo) = if enabled { ("on", "false") } else { ("off", "true") };
    let toast = if changed.changed {
        Toast::say(format!("{key} is {word}: revision {}.", changed.revision)).undo(
            format!("{own}/enabled"),
            &[
                ("enabled", undo),
                ("reason", "Undo: switched a moment ago."),
                ("back", form.text("back")),
            ],
        )
    } else {
        Toast::say(format!("{key} was {word} already."))
    };
    Ok(Visit::done(&back_to(&form, &own), &toast))
}

/// `POST .../killed`: the switch above all rules.
pub async fn set_killed(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let killed = form.is("killed");
    let reason = form.some("reason").unwrap_or_else(|| {
        if killed { "Killed from the console.".to_owned() } else { String::new() }
    });
    let changed = visit.set_flag_killed(&visit.who, &environment, &key, killed, &reason).await?;
    let own = place(&environment, &key);
    let text = match (changed.changed, killed) {
        (false, _) => format!("{key} was so already."),
        (true, true) => format!("{key} is killed: revision {}.", changed.revision),
        (true, false) => format!("The kill of {key} is lifted: revision {}.", changed.revision),
    };
    Ok(Visit::done(&back_to(&form, &own), &Toast::say(text)))
}

/// `POST .../restore`: back to an earlier revision.
pub async fn restore(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let revision = form.number("revision")?;
    let own = place(&environment, &key);
    match visit.restore_flag(&visit.who, &environment, &key, revision, form.text("reason")).await {
        Ok(changed) => {
            let text =
                format!("{key} is as in revision {revision} again: revision {}.", changed.revision);
            Ok(Visit::done(&own, &Toast::say(text)))
        }
        Err(error) => {
            let row = visit.get_flag(&visit.who, &environment, &key).await?;
            let faults = Faults::of(error)?;
            let mut confirm = Confirm::of(&visit, &environment, &row, &form).await?;
            if let Some(confirm) = &mut confirm {
                confirm.faults = faults;
            }
            let history = Revision::list(&visit, &environment, &key, &form).await?;
            let page = page_of(&visit, &environment, &row, Tab::History(history, confirm)).await?;
            unprocessable(&page)
        }
    }
}

/// `POST .../settings`: what people read.
pub async fn describe(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let kind: Result<FlagKind, _> =
        serde_json::from_value(Value::String(form.text("kind").to_owned()));
    let kind = kind.map_err(|error| AppError::invalid("kind", error.to_string()))?;
    let lifetime = form.some("lifetime_days").map(|_| form.number("lifetime_days")).transpose();
    let described = match lifetime {
        Ok(lifetime_days) => {
            let to = FlagDescription {
                kind,
                description: form.text("description").to_owned(),
                owner: form.text("owner").to_owned(),
                tags: form.list("tags"),
                lifetime_days,
            };
            visit.describe_flag(&visit.who, &key, to, form.text("reason")).await
        }
        Err(error) => Err(error),
    };
    let own = place(&environment, &key);
    match described {
        Ok(_) => Ok(Visit::done(
            &format!("{own}?tab=settings"),
            &Toast::say(format!("{key} described.")),
        )),
        Err(error) => {
            let row = visit.get_flag(&visit.who, &environment, &key).await?;
            let mut settings = settings_of(&visit, &row, Faults::of(error)?);
            form.text("description").clone_into(&mut settings.description);
            form.text("owner").clone_into(&mut settings.owner);
            form.text("tags").clone_into(&mut settings.tags);
            form.text("lifetime_days").clone_into(&mut settings.lifetime_days);
            unprocessable(&page_of(&visit, &environment, &row, Tab::Settings(settings)).await?)
        }
    }
}

/// `POST .../archive`: in every environment; its key must be typed.
pub async fn archive(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let outcome = if form.text("confirm") == key {
        visit.archive_flag(&visit.who, &key, form.text("reason")).await
    } else {
        Err(AppError::invalid("confirm", format!("type {key} to archive it")))
    };
    match outcome {
        Ok(()) => Ok(Visit::done(
            &format!("/ui/{environment}/flags"),
            &Toast::say(format!("{key} archived.")),
        )),
        Err(error @ AppError::Forbidden { .. }) => Err(error.into()),
        Err(error) => {
            let row = visit.get_flag(&visit.who, &environment, &key).await?;
            let settings = settings_of(&visit, &row, Faults::of(error)?);
            unprocessable(&page_of(&visit, &environment, &row, Tab::Settings(settings)).await?)
        }
    }
}

/// `POST .../unarchive`: back in every environment, as it was there.
pub async fn unarchive(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    match visit.unarchive_flag(&visit.who, &key, form.text("reason")).await {
        Ok(()) => {
            let toast = Toast::say(format!("{key} is back, as it was in each environment."));
            Ok(Visit::done(&place(&environment, &key), &toast))
        }
        Err(error @ AppError::Forbidden { .. }) => Err(error.into()),
        Err(error) => {
            let row = visit.get_flag(&visit.who, &environment, &key).await?;
            let settings = settings_of(&visit, &row, Faults::of(error)?);
            unprocessable(&page_of(&visit, &environment, &row, Tab::Settings(settings)).await?)
        }
    }
}

//! The list of flags, and making one.

use actix_web::web::Path;
use askama::Template;
use serde_json::Value;
use switchback_app::AppError;
use switchback_app::flags::{FlagDraft, FlagFilter, everybody, staleness};
use switchback_core::model::{FlagKey, FlagKind, FlagState, Percent, ValueType};
use switchback_store::FlagRow;

use super::bulk::Bulk;
use super::diff_lines::rule_words;
use super::draft::read_value;
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, ok, unprocessable};

/// One flag, as rows and heads show it.
pub struct FlagLine {
    pub key: String,
    pub kind: String,
    pub description: String,
    pub enabled: bool,
    pub killed: bool,
    /// `Off`, `25 %`, `On`, `Killed`, `Expired`.
    pub state: String,
    /// The pill's class.
    pub tone: &'static str,
    /// The bar's length, 0 to 100.
    pub share: f64,
    pub rules: Words,
    pub updated_at: i64,
    pub updated_by: String,
    pub per_hour: String,
    pub stale: Option<String>,
    pub expires_at: Option<i64>,
    pub archived: bool,
}

#[derive(Template)]
#[template(path = "pages/flags.html")]
pub struct FlagsPage {
    frame: Frame,
    sentence: Words,
    rows: Vec<FlagLine>,
    query: Query,
    all: usize,
    confirm: Option<FlagLine>,
    bulk: Option<Bulk>,
}

/// What was asked for, so that links can keep it.
struct Query {
    q: String,
    kind: String,
    state: String,
    mine: String,
    sort: String,
    /// Rows that are ticked.
    picked: Vec<String>,
}

impl Query {
    fn of(fields: &Fields) -> Self {
        let text = |name: &str| fields.text(name).to_owned();
        Self {
            q: text("q"),
            kind: text("kind"),
            state: text("state"),
            mine: text("mine"),
            sort: text("sort"),
            picked: fields.all("flag"),
        }
    }

    fn has_picked(&self, key: &String) -> bool {
        self.picked.contains(key)
    }

    fn chip(&self, field: &str, value: &str) -> String {
        let pick =
            |name: &str, own: &str| if name == field { value.to_owned() } else { own.to_owned() };
        let mut query = url::form_urlencoded::Serializer::new("?".to_owned());
        for (name, own) in self.filters() {
            let value = pick(name, own);
            if !value.is_empty() {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }

    /// What narrows the list, by the names in the address.
    fn filters(&self) -> [(&'static str, &String); 5] {
        [
            ("q", &self.q),
            ("kind", &self.kind),
            ("state", &self.state),
            ("mine", &self.mine),
            ("sort", &self.sort),
        ]
    }

    fn is(&self, field: &str, value: &str) -> bool {
        match field {
            "kind" => self.kind == value,
            "state" => self.state == value,
            "mine" => self.mine == value,
            _ => self.sort == value,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/flag_new.html")]
struct NewFlagPage {
    frame: Frame,
    form: Fields,
    faults: Faults,
    projects: Vec<(String, String)>,
}

/// Whether a state lets anybody in at a moment.
pub fn is_on(state: &FlagState, now: i64) -> bool {
    state.enabled && !state.killed && state.expires_at.is_none_or(|at| at > now)
}

/// The largest share that a rule lets in, 0 to 100.
pub fn share_of(state: &FlagState, now: i64) -> f64 {
    if !is_on(state, now) {
        return 0.0;
    }
    let largest = state.rules.iter().map(|rule| rule.percent).max();
    largest.unwrap_or(Percent::ALL).as_f64()
}

/// Rules in words, one after the other.
pub fn rules_words(state: &FlagState) -> Words {
    if state.rules.is_empty() {
        return Words::default().strong("Everybody");
    }
    let mut all = Words::default();
    for (index, rule) in state.rules.iter().enumerate().take(2) {
        if index > 0 {
            all = all.and("; else ");
        }
        all = all.join(&rule_words(rule));
    }
    match state.rules.len() {
        0..=2 => all,
        more => all.and(&format!("; and {} more", more - 2)),
    }
}

impl FlagLine {
    /// Whether it lets everybody in: it must not be on without an end.
    pub fn is_bypass(&self) -> bool {
        self.key == "auth_bypass"
    }

    /// A row's values.
    pub fn of(row: &FlagRow, per_hour: u64, now: i64) -> Self {
        let state = &row.state;
        let share = share_of(state, now);
        let expired = state.expires_at.is_some_and(|at| at <= now);
        let (text, tone) = match () {
            () if state.killed => ("Killed".to_owned(), "bad"),
            () if !state.enabled => ("Off".to_owned(), ""),
            () if expired => ("Expired".to_owned(), "warn"),
            () if share >= 100.0 => ("On".to_owned(), "good"),
            () => (words::percent(share), "live-pill"),
        };
        Self {
            key: row.flag.key.to_string(),
            kind: words::title(&word(&row.flag.kind)),
            description: row.flag.description.clone(),
            enabled: state.enabled,
            killed: state.killed,
            state: text,
            tone,
            share,
            rules: rules_words(state),
            updated_at: row.updated_at,
            updated_by: words::actor(&row.updated_by),
            per_hour: if per_hour == 0 { "–".to_owned() } else { words::number(per_hour) },
            stale: staleness(row, now),
            expires_at: state.expires_at.filter(|at| *at > now),
            archived: row.flag.archived_at.is_some(),
        }
    }
}

/// `GET /ui/{environment}/flags`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let bulk = Bulk::of(&visit, &path, &query).await?;
    ok(&list(&visit, &path, &query, bulk).await?)
}

/// The list, with what is asked about some of its flags above it.
pub async fn list(
    visit: &Visit,
    path: &str,
    query: &Fields,
    bulk: Option<Bulk>,
) -> Result<FlagsPage, super::UiError> {
    let frame = visit.frame(path, "flags", "Flags").await?;
    let kind = query.some("kind").and_then(|word| serde_json::from_value(Value::String(word)).ok());
    let filter = FlagFilter {
        text: query.some("q"),
        project: query.some("project"),
        kind,
        state: query.some("state"),
        mine: query.is("mine"),
        sort: query.some("sort"),
    };
    let rows = visit.list_flags(&visit.who, path, &filter).await?;
    let all = visit.list_flags(&visit.who, path, &FlagFilter::default()).await?;
    let usage = visit.latest_usage(&visit.who, path).await?;
    let now = frame.now;
    let line = |row: &FlagRow| {
        let used = usage.get(row.flag.key.as_str()).map_or(0, |(_, count)| *count);
        FlagLine::of(row, used, now)
    };
    let wanted = query.text("turn_on");
    let confirm = all.iter().find(|row| row.flag.key.as_str() == wanted).map(&line);
    let sentence = list_sentence(&frame, &all);
    let page = FlagsPage {
        rows: rows.iter().map(&line).collect(),
        all: all.len(),
        sentence,
        confirm,
        query: Query::of(query),
        bulk,
        frame,
    };
    Ok(page)
}

fn list_sentence(frame: &Frame, all: &[FlagRow]) -> Words {
    let now = frame.now;
    let count = |test: &dyn Fn(&FlagRow) -> bool| all.iter().filter(|row| test(row)).count() as u64;
    let on = count(&|row| is_on(&row.state, now));
    let killed = count(&|row| row.state.killed);
    let part = count(&|row| is_on(&row.state, now) && share_of(&row.state, now) < 100.0);
    let stale = count(&|row| staleness(row, now).is_some());
    let mut words = Words::say(&format!("{} has ", frame.name))
        .strong(&words::count(all.len() as u64, "flag"))
        .and(&format!(
            "; {} on",
            if on as usize == all.len() { "all".to_owned() } else { words::number(on) }
        ));
    if part > 0 {
        words = words.and(&format!(", {} of them for a part of the users", words::number(part)));
    }
    words = words.and(".");
    if killed > 0 {
        let verb = if killed == 1 { "is" } else { "are" };
        words = words.and(" ").strong(&format!("{} {verb} killed", words::number(killed))).and(".");
    }
    if stale > 0 {
        words = words.and(&format!(
            " {} ready to be removed.",
            words::count(stale, "flag looks").replace("lookss", "look")
        ));
    }
    words
}

/// `GET /ui/{environment}/flags/new`.
pub async fn new_page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let frame = visit.frame(&path, "flags", "New flag").await?;
    let projects = projects(&visit).await?;
    ok(&NewFlagPage { frame, form: query, faults: Faults::default(), projects })
}

async fn projects(visit: &Visit) -> Result<Vec<(String, String)>, AppError> {
    let all = visit.list_projects(&visit.who).await?;
    Ok(all.into_iter().map(|project| (project.key, project.name)).collect())
}

/// `POST /ui/{environment}/flags/new`.
pub async fn create(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let made = match draft_of(&form) {
        Ok(draft) => visit.create_flag(&visit.who, draft, form.text("reason")).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(record) => {
            let key = record.key;
            let to = format!("/ui/{}/flags/{key}", path.as_str());
            let toast = Toast::say(format!("{key} made in every environment; it is off."));
            Ok(Visit::done(&to, &toast))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            let frame = visit.frame(&path, "flags", "New flag").await?;
            let projects = projects(&visit).await?;
            unprocessable(&NewFlagPage { frame, form, faults, projects })
        }
    }
}

fn draft_of(form: &Fields) -> Result<FlagDraft, AppError> {
    let parse = |field: &str| Value::String(form.text(field).to_owned());
    let wrong = |field: &'static str| {
        move |error: serde_json::Error| AppError::invalid(field, error.to_string())
    };
    let value_type: ValueType =
        serde_json::from_value(parse("value_type")).map_err(wrong("value_type"))?;
    let kind: FlagKind = serde_json::from_value(parse("kind")).map_err(wrong("kind"))?;
    let key =
        FlagKey::try_from(form.text("key")).map_err(|e| AppError::invalid("key", e.to_string()))?;
    let state = FlagState {
        enabled: false,
        rules: vec![everybody(Percent::ALL)],
        on_value: read_value("on_value", form.text("on_value"), value_type)?,
        off_value: read_value("off_value", form.text("off_value"), value_type)?,
        ..FlagState::default()
    };
    let lifetime_days = match form.some("lifetime_days") {
        None => None,
        Some(_) => Some(form.number("lifetime_days")?),
    };
    Ok(FlagDraft {
        key,
        project: form.some("project").unwrap_or_else(|| "default".to_owned()),
        kind,
        value_type,
        description: form.text("description").to_owned(),
        owner: form.text("owner").to_owned(),
        tags: form.list("tags"),
        lifetime_days,
        salt: None,
        state: Some(state),
    })
}

//! Sessions of the app's users: who is in, for how long, a user's past, and ending them.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::user_sessions::{
    DayOfSessions, Revoke, SessionSummary, SessionWish, cursor_of,
};
use switchback_core::model::Millis;
use switchback_store::{EndReason, UserSession};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// Sessions on a page.
const SHOWN: i64 = 50;
/// Days of the chart.
const DAYS: u32 = 30;
/// The chart's size, in its own units.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;
/// Fields of the form that narrow the list.
const NARROWING: [&str; 5] =
    ["platform", "app_version", "below_version", "country", "idle_minutes"];

/// A bar of the chart.
struct Bar {
    x: u64,
    y: u64,
    height: u64,
    says: String,
}

/// A session in a table.
struct Line {
    session: UserSession,
    word: &'static str,
    tone: &'static str,
    lasted: String,
}

/// What is about to be revoked.
struct Asked {
    /// The hidden fields that say it again.
    fields: Vec<(&'static str, String)>,
    matching: u64,
    words: String,
}

#[derive(Template)]
#[template(path = "pages/user_sessions.html")]
struct SessionsPage {
    frame: Frame,
    sentence: Words,
    summary: SessionSummary,
    bars: Vec<Bar>,
    longest: String,
    /// Dates below the chart, with their places in percent.
    ticks: Vec<(f64, String)>,
    /// The user whose past is shown.
    user: String,
    lines: Vec<Line>,
    /// Where the next page is.
    next: Option<String>,
    is_narrowed: bool,
    asked: Option<Asked>,
    form: Fields,
    faults: Faults,
}

impl SessionsPage {
    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    fn value(&self, field: &str) -> String {
        self.form.text(field).to_owned()
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&["reason", "below_version", "idle_minutes", "user"])
    }

    fn home(&self) -> String {
        self.frame.url("watch/sessions")
    }

    /// This page with what it is narrowed to, and something more.
    fn with(&self, more: &str, value: &str) -> String {
        address(&self.home(), &self.form, &[(more, value)])
    }

    #[expect(clippy::ref_option, reason = "templates pass references")]
    fn or_dash<'a>(&self, text: &'a Option<String>) -> &'a str {
        text.as_deref().unwrap_or("–")
    }

    fn view_box(&self) -> String {
        format!("0 0 {WIDTH} {HEIGHT}")
    }

    fn base_line(&self) -> u64 {
        HEIGHT
    }
}

/// `GET /ui/{environment}/watch/sessions?user=&platform=&...&revoke=&id=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path, query, Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    form: Fields,
    faults: Faults,
) -> Result<SessionsPage, UiError> {
    let mut faults = faults;
    let frame = visit.frame(environment, "sessions", "Sessions").await?;
    let summary = visit.summarize_sessions(&visit.who, environment).await?;
    let days = visit.list_session_days(&visit.who, environment, DAYS).await?;
    let user = form.text("user").to_owned();
    let cursor = form.some("cursor");
    let wish = wish_of(&form);
    let rows = match (&wish, user.is_empty()) {
        (_, false) => {
            let cursor = cursor.as_deref();
            visit.list_sessions_of_user(&visit.who, environment, &user, cursor, SHOWN).await
        }
        (Ok(wish), true) => {
            let cursor = cursor.as_deref();
            visit.list_open_sessions(&visit.who, environment, wish, cursor, SHOWN).await
        }
        (Err(wrong), true) => Err(AppError::invalid("idle_minutes", wrong.clone())),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            faults.0.extend(Faults::of(error)?.0);
            Vec::new()
        }
    };
    let full = rows.len() as i64 == SHOWN;
    let last = rows.last().filter(|_| full).map(|one| {
        let at = if user.is_empty() { one.last_activity_at } else { one.started_at };
        cursor_of(at, &one.id)
    });
    let home = frame.url("watch/sessions");
    let next = last.map(|cursor| address(&home, &form, &[("cursor", &cursor)]));
    let (bars, longest) = chart(&days);
    let asked = if frame.can_operate && (form.is("revoke") || form.some("id").is_some()) {
        asked(visit, environment, &form).await?
    } else {
        None
    };
    Ok(SessionsPage {
        sentence: sentence(&summary),
        lines: rows.into_iter().map(|session| line(session, frame.now)).collect(),
        is_narrowed: NARROWING.iter().any(|field| form.some(field).is_some()),
        frame,
        summary,
        bars,
        longest,
        ticks: ticks(&days),
        user,
        next,
        asked,
        form,
        faults,
    })
}

/// `POST /ui/{environment}/watch/sessions/revoke`.
pub async fn revoke(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let what = match meant(&form) {
        Ok(what) => what,
        Err(wrong) => return Err(AppError::invalid("", wrong).into()),
    };
    let at_most = form.text("at_most").parse().ok();
    let reason = form.text("reason");
    match visit.revoke_sessions(&visit.who, &path, &what, at_most, reason).await {
        Ok(done) => {
            let mut text = format!("{} revoked.", words::count(done.revoked, "session"));
            if done.left > 0 {
                text = format!("{text} {} are left: revoke again.", words::number(done.left));
            }
            let home = format!("/ui/{path}/watch/sessions");
            let back = if done.left > 0 {
                address(&home, &form, &[("revoke", "yes")])
            } else {
                match &what {
                    Revoke::User(user) => address(&home, &Fields::default(), &[("user", user)]),
                    _ => home,
                }
            };
            Ok(Visit::done(&back, &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &path, form, faults).await?)
        }
    }
}

fn sentence(summary: &SessionSummary) -> Words {
    if summary.open == 0 {
        let words = Words::say("Nobody is in. ");
        return words.and("Sessions appear here when the app reports a login.");
    }
    let people = if summary.open == 1 { "session is" } else { "sessions are" };
    let words = Words::default().strong(&format!("{} {people} open.", words::number(summary.open)));
    let came = match summary.came {
        0 => " Nobody came in the last 15 minutes".to_owned(),
        came => format!(" {} came in the last 15 minutes", words::number(came)),
    };
    let stay = summary.average_yesterday_seconds.map(|seconds| {
        format!("; the average stay yesterday was {}", words::duration(seconds as i64 * 1_000))
    });
    words.and(&format!("{came}{}.", stay.unwrap_or_default()))
}

fn line(session: UserSession, now: Millis) -> Line {
    let (word, tone) = match session.end_reason {
        None => ("open", "good"),
        Some(EndReason::Logout) => ("left", ""),
        Some(EndReason::Expired) => ("expired", ""),
        Some(EndReason::Revoked) => ("revoked", "bad"),
        Some(EndReason::Replaced) => ("replaced", ""),
    };
    let lasted = session.session_duration_seconds.map_or(now - session.started_at, |s| s * 1_000);
    Line { word, tone, lasted: words::duration(lasted.max(0)), session }
}

/// The bars, and what the highest stands for.
fn chart(days: &[DayOfSessions]) -> (Vec<Bar>, String) {
    let top = days.iter().filter_map(|day| day.average_seconds).max().unwrap_or(0);
    let step = WIDTH / days.len().max(1) as u64;
    let bars = days.iter().enumerate().map(|(place, one)| {
        let average = one.average_seconds.unwrap_or(0);
        let room = HEIGHT - 10;
        let height = (average * room).checked_div(top).unwrap_or(0);
        let height = if one.average_seconds.is_some() { height.max(2) } else { 0 };
        let date = date_of(one);
        let length = one.average_seconds.map_or_else(
            || "no session ended".to_owned(),
            |seconds| words::duration(seconds as i64 * 1_000),
        );
        let says = format!("{date}: {length}; {} began", words::number(one.day.started));
        let x = place as u64 * step + 2;
        Bar { x, y: HEIGHT - height, height, says }
    });
    (bars.collect(), words::duration(top as i64 * 1_000))
}

/// The date of each seventh day, the newest at the right; each below the middle of its bar.
fn ticks(days: &[DayOfSessions]) -> Vec<(f64, String)> {
    let step = 100.0 / days.len().max(1) as f64;
    let named = days.iter().enumerate().filter(|(place, _)| (days.len() - place) % 7 == 1);
    named.map(|(place, one)| ((place as f64 + 0.5) * step, date_of(one))).collect()
}

fn date_of(one: &DayOfSessions) -> String {
    words::format_at(one.day.day, "%-d %b")
}

fn wish_of(form: &Fields) -> Result<SessionWish, String> {
    let idle_minutes = match form.some("idle_minutes") {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| format!("`{text}` is not a number of minutes"))?)
        }
    };
    Ok(SessionWish {
        platform: form.some("platform"),
        app_version: form.some("app_version"),
        below_version: form.some("below_version"),
        country: form.some("country"),
        idle_minutes,
        ..SessionWish::default()
    })
}

/// What a form that revokes means: one session, a user, or what the list is narrowed to.
fn meant(form: &Fields) -> Result<Revoke, String> {
    if let Some(id) = form.some("id") {
        return Ok(Revoke::Ids(vec![id]));
    }
    match form.some("user") {
        Some(user) => Ok(Revoke::User(user)),
        None => wish_of(form).map(Revoke::Matching),
    }
}

async fn asked(visit: &Visit, environment: &str, form: &Fields) -> Result<Option<Asked>, UiError> {
    let Ok(what) = meant(form) else { return Ok(None) };
    let matching = match visit.preview_revoke(&visit.who, environment, &what).await {
        Ok(matching) => matching,
        Err(AppError::Invalid(_)) => return Ok(None), // the list says what is wrong
        Err(error) => return Err(error.into()),
    };
    let names = ["id", "user"].into_iter().chain(NARROWING);
    let fields: Vec<_> = names.filter_map(|name| Some((name, form.some(name)?))).collect();
    let words = match &what {
        Revoke::Ids(_) => "this session".to_owned(),
        Revoke::User(_) => format!("{} of this user", words::count(matching, "open session")),
        Revoke::Matching(wish) if wish.is_everybody() => {
            format!("every open session: {}", words::number(matching))
        }
        Revoke::Matching(_) => format!("{} that match", words::count(matching, "open session")),
    };
    Ok(Some(Asked { fields, matching, words }))
}

/// The page's address with what it shows now and something more; empty values are left out.
fn address(home: &str, form: &Fields, more: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for name in NARROWING.iter().chain(&["user"]) {
        if let Some(value) = form.some(name).filter(|_| more.iter().all(|(own, _)| own != name)) {
            query.append_pair(name, &value);
        }
    }
    for (name, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() { home.to_owned() } else { format!("{home}?{query}") }
}

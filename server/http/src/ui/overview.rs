//! The first page: is it all right, what changed last, what can I do now.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::flags::FlagFilter;
use switchback_store::{ChangeFilter, FlagRow, Impact, Incident, RunFilter, RunRow};

use super::checks::Tile;
use super::flags::{is_on, share_of};
use super::frame::Frame;
use super::live::Converged;
use super::since::Since;
use super::timeline::{Timeline, did, if_allowed};
use super::visit::Visit;
use super::words::{self, Words};
use super::{Answer, ok};

/// The part that follows the news: the sentence and the tiles.
pub struct Pulse {
    pub sentence: Words,
    /// The sentence's class: empty, `attention`, `bad`.
    pub tone: &'static str,
    /// The one thing to do, when it is not calm.
    pub action: Option<(String, String)>,
    pub mode: &'static str,
    pub mode_detail: String,
    pub share: f64,
    pub converged: Converged,
    pub open: Vec<Incident>,
    pub last: Option<(Words, i64, String)>,
    /// Consistency checks, when some are in use.
    pub checks: Option<Tile>,
}

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    frame: Frame,
    pulse: Pulse,
    since: Option<Since>,
    timeline: Timeline,
}

/// How the app treats people who are not signed in.
enum Mode {
    Bypass(Option<i64>),
    Off,
    Enforced(f64, usize),
    Unknown,
}

/// `GET /ui/{environment}`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame(&path, "overview", "Overview").await?;
    let pulse = Pulse::of(&visit, &frame).await?;
    let since = Since::of(&visit, &path).await?;
    let timeline = Timeline::of(&visit, &path).await?;
    ok(&OverviewPage { frame, pulse, since, timeline })
}

impl Pulse {
    /// Looks at everything once.
    pub async fn of(visit: &Visit, frame: &Frame) -> Result<Self, AppError> {
        let environment = frame.environment.as_str();
        let flags = visit.list_flags(&visit.who, environment, &FlagFilter::default()).await?;
        let open = if_allowed(visit.list_incidents(&visit.who, true, None, 20).await)?;
        let filter = RunFilter {
            environment: Some(environment.to_owned()),
            active: true,
            limit: 5,
            ..RunFilter::default()
        };
        let active = visit.list_runs(&visit.who, &filter).await?;
        let filter = ChangeFilter {
            environment: Some(environment.to_owned()),
            subject_kind: Some("flag".to_owned()),
            limit: 1,
            ..ChangeFilter::default()
        };
        let last = visit.list_changes(&visit.who, &filter).await?.into_iter().next();
        let last = last.map(|row| {
            let change = row.change;
            (did(&change, &frame.url("")), change.at, change.reason)
        });
        let converged = Converged::of(&visit.hub.convergence(environment, None));
        let mode = mode_of(&flags, frame.now);
        let killed: Vec<String> = flags
            .iter()
            .filter(|row| row.state.killed)
            .map(|row| row.flag.key.to_string())
            .collect();
        let (tone, action, mut sentence) = judge(frame, &mode, &open, &active, &killed);
        let (mode_word, mode_detail, share) = mode_words(&mode, frame.now);
        if let Some((words, at, _)) = &last {
            sentence = sentence.and(" ").join(words).and(" ").when(*at, frame.now).and(".");
        }
        sentence = sentence.and(" ").join(&converged.words());
        Ok(Self {
            sentence,
            tone,
            action,
            mode: mode_word,
            mode_detail,
            share,
            converged,
            open,
            last,
            checks: Tile::of(visit).await?,
        })
    }
}

fn mode_of(flags: &[FlagRow], now: i64) -> Mode {
    let find = |key: &str| flags.iter().find(|row| row.flag.key.as_str() == key);
    if let Some(bypass) = find("auth_bypass").filter(|row| is_on(&row.state, now)) {
        return Mode::Bypass(bypass.state.expires_at);
    }
    match (find("auth_enabled"), find("auth_rollout")) {
        (Some(enabled), _) if !is_on(&enabled.state, now) => Mode::Off,
        (_, Some(rollout)) => {
            Mode::Enforced(share_of(&rollout.state, now), rollout.state.rules.len())
        }
        (Some(_), None) => Mode::Enforced(100.0, 0),
        (None, None) => Mode::Unknown,
    }
}

fn mode_words(mode: &Mode, now: i64) -> (&'static str, String, f64) {
    match mode {
        Mode::Bypass(until) => {
            let until = until.map(|at| format!("ends {}", words::relative(at, now)));
            ("Bypass", until.unwrap_or_else(|| "without an end".to_owned()), 0.0)
        }
        Mode::Off => ("Off", "nobody is asked to sign in".to_owned(), 0.0),
        Mode::Enforced(share, rules) if *rules > 1 => {
            ("Enforced", format!("by {rules} rules, for up to {}", words::percent(*share)), *share)
        }
        Mode::Enforced(share, _) => {
            ("Enforced", format!("for {} of users", words::percent(*share)), *share)
        }
        Mode::Unknown => ("–", "the flags auth_* do not exist".to_owned(), 0.0),
    }
}

/// What the page says first, how loud, and the one thing to do.
fn judge(
    frame: &Frame,
    mode: &Mode,
    open: &[Incident],
    active: &[RunRow],
    killed: &[String],
) -> (&'static str, Option<(String, String)>, Words) {
    let name = frame.name.as_str();
    if let Some(run) = active.first() {
        let words = match run.state.as_str() {
            "parked" => Words::default().strong(&format!("{} waits for a decision", run.title)),
            "waiting_approval" => {
                Words::default().strong(&format!("{} waits for an approval", run.title))
            }
            _ => Words::default().strong(&format!("{} is running", run.title)),
        };
        let words =
            words.and(&format!(" in {name}, started by {} ", words::actor(&run.requested_by)));
        let words = words.when(run.created_at, frame.now).and(".");
        return (
            "attention",
            Some((frame.url(&format!("runs/{}", run.id)), "Watch the run".to_owned())),
            words,
        );
    }
    let restore = || Some((frame.url("playbooks/auth-restore"), "Turn sign-in back on".to_owned()));
    let worst = open.iter().max_by_key(|incident| incident.impact);
    match (mode, worst) {
        (Mode::Bypass(until), _) => {
            let words = Words::default().strong(&format!("Sign-in is bypassed in {name}:"));
            let words = words.and(" everybody is let in without signing in");
            let words = match until {
                Some(at) => words.and(", and it ends ").when(*at, frame.now),
                None => words,
            };
            ("bad", restore(), words.and("."))
        }
        (Mode::Off, _) => {
            let words = Words::default().strong(&format!("Sign-in is off in {name}:"));
            ("attention", restore(), words.and(" everybody goes on without an account."))
        }
        (_, Some(incident)) => {
            let loud = incident.impact >= Impact::Major;
            let link = frame.url(&format!("incidents/{}", incident.id));
            let words = Words::default().strong(&incident.name).and(", since ");
            let words = words.when(incident.created_at, frame.now).and(".");
            (
                if loud { "bad" } else { "attention" },
                Some((link, "Open the incident".to_owned())),
                words,
            )
        }
        (mode, None) => {
            let words = match killed {
                [] => Words::default().strong(&format!("{name} is calm.")),
                some => {
                    let verb = if some.len() == 1 { "is" } else { "are" };
                    let keys = words::list(some, "and");
                    Words::say(&format!("{name} works, but "))
                        .strong(&format!("{keys} {verb} killed"))
                        .and(".")
                }
            };
            let words = match mode {
                Mode::Enforced(share, _) if *share >= 100.0 => words.and(" Everybody signs in."),
                Mode::Enforced(share, _) if *share <= 0.0 => {
                    words.and(" Nobody is asked to sign in yet.")
                }
                Mode::Enforced(share, 0..=1) => words
                    .and(" Sign-in is enforced for ")
                    .strong(&words::percent(*share))
                    .and(" of users."),
                Mode::Enforced(share, rules) => words
                    .and(&format!(" Sign-in is enforced by {rules} rules, for up to "))
                    .strong(&words::percent(*share))
                    .and(" of users."),
                _ => words,
            };
            let tone = if killed.is_empty() { "" } else { "attention" };
            let action = killed
                .first()
                .map(|key| (frame.url(&format!("flags/{key}")), format!("Look at {key}")));
            (tone, action, words)
        }
    }
}

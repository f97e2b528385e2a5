//! The first page: is it all right, what changed last, what can I do now.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::flags::FlagFilter;
use switchback_store::{AlertRow, ChangeFilter, FlagRow, Impact, Incident, RunFilter, RunRow};

use super::checks::Tile;
use super::flags::{is_on, share_of};
use super::frame::{Frame, ROLLBACK};
use super::live::Converged;
use super::logins::Logins;
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
    /// What to do, when it is not calm: the first thing first.
    pub actions: Vec<(String, String)>,
    pub mode: &'static str,
    pub mode_detail: String,
    pub share: f64,
    pub converged: Converged,
    pub open: Vec<Incident>,
    /// Logins, when somebody reports them.
    pub logins: Option<Logins>,
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
        let last = last.map(|row| (did(&row.change, &frame.url("")), row.change.at));
        let converged = Converged::of(&visit.hub.convergence(environment, None));
        let mut firing = if_allowed(visit.list_alerts(&visit.who, environment, true, None).await)?;
        firing.retain(|alert| alert.quiet_why.is_none());
        firing.sort_by_key(|alert| (alert.severity != "critical", -alert.fired_at));
        let checks = Tile::of(visit).await?;
        let mode = mode_of(&flags, frame.now);
        let killed: Vec<String> = flags
            .iter()
            .filter(|row| row.state.killed)
            .map(|row| row.flag.key.to_string())
            .collect();
        let back = match mode {
            Mode::Bypass(_) | Mode::Off if active.is_empty() => {
                way_back(visit, frame, &flags).await?
            }
            _ => None,
        };
        let seen =
            Seen { mode: &mode, open: &open, active: &active, firing: &firing, killed: &killed };
        let Judged { mut tone, mut actions, mut sentence } = seen.judge(frame);
        actions.splice(0..0, back);
        let (mode_word, mode_detail, share) = mode_words(&mode, frame.now);
        if frame.kind == "production" && checks.as_ref().is_some_and(|tile| tile.tone == "bad") {
            sentence = sentence
                .and(" ")
                .link("/ui/checks", "Consistency checks")
                .and(" find what is broken.");
            if tone.is_empty() {
                tone = "attention";
            }
        }
        if let Some((words, at)) = &last {
            sentence = sentence.and(" ").join(words).and(" ").when(*at, frame.now).and(".");
        }
        sentence = sentence.and(" ").join(&converged.words());
        Ok(Self {
            sentence,
            tone,
            actions,
            mode: mode_word,
            mode_detail,
            share,
            converged,
            open,
            logins: if_allowed(Logins::of(visit, environment).await)?,
            checks,
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
            let until = until.map(|at| {
                format!("until {}, {}", words::format_at(at, "%H:%M UTC"), words::relative(at, now))
            });
            ("Bypass", until.unwrap_or_else(|| "nothing ends it".to_owned()), 0.0)
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

/// Where the newest rollback that can be taken back is: that puts back exactly what was.
async fn way_back(
    visit: &Visit,
    frame: &Frame,
    flags: &[FlagRow],
) -> Result<Option<(String, String)>, AppError> {
    if !frame.can_operate {
        return Ok(None);
    }
    let filter = RunFilter {
        playbook: Some(ROLLBACK.to_owned()),
        environment: Some(frame.environment.clone()),
        limit: 1,
        ..RunFilter::default()
    };
    let newest = visit.list_runs(&visit.who, &filter).await?.into_iter().next();
    let Some(run) = newest.filter(|run| run.state == "succeeded") else { return Ok(None) };
    // Only where what stands is what it did: it may have found nothing to do, or others have changed it since.
    let detail = visit.get_run(&visit.who, &run.id).await?;
    let stands = |row: &FlagRow| detail.view.revisions.contains(&row.revision);
    let link = || frame.url(&format!("runs/{}/undo", run.id));
    Ok(flags.iter().any(stands).then(|| (link(), "Put it back as it was".to_owned())))
}

/// What the page says first, how loud, and what to do.
struct Judged {
    tone: &'static str,
    actions: Vec<(String, String)>,
    sentence: Words,
}

/// What it is judged by.
struct Seen<'s> {
    mode: &'s Mode,
    open: &'s [Incident],
    active: &'s [RunRow],
    /// The worst first.
    firing: &'s [AlertRow],
    killed: &'s [String],
}

impl Seen<'_> {
    fn judge(&self, frame: &Frame) -> Judged {
        if let Some(run) = self.active.first() {
            return run_judged(run, frame);
        }
        let name = frame.name.as_str();
        let restore =
            vec![(frame.url("playbooks/auth-restore"), "Ramp sign-in up again".to_owned())];
        let worst = self.open.iter().max_by_key(|incident| incident.impact);
        match (self.mode, worst, self.firing.first()) {
            (Mode::Bypass(until), ..) => {
                let words = Words::default().strong(&format!("Sign-in is bypassed in {name}:"));
                let words = words.and(" everybody is let in without signing in");
                let sentence = match until {
                    Some(at) => words.and(", and it ends ").when(*at, frame.now),
                    None => words.and(", and ").strong("nothing ends it"),
                };
                let sentence = self.and_alerts(sentence.and("."), frame, 0);
                Judged { tone: "bad", actions: restore, sentence }
            }
            (Mode::Off, ..) => {
                let words = Words::default().strong(&format!("Sign-in is off in {name}:"));
                let words = words.and(" everybody goes on without an account.");
                let sentence = self.and_alerts(words, frame, 0);
                Judged { tone: "attention", actions: restore, sentence }
            }
            (_, Some(incident), _) => {
                let loud = incident.impact >= Impact::Major;
                let link = frame.url(&format!("incidents/{}", incident.id));
                let words = Words::default().strong(&incident.name).and(", ");
                let words = words.lasting(incident.created_at, frame.now).and(".");
                Judged {
                    tone: if loud { "bad" } else { "attention" },
                    actions: vec![(link, "Open the incident".to_owned())],
                    sentence: self.and_alerts(words, frame, 0),
                }
            }
            (_, None, Some(alert)) => {
                let words = Words::default().strong(&alert.title).and(&format!(" in {name}, "));
                let words = words.lasting(alert.fired_at, frame.now).and(". ").ticked(&alert.words);
                Judged {
                    tone: if alert.severity == "critical" { "bad" } else { "attention" },
                    actions: vec![(frame.url("alerts"), "Look at the alert".to_owned())],
                    sentence: self.and_alerts(words, frame, 1),
                }
            }
            (mode, None, None) => self.calm(mode, frame),
        }
    }

    /// What fires beside what was said already.
    fn and_alerts(&self, words: Words, frame: &Frame, said: usize) -> Words {
        let verb = match self.firing.len().saturating_sub(said) {
            0 => return words,
            1 => "fires",
            _ => "fire",
        };
        let more = self.firing.len().saturating_sub(said) as u64;
        let alerts = if said > 0 { format!("{more} more") } else { words::count(more, "alert") };
        words.and(" ").link(&frame.url("alerts"), &alerts).and(&format!(" {verb}."))
    }

    fn calm(&self, mode: &Mode, frame: &Frame) -> Judged {
        let name = frame.name.as_str();
        let words = match self.killed {
            [] => Words::default().strong(&format!("{name} is calm.")),
            some => {
                let verb = if some.len() == 1 { "is" } else { "are" };
                let keys = words::list(some, "and");
                Words::say(&format!("{name} works, but "))
                    .strong(&format!("{keys} {verb} killed"))
                    .and(".")
            }
        };
        let sentence = match mode {
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
        let look = |key: &String| (frame.url(&format!("flags/{key}")), format!("Look at {key}"));
        Judged {
            tone: if self.killed.is_empty() { "" } else { "attention" },
            actions: self.killed.first().map(look).into_iter().collect(),
            sentence,
        }
    }
}

fn run_judged(run: &RunRow, frame: &Frame) -> Judged {
    let what = match run.state.as_str() {
        "parked" => "waits for a decision",
        "waiting_approval" => "waits for an approval",
        _ => "is running",
    };
    let by = words::actor(&run.requested_by);
    let sentence = Words::default()
        .strong(&format!("{} {what}", run.title))
        .and(&format!(" in {}, started by {by} ", frame.name))
        .when(run.created_at, frame.now)
        .and(".");
    let link = frame.url(&format!("runs/{}", run.id));
    Judged { tone: "attention", actions: vec![(link, "Watch the run".to_owned())], sentence }
}

//! Alerts: what fires, who takes care of it, the rules and how they stand, silences; and one rule's text.

use std::borrow::Borrow;

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::watch::alerts::{RuleStanding, SilenceDraft};
use switchback_app::watch::trial::Trial;
use switchback_store::{AlertRow, Silence};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// Alerts that are over, on the page.
const OVER_SHOWN: usize = 20;
/// How long a silence may last, for the choice: minutes and words.
const SILENCES: [(i64, &str); 5] =
    [(30, "30 minutes"), (120, "2 hours"), (480, "8 hours"), (1_440, "a day"), (10_080, "a week")];
/// What a new rule begins with.
const BLANK: &str = "kind: AlertRule\nmetadata: {name: my_rule, title: What is wrong, owner: my team}\nspec:\n  \
environments: [production]\n  severity: warning\n  labels: {component: app}\n  \
when: {failure_rate: {of: login, above: 10%, window: 5m, min_events: 50}}\n  for: 2m\n  keep_for: 10m\n  \
summary: \"{value} of logins failed in the last {window} in {environment}.\"\n";

/// A rule in the list.
struct Line {
    rule: RuleStanding,
    word: &'static str,
    tone: &'static str,
}

#[derive(Template)]
#[template(path = "pages/alerts.html")]
struct AlertsPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    firing: Vec<AlertRow>,
    over: Vec<AlertRow>,
    rules: Vec<Line>,
    silences: Vec<Silence>,
    form: Fields,
    faults: Faults,
}

impl AlertsPage {
    /// What happened, with the words of the machine marked.
    fn said(&self, alert: &AlertRow) -> Words {
        Words::default().ticked(&alert.words)
    }

    fn lengths(&self) -> &'static [(i64, &'static str)] {
        &SILENCES
    }

    fn tone_of(&self, severity: &str) -> &'static str {
        match severity {
            "critical" => "bad",
            "warning" => "warn",
            _ => "",
        }
    }

    /// The playbook that may help against an alert.
    fn playbook(&self, alert: &AlertRow) -> Option<&str> {
        let rule = self.rules.iter().find(|line| line.rule.name == alert.rule)?;
        rule.rule.playbook.as_deref().filter(|_| alert.source == "switchback")
    }

    fn lasted(&self, alert: &AlertRow) -> String {
        words::duration(alert.resolved_at.unwrap_or(self.frame.now) - alert.fired_at)
    }

    fn by(&self, name: &str) -> String {
        words::actor(name)
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&["comment"])
    }
}

#[derive(Template)]
#[template(path = "pages/alert_rule.html")]
struct RulePage {
    frame: Frame,
    sentence: Words,
    name: String,
    is_new: bool,
    is_own: bool,
    version: u64,
    source: String,
    faults: Vec<String>,
    is_good: bool,
    trial: Option<Trial>,
}

impl RulePage {
    fn days(&self) -> &'static [(i64, &'static str)] {
        &[(1, "day"), (3, "3 days"), (7, "7 days"), (30, "30 days")]
    }

    fn hours(&self, ms: impl Borrow<i64>) -> String {
        words::duration(*ms.borrow())
    }
}

/// `GET /ui/{environment}/alerts`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    ok(&page_of(&visit, &path, Fields::default(), Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    form: Fields,
    faults: Faults,
) -> Result<AlertsPage, UiError> {
    let frame = visit.frame(environment, "alerts", "Alerts").await?;
    let mut firing = visit.list_alerts(&visit.who, environment, true, None).await?;
    let bad = |severity: &str| match severity {
        "critical" => 0,
        "warning" => 1,
        _ => 2,
    };
    firing.sort_by_key(|alert| (bad(&alert.severity), -alert.fired_at));
    let mut over = visit.list_alerts(&visit.who, environment, false, None).await?;
    over.retain(|alert| alert.resolved_at.is_some());
    over.truncate(OVER_SHOWN);
    let standings = visit.list_alert_rules(&visit.who, environment).await?;
    let mut rules: Vec<Line> = standings.into_iter().map(line).collect();
    rules.sort_by_key(|line| (!line.rule.enabled || !line.rule.holds_here, line.rule.name.clone()));
    let mut silences =
        visit.store.list_silences(visit.clock.now()).await.map_err(AppError::from)?;
    silences.retain(|one| one.environment.as_ref().is_none_or(|key| key == environment));
    let waiting = firing.iter().filter(|one| one.acked_by.is_none() && one.quiet_why.is_none());
    let waiting = waiting.count();
    let blind = rules
        .iter()
        .filter(|line| line.rule.enabled && line.rule.holds_here)
        .filter(|line| line.rule.no_data_since.is_some())
        .count() as u64;
    let sentence = match (firing.len() as u64, waiting) {
        (0, _) => Words::say("Nothing fires."),
        (all, 0) => Words::default().strong(&words::count(all, "alert")).and(if all == 1 {
            " fires, and it is taken care of or quiet."
        } else {
            " fire, all of them taken care of or quiet."
        }),
        (all, waiting) => Words::default()
            .strong(&words::count(all, "alert"))
            .and(if all == 1 { " fires; " } else { " fire; " })
            .and(&match waiting {
                1 if all == 1 => "it waits for somebody.".to_owned(),
                1 => "one waits for somebody.".to_owned(),
                _ => format!("{waiting} wait for somebody."),
            }),
    };
    let sentence = match blind {
        0 => sentence,
        1 => sentence.and(" One rule has no data."),
        _ => sentence.and(&format!(" {blind} rules have no data.")),
    };
    let tone = if waiting > 0 { "bad" } else { "" };
    Ok(AlertsPage { frame, sentence, tone, firing, over, rules, silences, form, faults })
}

fn line(rule: RuleStanding) -> Line {
    let (word, tone) = match (rule.enabled, rule.holds_here, rule.phase.as_str()) {
        (false, ..) => ("off", ""),
        (true, false, _) => ("elsewhere", ""),
        (true, true, "firing") => ("fires", "bad"),
        (true, true, "pending") => ("may fire soon", "warn"),
        (true, true, _) if rule.no_data_since.is_some() => ("no data", "warn"),
        (true, true, _) if rule.since.is_none() => ("not looked at yet", ""),
        (true, true, _) if rule.value.is_none() => ("not known", ""),
        (true, true, _) => ("calm", "good"),
    };
    Line { rule, word, tone }
}

fn home(environment: &str) -> String {
    format!("/ui/{environment}/alerts")
}

/// `POST /ui/{environment}/alerts/{alert}`: takes care of it, or no longer.
pub async fn take(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = (&path.0, &path.1);
    let done = match form.text("command") {
        "ack" => visit
            .acknowledge_alert(&visit.who, id, None)
            .await
            .map(|alert| format!("You take care of “{}”.", alert.title)),
        "unack" => visit
            .unacknowledge_alert(&visit.who, id)
            .await
            .map(|alert| format!("“{}” waits for somebody.", alert.title)),
        other => Err(AppError::invalid("command", format!("`{other}` is no command"))),
    };
    match done {
        Ok(text) => Ok(Visit::done(&home(environment), &Toast::say(text))),
        // A look came between, or it is over: the page shows how it is now.
        Err(AppError::Conflict { .. } | AppError::Refused(_)) => {
            let toast = Toast::say("It has changed meanwhile; look again.");
            Ok(Visit::done(&home(environment), &toast))
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /ui/{environment}/silences`: makes one here.
pub async fn silence(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let draft = SilenceDraft {
        rule: form.some("rule"),
        environment: Some(path.to_owned()),
        labels: std::collections::BTreeMap::new(),
        starts_at: None,
        minutes: form.number("minutes")?,
        comment: form.text("comment").to_owned(),
    };
    match visit.create_silence(&visit.who, draft).await {
        Ok(made) => {
            let what = made.rule.unwrap_or_else(|| "Every rule".to_owned());
            Ok(Visit::done(&home(&path), &Toast::say(format!("{what} is quiet."))))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &path, form, faults).await?)
        }
    }
}

/// `POST /ui/{environment}/silences/{silence}/end`.
pub async fn end_silence(visit: Visit, path: Path<(String, String)>) -> Answer {
    visit.end_silence(&visit.who, &path.1).await?;
    Ok(Visit::done(&home(&path.0), &Toast::say("The silence is over.")))
}

/// `GET /ui/{environment}/alert-rules/{rule}`; `new` begins one.
pub async fn rule(visit: Visit, path: Path<(String, String)>) -> Answer {
    ok(&rule_of(&visit, &path.0, &path.1, None, Vec::new()).await?)
}

async fn rule_of(
    visit: &Visit,
    environment: &str,
    name: &str,
    sent: Option<&Fields>,
    faults: Vec<String>,
) -> Result<RulePage, UiError> {
    let frame = visit.frame(environment, "alerts", "Alert rule").await?;
    let is_new = name == "new";
    let known = if is_new { None } else { Some(visit.get_alert_rule(&visit.who, name).await?) };
    let sentence = match &known {
        None => Words::say("A rule of your own. It is checked when you save it."),
        Some(known) => match &known.changed {
            Some((at, by)) if known.is_own => {
                Words::say(&format!("Version {}, saved ", known.version))
                    .when(*at, frame.now)
                    .and(&format!(" by {}.", words::actor(by)))
            }
            _ => Words::say("Shipped. What you save here counts instead, on every node."),
        },
    };
    let kept = known.as_ref().map_or_else(|| BLANK.to_owned(), |known| known.source.clone());
    let version = known.as_ref().map_or(0, |known| known.version);
    Ok(RulePage {
        frame,
        sentence,
        name: name.to_owned(),
        is_new,
        is_own: known.as_ref().is_some_and(|known| known.is_own),
        version: sent.and_then(|form| form.number("version").ok()).unwrap_or(version),
        source: sent.and_then(|form| form.some("source")).unwrap_or(kept),
        is_good: sent.is_some() && faults.is_empty(),
        faults,
        trial: None,
    })
}

/// `POST /ui/{environment}/alert-rules/{rule}`: `check`, `try`, `save` or `reset`.
pub async fn put_rule(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, name) = (&path.0, &path.1);
    let source = form.text("source");
    match form.text("do") {
        "reset" => {
            visit.reset_alert_rule(&visit.who, name).await?;
            let text = format!("What was written of {name} here is gone.");
            return Ok(Visit::done(&home(environment), &Toast::say(text)));
        }
        "check" => {
            let problems = visit.check_alert_rule(&visit.who, source).await?;
            let said = |problem: switchback_app::watch::rulebook::RuleProblem| problem.to_string();
            let faults = problems.into_iter().map(said).collect();
            return ok(&rule_of(&visit, environment, name, Some(&form), faults).await?);
        }
        "try" => {
            let days = form.number("days").unwrap_or(3);
            let tried = visit.try_alert_rule(&visit.who, environment, source, days).await;
            return match tried {
                Ok(trial) => {
                    let page = rule_of(&visit, environment, name, Some(&form), Vec::new()).await?;
                    ok(&RulePage { is_good: false, trial: Some(trial), ..page })
                }
                Err(AppError::Invalid(wrong)) => {
                    let faults = wrong.into_iter().map(|one| one.message).collect();
                    unprocessable(&rule_of(&visit, environment, name, Some(&form), faults).await?)
                }
                Err(error) => Err(error.into()),
            };
        }
        _ => {}
    }
    let own = switchback_watch::rule::Rule::parse(source).map(|rule| rule.name);
    let own = own.ok().filter(|_| name == "new").unwrap_or_else(|| name.clone());
    let expected = if name == "new" { Some(0) } else { form.number("version").ok() };
    match visit.put_alert_rule(&visit.who, &own, source, expected).await {
        Ok(kept) => {
            let text = format!("{own} is saved as version {}.", kept.version);
            Ok(Visit::done(&home(environment), &Toast::say(text)))
        }
        Err(AppError::Invalid(wrong)) => {
            let faults = wrong.into_iter().map(|one| one.message).collect();
            unprocessable(&rule_of(&visit, environment, name, Some(&form), faults).await?)
        }
        Err(error @ (AppError::Refused(_) | AppError::Conflict { .. })) => {
            let faults = vec![super::error::sentence(&error.to_string())];
            unprocessable(&rule_of(&visit, environment, name, Some(&form), faults).await?)
        }
        Err(error) => Err(error.into()),
    }
}

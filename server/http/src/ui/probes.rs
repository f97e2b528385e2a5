//! Uptime: what looks at components on a schedule, what it found, and setting it.

use actix_web::web::Path;
use askama::Template;
use serde_json::{Map, Value, json};
use switchback_app::probes::{Check, ProbeSettings, ProbeView};
use switchback_app::{AppError, Wrong};
use switchback_store::{Component, ProbeDay, ProbeResult};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, share_percent};
use super::{Answer, UiError, ok, unprocessable};

const HOME: &str = "/ui/settings/uptime";
/// Single results on a probe's page.
const RESULTS_SHOWN: i64 = 100;
const KINDS: [(&str, &str); 5] = [
    ("http", "Asks an address"),
    ("tcp", "Opens a connection"),
    ("sql", "Asks a data source"),
    ("login", "Signs in"),
    ("login_flow", "Signs in, in steps"),
];
const STATES: [(&str, &str); 3] = [
    ("major_outage", "Major outage"),
    ("partial_outage", "Partial outage"),
    ("degraded_performance", "Degraded performance"),
];
/// Numbers with a field of their own: name, label, unit.
const NUMBERS: [(&str, &str, &str); 4] = [
    ("interval_s", "It looks every", "s"),
    ("timeout_ms", "A look may take", "ms"),
    ("failures", "It is down after", "failures in a row"),
    ("successes", "It is up after", "successes in a row"),
];
/// Fields of the form that say what is wrong with them.
const FIELDS: [&str; 16] = [
    "name",
    "component",
    "target",
    "check.url",
    "check.address",
    "check.query",
    "check.status",
    "check.steps",
    "environment",
    "credentials",
    "state",
    "interval_s",
    "timeout_ms",
    "failures",
    "successes",
    "status",
];

/// A probe in the list.
struct Line {
    name: String,
    component: String,
    what: String,
    word: &'static str,
    tone: &'static str,
    last: Option<ProbeResult>,
    uptime: String,
    every: String,
}

#[derive(Template)]
#[template(path = "pages/uptime.html")]
struct UptimePage {
    frame: Frame,
    sentence: Words,
    lines: Vec<Line>,
    components: Vec<Component>,
    tested: Option<(String, ProbeResult)>,
    edited: Option<ProbeSettings>,
    removed: Option<String>,
    form: Fields,
    faults: Faults,
}

#[derive(Template)]
#[template(path = "pages/probe.html")]
struct ProbePage {
    frame: Frame,
    sentence: Words,
    line: Line,
    days: Vec<DayLine>,
    results: Vec<ProbeResult>,
}

struct DayLine {
    date: String,
    share: String,
    looks: u64,
    bad: u64,
    average_ms: u64,
}

impl UptimePage {
    fn kinds(&self) -> &'static [(&'static str, &'static str)] {
        &KINDS
    }

    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &STATES
    }

    fn numbers(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &NUMBERS
    }

    /// What a field shows: what was sent, else what is set, else the default.
    fn value(&self, field: &str) -> String {
        if let Some(text) = self.form.some(field) {
            return text;
        }
        let known = match &self.edited {
            Some(settings) => serde_json::to_value(settings).unwrap_or_default(),
            None => {
                json!({"interval_s": 60, "timeout_ms": 5_000, "failures": 3, "successes": 2, "state": "major_outage", "check": {"kind": "http"}})
            }
        };
        let check = |name: &str| known.pointer(&format!("/check/{name}")).cloned();
        let found = match field {
            "kind" => check("kind"),
            "target" => check("url").or_else(|| check("address")).or_else(|| check("source")),
            "query" | "text" | "credentials" | "name_field" | "password_field" | "environment" => {
                check(field)
            }
            "steps" => check("steps").map(|steps| {
                Value::String(serde_json::to_string_pretty(&steps).unwrap_or_default())
            }),
            "status" => check("status").map(|list| {
                let list = list.as_array().cloned().unwrap_or_default();
                Value::String(list.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
            }),
            other => known.get(other).cloned(),
        };
        match found {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn is_on(&self) -> bool {
        self.edited.as_ref().is_none_or(|settings| settings.is_enabled)
    }

    fn is_form(&self) -> bool {
        matches!(
            &self.edited,
            Some(ProbeSettings { check: Check::Login { is_form: true, .. }, .. })
        )
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    /// What is wrong with where it looks.
    fn target_fault(&self) -> String {
        let all = ["target", "check.url", "check.address", "check.query"];
        all.map(|field| self.faults.on(field))
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&FIELDS)
    }
}

/// `GET /ui/settings/uptime?edit=&remove=`.
pub async fn page(visit: Visit, query: Fields) -> Answer {
    ok(&page_of(&visit, query, Faults::default(), None).await?)
}

async fn page_of(
    visit: &Visit,
    form: Fields,
    faults: Faults,
    tested: Option<(String, ProbeResult)>,
) -> Result<UptimePage, UiError> {
    let frame = visit.frame_anywhere("settings", "Uptime").await?;
    let probes = visit.list_probes(&visit.who).await?;
    let components = visit.list_components(&visit.who).await?;
    let down = probes.iter().filter(|one| one.settings.is_enabled && one.is_down).count() as u64;
    let sentence = if probes.is_empty() {
        Words::say("Nothing looks at the components by itself yet.")
    } else {
        Words::default()
            .strong(&words::count(probes.len() as u64, "probe"))
            .and(" look at the components; ")
            .and(&if down == 0 {
                "all find them well.".to_owned()
            } else {
                format!("{down} find trouble.")
            })
    };
    let named = |name: &str| probes.iter().find(|one| one.settings.name == name);
    Ok(UptimePage {
        sentence,
        edited: named(form.text("edit")).map(|one| one.settings.clone()),
        removed: named(form.text("remove")).map(|one| one.settings.name.clone()),
        lines: probes.iter().map(|one| line(one, &components)).collect(),
        components,
        tested,
        form,
        faults,
        frame,
    })
}

fn line(probe: &ProbeView, components: &[Component]) -> Line {
    let ProbeSettings { name, component, check, interval_s, is_enabled, .. } = &probe.settings;
    let known = components.iter().find(|one| one.key == *component);
    let (word, tone) = match (is_enabled, probe.is_down, &probe.last) {
        (false, ..) => ("off", ""),
        (true, true, _) => ("down", "bad"),
        (true, false, Some(last)) if !last.is_good => ("failing", "warn"),
        (true, false, Some(_)) => ("up", "good"),
        (true, false, None) => ("new", ""),
    };
    Line {
        name: name.clone(),
        component: known.map_or_else(|| component.clone(), |one| one.name.clone()),
        what: match check {
            Check::Http { url, .. } => url.clone(),
            Check::Tcp { address } => address.clone(),
            Check::Sql { source, .. } => format!("data source {source}"),
            Check::Login { url, .. } => format!("sign-in at {url}"),
            Check::LoginFlow { steps, .. } => {
                let first = steps.first().map(|step| step.url.as_str()).unwrap_or_default();
                format!("sign-in in {} steps from {first}", steps.len())
            }
        },
        word,
        tone,
        last: probe.last.clone(),
        uptime: uptime(&probe.days),
        every: words::duration(*interval_s as i64 * 1_000),
    }
}

fn uptime(days: &[ProbeDay]) -> String {
    let (good, all) =
        days.iter().fold((0, 0), |(good, all), day| (good + day.good, all + day.good + day.bad));
    if all == 0 { String::new() } else { share_percent(good, all) }
}

/// `GET /ui/settings/uptime/{probe}`: what it found.
pub async fn one(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame_anywhere("settings", "Uptime").await?;
    let found = visit.get_probe(&visit.who, &path, RESULTS_SHOWN).await?;
    let components = visit.list_components(&visit.who).await?;
    let line = line(&found.probe, &components);
    let mut sentence = Words::default().strong(&line.name).and(&format!(" is {}", line.word));
    sentence = match &found.probe.last {
        Some(last) => sentence.and(&format!(": {}, ", last.said)).when(last.at, frame.now).and("."),
        None => sentence.and("; it has not looked yet."),
    };
    let day = |day: &ProbeDay| DayLine {
        date: words::format_at(day.at, "%Y-%m-%d"),
        share: share_percent(day.good, day.good + day.bad),
        looks: day.good + day.bad,
        bad: day.bad,
        average_ms: day.took_ms / (day.good + day.bad).max(1),
    };
    let days = found.probe.days.iter().rev().map(day).collect();
    ok(&ProbePage { frame, sentence, line, days, results: found.results })
}

/// `POST /ui/settings/uptime`: makes or changes one.
pub async fn put(visit: Visit, form: Fields) -> Answer {
    let made = match settings_of(&form) {
        Ok(settings) => visit.put_probe(&visit.who, settings, form.text("reason")).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(probe) => {
            let name = probe.settings.name;
            Ok(Visit::done(
                HOME,
                &Toast::say(format!("{name} is set. Test it, to see what it finds.")),
            ))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults, None).await?)
        }
    }
}

/// The form's fields as the API would have them.
fn settings_of(form: &Fields) -> Result<ProbeSettings, AppError> {
    let mut check = Map::new();
    let kind = form.text("kind");
    check.insert("kind".to_owned(), json!(kind));
    let target = match kind {
        "tcp" => "address",
        "sql" => "source",
        _ => "url",
    };
    if kind != "login_flow" {
        check.insert(target.to_owned(), json!(form.text("target")));
    }
    if kind == "sql" {
        check.insert("query".to_owned(), json!(form.text("query")));
    }
    if kind != "tcp" && kind != "login_flow" {
        check.insert("text".to_owned(), json!(form.text("text")));
    }
    if kind == "http" || kind == "login" {
        let status = form.list("status").into_iter().map(|one| one.parse::<u16>());
        let status: Result<Vec<u16>, _> = status.collect();
        let status =
            status.map_err(|_| AppError::invalid("status", "use numbers such as 200, 204"))?;
        check.insert("status".to_owned(), json!(status));
    }
    if kind == "login_flow" {
        let steps: Value = serde_json::from_str(form.text("steps")).map_err(|error| {
            AppError::invalid("check.steps", format!("this is no JSON: {error}"))
        })?;
        check.insert("steps".to_owned(), steps);
    }
    if kind == "login" || kind == "login_flow" {
        check.insert("environment".to_owned(), json!(form.text("environment")));
    }
    if kind == "login" || (kind == "login_flow" && form.some("credentials").is_some()) {
        let place = switchback_source::Credentials::try_from(form.text("credentials").to_owned());
        let place = place.map_err(|why| AppError::invalid("credentials", why))?;
        check.insert("credentials".to_owned(), json!(place));
    }
    if kind == "login" {
        check.insert("is_form".to_owned(), json!(form.is("is_form")));
        for field in ["name_field", "password_field"] {
            if let Some(text) = form.some(field) {
                check.insert(field.to_owned(), json!(text));
            }
        }
    }
    let mut settings = json!({
        "name": form.text("name"), "component": form.text("component"), "check": check,
        "state": form.text("state"), "is_enabled": form.is("is_enabled"),
    });
    for (field, _, _) in NUMBERS {
        let number: u64 = form.number(field)?;
        if let Some(settings) = settings.as_object_mut() {
            settings.insert(field.to_owned(), json!(number));
        }
    }
    serde_json::from_value(settings).map_err(|error| {
        AppError::Invalid(vec![Wrong { field: String::new(), message: error.to_string() }])
    })
}

/// `POST /ui/settings/uptime/{probe}/test`.
pub async fn test(visit: Visit, path: Path<String>) -> Answer {
    let found = visit.test_probe(&visit.who, &path).await?;
    let tested = Some((path.into_inner(), found));
    ok(&page_of(&visit, Fields::default(), Faults::default(), tested).await?)
}

/// `POST /ui/settings/uptime/{probe}/remove`.
pub async fn remove(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    visit.remove_probe(&visit.who, &path, form.text("reason")).await?;
    Ok(Visit::done(HOME, &Toast::say(format!("{path} is gone."))))
}

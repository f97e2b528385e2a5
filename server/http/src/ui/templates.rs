//! Incident templates: all of them, and one with its text, its versions and what every channel would say.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde_json::Value;
use switchback_app::AppError;
use switchback_app::incident_templates::{KnownTemplate, parse_template};
use switchback_playbook::ports::IncidentText;
use switchback_playbook::templates::IncidentTemplate;
use switchback_store::TemplateVersion;

use super::fields::Fields;
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// What a new template begins with.
const BLANK: &str = "name: my_template\ntitle: What is wrong, in one line\nimpact: minor\nstatus: investigating\n\
components: {}\nplaceholders:\n  estimated_time: {type: duration, default: 1h}\nbody: |\n  What happens, what people can do, \
when you say more. We expect it back within {estimated_time}.\n";

struct TemplateLine {
    name: String,
    title: String,
    impact: String,
    status: String,
    origin: String,
    channels: String,
}

#[derive(Template)]
#[template(path = "pages/templates.html")]
struct TemplatesPage {
    frame: Frame,
    sentence: Words,
    templates: Vec<TemplateLine>,
    refused: Vec<(String, String)>,
}

/// What one channel would say.
pub struct Preview {
    /// The channel's word.
    pub channel: &'static str,
    /// Its first line, where it has one.
    pub title: String,
    /// What is said.
    pub text: String,
    /// The same as HTML, where there is any.
    pub html: Option<String>,
}

#[derive(Template)]
#[template(path = "pages/template.html")]
struct TemplatePage {
    frame: Frame,
    sentence: Words,
    name: String,
    is_new: bool,
    is_own: bool,
    version: u64,
    source: String,
    gaps: Vec<(String, String)>,
    previews: Vec<Preview>,
    versions: Vec<TemplateVersion>,
    faults: Vec<String>,
}

fn line(known: &KnownTemplate) -> TemplateLine {
    let KnownTemplate { template, version, is_own, .. } = known;
    let says = &template.says;
    let own = [
        ("e-mail", says.email.is_some()),
        ("in the app", says.in_app.is_some()),
        ("chat", says.chat.is_some()),
        ("support", says.support.is_some()),
    ];
    let own: Vec<&str> = own.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    TemplateLine {
        name: template.name.clone(),
        title: template.title.clone(),
        impact: template.impact.clone(),
        status: words::title(&template.status.replace('_', " ")),
        origin: if *is_own {
            format!("written here, version {version}")
        } else {
            "shipped".to_owned()
        },
        channels: if own.is_empty() { "the body everywhere".to_owned() } else { own.join(", ") },
    }
}

/// `GET /ui/settings/templates`.
pub async fn page(visit: Visit) -> Answer {
    let frame = visit.frame_anywhere("settings", "Templates").await?;
    let all = visit.list_incident_templates(&visit.who).await?;
    let own = all.iter().filter(|known| known.is_own).count();
    let sentence =
        Words::default().strong(&words::count(all.len() as u64, "template")).and(&match own {
            0 => ", all of them shipped.".to_owned(),
            own => format!(", {own} of them written here."),
        });
    let catalogue = visit.catalogue.load();
    let refused = catalogue.refused.iter().map(|(name, problems)| {
        (name.clone(), problems.first().map(ToString::to_string).unwrap_or_default())
    });
    let refused = refused.collect();
    ok(&TemplatesPage { frame, sentence, templates: all.iter().map(line).collect(), refused })
}

/// What every channel would say with these texts.
pub fn previews(text: &IncidentText) -> Vec<Preview> {
    let says = &text.says;
    let fallback = || (text.title.clone(), text.body.clone());
    let plain =
        |channel, (title, text): (String, String)| Preview { channel, title, text, html: None };
    let email = says.email.as_ref();
    let letter = email.map_or_else(fallback, |email| (email.subject.clone(), email.text.clone()));
    let mut all = vec![
        plain("Status page", fallback()),
        Preview { html: email.and_then(|email| email.html.clone()), ..plain("E-mail", letter) },
        plain("Chat", (text.title.clone(), says.chat.clone().unwrap_or_else(|| text.body.clone()))),
    ];
    if let Some(in_app) = &says.in_app {
        all.push(plain("In the app", (in_app.title.clone(), in_app.message.clone())));
    }
    if let Some(support) = &says.support {
        all.push(plain("Support answer", (String::new(), support.clone())));
    }
    all
}

/// `GET /ui/settings/templates/{template}`; `new` begins one.
pub async fn one(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path, &query, Vec::new()).await?)
}

async fn page_of(
    visit: &Visit,
    name: &str,
    form: &Fields,
    mut faults: Vec<String>,
) -> Result<TemplatePage, UiError> {
    let frame = visit.frame_anywhere("settings", "Templates").await?;
    let is_new = name == "new";
    let known =
        if is_new { None } else { Some(visit.get_incident_template(&visit.who, name).await?) };
    let versions =
        if is_new { Vec::new() } else { visit.list_template_versions(&visit.who, name).await? };
    let older = form.some("version").and_then(|text| text.parse::<u64>().ok());
    let older = older.and_then(|wanted| versions.iter().find(|one| one.version == wanted));
    let older = older.and_then(|version| version.source.clone());
    let kept = known.as_ref().map_or_else(|| BLANK.to_owned(), |known| known.source.clone());
    let source = form.some("source").or(older).unwrap_or(kept);
    let mut gaps = Vec::new();
    let mut shown = Vec::new();
    match parse_template(&source) {
        Ok(template) => match fill(&template, form, &mut gaps) {
            Ok(text) => shown = previews(&text),
            Err(why) => faults.push(super::error::sentence(&why)),
        },
        Err(error) if faults.is_empty() => faults = lines(error),
        Err(_) => {}
    }
    let sentence = match &known {
        None => Words::say("A template of your own. It is checked when you save it."),
        Some(known) => match &known.changed {
            Some((at, by)) if known.is_own => {
                Words::say(&format!("Version {}, saved ", known.version))
                    .when(*at, frame.now)
                    .and(&format!(" by {}.", words::actor(by)))
            }
            _ => Words::say("Shipped. What you save here counts instead, on every node."),
        },
    };
    Ok(TemplatePage {
        frame,
        sentence,
        name: name.to_owned(),
        is_new,
        is_own: known.as_ref().is_some_and(|known| known.is_own),
        version: known.as_ref().map_or(0, |known| known.version),
        source,
        gaps,
        previews: shown,
        versions,
        faults,
    })
}

/// Fills a template with what the form says, else with defaults, else with the gaps' names.
pub fn fill(
    template: &IncidentTemplate,
    form: &Fields,
    gaps: &mut Vec<(String, String)>,
) -> Result<IncidentText, String> {
    let mut vars = BTreeMap::new();
    for gap in &template.placeholders {
        let sent = form.some(&format!("vars.{}", gap.name)).or_else(|| gap.default.clone());
        gaps.push((gap.name.clone(), sent.clone().unwrap_or_default()));
        let value = sent.unwrap_or_else(|| gap.sample());
        vars.insert(gap.name.clone(), Value::String(value));
    }
    template.render(&vars)
}

fn lines(error: AppError) -> Vec<String> {
    match error {
        AppError::Invalid(wrong) => wrong.into_iter().map(|one| one.message).collect(),
        other => vec![super::error::sentence(&other.to_string())],
    }
}

/// `POST /ui/settings/templates/{template}`: `save`, `preview` or `remove`.
pub async fn save(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let name = path.into_inner();
    match form.text("do") {
        "remove" => {
            visit.delete_incident_template(&visit.who, &name).await?;
            let text = format!("What was written here of {name} is removed.");
            return Ok(Visit::done("/ui/settings/templates", &Toast::say(text)));
        }
        "preview" => return ok(&page_of(&visit, &name, &form, Vec::new()).await?),
        _ => {}
    }
    let source = form.text("source");
    let own_name = match (name.as_str(), parse_template(source)) {
        ("new", Ok(template)) => template.name,
        _ => name.clone(),
    };
    let expected = if name == "new" { Some(0) } else { form.number("version").ok() };
    match visit.put_incident_template(&visit.who, &own_name, source, expected).await {
        Ok(kept) => {
            let text = format!("{own_name} is saved as version {}.", kept.version);
            Ok(Visit::done(&format!("/ui/settings/templates/{own_name}"), &Toast::say(text)))
        }
        Err(error @ (AppError::Invalid(_) | AppError::Refused(_) | AppError::Conflict { .. })) => {
            unprocessable(&page_of(&visit, &name, &form, lines(error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

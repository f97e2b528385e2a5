//! Incident templates: `runbooks/incidents/*.yaml`, texts with `{name}` placeholders.
//!
//! ```yaml
//! name: auth_down
//! title: Sign-in is unavailable
//! impact: major                    # none | minor | major | critical | maintenance
//! status: investigating
//! components: {auth: major_outage}
//! placeholders:
//!   estimated_time: {type: duration, default: 2h}    # text | number | duration
//! body: |                          # what the status page says
//!   Signing in does not work. We expect it back within {estimated_time}.
//! ```
//! What other channels say is in [`crate::says`].
//! A placeholder that is not declared, and a declared one that no text uses, are refused when the file
//! is read. `{{` and `}}` stand for braces.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::format::Playbook;
use crate::ports::IncidentText;
use crate::problem::{Problem, suggest};
use crate::read::{Reader, is_name, join};
use crate::says::{self, Says, escape_html, one_line};
use crate::units;
use crate::yaml::{self, Node};

/// What an incident may do to people.
pub const IMPACTS: [&str; 5] = ["none", "minor", "major", "critical", "maintenance"];
/// Where an incident or a maintenance may stand.
pub const STATUSES: [&str; 8] = [
    "investigating",
    "identified",
    "monitoring",
    "resolved",
    "scheduled",
    "in_progress",
    "verifying",
    "completed",
];
/// What a component may be, as Statuspage names it.
pub const COMPONENT_STATES: [&str; 5] =
    ["operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"];

/// What a placeholder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceholderType {
    /// Any text up to 500 characters.
    Text,
    /// A number.
    Number,
    /// A duration such as `2h`; the text says `2 hours`.
    Duration,
}

/// A declared gap in the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placeholder {
    /// Its name: `{name}`.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: PlaceholderType,
    /// Used when nothing is given; without one, a value must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentTemplate {
    /// Its name, unique among the templates.
    pub name: String,
    /// The incident's title, with placeholders.
    pub title: String,
    /// One of [`IMPACTS`].
    pub impact: String,
    /// One of [`STATUSES`].
    pub status: String,
    /// Components and their [`COMPONENT_STATES`].
    pub components: BTreeMap<String, String>,
    /// The gaps.
    pub placeholders: Vec<Placeholder>,
    /// The update's text, with placeholders: what the status page says.
    pub body: String,
    /// What other channels say, with placeholders.
    #[serde(skip_serializing_if = "Says::is_empty")]
    pub says: Says,
}

impl IncidentTemplate {
    /// Reads and checks one file.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let root = yaml::read(text).map_err(|problem| vec![problem])?;
        let mut reader = Reader::default();
        let template = parse(&mut reader, &root);
        match template {
            Some(template) if reader.problems.is_empty() => Ok(template),
            _ => Err(reader.problems),
        }
    }

    /// Fills in every placeholder. The error names the one that is missing, wrong or unknown.
    pub fn render(&self, vars: &BTreeMap<String, Value>) -> Result<IncidentText, String> {
        if let Some(unknown) = vars.keys().find(|name| !self.declares(name)) {
            let hint = suggest(unknown, self.placeholders.iter().map(|gap| gap.name.as_str()));
            return Err(format!(
                "template `{}` has no placeholder `{unknown}` ({hint})",
                self.name
            ));
        }
        let mut values = BTreeMap::new();
        for gap in &self.placeholders {
            let given = match vars.get(&gap.name) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Null) | None => gap.default.clone(),
                Some(other) => Some(other.to_string()),
            };
            let given = given.ok_or_else(|| {
                format!("template `{}` needs a value for `{}`", self.name, gap.name)
            })?;
            values.insert(gap.name.as_str(), gap.accept(&given)?);
        }
        let fill = |text: &str| substitute(text, |name| values.get(name).cloned());
        let says = self.says.map(|text, is_html| {
            substitute(text, |name| {
                let value = values.get(name);
                value.map(|text| if is_html { escape_html(text) } else { text.clone() })
            })
        })?;
        Ok(IncidentText {
            says,
            notify: Vec::new(),
            template: self.name.clone(),
            title: one_line(&fill(&self.title)?),
            body: fill(&self.body)?,
            impact: self.impact.clone(),
            status: self.status.clone(),
            components: self.components.clone(),
        })
    }

    fn declares(&self, name: &str) -> bool {
        self.placeholders.iter().any(|gap| gap.name == name)
    }
}

impl Placeholder {
    /// Something that it takes, to show a text before anybody gave a value.
    pub fn sample(&self) -> String {
        match self.kind {
            PlaceholderType::Text => format!("({})", self.name),
            PlaceholderType::Number => "1".to_owned(),
            PlaceholderType::Duration => "1h".to_owned(),
        }
    }

    fn accept(&self, given: &str) -> Result<String, String> {
        match self.kind {
            PlaceholderType::Text if given.chars().count() > 500 => {
                Err(format!("`{}` is over 500 characters", self.name))
            }
            PlaceholderType::Text => Ok(given.to_owned()),
            PlaceholderType::Number => match given.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(given.to_owned()),
                _ => Err(format!("`{}` takes a number, not `{given}`", self.name)),
            },
            PlaceholderType::Duration => units::parse_duration(given).map(units::duration_words),
        }
    }
}

/// The incident templates, SQL files and other playbooks that playbooks may name.
#[derive(Clone, Debug, Default)]
pub struct Library {
    templates: BTreeMap<String, IncidentTemplate>,
    scripts: BTreeMap<String, String>,
    pub(crate) playbooks: BTreeMap<String, Playbook>,
}

impl Library {
    /// Adds a template; one of the same name is replaced, so that an operator's file beats ours.
    pub fn insert(&mut self, template: IncidentTemplate) {
        self.templates.insert(template.name.clone(), template);
    }

    /// The template of this name, or a sentence with the nearest name.
    pub fn get(&self, name: &str) -> Result<&IncidentTemplate, String> {
        self.templates.get(name).ok_or_else(|| {
            let hint = suggest(name, self.templates.keys().map(String::as_str));
            format!("there is no incident template `{name}` ({hint})")
        })
    }

    /// Adds an SQL file under its path in the runbooks' folder, such as `sql/clear_sessions.sql`; one of the same path is
    /// replaced.
    pub fn insert_script(&mut self, path: &str, text: String) {
        self.scripts.insert(path.to_owned(), text);
    }

    /// The text of an SQL file, or a sentence with the nearest path.
    pub fn script(&self, path: &str) -> Result<&str, String> {
        self.scripts.get(path).map(String::as_str).ok_or_else(|| {
            let hint = suggest(path, self.scripts.keys().map(String::as_str));
            format!("there is no SQL file `{path}` ({hint})")
        })
    }

    /// Every template, by name.
    pub fn iter(&self) -> impl Iterator<Item = &IncidentTemplate> {
        self.templates.values()
    }
}

fn parse(reader: &mut Reader, root: &Node) -> Option<IncidentTemplate> {
    let own = ["name", "title", "impact", "status", "components", "placeholders", "body"];
    let keys: Vec<&str> = own.into_iter().chain(says::KEYS).collect();
    let map = reader.map(root, "", &keys)?;
    let words = |list: &[&'static str]| list.iter().map(|word| (*word, *word)).collect::<Vec<_>>();
    let template = IncidentTemplate {
        name: reader.name(map, "", "name")?,
        title: reader.required(map, "", "title", 200)?,
        impact: reader.word(map, "", "impact", &words(&IMPACTS)).unwrap_or("minor").to_owned(),
        status: reader
            .word(map, "", "status", &words(&STATUSES))
            .unwrap_or("investigating")
            .to_owned(),
        components: map.get("components").map(|node| components(reader, node)).unwrap_or_default(),
        placeholders: map.get("placeholders").map(|node| gaps(reader, node)).unwrap_or_default(),
        body: reader.required(map, "", "body", 4_000)?,
        says: says::parse(reader, map),
    };
    let mut used = Vec::new();
    let own = [("title", template.title.as_str()), ("body", template.body.as_str())];
    let others = template.says.texts();
    for (path, text) in
        own.into_iter().chain(others.into_iter().map(|(path, text, _)| (path, text)))
    {
        let mut steps = path.split('.');
        let node = steps.next().and_then(|key| map.get(key));
        let node = steps.next().map_or(node, |key| node.and_then(|node| node.get(key)))?;
        let filled = substitute(text, |name| {
            used.push(name.to_owned());
            template.declares(name).then(String::new)
        });
        if let Err(message) = filled {
            reader.fault(node, path, message, "declare it under `placeholders`");
        }
    }
    for gap in &template.placeholders {
        if !used.contains(&gap.name) {
            let path = join("placeholders", &gap.name);
            reader.fault(map.get("placeholders")?, &path, "no text uses it", "remove it");
        }
    }
    Some(template)
}

fn components(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in node.pairs().unwrap_or_default() {
        let state = value.text().unwrap_or_default();
        if COMPONENT_STATES.contains(&state) {
            found.insert(key.text.clone(), state.to_owned());
        } else {
            let path = join("components", &key.text);
            let message = format!("`{state}` is not a component's state");
            reader.fault(value, &path, message, suggest(state, COMPONENT_STATES));
        }
    }
    if node.pairs().is_none() {
        reader.fault(node, "components", "a map is expected", "such as {auth: major_outage}");
    }
    found
}

fn gaps(reader: &mut Reader, node: &Node) -> Vec<Placeholder> {
    let types = [
        ("text", PlaceholderType::Text),
        ("number", PlaceholderType::Number),
        ("duration", PlaceholderType::Duration),
    ];
    let mut found = Vec::new();
    for (key, value) in node.pairs().unwrap_or_default() {
        let path = join("placeholders", &key.text);
        let Some(map) = reader.map(value, &path, &["type", "default"]) else { continue };
        let kind = reader.word(map, &path, "type", &types).unwrap_or(PlaceholderType::Text);
        let default = reader.optional(map, &path, "default", 500);
        let gap = Placeholder { name: key.text.clone(), kind, default };
        if !is_name(&gap.name) {
            reader.fault(value, &path, format!("`{}` is not a name", gap.name), "");
        } else if let Some(Err(message)) = gap.default.as_ref().map(|text| gap.accept(text)) {
            reader.fault(value, &path, message, "");
        }
        found.push(gap);
    }
    found
}

/// Replaces `{name}`; `{{` and `}}` are braces. The error names what has no value.
fn substitute(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        if let Some(tail) = tail.strip_prefix("{{") {
            out.push('{');
            rest = tail;
        } else if let Some(tail) = tail.strip_prefix("}}") {
            out.push('}');
            rest = tail;
        } else if let Some((name, tail)) = tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
            out.push_str(&value(name).ok_or_else(|| format!("`{{{name}}}` is not declared"))?);
            rest = tail;
        } else {
            return Err("a brace stands alone; write `{{` or `}}` for a brace".to_owned());
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AUTH: &str = "name: auth_down\ntitle: Sign-in\nimpact: major\nstatus: investigating\n\
        placeholders: {eta: {type: duration, default: 2h}}\nbody: 'back in {eta}, {{sorry}}'\n";

    #[test]
    fn placeholders_are_filled_in_words() {
        let template = IncidentTemplate::parse(AUTH).unwrap();

        let default = template.render(&BTreeMap::new()).unwrap();
        let given = template.render(&[("eta".to_owned(), json!("90m"))].into()).unwrap();

        assert_eq!(default.body, "back in 2 hours, {sorry}");
        assert_eq!(given.body, "back in 1 hour 30 minutes, {sorry}");
        let unknown = template.render(&[("etta".to_owned(), json!("1h"))].into()).unwrap_err();
        assert_eq!(unknown, "template `auth_down` has no placeholder `etta` (did you mean `eta`?)");
    }

    #[test]
    fn undeclared_and_unused_placeholders_are_refused() {
        let undeclared = IncidentTemplate::parse(&AUTH.replace("{eta},", "{etc},")).unwrap_err();
        let said: Vec<_> = undeclared.iter().map(ToString::to_string).collect();

        assert_eq!(
            said,
            [
                "6:7: body: `{etc}` is not declared (declare it under `placeholders`)",
                "5:15: placeholders.eta: no text uses it (remove it)",
            ]
        );
    }
}

//! The playbooks, incident templates, alert rules, packs of checks and SQL files that this server knows: those that it ships, and those of a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rust_embed::RustEmbed;
use switchback_checks::Pack;
use switchback_playbook::format::{self, Playbook};
use switchback_playbook::templates::{IncidentTemplate, Library};
use switchback_playbook::{Problem, lint};
use switchback_store::TemplateVersion;
use switchback_watch::rule::Rule;

use super::error::AppError;
use super::incident_templates::KnownTemplate;

/// How files of playbooks and templates end.
const YAML: &[&str] = &["yaml", "yml"];
const SQL: &[&str] = &["sql"];

#[derive(RustEmbed)]
#[folder = "../../runbooks"]
struct Shipped;

/// The playbooks and incident templates that this server knows.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// By name.
    pub playbooks: BTreeMap<String, Playbook>,
    /// Incident templates and SQL files.
    pub templates: Library,
    /// Alert rules by name, with their texts.
    pub alert_rules: BTreeMap<String, (Rule, String)>,
    /// Packs of checks by name, with their texts.
    pub check_packs: BTreeMap<String, (Pack, String)>,
    /// Files of the operator's folder and templates that were refused, with what is wrong.
    pub refused: Vec<(String, Vec<Problem>)>,
    /// Templates that were written in the console, by their newest version.
    pub own_templates: Vec<TemplateVersion>,
    /// The files, by name.
    texts: Arc<Vec<(String, String)>>,
    /// Texts of the templates that count.
    sources: BTreeMap<String, String>,
}

impl Catalogue {
    /// The shipped files, and those of a folder, which win by name.
    pub fn load(folder: Option<&Path>) -> Result<Self, AppError> {
        let mut texts: Vec<(String, String)> = Vec::new();
        for name in Shipped::iter().filter(|name| ends(Path::new(&**name), &[YAML, SQL].concat())) {
            if let Some(file) = Shipped::get(&name) {
                texts.push((name.into_owned(), String::from_utf8_lossy(&file.data).into_owned()));
            }
        }
        if let Some(folder) = folder {
            let parts =
                [("", YAML), ("incidents", YAML), ("alerts", YAML), ("checks", YAML), ("sql", SQL)];
            for (part, endings) in parts {
                texts.extend(read_folder(&folder.join(part), part, endings)?);
            }
        }
        Ok(Self::build(Arc::new(texts), Vec::new()))
    }

    /// The same with other templates from the console.
    #[must_use]
    pub fn with_templates(&self, own: Vec<TemplateVersion>) -> Self {
        Self::build(Arc::clone(&self.texts), own)
    }

    fn build(texts: Arc<Vec<(String, String)>>, own: Vec<TemplateVersion>) -> Self {
        let mut catalogue = Self::default();
        let mut playbooks = Vec::new();
        for (name, text) in texts.iter() {
            if name.starts_with("sql/") {
                catalogue.templates.insert_script(name, text.clone());
            } else if name.starts_with("incidents/") {
                catalogue.insert_template(name, text);
            } else if name.starts_with("alerts/") {
                catalogue.insert_rule(name, text);
            } else if name.starts_with("checks/") {
                match Pack::parse(text) {
                    Ok(pack) => {
                        catalogue.check_packs.insert(pack.name.clone(), (pack, text.clone()));
                    }
                    Err(problems) => catalogue.refused.push((name.clone(), problems)),
                }
            } else {
                playbooks.push((name, text));
            }
        }
        for version in &own {
            if let Some(source) = &version.source {
                catalogue.insert_template(&format!("template {}", version.name), source);
            }
        }
        // All are known before any is checked: they may call each other.
        for (_, text) in &playbooks {
            if let Ok(playbook) = format::parse(text) {
                catalogue.templates.insert_playbook(playbook);
            }
        }
        for (name, text) in playbooks {
            match lint::load(text, &catalogue.templates) {
                Ok((playbook, _)) => {
                    catalogue.playbooks.insert(playbook.name.clone(), playbook);
                }
                Err(problems) => catalogue.refused.push((name.clone(), problems)),
            }
        }
        for (name, problems) in &catalogue.refused {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(file = name, "a runbook file is refused: {first}");
        }
        catalogue.own_templates = own;
        catalogue.texts = texts;
        catalogue
    }

    fn insert_rule(&mut self, place: &str, text: &str) {
        match Rule::parse(text) {
            Ok(rule) => {
                self.alert_rules.insert(rule.name.clone(), (rule, text.to_owned()));
            }
            Err(problems) => self.refused.push((place.to_owned(), problems)),
        }
    }

    fn insert_template(&mut self, place: &str, text: &str) {
        match IncidentTemplate::parse(text) {
            Ok(template) => {
                self.sources.insert(template.name.clone(), text.to_owned());
                self.templates.insert(template);
            }
            Err(problems) => self.refused.push((place.to_owned(), problems)),
        }
    }

    /// A template with where it comes from.
    pub fn known(&self, template: &IncidentTemplate) -> KnownTemplate {
        let own = self.own_templates.iter().find(|version| version.name == template.name);
        KnownTemplate {
            template: template.clone(),
            source: self.sources.get(&template.name).cloned().unwrap_or_default(),
            version: own.map_or(0, |version| version.version),
            is_own: own.is_some_and(|version| version.source.is_some()),
            changed: own.map(|version| (version.created_at, version.created_by.clone())),
        }
    }

    /// The first file that is refused here and was not before, with why.
    pub fn newly_refused(&self, before: &Self) -> Option<String> {
        let known: Vec<&String> = before.refused.iter().map(|(name, _)| name).collect();
        let (name, problems) = self.refused.iter().find(|(name, _)| !known.contains(&name))?;
        Some(format!("{name}: {}", problems.first().map(ToString::to_string).unwrap_or_default()))
    }

    /// A playbook by name; the error names the nearest.
    pub fn get(&self, name: &str) -> Result<&Playbook, AppError> {
        self.playbooks.get(name).ok_or_else(|| {
            let near = crate::config::nearest(name, self.playbooks.keys().map(String::as_str));
            AppError::NotFound { kind: "playbook", key: format!("{name}{near}") }
        })
    }
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

fn read_folder(
    folder: &Path,
    part: &str,
    endings: &[&str],
) -> Result<Vec<(String, String)>, AppError> {
    let fail = |error: std::io::Error| {
        AppError::Refused(format!("{} cannot be read: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if !part.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(fail(error)),
    };
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if ends(&path, endings) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = Path::new(part).join(name.unwrap_or_default()).display().to_string();
            texts.push((name, std::fs::read_to_string(&path).map_err(fail)?));
        }
    }
    texts.sort();
    Ok(texts)
}

//! Incident templates: those that are shipped, those of the operator's folder, and those that were written here, which win.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use switchback_core::model::Millis;
use switchback_playbook::ports::IncidentText;
use switchback_playbook::templates::IncidentTemplate;
use switchback_store::{Role, StoreError, TemplateVersion};

use super::App;
use super::error::{AppError, Wrong};
use super::who::{EVERYWHERE, Who};

/// Templates that may be written here at most.
const TEMPLATES_MAX: usize = 200;
/// The longest text of one, in bytes.
const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// A template with where it comes from.
#[derive(Clone, Debug)]
pub struct KnownTemplate {
    /// What it says.
    pub template: IncidentTemplate,
    /// Its text.
    pub source: String,
    /// The newest version that was written here; 0: none.
    pub version: u64,
    /// Whether it was written here; otherwise it is shipped, or lies in the operator's folder.
    pub is_own: bool,
    /// When it was changed here, in UTC milliseconds, and by whom.
    pub changed: Option<(Millis, String)>,
}

impl App {
    /// Takes over what was written here or on another node.
    pub(crate) async fn refresh_templates(&self) -> Result<(), StoreError> {
        let versions = self.store.list_templates().await?;
        let catalogue = self.catalogue.load();
        if catalogue.own_templates == versions {
            return Ok(());
        }
        self.catalogue.store(Arc::new(catalogue.with_templates(versions)));
        Ok(())
    }

    /// Every template, by name.
    pub async fn list_incident_templates(&self, who: &Who) -> Result<Vec<KnownTemplate>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at templates")?;
        self.refresh_templates().await?;
        let catalogue = self.catalogue.load();
        Ok(catalogue.templates.iter().map(|template| catalogue.known(template)).collect())
    }

    /// One template.
    pub async fn get_incident_template(
        &self,
        who: &Who,
        name: &str,
    ) -> Result<KnownTemplate, AppError> {
        let all = self.list_incident_templates(who).await?;
        let found = all.into_iter().find(|known| known.template.name == name);
        found.ok_or_else(|| AppError::NotFound { kind: "incident template", key: name.to_owned() })
    }

    /// Every version of a template that was written here, newest first.
    pub async fn list_template_versions(
        &self,
        who: &Who,
        name: &str,
    ) -> Result<Vec<TemplateVersion>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at templates")?;
        Ok(self.store.list_template_versions(name).await?)
    }

    /// Keeps a new version of a template. `expected`: the version that it was made from.
    ///
    /// # Errors
    /// The text is no template: every fault with its line and column; or somebody else saved meanwhile.
    pub async fn put_incident_template(
        &self,
        who: &Who,
        name: &str,
        source: &str,
        expected: Option<u64>,
    ) -> Result<KnownTemplate, AppError> {
        who.must(Role::Editor, EVERYWHERE, "write templates")?;
        let template = parse_template(source)?;
        if template.name != name {
            let message = format!("the text says `name: {}`, and this is `{name}`", template.name);
            return Err(AppError::invalid("source", message));
        }
        self.check_known_components(&template).await?;
        let known = self.store.list_templates().await?;
        if known.len() >= TEMPLATES_MAX && !known.iter().any(|version| version.name == name) {
            let message =
                format!("there are {TEMPLATES_MAX} templates of your own, which is the most");
            return Err(AppError::Refused(message));
        }
        let expected = match expected {
            Some(expected) => expected,
            None => known
                .iter()
                .find(|version| version.name == name)
                .map_or(0, |version| version.version),
        };
        self.check_playbooks(&known, name, Some(source))?;
        self.store.put_template(name, expected, Some(source), &self.stamp(who, "")).await?;
        self.refresh_templates().await?;
        self.get_incident_template(who, name).await
    }

    /// Removes what was written here; a shipped template of the same name counts again.
    pub async fn delete_incident_template(&self, who: &Who, name: &str) -> Result<(), AppError> {
        who.must(Role::Editor, EVERYWHERE, "remove templates")?;
        let known = self.get_incident_template(who, name).await?;
        if !known.is_own {
            let message = format!("`{name}` was not written here, so it cannot be removed here");
            return Err(AppError::Refused(message));
        }
        self.check_playbooks(&self.store.list_templates().await?, name, None)?;
        self.store.put_template(name, known.version, None, &self.stamp(who, "")).await?;
        Ok(self.refresh_templates().await?)
    }

    /// A template filled in.
    pub async fn fill_template(
        &self,
        who: &Who,
        name: &str,
        vars: &BTreeMap<String, Value>,
    ) -> Result<IncidentText, AppError> {
        let known = self.get_incident_template(who, name).await?;
        known.template.render(vars).map_err(|why| AppError::invalid("vars", why))
    }

    /// Refuses what would make a playbook unusable that is usable now.
    fn check_playbooks(
        &self,
        known: &[TemplateVersion],
        name: &str,
        source: Option<&str>,
    ) -> Result<(), AppError> {
        let mut next: Vec<TemplateVersion> =
            known.iter().filter(|version| version.name != name).cloned().collect();
        next.push(TemplateVersion {
            name: name.to_owned(),
            version: 0,
            source: source.map(str::to_owned),
            created_at: 0,
            created_by: String::new(),
        });
        let before = self.catalogue.load();
        match before.with_templates(next).newly_refused(&before) {
            Some(why) => {
                Err(AppError::invalid("source", format!("a playbook would no longer work: {why}")))
            }
            None => Ok(()),
        }
    }

    async fn check_known_components(&self, template: &IncidentTemplate) -> Result<(), AppError> {
        let known = self.store.list_components().await?;
        for key in template.components.keys() {
            if !known.iter().any(|component| component.key == *key) {
                return Err(AppError::invalid(
                    "source",
                    format!("components: there is no component `{key}`"),
                ));
            }
        }
        Ok(())
    }
}

/// Reads a template's text.
///
/// # Errors
/// Every fault, with its line and column.
pub fn parse_template(source: &str) -> Result<IncidentTemplate, AppError> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the text is over {} kB", SOURCE_BYTES_MAX / 1_024);
        return Err(AppError::invalid("source", message));
    }
    IncidentTemplate::parse(source).map_err(|problems| {
        let wrong = |problem: &switchback_playbook::Problem| Wrong {
            field: "source".to_owned(),
            message: problem.to_string(),
        };
        AppError::Invalid(problems.iter().map(wrong).collect())
    })
}

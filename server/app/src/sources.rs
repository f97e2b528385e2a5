//! Data sources: which there are, whether they answer, and the connection that steps use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use switchback_core::model::Millis;
use switchback_source::{Settings, Source, Tested};
use switchback_store::{DataSourceRow, Role};

use super::App;
use super::environments::check_key;
use super::error::{AppError, Wrong};
use super::mirror::MirrorStatus;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// Connections by name; made anew when a source's settings change.
#[derive(Debug, Default)]
pub struct Sources(Mutex<BTreeMap<String, Arc<Source>>>);

/// A data source, for people.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct SourceView {
    /// Its settings.
    pub settings: Settings,
    /// When it was changed last, in UTC milliseconds.
    pub updated_at: Millis,
    /// By whom.
    pub updated_by: String,
    /// How far its mirror of flags is, as this node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStatus>,
}

/// Whether a data source answers.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct SourceTest {
    /// Whether it does.
    pub ok: bool,
    /// What it said.
    pub tested: Option<Tested>,
    /// Why not.
    pub message: Option<String>,
}

impl App {
    /// Data sources, by name.
    pub async fn list_sources(&self, who: &Who) -> Result<Vec<SourceView>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at data sources")?;
        let rows = self.store.list_data_sources().await?;
        let with_mirror = |row| {
            let source = view(row)?;
            let mirror = self.mirror_of(&source.settings.name);
            Ok(SourceView { mirror, ..source })
        };
        rows.into_iter().map(with_mirror).collect()
    }

    /// Makes or changes a data source. Its mirror of flags stays unless another is given.
    pub async fn put_source(
        &self,
        who: &Who,
        mut settings: Settings,
        reason: &str,
    ) -> Result<SourceView, AppError> {
        if settings.mirror.is_none()
            && let Ok(row) = self.store.get_data_source(&settings.name).await
        {
            settings.mirror = view(row)?.settings.mirror;
        }
        self.keep_source(who, settings, reason).await
    }

    async fn keep_source(
        &self,
        who: &Who,
        settings: Settings,
        reason: &str,
    ) -> Result<SourceView, AppError> {
        who.must(Role::Admin, EVERYWHERE, "change data sources")?;
        check_key("name", &settings.name)?;
        let faults = settings.faults().into_iter();
        let wrong: Vec<Wrong> =
            faults.map(|(field, message)| Wrong { field: field.to_owned(), message }).collect();
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        if let Some(environment) = &settings.mirror {
            self.get_environment(environment).await?;
        }
        let earlier =
            self.store.get_data_source(&settings.name).await.ok().map(view).transpose()?;
        let is_unmirrored =
            settings.mirror.is_none() && earlier.is_some_and(|one| one.settings.mirror.is_some());
        if is_unmirrored {
            self.remove_mirror(&settings.name).await?;
        }
        let body =
            serde_json::to_value(&settings).map_err(|error| AppError::Internal(Box::new(error)))?;
        self.store.put_data_source(&settings.name, &body, &self.stamp(who, reason)).await?;
        if is_unmirrored {
            // Whoever showed it between the two made it anew.
            self.remove_mirror(&settings.name).await?;
        }
        self.hub.publish(News::Environment(settings.mirror.clone().unwrap_or_default()));
        view(self.store.get_data_source(&settings.name).await?)
    }

    /// Mirrors an environment's flags into a data source, or no longer does.
    pub async fn mirror_flags(
        &self,
        who: &Who,
        name: &str,
        environment: Option<String>,
        reason: &str,
    ) -> Result<SourceView, AppError> {
        let settings = view(self.store.get_data_source(name).await?)?.settings;
        self.keep_source(who, Settings { mirror: environment, ..settings }, reason).await
    }

    /// Forgets a data source; the database itself is not touched.
    pub async fn delete_source(&self, who: &Who, name: &str, reason: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove data sources")?;
        self.store.delete_data_source(name, &self.stamp(who, reason)).await?;
        let mut all = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(name);
        Ok(())
    }

    /// Connects to a data source anew and asks it one question.
    pub async fn test_source(&self, who: &Who, name: &str) -> Result<SourceTest, AppError> {
        who.must(Role::Operator, EVERYWHERE, "test data sources")?;
        Ok(match self.source(name).await?.test().await {
            Ok(tested) => SourceTest { ok: true, tested: Some(tested), message: None },
            Err(error) => SourceTest { ok: false, tested: None, message: Some(error.to_string()) },
        })
    }

    /// A data source, with the settings that it has now.
    pub async fn source(&self, name: &str) -> Result<Arc<Source>, AppError> {
        let settings = view(self.store.get_data_source(name).await?)?.settings;
        let mut all = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = all.get(name).filter(|source| *source.settings() == settings) {
            return Ok(Arc::clone(source));
        }
        let source = Source::new(settings);
        all.insert(name.to_owned(), Arc::clone(&source));
        Ok(source)
    }
}

fn view(row: DataSourceRow) -> Result<SourceView, AppError> {
    let settings =
        serde_json::from_value(row.body).map_err(|error| AppError::Internal(Box::new(error)))?;
    Ok(SourceView {
        settings,
        updated_at: row.updated_at,
        updated_by: row.updated_by,
        mirror: None,
    })
}

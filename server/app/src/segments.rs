//! Segments of an environment.

use switchback_core::model::Segment;
use switchback_core::validate;
use switchback_store::{Role, SegmentRow};

use super::App;
use super::error::AppError;
use super::who::Who;
use crate::live::News;

impl App {
    /// Segments of an environment, by key.
    pub async fn list_segments(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<SegmentRow>, AppError> {
        who.must(Role::Viewer, environment, "look at segments")?;
        self.get_environment(environment).await?;
        Ok(self.store.list_segments(environment).await?)
    }

    /// One segment.
    pub async fn get_segment(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
    ) -> Result<SegmentRow, AppError> {
        who.must(Role::Viewer, environment, "look at segments")?;
        Ok(self.store.get_segment(environment, key).await?)
    }

    /// Makes or replaces a segment; `expected` is the revision that the writer saw, 0 for a new one.
    pub async fn put_segment(
        &self,
        who: &Who,
        environment: &str,
        segment: Segment,
        expected: Option<u64>,
        reason: &str,
    ) -> Result<u64, AppError> {
        who.must(Role::Editor, environment, "change segments")?;
        validate::validate_segment(&segment)?;
        let by = self.stamp_in(who, environment, reason).await?;
        let revision = self.store.put_segment(environment, &segment, expected, &by).await?;
        self.announce(News::Environment(environment.to_owned())).await;
        let key = segment.key.as_str();
        tracing::info!(
            segment.key = key,
            environment.key = environment,
            revision,
            "segment `{key}` saved"
        );
        Ok(revision)
    }

    /// Deletes a segment that no rule names.
    pub async fn delete_segment(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        reason: &str,
    ) -> Result<u64, AppError> {
        who.must(Role::Editor, environment, "change segments")?;
        let users = self.flags_using_segment(environment, key).await?;
        if !users.is_empty() {
            let message = format!("{} still use it; change them first", users.join(", "));
            return Err(AppError::Refused(message));
        }
        let by = self.stamp_in(who, environment, reason).await?;
        let revision = self.store.delete_segment(environment, key, &by).await?;
        self.announce(News::Environment(environment.to_owned())).await;
        Ok(revision)
    }

    /// Keys of the flags whose rules name a segment.
    pub async fn flags_using_segment(
        &self,
        environment: &str,
        key: &str,
    ) -> Result<Vec<String>, AppError> {
        let rows = self.store.list_flags(environment, false).await?;
        let uses = |row: &switchback_store::FlagRow| {
            row.state.rules.iter().any(|rule| rule.segments.iter().any(|named| named == key))
        };
        Ok(rows.iter().filter(|row| uses(row)).map(|row| row.flag.key.to_string()).collect())
    }
}

//! Components of the status page: their groups, their order, and taking one away.

use switchback_store::{ComponentGroup, Role};

use super::App;
use super::environments::check_key;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// A group's name, and what it is, at most, in characters.
const NAME_MAX: usize = 100;
const DESCRIPTION_MAX: usize = 500;

impl App {
    /// Groups, in their order.
    pub async fn list_component_groups(&self, who: &Who) -> Result<Vec<ComponentGroup>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at components")?;
        Ok(self.store.list_component_groups().await?)
    }

    /// Makes a group or changes it.
    pub async fn put_component_group(
        &self,
        who: &Who,
        group: ComponentGroup,
        reason: &str,
    ) -> Result<ComponentGroup, AppError> {
        who.must(Role::Admin, EVERYWHERE, "change components")?;
        check_key("key", &group.key)?;
        check_length("name", &group.name, 1, NAME_MAX)?;
        check_length("description", &group.description, 0, DESCRIPTION_MAX)?;
        self.store.put_component_group(&group, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(group)
    }

    /// Removes a group that holds no component.
    pub async fn remove_component_group(
        &self,
        who: &Who,
        key: &str,
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove components")?;
        self.store.remove_component_group(key, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(())
    }

    /// Removes a component with its past. Refused while an open incident names it, or a probe watches it.
    pub async fn remove_component(
        &self,
        who: &Who,
        key: &str,
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove components")?;
        self.store.remove_component(key, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(())
    }

    /// Puts components in an order; those that are not named follow as they stood.
    pub async fn order_components(
        &self,
        who: &Who,
        keys: &[String],
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "change components")?;
        let known = self.store.list_components().await?;
        for (index, key) in keys.iter().enumerate() {
            if !known.iter().any(|one| one.key == *key) {
                return Err(AppError::invalid(
                    "components",
                    format!("there is no component `{key}`"),
                ));
            }
            if keys.iter().take(index).any(|earlier| earlier == key) {
                return Err(AppError::invalid("components", format!("`{key}` is named twice")));
            }
        }
        let rest = known.into_iter().map(|one| one.key).filter(|key| !keys.contains(key));
        let all: Vec<String> = keys.iter().cloned().chain(rest).collect();
        self.store.order_components(&all, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(())
    }
}

fn check_length(field: &str, text: &str, min: usize, max: usize) -> Result<(), AppError> {
    let length = text.trim().chars().count();
    if length < min || length > max {
        return Err(AppError::invalid(
            field,
            format!("{length} characters; {min} to {max} are allowed"),
        ));
    }
    Ok(())
}

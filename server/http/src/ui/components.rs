//! Components of the status page and their groups: making, ordering, hiding and removing them.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_store::{Component, ComponentGroup, ComponentStatus};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, UiError, ok, unprocessable};

const HOME: &str = "/ui/settings/components";

/// A component in its list.
struct Line {
    key: String,
    name: String,
    description: String,
    word: String,
    tone: &'static str,
    hides: bool,
    is_first: bool,
    is_last: bool,
}

/// A group with its components; the first holds those that stand in none.
struct Block {
    key: String,
    name: String,
    description: String,
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "pages/components.html")]
struct ComponentsPage {
    frame: Frame,
    sentence: Words,
    blocks: Vec<Block>,
    groups: Vec<ComponentGroup>,
    edited: Option<Component>,
    edited_group: Option<ComponentGroup>,
    removed: Option<(String, String, &'static str)>,
    form: Fields,
    faults: Faults,
}

impl ComponentsPage {
    /// What a field of the component's form shows: what was sent, else what is so.
    fn value(&self, field: &str) -> String {
        let known = self.edited.as_ref();
        self.form.some(field).unwrap_or_else(|| match (field, known) {
            ("key", Some(one)) => one.key.clone(),
            ("name", Some(one)) => one.name.clone(),
            ("description", Some(one)) => one.description.clone(),
            ("group", Some(one)) => one.group.clone().unwrap_or_default(),
            _ => String::new(),
        })
    }

    /// The same for the group's form.
    fn group_value(&self, field: &str) -> String {
        let known = self.edited_group.as_ref();
        self.form.some(&format!("group_{field}")).unwrap_or_else(|| match (field, known) {
            ("key", Some(one)) => one.key.clone(),
            ("name", Some(one)) => one.name.clone(),
            ("description", Some(one)) => one.description.clone(),
            ("position", Some(one)) => one.position.to_string(),
            ("position", None) => self.groups.len().to_string(),
            _ => String::new(),
        })
    }

    fn hides(&self) -> bool {
        self.form.is("hides") || self.edited.as_ref().is_some_and(|one| one.only_show_if_degraded)
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&["key", "name", "description", "group", "position"])
    }
}

/// `GET /ui/settings/components?edit=&group=&remove=&remove_group=`.
pub async fn page(visit: Visit, query: Fields) -> Answer {
    ok(&page_of(&visit, query, Faults::default()).await?)
}

async fn page_of(visit: &Visit, form: Fields, faults: Faults) -> Result<ComponentsPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Components").await?;
    let components = visit.list_components(&visit.who).await?;
    let groups = visit.list_component_groups(&visit.who).await?;
    let well = components.iter().filter(|one| one.status == ComponentStatus::Operational).count();
    let sentence = Words::say("The status page shows ")
        .strong(&words::count(components.len() as u64, "component"))
        .and(&format!(" in {}; ", words::count(groups.len() as u64, "group")))
        .and(&match components.len() - well {
            0 => "all are well.".to_owned(),
            1 => "one is in trouble.".to_owned(),
            some => format!("{some} are in trouble."),
        });
    let named = |key: &str| components.iter().find(|one| one.key == key);
    let group_named = |key: &str| groups.iter().find(|one| one.key == key);
    let removed = named(form.text("remove"))
        .map(|one| (one.key.clone(), one.name.clone(), "component"))
        .or_else(|| {
            let one = group_named(form.text("remove_group"))?;
            Some((one.key.clone(), one.name.clone(), "group"))
        });
    Ok(ComponentsPage {
        sentence,
        blocks: blocks(&components, &groups),
        edited: named(form.text("edit")).cloned(),
        edited_group: group_named(form.text("group_edit")).cloned(),
        removed,
        groups,
        form,
        faults,
        frame,
    })
}

fn blocks(components: &[Component], groups: &[ComponentGroup]) -> Vec<Block> {
    let lines = |group: Option<&str>| -> Vec<Line> {
        let inside: Vec<_> =
            components.iter().filter(|one| one.group.as_deref() == group).collect();
        let last = inside.len().saturating_sub(1);
        inside
            .into_iter()
            .enumerate()
            .map(|(index, one)| Line {
                key: one.key.clone(),
                name: one.name.clone(),
                description: one.description.clone(),
                word: words::title(&word(&one.status)),
                tone: match one.status {
                    ComponentStatus::Operational => "good",
                    ComponentStatus::UnderMaintenance => "live-pill",
                    ComponentStatus::DegradedPerformance => "warn",
                    ComponentStatus::PartialOutage | ComponentStatus::MajorOutage => "bad",
                },
                hides: one.only_show_if_degraded,
                is_first: index == 0,
                is_last: index == last,
            })
            .collect()
    };
    let alone = Block {
        key: String::new(),
        name: "In no group".to_owned(),
        description: String::new(),
        lines: lines(None),
    };
    let named = groups.iter().map(|group| Block {
        key: group.key.clone(),
        name: group.name.clone(),
        description: group.description.clone(),
        lines: lines(Some(&group.key)),
    });
    std::iter::once(alone).filter(|block| !block.lines.is_empty()).chain(named).collect()
}

/// `POST /ui/settings/components`: makes or changes one.
pub async fn put(visit: Visit, form: Fields) -> Answer {
    let key = form.text("key").to_owned();
    let known = visit.list_components(&visit.who).await?;
    let earlier = known.iter().find(|one| one.key == key);
    let now = visit.clock.now();
    let component = Component {
        name: form.some("name").unwrap_or_else(|| words::title(&key)),
        description: form.text("description").to_owned(),
        status: earlier.map_or(ComponentStatus::Operational, |one| one.status),
        position: earlier.map_or(known.len() as i64, |one| one.position),
        group: form.some("group"),
        only_show_if_degraded: form.is("hides"),
        created_at: now,
        updated_at: now,
        key,
    };
    let name = component.name.clone();
    match visit.put_component(&visit.who, component).await {
        Ok(()) => Ok(Visit::done(HOME, &Toast::say(format!("{name} is on the status page.")))),
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/components/{component}/move`: one place up or down within its group.
pub async fn shift(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let known = visit.list_components(&visit.who).await?;
    let mut keys: Vec<String> = known.iter().map(|one| one.key.clone()).collect();
    let own = known.iter().position(|one| one.key == *path);
    let own = own.ok_or_else(|| AppError::NotFound { kind: "component", key: path.clone() })?;
    let group = known.get(own).and_then(|one| one.group.clone());
    let is_beside = |(_, one): &(usize, &Component)| one.group == group;
    let mut all = known.iter().enumerate().filter(is_beside).map(|(index, _)| index);
    let other = if form.text("to") == "up" {
        all.take_while(|index| *index < own).last()
    } else {
        all.find(|index| *index > own)
    };
    if let Some(other) = other {
        keys.swap(own, other);
        visit.order_components(&visit.who, &keys, "").await?;
    }
    Ok(super::visit::go(HOME))
}

/// `POST /ui/settings/components/{component}/remove`.
pub async fn remove(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    visit.remove_component(&visit.who, &path, form.text("reason")).await?;
    Ok(Visit::done(HOME, &Toast::say(format!("{path} is gone, and its past."))))
}

/// `POST /ui/settings/component-groups`: makes or changes one.
pub async fn put_group(visit: Visit, form: Fields) -> Answer {
    let key = form.text("group_key").to_owned();
    let group = ComponentGroup {
        name: form.some("group_name").unwrap_or_else(|| words::title(&key)),
        description: form.text("group_description").to_owned(),
        position: form.text("group_position").parse().unwrap_or_default(),
        key,
    };
    match visit.put_component_group(&visit.who, group, "").await {
        Ok(group) => {
            Ok(Visit::done(HOME, &Toast::say(format!("The group {} is kept.", group.name))))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/component-groups/{group}/remove`.
pub async fn remove_group(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    visit.remove_component_group(&visit.who, &path, form.text("reason")).await?;
    Ok(Visit::done(HOME, &Toast::say(format!("The group {path} is gone."))))
}

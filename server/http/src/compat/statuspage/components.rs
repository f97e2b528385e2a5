//! Components, their groups, and incident templates, as Statuspage's API has them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::incident_templates::KnownTemplate;
use switchback_store::{Component, ComponentGroup, ComponentStatus};

use super::body::{flag, list, text, word};
use super::{Answer, Call, created, nothing_there, ok};
use crate::status::public_api::{component, group, group_of, stamp};

/// Answers what begins with `/components`, `/component-groups` or `/incident_templates`.
pub async fn answer(call: &Call<'_>, method: &str, rest: &[&str]) -> Answer {
    match (method, rest) {
        ("GET", ["components"]) => {
            let all = call.app.list_components(call.who).await?;
            ok(call.cut(all.iter().map(|one| component(one, call.page)).collect()))
        }
        ("POST", ["components"]) => {
            let object = call.object("component");
            let name = needed(&object, "component.name", "name")?;
            let key = fresh_key(&name, &known_keys(call).await?);
            created(put(call, &key, None, &object).await?)
        }
        ("GET", ["components", key]) => ok(component(&find(call, key).await?, call.page)),
        ("PATCH" | "PUT", ["components", key]) => {
            let before = find(call, key).await?;
            ok(put(call, key, Some(before), &call.object("component")).await?)
        }
        ("DELETE", ["components", key]) => {
            call.app.remove_component(call.who, key, "by Statuspage's API").await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        ("GET", ["components", key, "uptime"]) => uptime(call, key).await,
        ("GET", ["component-groups"]) => {
            let (groups, all) = groups(call).await?;
            ok(call.cut(groups.iter().map(|one| group(one, &all, call.page)).collect()))
        }
        ("POST", ["component-groups"]) => {
            let object = call.object("component_group");
            let name = needed(&object, "component_group.name", "name")?;
            let known: Vec<String> = groups(call).await?.0.into_iter().map(|one| one.key).collect();
            created(put_group(call, &fresh_key(&name, &known), None, &object).await?)
        }
        ("GET", ["component-groups", key]) => {
            let key = group_of(key);
            let (groups, all) = groups(call).await?;
            ok(group(find_group(&groups, key)?, &all, call.page))
        }
        ("PATCH" | "PUT", ["component-groups", key]) => {
            let key = group_of(key);
            let (groups, _) = groups(call).await?;
            let before = find_group(&groups, key)?.clone();
            ok(put_group(call, key, Some(before), &call.object("component_group")).await?)
        }
        ("DELETE", ["component-groups", key]) => {
            let key = group_of(key);
            for component in
                groups(call).await?.1.iter().filter(|one| one.group.as_deref() == Some(key))
            {
                call.app
                    .put_component(call.who, Component { group: None, ..component.clone() })
                    .await?;
            }
            call.app.remove_component_group(call.who, key, "by Statuspage's API").await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        ("GET", ["incident_templates"]) => {
            let all = call.app.list_incident_templates(call.who).await?;
            ok(call.cut(all.iter().map(template_json).collect()))
        }
        ("POST", ["incident_templates"]) => make_template(call).await,
        _ => Err(nothing_there()),
    }
}

fn needed(object: &Value, field: &str, name: &str) -> Result<String, AppError> {
    text(object, name).ok_or_else(|| AppError::invalid(field, "a name is needed"))
}

async fn known_keys(call: &Call<'_>) -> Result<Vec<String>, AppError> {
    Ok(call.app.list_components(call.who).await?.into_iter().map(|one| one.key).collect())
}

/// A key made of a name: small letters, digits and dashes; numbered when it is taken.
fn fresh_key(name: &str, known: &[String]) -> String {
    let mut key: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    while key.contains("--") {
        key = key.replace("--", "-");
    }
    let key = match key.trim_matches('-') {
        "" => "component".to_owned(),
        key => key.to_owned(),
    };
    let numbered = (2..).map(|n| format!("{key}-{n}"));
    let mut tries = std::iter::once(key.clone()).chain(numbered);
    tries.find(|one| !known.contains(one)).unwrap_or(key)
}

async fn find(call: &Call<'_>, key: &str) -> Result<Component, AppError> {
    let all = call.app.list_components(call.who).await?;
    let found = all.into_iter().find(|one| one.key == key);
    found.ok_or_else(|| AppError::NotFound { kind: "component", key: key.to_owned() })
}

async fn put(
    call: &Call<'_>,
    key: &str,
    before: Option<Component>,
    object: &Value,
) -> Result<Value, AppError> {
    let now = call.app.clock.now();
    let is_new = before.is_none();
    let kept = before.unwrap_or_else(|| Component {
        key: key.to_owned(),
        name: String::new(),
        description: String::new(),
        status: ComponentStatus::Operational,
        position: 0,
        group: None,
        only_show_if_degraded: false,
        created_at: now,
        updated_at: now,
    });
    let status: Option<ComponentStatus> = word(object, "status")?;
    let group = match object.get("group_id") {
        None => kept.group.clone(),
        Some(Value::String(id)) if !id.is_empty() => Some(group_of(id).to_owned()),
        Some(_) => None,
    };
    let wanted = Component {
        name: text(object, "name").unwrap_or_else(|| kept.name.clone()),
        description: match object.get("description") {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Null) => String::new(),
            _ => kept.description.clone(),
        },
        position: object.get("position").and_then(Value::as_i64).unwrap_or(kept.position),
        only_show_if_degraded: flag(object, "only_show_if_degraded")
            .unwrap_or(kept.only_show_if_degraded),
        group,
        ..kept.clone()
    };
    if is_new || wanted != kept {
        call.app.put_component(call.who, wanted).await?;
    }
    if let Some(status) = status.filter(|status| is_new || *status != kept.status) {
        call.app.set_component_status(call.who, key, status, "by Statuspage's API").await?;
    }
    Ok(component(&find(call, key).await?, call.page))
}

async fn uptime(call: &Call<'_>, key: &str) -> Answer {
    let component = find(call, key).await?;
    let board = call.app.status.current();
    let Some(share) = board.uptime_of(key) else {
        let message = "nothing is known of its days yet";
        return Err(AppError::Refused(message.to_owned()));
    };
    ok(json!({
        "id": key, "name": component.name, "uptime_percentage": share * 100.0,
        "range_start": stamp(component.created_at), "range_end": stamp(board.read_at),
        "related_events": {"component_ids": [key], "incidents": []},
    }))
}

async fn groups(call: &Call<'_>) -> Result<(Vec<ComponentGroup>, Vec<Component>), AppError> {
    let groups = call.app.list_component_groups(call.who).await?;
    Ok((groups, call.app.list_components(call.who).await?))
}

fn find_group<'g>(groups: &'g [ComponentGroup], key: &str) -> Result<&'g ComponentGroup, AppError> {
    let missing = || AppError::NotFound { kind: "component group", key: key.to_owned() };
    groups.iter().find(|one| one.key == key).ok_or_else(missing)
}

async fn put_group(
    call: &Call<'_>,
    key: &str,
    before: Option<ComponentGroup>,
    object: &Value,
) -> Result<Value, AppError> {
    let kept = before.unwrap_or_else(|| ComponentGroup {
        key: key.to_owned(),
        name: String::new(),
        description: String::new(),
        position: 0,
    });
    let wanted = ComponentGroup {
        name: text(object, "name").unwrap_or_else(|| kept.name.clone()),
        description: text(object, "description").unwrap_or_else(|| kept.description.clone()),
        ..kept
    };
    let put = call.app.put_component_group(call.who, wanted, "by Statuspage's API").await?;
    if let Some(members) = list(object, "components") {
        for component in call.app.list_components(call.who).await? {
            let is_in = component.group.as_deref() == Some(key);
            let should = members.contains(&component.key);
            if is_in != should {
                let place = should.then(|| key.to_owned());
                call.app.put_component(call.who, Component { group: place, ..component }).await?;
            }
        }
    }
    Ok(group(&put, &call.app.list_components(call.who).await?, call.page))
}

fn template_json(known: &KnownTemplate) -> Value {
    let template = &known.template;
    let components: Vec<&String> = template.components.keys().collect();
    json!({
        "id": template.name, "name": template.name, "title": template.title, "body": template.body,
        "group_id": null, "update_status": template.status, "should_tweet": false,
        "should_send_notifications": true, "components": components,
    })
}

/// Makes a template of a title and a body: braces in them are braces, since Statuspage's have no gaps.
async fn make_template(call: &Call<'_>) -> Answer {
    let object = call.object("template");
    let name = needed(&object, "template.name", "name")?;
    let plain = |text: String| text.replace('{', "{{").replace('}', "}}");
    let title = plain(needed(&object, "template.title", "title")?);
    let body = plain(needed(&object, "template.body", "body")?);
    let status = text(&object, "update_status").unwrap_or_else(|| "investigating".to_owned());
    let known = call.app.list_incident_templates(call.who).await?;
    let known: Vec<String> = known.into_iter().map(|one| one.template.name).collect();
    let key = fresh_key(&name, &known);
    let key =
        if key.starts_with(|c: char| c.is_ascii_alphabetic()) { key } else { format!("t-{key}") };
    let components: BTreeMap<String, &str> = list(&object, "component_ids")
        .unwrap_or_default()
        .into_iter()
        .map(|key| (key, "degraded_performance"))
        .collect();
    // YAML reads JSON, which needs no care for quotes.
    let source = json!({
        "name": key, "title": title, "impact": "minor", "status": status, "components": components, "body": body,
    });
    let kept = call.app.put_incident_template(call.who, &key, &source.to_string(), Some(0)).await?;
    created(template_json(&kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_of_names_and_never_taken_twice() {
        let known = ["sign-in".to_owned(), "sign-in-2".to_owned()];

        assert_eq!(fresh_key("Sign in", &[]), "sign-in");
        assert_eq!(fresh_key("Sign -- in", &known), "sign-in-3");
        assert_eq!(fresh_key("日本", &[]), "component");
    }
}

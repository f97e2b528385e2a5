//! Subscribers, of the page or of one incident, as Statuspage's API has them.

use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::subscribers::Wish;
use switchback_store::{Subscriber, SubscriberMode, SubscriberState};

use super::body::{flag, list, text};
use super::{Answer, Call, created, nothing_there, ok};
use crate::status::public_api::stamp;

/// Subscribers that a list looks at.
const LISTED_MAX: i64 = 1_000;

/// Answers what begins with `/subscribers`, of the page or of an incident.
pub async fn answer(
    call: &Call<'_>,
    method: &str,
    incident: Option<&str>,
    rest: &[&str],
) -> Answer {
    match (method, rest) {
        ("GET", []) => {
            let state = state_of(call.query.some("state").as_deref());
            let all =
                call.app.list_subscribers(call.who, state, incident, None, LISTED_MAX).await?;
            let of_page = |one: &&Subscriber| incident.is_some() || one.incident_id.is_none();
            ok(call.cut(all.iter().filter(of_page).map(subscriber_json).collect()))
        }
        ("POST", []) => add(call, incident).await,
        ("GET", ["count"]) => {
            let counts = call.app.count_subscribers(call.who).await?;
            let sum = |mode: SubscriberMode| -> u64 {
                let own = |one: &&switchback_store::SubscriberCount| {
                    one.mode == mode && one.state == SubscriberState::Active
                };
                counts.iter().filter(own).map(|one| one.count).sum()
            };
            let (email, webhook) = (sum(SubscriberMode::Email), sum(SubscriberMode::Webhook));
            ok(json!({
                "email": email, "sms": 0, "webhook": webhook, "integration_partner": 0, "slack": 0, "teams": 0,
                "team_members": 0,
            }))
        }
        ("GET", ["histogram_by_state"]) => {
            let counts = call.app.count_subscribers(call.who).await?;
            let sum = |mode: SubscriberMode, state: SubscriberState| -> u64 {
                let own = |one: &&switchback_store::SubscriberCount| {
                    one.mode == mode && one.state == state
                };
                counts.iter().filter(own).map(|one| one.count).sum()
            };
            let by = |mode| {
                let active = sum(mode, SubscriberState::Active);
                let unconfirmed = sum(mode, SubscriberState::Pending);
                let quarantined = sum(mode, SubscriberState::Quarantined);
                let total = active + unconfirmed + quarantined;
                json!({"active": active, "unconfirmed": unconfirmed, "quarantined": quarantined, "total": total})
            };
            ok(json!({"email": by(SubscriberMode::Email), "webhook": by(SubscriberMode::Webhook)}))
        }
        ("POST", [word @ ("unsubscribe" | "reactivate" | "resend_confirmation")]) => {
            for id in ids(call)? {
                act(call, word, &id).await?;
            }
            ok(json!({}))
        }
        ("POST", [id, "resend_confirmation"]) => {
            call.app.ask_again(call.who, id).await?;
            ok(json!({}))
        }
        ("GET", [id]) => ok(subscriber_json(&call.app.get_subscriber(call.who, id).await?)),
        ("DELETE", [id]) => {
            act(call, "unsubscribe", id).await?;
            ok(subscriber_json(&call.app.get_subscriber(call.who, id).await?))
        }
        ("PATCH", [id]) => {
            let components = list(call.body, "component_ids").unwrap_or_default();
            call.app.set_subscriber_components(call.who, id, &components).await?;
            ok(subscriber_json(&call.app.get_subscriber(call.who, id).await?))
        }
        _ => Err(nothing_there()),
    }
}

async fn act(call: &Call<'_>, word: &str, id: &str) -> Result<(), AppError> {
    match word {
        "unsubscribe" => {
            call.app.set_subscriber_state(call.who, id, SubscriberState::Unsubscribed).await
        }
        "reactivate" => call.app.set_subscriber_state(call.who, id, SubscriberState::Active).await,
        _ => call.app.ask_again(call.who, id).await,
    }
}

/// The subscribers that a body names; `all` would be a promise about more than one call may do.
fn ids(call: &Call<'_>) -> Result<Vec<String>, AppError> {
    let named = match call.body.get("subscribers") {
        Some(Value::String(text)) if text != "all" => {
            text.split(',').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect()
        }
        Some(Value::Array(_)) => list(call.body, "subscribers").unwrap_or_default(),
        _ => Vec::new(),
    };
    if named.is_empty() || named.len() > 100 {
        return Err(AppError::invalid("subscribers", "1 to 100 ids are expected"));
    }
    Ok(named)
}

async fn add(call: &Call<'_>, incident: Option<&str>) -> Answer {
    let object = call.object("subscriber");
    if object.get("phone_number").is_some_and(|phone| !phone.is_null()) {
        let message = "this page sends no text messages; give an email, or an endpoint";
        return Err(AppError::invalid("subscriber.phone_number", message));
    }
    let (mode, address) = match (text(&object, "endpoint"), text(&object, "email")) {
        (Some(endpoint), _) => (SubscriberMode::Webhook, endpoint),
        (None, Some(email)) => (SubscriberMode::Email, email),
        (None, None) => {
            return Err(AppError::invalid("subscriber.email", "an email or an endpoint is needed"));
        }
    };
    let wish = Wish {
        mode,
        address,
        components: list(&object, "component_ids").unwrap_or_default(),
        incident: incident.map(str::to_owned),
    };
    let asks = !flag(&object, "skip_confirmation_notification").unwrap_or(false);
    created(subscriber_json(&call.app.add_subscriber(call.who, wish, asks).await?))
}

fn state_of(word: Option<&str>) -> Option<SubscriberState> {
    match word? {
        "active" => Some(SubscriberState::Active),
        "unconfirmed" => Some(SubscriberState::Pending),
        "quarantined" => Some(SubscriberState::Quarantined),
        _ => None,
    }
}

fn subscriber_json(one: &Subscriber) -> Value {
    let (mode, email, endpoint) = match one.mode {
        SubscriberMode::Email => ("email", Some(&one.address), None),
        SubscriberMode::Webhook => ("webhook", None, Some(&one.address)),
    };
    let quarantined = one.state == SubscriberState::Quarantined;
    json!({
        "id": one.id, "mode": mode, "email": email, "endpoint": endpoint,
        "skip_confirmation_notification": false, "components": one.components,
        "quarantined_at": quarantined.then(|| stamp(one.created_at)), "purge_at": null,
        "incident": one.incident_id, "created_at": stamp(one.created_at),
    })
}

//! PagerDuty's Events API v2: an alert for what somebody must look at, a change event for what merely happened.

use serde_json::{Map, Value, json};

use super::text::cut;
use super::{Message, Severity};

/// The base of the service's address.
pub const BASE: &str = "https://events.pagerduty.com";
/// What it takes, in characters.
const SUMMARY_MAX: usize = 1_024;
const KEY_MAX: usize = 255;
const DETAIL_MAX: usize = 4_000;

/// The path and the body for a message. What belongs to no thread is a change event.
pub fn event(message: &Message, routing_key: &str, public_url: &str) -> (&'static str, Value) {
    let at = jiff::Timestamp::from_millisecond(message.at).map(|at| at.to_string());
    let mut details = Map::new();
    details.insert("message".to_owned(), json!(cut(&message.text, DETAIL_MAX)));
    for (name, value) in &message.facts {
        details.insert(name.clone(), json!(cut(value, DETAIL_MAX)));
    }
    let links: Vec<Value> =
        message.links.iter().map(|(text, href)| json!({"href": href, "text": text})).collect();
    let summary = cut(&message.title, SUMMARY_MAX);
    let Some(thread) = &message.thread else {
        let payload = json!({
            "summary": summary, "source": public_url, "timestamp": at.unwrap_or_default(),
            "custom_details": details,
        });
        let body = json!({"routing_key": routing_key, "payload": payload, "links": links});
        return ("/v2/change/enqueue", body);
    };
    let dedup_key = cut(&format!("sb:{thread}"), KEY_MAX);
    let action = if message.is_over {
        "resolve"
    } else if message.is_acknowledged {
        "acknowledge"
    } else {
        "trigger"
    };
    let mut body = json!({
        "routing_key": routing_key, "event_action": action, "dedup_key": dedup_key,
    });
    if let Some(body) = body.as_object_mut().filter(|_| action == "trigger") {
        let severity = match message.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let payload = json!({
            "summary": summary, "source": public_url, "severity": severity,
            "timestamp": at.unwrap_or_default(), "class": message.event, "custom_details": details,
        });
        body.insert("payload".to_owned(), payload);
        body.insert("links".to_owned(), json!(links));
        body.insert("client".to_owned(), json!("Switchback"));
        body.insert("client_url".to_owned(), json!(public_url));
    }
    ("/v2/enqueue", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_opened_taken_and_closed_under_one_key() {
        let said = |is_over, is_acknowledged| Message {
            title: "Sign-in is down".into(),
            thread: Some("inc:inc_1".into()),
            severity: Severity::Critical,
            is_over,
            is_acknowledged,
            ..Message::default()
        };

        let actions = [(false, false), (false, true), (true, false)].map(|(over, taken)| {
            let (path, body) = event(&said(over, taken), "k", "https://sb.test");
            assert_eq!((path, &body["dedup_key"]), ("/v2/enqueue", &json!("sb:inc:inc_1")));
            body
        });

        assert_eq!(actions[0]["event_action"], "trigger");
        assert_eq!(actions[0]["payload"]["severity"], "critical");
        assert_eq!(actions[1]["event_action"], "acknowledge");
        assert_eq!(actions[2]["event_action"], "resolve");
        assert!(actions[2].get("payload").is_none());
    }

    #[test]
    fn what_merely_happened_is_a_change_event() {
        let message = Message { title: "auth_rollout: 10 % to 25 %".into(), ..Message::default() };

        let (path, body) = event(&message, "k", "https://sb.test");

        assert_eq!(path, "/v2/change/enqueue");
        assert_eq!(body["payload"]["summary"], "auth_rollout: 10 % to 25 %");
        assert!(body.get("event_action").is_none());
    }
}

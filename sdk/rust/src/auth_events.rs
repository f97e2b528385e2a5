//! Auth events: what happened to users' logins, told to the server without ever holding the app up.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use switchback_core::wire::EVENTS_MAX;
use switchback_core::{AuthEventKind, Context, ContextBody};

use crate::clock::now_ms;

/// Events that wait for a connection; more are dropped, the oldest first, and counted as such.
pub(crate) const WAITING_MAX: usize = 10_000;

/// Something that happened to a user's login.
///
/// ```
/// use std::time::Duration;
///
/// use switchback_sdk::{AuthEvent, AuthEventKind, Context, Switchback};
///
/// let switchback = Switchback::for_tests().build();
/// let context = Context::new().user_id("ada").platform("ios").app_version("7.2");
/// switchback.auth_event(
///     AuthEvent::new(AuthEventKind::LoginFailure, &context)
///         .latency(Duration::from_millis(48))
///         .error("invalid_password"),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct AuthEvent(Map<String, Value>);

impl AuthEvent {
    /// An event of now, about the user of a context. The server finds out by the context which variant of each flag
    /// the user had.
    pub fn new(kind: AuthEventKind, context: &Context<'_>) -> Self {
        let body = ContextBody::from(context);
        let mut fields = Map::new();
        fields.insert("type".to_owned(), json!(kind));
        fields.insert("at".to_owned(), json!(now_ms()));
        let texts = [
            ("user_id", body.user_id),
            ("session_id", body.session_id),
            ("platform", body.platform),
            ("app_version", body.app_version),
            ("country", body.country),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                fields.insert(name.to_owned(), Value::String(text));
            }
        }
        if !body.groups.is_empty() {
            fields.insert("groups".to_owned(), json!(body.groups));
        }
        if !body.properties.is_empty() {
            fields.insert("properties".to_owned(), json!(body.properties));
        }
        Self(fields)
    }

    /// How long it took.
    #[must_use]
    pub fn latency(mut self, took: Duration) -> Self {
        self.0.insert("latency_ms".to_owned(), json!(took.as_secs_f64() * 1000.0));
        self
    }

    /// What kind of error it was, such as `invalid_password`.
    #[must_use]
    pub fn error(mut self, word: impl Into<String>) -> Self {
        self.0.insert("error".to_owned(), Value::String(word.into()));
        self
    }

    /// An id of the app's own: one id is one event, however often it is sent.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.insert("id".to_owned(), Value::String(id.into()));
        self
    }
}

/// Events that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Value>,
    next: u64,
    dropped: u64,
}

impl Waiting {
    /// Takes an event in; `run` tells this process from others.
    pub(crate) fn add(&self, AuthEvent(mut fields): AuthEvent, run: &str) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !fields.contains_key("id") {
            queue.next += 1;
            fields.insert("id".to_owned(), Value::String(format!("{run}-{}", queue.next)));
        }
        if queue.events.len() >= WAITING_MAX {
            queue.events.pop_front();
            queue.dropped += 1;
        }
        queue.events.push_back(Value::Object(fields));
    }

    /// The next events to send, at most as many as fit in a frame.
    pub(crate) fn take_batch(&self) -> Vec<Value> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.events.len().min(EVENTS_MAX);
        queue.events.drain(..count).collect()
    }

    /// Takes events back that could not be sent, before all others.
    pub(crate) fn put_back(&self, batch: Vec<Value>) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in batch.into_iter().rev() {
            if queue.events.len() >= WAITING_MAX {
                queue.dropped += 1;
            } else {
                queue.events.push_front(event);
            }
        }
    }

    /// Events that were dropped, as too many were waiting.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_dropped_and_counted_and_nothing_is_sent_twice_under_two_ids() {
        let waiting = Waiting::default();
        for _ in 0..WAITING_MAX + 5 {
            waiting
                .add(AuthEvent::new(AuthEventKind::Logout, &Context::new().user_id("ada")), "run");
        }

        assert_eq!(waiting.dropped(), 5);
        let batch = waiting.take_batch();
        assert_eq!((batch.len(), &batch[0]["id"]), (EVENTS_MAX, &json!("run-6")));
        waiting.put_back(batch);
        assert_eq!(waiting.take_batch()[0]["id"], json!("run-6"));
        waiting.add(AuthEvent::new(AuthEventKind::Logout, &Context::new()).id("mine"), "run");
    }
}

//! What channels are told of guards and rollouts.

use serde_json::{Value, json};
use switchback_store::{GuardRow, NewMessage, Recipients, RolloutRow};
use switchback_watch::action::{Act, Next};
use switchback_watch::guard::{Standing, Verdict};
use switchback_watch::rollout::Move;

use crate::App;
use crate::notify::{Message, Severity, Topic};

impl App {
    /// What channels are told of a guard; nothing when it is not worth a word.
    pub(super) fn guard_message(
        &self,
        row: &GuardRow,
        verdict: &Verdict,
        next: &Next,
        done: Option<&str>,
        was: &str,
    ) -> Option<NewMessage> {
        let troubled = ["bad", "warn", "no_data", "sample_ratio", "not_this_flag"];
        let is_over = matches!(verdict.standing, Standing::Ok | Standing::Insufficient);
        if is_over && !troubled.contains(&was) {
            return None;
        }
        let severity = match (is_over, next.page || done.is_some()) {
            (true, _) => Severity::Info,
            (false, true) => Severity::Critical,
            (false, false) => Severity::Warning,
        };
        let (flag, environment) = (&row.flag, &row.environment);
        let title = match (done, verdict.standing) {
            (Some(_), _) if next.act == Act::PutBack => {
                format!("{flag} was put back in {environment}")
            }
            (Some(_), _) if next.act == Act::Freeze => {
                format!("Automation is frozen in {environment}")
            }
            (Some(_), _) => format!("A guard of {flag} acted in {environment}"),
            (None, Standing::Bad) => format!("{flag} does harm in {environment}"),
            (None, Standing::Warn) => format!("{flag} may do harm in {environment}"),
            (None, Standing::NoData { .. }) => {
                format!("Nothing is known of {flag} in {environment}")
            }
            (None, Standing::SampleRatio) => format!("{flag} is counted wrongly in {environment}"),
            (None, Standing::NotThisFlag) => {
                format!("{environment} fails, and not because of {flag}")
            }
            (None, _) => format!("{flag} is all right again in {environment}"),
        };
        let text = match done {
            Some(done) => format!("{} {done}", next.words),
            None => next.words.clone(),
        };
        let message = Message {
            event: "guard.changed".to_owned(),
            title,
            text,
            severity,
            facts: vec![
                ("Environment".to_owned(), environment.clone()),
                ("Flag".to_owned(), flag.clone()),
            ],
            team_links: vec![(
                "Look at the evidence".to_owned(),
                format!("{}/ui/{environment}/guards/{}", self.public_url, row.id),
            )],
            thread: Some(format!("guard:{}:{}", row.id, row.since)),
            is_over,
            data: json!({"guard": row.id, "flag": flag, "environment": environment, "verdict": verdict,
                "act": act_word(&next.act)}),
            at: self.clock.now(),
            ..Message::default()
        };
        Some(self.alert_message(&message))
    }

    pub(super) fn rollout_message(&self, row: &RolloutRow, made: &Move) -> NewMessage {
        let (flag, environment) = (&row.flag, &row.environment);
        let (title, text, severity) = match made {
            Move::Done => {
                (format!("{flag} is rolled out in {environment}"), String::new(), Severity::Info)
            }
            Move::PutBack { why } => (
                format!("The rollout of {flag} in {environment} ended: put back"),
                why.clone(),
                Severity::Warning,
            ),
            Move::AskApproval { percent, .. } => (
                format!("{flag} in {environment} waits for a yes"),
                format!("Somebody must agree to {percent} %."),
                Severity::Info,
            ),
            Move::Hold { why } | Move::Wait { why, .. } => (
                format!("The rollout of {flag} in {environment} stands still"),
                why.clone(),
                Severity::Warning,
            ),
            Move::Raise { percent } => (
                format!("{flag} in {environment} is at {percent} %"),
                String::new(),
                Severity::Info,
            ),
        };
        let message = Message {
            event: "rollout.changed".to_owned(),
            title,
            text,
            severity,
            facts: vec![
                ("Environment".to_owned(), environment.clone()),
                ("Flag".to_owned(), flag.clone()),
            ],
            team_links: vec![(
                "Open the flag".to_owned(),
                format!("{}/ui/{environment}/flags/{flag}", self.public_url),
            )],
            data: json!({"rollout": row.id, "flag": flag, "environment": environment, "move": made}),
            at: self.clock.now(),
            ..Message::default()
        };
        self.alert_message(&message)
    }

    /// A message to every channel that wants alerts.
    pub(crate) fn alert_message(&self, message: &Message) -> NewMessage {
        NewMessage {
            id: self.ids.next("msg"),
            topic: Topic::Alerts.word().to_owned(),
            body: json!({"said": message}),
            incident_id: None,
            run_id: None,
            dedupe_key: None,
            to: Recipients::Everyone { channels: Vec::new(), subscribers: None },
        }
    }
}

/// The word of a value that is a text, or an object with one key.
pub(super) fn kind_of(value: &Value) -> String {
    let key = value.as_object().and_then(|object| object.keys().next()).map(String::as_str);
    value.as_str().or(key).unwrap_or_default().to_owned()
}

pub(super) fn act_word(act: &Act) -> &'static str {
    match act {
        Act::Nothing => "nothing",
        Act::Warn => "warn",
        Act::Hold => "hold",
        Act::PutBack => "put_back",
        Act::RunPlaybook { .. } => "run_playbook",
        Act::Freeze => "freeze",
    }
}

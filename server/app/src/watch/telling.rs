//! What channels are told of alerts. What fires in one look in one environment is one message; a pager gets each.

use std::collections::BTreeMap;

use serde_json::json;
use switchback_store::{AlertRow, ChannelRow, NewMessage, Recipients};
use switchback_watch::rule::Rule;

use crate::App;
use crate::notify::{Message, Severity};

/// The kind of channel that keeps alerts apart.
const PAGER: &str = "pagerduty";

/// What is said of an alert, to channels by key or kind; none named: to all that want alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It fires.
    Fired(Vec<String>),
    /// Nobody took care of it for so long.
    Escalated(Vec<String>),
    /// Who took care of it did not finish in time.
    Again(Vec<String>),
    /// It is over.
    Resolved,
    /// Its rule is gone.
    Gone,
    /// Somebody takes care of it.
    Acknowledged,
}

/// Something to say.
pub(super) struct News<'r> {
    /// The alert.
    pub alert: AlertRow,
    /// Its rule.
    pub rule: Option<&'r Rule>,
    /// What is said.
    pub said: Said,
}

impl App {
    /// The messages of one look.
    pub(super) fn alert_messages(
        &self,
        environment: &str,
        news: &[News<'_>],
        channels: &[ChannelRow],
    ) -> Vec<NewMessage> {
        let mut together: BTreeMap<Vec<String>, Vec<&News<'_>>> = BTreeMap::new();
        for one in news {
            together.entry(whom(one)).or_default().push(one);
        }
        let mut messages = Vec::new();
        for (to, group) in together {
            if let [one] = group.as_slice() {
                messages.push(self.one_alert(one, to));
                continue;
            }
            let wanted = |channel: &&ChannelRow| {
                to.is_empty() || to.contains(&channel.key) || to.contains(&channel.kind)
            };
            let (pagers, others): (Vec<&ChannelRow>, Vec<&ChannelRow>) =
                channels.iter().filter(wanted).partition(|channel| channel.kind == PAGER);
            let keys = |list: Vec<&ChannelRow>| -> Vec<String> {
                list.into_iter().map(|channel| channel.key.clone()).collect()
            };
            if !pagers.is_empty() {
                let pagers = keys(pagers);
                messages.extend(group.iter().map(|one| self.one_alert(one, pagers.clone())));
            }
            if !others.is_empty() {
                messages.push(self.many_alerts(environment, &group, keys(others)));
            }
        }
        messages
    }

    fn one_alert(&self, news: &News<'_>, to: Vec<String>) -> NewMessage {
        self.to_channels(&self.alert_words(news), to)
    }

    fn to_channels(&self, message: &Message, channels: Vec<String>) -> NewMessage {
        let to = Recipients::Everyone { channels, subscribers: None };
        NewMessage { to, ..self.alert_message(message) }
    }

    /// One alert in words.
    pub(super) fn alert_words(&self, news: &News<'_>) -> Message {
        let News { alert, rule, said } = news;
        let (title, environment) = (&alert.title, &alert.environment);
        let by = alert.acked_by.as_deref().unwrap_or("Somebody");
        let (title, text) = match said {
            Said::Fired(_) => (format!("{title} ({environment})"), alert.words.clone()),
            Said::Escalated(_) => (
                format!("{title} ({environment}), and nobody has acknowledged it"),
                alert.words.clone(),
            ),
            Said::Again(_) => (
                format!("{title} ({environment}) still fires"),
                format!("{} It was acknowledged, and the time for it ran out.", alert.words),
            ),
            Said::Resolved => (format!("Over: {title} ({environment})"), String::new()),
            Said::Gone => (
                format!("Over: {title} ({environment})"),
                "Its rule was removed or switched off.".to_owned(),
            ),
            Said::Acknowledged => {
                (format!("{by} takes care of: {title} ({environment})"), alert.words.clone())
            }
        };
        let is_over = matches!(said, Said::Resolved | Said::Gone);
        let calm = is_over || *said == Said::Acknowledged;
        let severity = if calm { Severity::Info } else { severity_of(&alert.severity) };
        let mut team_links = vec![(
            "Look at the alerts".to_owned(),
            format!("{}/ui/{environment}/alerts", self.public_url),
        )];
        if let Some(playbook) = rule.and_then(|rule| rule.playbook.as_ref()).filter(|_| !is_over) {
            let url = format!("{}/ui/{environment}/playbooks/{playbook}", self.public_url);
            team_links.push((format!("Consider “{playbook}”"), url));
        }
        Message {
            event: if is_over { "alert.resolved" } else { "alert.firing" }.to_owned(),
            title,
            text,
            severity,
            facts: vec![
                ("Environment".to_owned(), environment.clone()),
                ("Rule".to_owned(), alert.rule.clone()),
            ],
            team_links,
            thread: Some(format!("alert:{}", alert.id)),
            is_over,
            is_acknowledged: *said == Said::Acknowledged,
            data: json!({"alert": alert}),
            at: self.clock.now(),
            ..Message::default()
        }
    }

    fn many_alerts(
        &self,
        environment: &str,
        group: &[&News<'_>],
        channels: Vec<String>,
    ) -> NewMessage {
        let words: Vec<Message> = group.iter().map(|news| self.alert_words(news)).collect();
        let lines = words.iter().map(|one| match one.text.as_str() {
            "" => format!("• {}", one.title),
            text => format!("• {}: {text}", one.title),
        });
        let over = words.iter().filter(|one| one.is_over).count();
        let title = match (words.len() - over, over) {
            (0, over) => format!("{over} alerts are over in {environment}"),
            (firing, 0) => format!("{firing} alerts in {environment}"),
            (firing, over) => format!("{firing} alerts in {environment}, {over} over"),
        };
        let bad = |one: &Message| match one.severity {
            Severity::Info => 0,
            Severity::Warning => 1,
            Severity::Critical => 2,
        };
        let worst = words.iter().max_by_key(|one| bad(one)).map(|one| one.severity);
        let alerts: Vec<_> = group.iter().map(|news| &news.alert).collect();
        let message = Message {
            event: "alerts.changed".to_owned(),
            title,
            text: lines.collect::<Vec<_>>().join("\n"),
            severity: worst.unwrap_or_default(),
            facts: vec![("Environment".to_owned(), environment.to_owned())],
            team_links: vec![(
                "Look at the alerts".to_owned(),
                format!("{}/ui/{environment}/alerts", self.public_url),
            )],
            data: json!({"alerts": alerts}),
            at: self.clock.now(),
            ..Message::default()
        };
        self.to_channels(&message, channels)
    }
}

/// Whom news are for. Who was told that it fires is told that it is over.
fn whom(news: &News<'_>) -> Vec<String> {
    match &news.said {
        Said::Fired(to) | Said::Escalated(to) | Said::Again(to) => to.clone(),
        Said::Resolved | Said::Gone | Said::Acknowledged => {
            let told = usize::try_from(news.alert.told_steps).unwrap_or(usize::MAX);
            let steps = news.rule.map(|rule| rule.escalate.as_slice()).unwrap_or_default();
            let mut to: Vec<String> =
                steps.iter().take(told).flat_map(|step| step.channels.clone()).collect();
            to.sort();
            to.dedup();
            to
        }
    }
}

fn severity_of(word: &str) -> Severity {
    match word {
        "critical" => Severity::Critical,
        "warning" => Severity::Warning,
        _ => Severity::Info,
    }
}

//! The outbox's sender: leases copies of messages, sends each within its channel's pace, and notes how it went.
//!
//! Sent at least once, under the same id every time. A copy waits longer after each failure, until it is given up; a person
//! may send it again. What the other side cannot take now because it fails or asks for a pause costs no attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use switchback_core::model::Millis;
use switchback_store::{
    Attempt, Delivery, DeliveryState, MessageRow, Neighbour, StoreError, Subscriber,
    SubscriberMode, SubscriberState,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::channels::Channel;
use super::{App, ids};
use crate::notify::{self, Format, Message, Poster, Refusal, Stamp, Target, email, webhook};

/// Copies that one node sends at the same time.
const IN_FLIGHT_MAX: usize = 32;
/// How long a copy is leased, in milliseconds: well over what one attempt may take.
const LEASE_MS: i64 = 90_000;
/// How often the outbox is looked at when nobody says that there is something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a copy waits for one that was said before it, in milliseconds.
const TURN_MS: i64 = 250;
/// Messages kept in memory, so that ten thousand copies read theirs once.
const MESSAGES_MAX: usize = 16;
/// Letters to several mailboxes whose reached ones are kept in mind until the others are reached, at most.
const PARTLY_SENT_MAX: usize = 1_000;
/// Refusals in a row after which a subscriber is told nothing more.
const FAILURES_MAX: i64 = 5;

/// What the sender keeps in memory.
#[derive(Default)]
pub(crate) struct Outbox {
    wake: Notify,
    messages: Mutex<BTreeMap<String, Arc<Said>>>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    /// Mailboxes that have a letter already of which others have not, by delivery. A node that starts anew does not know: then a
    /// mailbox gets the same letter twice, under one `Message-ID`.
    reached: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// A message as it is kept, and as it is said; `None`: there is nothing to say after all.
struct Said {
    row: MessageRow,
    message: Option<Message>,
}

/// When a message may be sent.
enum Turn {
    Now,
    /// After what was said before it: to be looked at again at this moment, in UTC milliseconds.
    Wait(Millis),
    /// Never: what was said after it is there.
    Late,
}

/// Tokens of a channel: one is taken for each copy, and they come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Millis,
}

impl Outbox {
    /// Says that there is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes a token of a channel; otherwise says in how many milliseconds there is one.
    fn take(&self, channel: &str, per_minute: u32, now: Millis) -> Result<(), i64> {
        if per_minute == 0 {
            return Ok(());
        }
        let rate = f64::from(per_minute) / 60_000.0;
        let mut all = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // A burst of ten seconds' worth, and one at least.
        let most = (rate * 10_000.0).max(1.0);
        let bucket = all.entry(channel.to_owned()).or_insert(Bucket { tokens: most, at: now });
        let passed = (now - bucket.at).max(0) as f64;
        bucket.tokens = (bucket.tokens + passed * rate).min(most);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(((1.0 - bucket.tokens) / rate).ceil() as i64)
    }
}

impl App {
    /// Sends what is in the outbox until the server ends.
    pub async fn send_messages(self: Arc<Self>) {
        let mut sending = JoinSet::new();
        loop {
            while sending.try_join_next().is_some() {}
            let room = IN_FLIGHT_MAX.saturating_sub(sending.len());
            let now = self.clock.now();
            let claimed = if room == 0 || !self.store_is_up() {
                Ok(Vec::new())
            } else {
                self.store.claim_deliveries(now, now + LEASE_MS, room as i64).await
            };
            let due = claimed.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "the outbox cannot be read");
                Vec::new()
            });
            if due.is_empty() {
                tokio::select! {
                    Some(_) = sending.join_next() => {}
                    () = self.outbox.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            for delivery in due {
                let app = Arc::clone(&self);
                sending.spawn(async move { app.send_one(&delivery).await });
            }
        }
    }

    async fn send_one(&self, delivery: &Delivery) {
        let attempt = match self.attempt(delivery).await {
            Ok(attempt) => attempt,
            Err(error) => {
                // The lease runs out, and it is tried again.
                tracing::warn!(delivery = delivery.id, error = %error, "a message could not be read");
                return;
            }
        };
        let (id, attempts) = (delivery.id.as_str(), delivery.attempts);
        match &attempt {
            Attempt::Sent(but) => {
                if let Some(why) = but {
                    tracing::warn!(delivery = id, "a message was not taken for everybody: {why}");
                }
                tracing::debug!(delivery = id, "a message was sent");
                self.metrics.count_delivery(&delivery.channel, "sent");
            }
            Attempt::Later(_, why) => {
                tracing::info!(delivery = id, attempts, "a message was not taken: {why}");
                self.metrics.count_delivery(&delivery.channel, "retried");
            }
            Attempt::Dead(why) => {
                tracing::warn!(delivery = id, attempts, "a message is given up: {why}");
                self.metrics.count_delivery(&delivery.channel, "dead");
            }
            Attempt::Postponed(_) | Attempt::Moot => {}
        }
        // Noted late is better than not at all: what was sent must not be sent again because of a busy database.
        for wait_ms in [0, 200, 1_000, 5_000] {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            match self.store.note_delivery(id, &attempt, self.clock.now()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(delivery = id, error = %error, "how a message went cannot be noted");
                }
            }
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<Attempt, StoreError> {
        let now = self.clock.now();
        let said = self.said(&delivery.message_id).await?;
        let Some(message) = &said.message else { return Ok(Attempt::Moot) };
        let (sent, is_webhook) = match &delivery.subscriber_id {
            Some(id) => match self.store.find_subscriber(id).await? {
                Some(subscriber) => {
                    if !may_hear(&subscriber, &said.row) {
                        return Ok(Attempt::Moot);
                    }
                    if let Turn::Wait(until) = self.turn(id, None, &said.row, now).await? {
                        return Ok(Attempt::Postponed(until));
                    }
                    let is_webhook = subscriber.mode == SubscriberMode::Webhook;
                    let sent = self.send_to_subscriber(delivery, &subscriber, message, now).await;
                    self.note_reached(&subscriber, &sent).await?;
                    (sent.map(|()| None), is_webhook)
                }
                None => return Ok(Attempt::Moot),
            },
            None => match self.find_channel(&delivery.channel).await? {
                Some(channel) => {
                    match self.turn(&channel.key, Some(&channel.to), &said.row, now).await? {
                        Turn::Now => {}
                        Turn::Wait(until) => return Ok(Attempt::Postponed(until)),
                        Turn::Late => {
                            let why = "what was said later is there already".to_owned();
                            return Ok(Attempt::Sent(Some(why)));
                        }
                    }
                    let is_webhook = matches!(channel.to, Target::Webhook { .. });
                    (self.send_to_channel(delivery, &channel, message, now).await, is_webhook)
                }
                None => return Ok(Attempt::Dead("there is no such channel any more".to_owned())),
            },
        };
        Ok(match sent {
            Ok(but) => Attempt::Sent(but),
            Err(Refusal::NotNow(wait_ms)) => Attempt::Postponed(now + wait_ms.max(10)),
            Err(Refusal::Never(why) | Refusal::Gone(why)) => Attempt::Dead(why),
            Err(Refusal::Later(why, wish_ms)) => {
                match notify::wait_after(delivery.attempts, is_webhook) {
                    Some(wait_ms) => {
                        let wait_ms = wait_ms.max(wish_ms.unwrap_or(0));
                        Attempt::Later(now + with_jitter(wait_ms), why)
                    }
                    None => Attempt::Dead(format!(
                        "given up after {} attempts: {why}",
                        delivery.attempts
                    )),
                }
            }
        })
    }

    /// Whether it is a message's turn: what is said of one incident, or of one run, goes to a channel, or to a subscriber, in its
    /// order.
    async fn turn(
        &self,
        recipient: &str,
        channel: Option<&Target>,
        row: &MessageRow,
        now: Millis,
    ) -> Result<Turn, StoreError> {
        let beside = self.store.list_beside(row, recipient, now).await?;
        // A pager must not hear that it is over before it hears that it began; elsewhere one that fails holds up no other.
        let is_strict = matches!(channel, Some(Target::Pagerduty { .. }));
        let holds_up = |one: &Neighbour| {
            one.is_earlier && one.state == DeliveryState::Waiting && (is_strict || !one.is_put_off)
        };
        let is_past = |one: &Neighbour| !one.is_earlier && one.state == DeliveryState::Sent;
        let before = beside.iter().filter(|one| holds_up(one)).map(|one| one.next_at).max();
        Ok(if let Some(next_at) = before {
            Turn::Wait(next_at.max(now + TURN_MS))
        } else if channel.is_some_and(Target::is_page) && beside.iter().any(is_past) {
            Turn::Late // it would set the incident back to what it was
        } else {
            Turn::Now
        })
    }

    pub(super) fn poster(&self, now: Millis) -> Poster {
        let networks = self.config.outgoing.networks.clone();
        Poster { networks, circuits: Arc::clone(&self.circuits), now }
    }

    async fn send_to_channel(
        &self,
        delivery: &Delivery,
        channel: &Channel,
        message: &Message,
        now: Millis,
    ) -> Result<Option<String>, Refusal> {
        if let Some(why) = &channel.disabled_why {
            return Err(Refusal::Never(format!("the channel is switched off: {why}")));
        }
        let per_minute = channel.per_minute.unwrap_or(channel.to.per_minute_default());
        self.outbox.take(&channel.key, per_minute, now).map_err(Refusal::NotNow)?;
        let stamp = Stamp { id: &delivery.id, now, public_url: &self.public_url };
        let mut message = message.clone();
        message.links.splice(0..0, std::mem::take(&mut message.team_links));
        let poster = self.poster(now);
        if let Some(page) = channel.to.page().await? {
            return self
                .tell_page(&channel.key, &page, &poster, &message, now)
                .await
                .map(|()| None);
        }
        if let Target::Email { to } = &channel.to {
            let letter = email::Letter { message: &message, stamp, unsubscribe: None };
            return self.send_to_mailboxes(&delivery.id, to, &letter).await;
        }
        let sent = notify::send(&poster, &channel.to, &message, stamp).await;
        if let Err(Refusal::Gone(why)) = &sent {
            let by = self.stamp(&super::Who::system(), "");
            let why = format!("{why} (410), so nothing more is sent to it");
            if let Err(error) = self.store.disable_channel(&channel.key, &why, &by).await {
                tracing::warn!(error = %error, "a channel that is gone could not be switched off");
            }
        }
        sent.map(|()| None)
    }

    /// Sends a letter to each of some mailboxes: one that is refused holds up no other. What is said of those that refused it for
    /// good, when some took it.
    async fn send_to_mailboxes(
        &self,
        delivery: &str,
        to: &[String],
        letter: &email::Letter<'_>,
    ) -> Result<Option<String>, Refusal> {
        let mailer = self.mailer.as_ref().ok_or_else(notify::no_mail)?;
        let reached = || self.outbox.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reached().get(delivery).cloned().unwrap_or_default();
        let sent = mailer.send_each(to, &known, letter).await?;
        let taken: BTreeSet<String> = known.into_iter().chain(sent.taken).collect();
        if sent.later.is_empty() {
            reached().remove(delivery);
            let refused = sent.refused.join("; ");
            return match (taken.is_empty(), sent.refused.is_empty()) {
                (true, _) => Err(Refusal::Never(refused)),
                (false, true) => Ok(None),
                (false, false) => Ok(Some(refused)),
            };
        }
        let mut all = reached();
        if all.len() >= PARTLY_SENT_MAX {
            all.pop_first();
        }
        all.insert(delivery.to_owned(), taken);
        let why: Vec<String> = sent.later.into_iter().chain(sent.refused).collect();
        Err(Refusal::Later(why.join("; "), None))
    }

    async fn send_to_subscriber(
        &self,
        delivery: &Delivery,
        subscriber: &Subscriber,
        message: &Message,
        now: Millis,
    ) -> Result<(), Refusal> {
        let stamp = Stamp { id: &delivery.id, now, public_url: &self.public_url };
        match subscriber.mode {
            SubscriberMode::Email => {
                let per_minute = self.config.mail.per_minute;
                self.outbox.take("subscribers", per_minute, now).map_err(Refusal::NotNow)?;
                let mailer = self.mailer.as_ref().ok_or_else(notify::no_mail)?;
                let url = self.unsubscribe_url(&subscriber.id).await;
                let url = url.map_err(|error| Refusal::Later(error.to_string(), None))?;
                let asks = message.event == super::subscribers::ASKS;
                let unsubscribe = (!asks).then_some(url.as_str());
                let message = self.for_subscriber(message, &subscriber.id).await?;
                let letter = email::Letter { message: &message, stamp, unsubscribe };
                mailer.send(&subscriber.address, &letter).await
            }
            SubscriberMode::Webhook => {
                let key = self.subscriber_key(&subscriber.id).await;
                let key = key.map_err(|error| Refusal::Later(error.to_string(), None))?;
                let message = self.for_subscriber(message, &subscriber.id).await?;
                let (kind, body) = webhook::body(&message, Format::Standard, stamp);
                let headers = webhook::headers(&[key], stamp, &body);
                let answer =
                    self.poster(now).post(&subscriber.address, kind, headers, body).await?;
                answer.judge()
            }
        }
    }

    /// Subscribers that refuse several times in a row are left alone; one that is gone has unsubscribed.
    async fn note_reached(
        &self,
        subscriber: &Subscriber,
        sent: &Result<(), Refusal>,
    ) -> Result<(), StoreError> {
        match sent {
            Ok(()) => self.store.note_subscriber(&subscriber.id, true, FAILURES_MAX).await,
            Err(Refusal::Never(_)) => {
                self.store.note_subscriber(&subscriber.id, false, FAILURES_MAX).await
            }
            Err(Refusal::Gone(_)) => {
                let by = self.stamp(&super::Who::system(), "the webhook answered 410");
                let state = SubscriberState::Unsubscribed;
                self.store.set_subscriber_state(&subscriber.id, state, &by).await
            }
            Err(Refusal::Later(..) | Refusal::NotNow(_)) => Ok(()),
        }
    }

    async fn said(&self, id: &str) -> Result<Arc<Said>, StoreError> {
        let kept = |app: &Self| {
            let all = app.outbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(id).cloned()
        };
        if let Some(found) = kept(self) {
            return Ok(found);
        }
        let row = self.store.get_message(id).await?;
        let message = self.write_message(&row).await?;
        let said = Arc::new(Said { row, message });
        let mut all = self.outbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MESSAGES_MAX {
            all.pop_first();
        }
        all.insert(id.to_owned(), Arc::clone(&said));
        Ok(said)
    }
}

/// Whether a message still is for a subscriber, who may have gone meanwhile.
fn may_hear(subscriber: &Subscriber, row: &MessageRow) -> bool {
    match subscriber.state {
        SubscriberState::Active => true,
        SubscriberState::Pending => row.topic == super::subscribers::ASKS,
        SubscriberState::Ended => {
            row.incident_id.is_some() && row.incident_id == subscriber.incident_id
        }
        SubscriberState::Quarantined | SubscriberState::Unsubscribed => false,
    }
}

/// Up to a fifth longer, so that what failed together does not come back together.
fn with_jitter(wait_ms: i64) -> i64 {
    let [byte] = ids::random::<1>();
    wait_ms + wait_ms * i64::from(byte) / (5 * 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_keeps_its_pace() {
        let outbox = Outbox::default();
        // 60 a minute: ten at once, then one a second.
        let sent = (0..30).filter(|_| outbox.take("slack", 60, 0).is_ok()).count();

        assert_eq!(sent, 10);
        assert_eq!(outbox.take("slack", 60, 0), Err(1_000));
        assert!(outbox.take("slack", 60, 1_000).is_ok());
        assert!(outbox.take("slack", 60, 1_000).is_err());
        assert!(outbox.take("other", 60, 1_000).is_ok(), "others keep their own");
        assert!(outbox.take("any", 0, 0).is_ok(), "0: any number");
    }

    #[test]
    fn jitter_only_waits_longer() {
        for _ in 0..100 {
            assert!((1_000..=1_200).contains(&with_jitter(1_000)));
        }
    }
}

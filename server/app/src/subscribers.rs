//! Subscribers of the status page: ask, confirm, choose, end. Whoever has the letter holds the key to it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::Mac as _;
use serde_json::json;
use switchback_core::model::Millis;
use switchback_store::{
    Audience, NewMessage, Recipients, Role, Subscriber, SubscriberCount, SubscriberMode,
    SubscriberState,
};

use super::App;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::notify::{Message, Refusal, email};

/// The event, and the topic, of the letter that asks to confirm.
pub(super) const ASKS: &str = "subscriber.confirm";
/// An address is asked to confirm no more often than this, in milliseconds.
const ASK_AGAIN_MS: i64 = 10 * 60 * 1_000;
/// Who never confirms is forgotten after this long, in milliseconds.
pub(super) const PENDING_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// What keeps these keys apart from others that are derived from the same secret.
const CONFIRM: &[u8] = b"switchback subscriber confirm v1";
const MANAGE: &[u8] = b"switchback subscriber manage v1";
const SIGN: &[u8] = b"switchback subscriber webhook v1";
/// Bytes of a token's proof.
const PROOF_BYTES: usize = 18;
/// Longer tokens are none of ours.
const TOKEN_BYTES_MAX: usize = 200;
/// Components that a subscriber may choose at most.
const COMPONENTS_MAX: usize = 100;

/// Who wants news, and of what.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How to reach them.
    pub mode: SubscriberMode,
    /// The e-mail address, or the URL.
    pub address: String,
    /// Components; empty: all of them.
    pub components: Vec<String>,
    /// One incident alone.
    pub incident: Option<String>,
}

impl App {
    /// Whether letters can be sent at all.
    pub fn sends_mail(&self) -> bool {
        self.mailer.is_some()
    }

    /// Takes a wish for news from anybody, and asks the address itself whether that is so.
    ///
    /// What this answers does not tell whether the address was known.
    pub async fn subscribe(&self, wish: Wish) -> Result<(), AppError> {
        if let Some(id) = &wish.incident {
            let incident = self.store.get_incident(id).await?;
            if incident.audience != Audience::Public || incident.withdrawn_at.is_some() {
                // As if it were not there, which for the public is so.
                return Err(AppError::NotFound { kind: "incident", key: id.clone() });
            }
        }
        let wish = self.check_wish(wish).await?;
        if wish.mode == SubscriberMode::Email && self.mailer.is_none() {
            let message = "this page cannot send e-mail; use the feed instead";
            return Err(AppError::Refused(message.to_owned()));
        }
        let incident = wish.incident.as_deref();
        let known = self.store.find_subscriber_at(wish.mode, &wish.address, incident).await?;
        let now = self.clock.now();
        let by = self.stamp(&Who::system(), "asked on the status page");
        let Some(known) = known else {
            let subscriber = self.new_subscriber(wish, SubscriberState::Pending, now);
            let asks = self.asks(&subscriber).await?;
            match self.store.create_subscriber(&subscriber, Some(&asks), &by).await {
                Ok(()) | Err(switchback_store::StoreError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.outbox.wake();
            return Ok(());
        };
        let asked_lately = known.asked_at.is_some_and(|at| now - at < ASK_AGAIN_MS);
        if known.state != SubscriberState::Active && !asked_lately {
            let asks = self.asks(&known).await?;
            self.store.ask_subscriber(&known.id, &wish.components, &asks, &by).await?;
            self.outbox.wake();
        }
        Ok(())
    }

    /// Adds a subscriber without asking, as somebody of the team.
    ///
    /// # Errors
    /// The address is known already.
    pub async fn add_subscriber(
        &self,
        who: &Who,
        wish: Wish,
        asks_first: bool,
    ) -> Result<Subscriber, AppError> {
        who.must(Role::Operator, EVERYWHERE, "add subscribers")?;
        let wish = self.check_wish(wish).await?;
        let now = self.clock.now();
        let state = if asks_first { SubscriberState::Pending } else { SubscriberState::Active };
        let mut subscriber = self.new_subscriber(wish, state, now);
        subscriber.confirmed_at = (!asks_first).then_some(now);
        let asks = if asks_first { Some(self.asks(&subscriber).await?) } else { None };
        self.store.create_subscriber(&subscriber, asks.as_ref(), &self.stamp(who, "")).await?;
        self.outbox.wake();
        Ok(subscriber)
    }

    fn new_subscriber(&self, wish: Wish, state: SubscriberState, now: Millis) -> Subscriber {
        Subscriber {
            id: self.ids.next("sub"),
            mode: wish.mode,
            address: wish.address,
            state,
            components: wish.components,
            incident_id: wish.incident,
            created_at: now,
            confirmed_at: None,
            asked_at: None,
        }
    }

    async fn check_wish(&self, mut wish: Wish) -> Result<Wish, AppError> {
        match wish.mode {
            SubscriberMode::Email => {
                let address = wish.address.trim_matches(' ').to_owned();
                let read = email::address_of(&address);
                let read = read.map_err(|why| AppError::invalid("email", why))?;
                wish.address = format!("{}@{}", read.user(), read.domain().to_lowercase());
            }
            SubscriberMode::Webhook => {
                let url = url::Url::parse(wish.address.trim());
                let good = url.as_ref().is_ok_and(|url| {
                    matches!(url.scheme(), "http" | "https")
                        && url.has_host()
                        && url.as_str().len() <= 500
                });
                if !good {
                    let message =
                        "an address begins with https:// or http:// and has at most 500 characters";
                    return Err(AppError::invalid("endpoint", message.to_owned()));
                }
                wish.address = url.map(String::from).unwrap_or_default();
            }
        }
        if let Some(id) = &wish.incident {
            self.must_be_open(id).await?;
            wish.components.clear(); // the incident says what it is about
        }
        self.check_components(&wish.components).await?;
        Ok(wish)
    }

    /// There is news only of what is not over.
    async fn must_be_open(&self, incident: &str) -> Result<(), AppError> {
        if self.store.get_incident(incident).await?.resolved_at.is_some() {
            let message = "that incident is over, and so is its news";
            return Err(AppError::Refused(message.to_owned()));
        }
        Ok(())
    }

    async fn check_components(&self, components: &[String]) -> Result<(), AppError> {
        if components.len() > COMPONENTS_MAX {
            let message = format!("at most {COMPONENTS_MAX} components");
            return Err(AppError::invalid("components", message));
        }
        let known = self.store.list_components().await?;
        match components.iter().find(|key| !known.iter().any(|component| component.key == **key)) {
            Some(unknown) => {
                Err(AppError::invalid("components", format!("there is no component `{unknown}`")))
            }
            None => Ok(()),
        }
    }

    /// The message that asks a subscriber to confirm; the link is put in when it is sent.
    async fn asks(&self, subscriber: &Subscriber) -> Result<NewMessage, AppError> {
        let page = &self.status.look.title;
        let (about, until) = match &subscriber.incident_id {
            Some(id) => {
                let name = self.store.get_incident(id).await?.name;
                (format!("\"{name}\" ({page})"), " It ends by itself when that is over.")
            }
            None => (page.clone(), ""),
        };
        let message = Message {
            event: ASKS.to_owned(),
            title: format!("Confirm that you want news of {about}"),
            text: format!(
                "Somebody asked for news of {about} to be sent here. If that was you, confirm it.{until} \
                 If not, there is nothing to do, and you will not hear from us again."
            ),
            at: self.clock.now(),
            ..Message::default()
        };
        Ok(NewMessage {
            id: self.ids.next("msg"),
            topic: ASKS.to_owned(),
            body: json!({"said": message}),
            incident_id: None,
            run_id: None,
            dedupe_key: None,
            to: Recipients::Subscriber(subscriber.id.clone()),
        })
    }

    /// A message with what only this subscriber may know.
    pub(super) async fn for_subscriber(
        &self,
        message: &Message,
        id: &str,
    ) -> Result<Message, Refusal> {
        let later = |error: AppError| Refusal::Later(error.to_string(), None);
        let mut own = message.clone();
        own.team_links.clear();
        if message.event == ASKS {
            let url = self.subscriber_url("confirm", CONFIRM, id).await.map_err(later)?;
            own.links.push(("Yes, send me news".to_owned(), url.clone()));
            own.data = json!({"confirm_url": url});
        }
        Ok(own)
    }

    /// Where a subscriber ends its news.
    pub(super) async fn unsubscribe_url(&self, id: &str) -> Result<String, AppError> {
        self.subscriber_url("unsubscribe", MANAGE, id).await
    }

    async fn subscriber_url(
        &self,
        page: &str,
        purpose: &[u8],
        id: &str,
    ) -> Result<String, AppError> {
        let token = self.subscriber_token(purpose, id).await?;
        Ok(format!("{}/status/{page}?token={token}", self.public_url))
    }

    async fn subscriber_token(&self, purpose: &[u8], id: &str) -> Result<String, AppError> {
        let mac = self.mac_for(purpose).await?.chain_update(id).finalize().into_bytes();
        let proof = URL_SAFE_NO_PAD.encode(mac.get(..PROOF_BYTES).unwrap_or_default());
        Ok(format!("{}.{proof}", URL_SAFE_NO_PAD.encode(id)))
    }

    /// The key that signs what a webhook subscriber is sent.
    pub(super) async fn subscriber_key(&self, id: &str) -> Result<Vec<u8>, AppError> {
        Ok(self.mac_for(SIGN).await?.chain_update(id).finalize().into_bytes().to_vec())
    }

    /// The same as its owner needs it to check signatures: `whsec_...`.
    pub async fn subscriber_secret(&self, id: &str) -> Result<String, AppError> {
        Ok(format!("whsec_{}", STANDARD.encode(self.subscriber_key(id).await?)))
    }

    async fn by_token(&self, purpose: &[u8], token: &str) -> Result<Subscriber, AppError> {
        let foreign = || {
            AppError::Refused(
                "this link is not one of ours, or it was cut off on its way".to_owned(),
            )
        };
        let (id, proof) =
            token.split_once('.').filter(|_| token.len() <= TOKEN_BYTES_MAX).ok_or_else(foreign)?;
        let id = URL_SAFE_NO_PAD
            .decode(id)
            .ok()
            .and_then(|id| String::from_utf8(id).ok())
            .ok_or_else(foreign)?;
        let proof = URL_SAFE_NO_PAD.decode(proof).map_err(|_| foreign())?;
        if proof.len() != PROOF_BYTES {
            return Err(foreign());
        }
        let mac = self.mac_for(purpose).await?.chain_update(&id);
        mac.verify_truncated_left(&proof).map_err(|_| foreign())?;
        let gone = "nobody is subscribed by this link any more; ask once more on the page";
        self.store.find_subscriber(&id).await?.ok_or_else(|| AppError::Refused(gone.to_owned()))
    }

    /// Whom a link to confirm is for. Changes nothing: mail filters open links too.
    pub async fn open_confirmation(&self, token: &str) -> Result<Subscriber, AppError> {
        let subscriber = self.by_token(CONFIRM, token).await?;
        if let Some(id) = &subscriber.incident_id {
            self.must_be_open(id).await?;
        }
        Ok(subscriber)
    }

    /// Confirms. The answer is the subscriber, and the token by which it changes or ends this.
    pub async fn confirm_subscriber(&self, token: &str) -> Result<(Subscriber, String), AppError> {
        let subscriber = self.open_confirmation(token).await?;
        let by = self.stamp(&Who::system(), "confirmed by link");
        if subscriber.state != SubscriberState::Active {
            self.store.set_subscriber_state(&subscriber.id, SubscriberState::Active, &by).await?;
        }
        let manage = self.subscriber_token(MANAGE, &subscriber.id).await?;
        Ok((Subscriber { state: SubscriberState::Active, ..subscriber }, manage))
    }

    /// Whom a link from a letter is for.
    pub async fn open_subscription(&self, token: &str) -> Result<Subscriber, AppError> {
        self.by_token(MANAGE, token).await
    }

    /// Ends a subscription by the link in a letter; ending it again is no fault.
    pub async fn unsubscribe(&self, token: &str) -> Result<(), AppError> {
        let subscriber = self.by_token(MANAGE, token).await?;
        if subscriber.state == SubscriberState::Unsubscribed {
            return Ok(());
        }
        let by = self.stamp(&Who::system(), "ended by link");
        Ok(self
            .store
            .set_subscriber_state(&subscriber.id, SubscriberState::Unsubscribed, &by)
            .await?)
    }

    /// Chooses components by the link in a letter; none: all.
    pub async fn choose_components(
        &self,
        token: &str,
        components: &[String],
    ) -> Result<(), AppError> {
        let subscriber = self.by_token(MANAGE, token).await?;
        self.check_components(components).await?;
        let by = self.stamp(&Who::system(), "chosen by link");
        Ok(self.store.set_subscriber_components(&subscriber.id, components, &by).await?)
    }

    /// Subscribers, newest first. Their addresses are personal: only operators see them.
    pub async fn list_subscribers(
        &self,
        who: &Who,
        state: Option<SubscriberState>,
        incident: Option<&str>,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Subscriber>, AppError> {
        who.must(Role::Operator, EVERYWHERE, "look at subscribers")?;
        Ok(self.store.list_subscribers(state, incident, before, limit).await?)
    }

    /// One subscriber.
    pub async fn get_subscriber(&self, who: &Who, id: &str) -> Result<Subscriber, AppError> {
        who.must(Role::Operator, EVERYWHERE, "look at subscribers")?;
        let found = self.store.find_subscriber(id).await?;
        found.ok_or_else(|| AppError::NotFound { kind: "subscriber", key: id.to_owned() })
    }

    /// Sets whether a subscriber gets news.
    pub async fn set_subscriber_state(
        &self,
        who: &Who,
        id: &str,
        state: SubscriberState,
    ) -> Result<(), AppError> {
        who.must(Role::Operator, EVERYWHERE, "change subscribers")?;
        Ok(self.store.set_subscriber_state(id, state, &self.stamp(who, "")).await?)
    }

    /// Sets which components a subscriber hears of; none: all.
    pub async fn set_subscriber_components(
        &self,
        who: &Who,
        id: &str,
        components: &[String],
    ) -> Result<(), AppError> {
        who.must(Role::Operator, EVERYWHERE, "change subscribers")?;
        self.check_components(components).await?;
        self.get_subscriber(who, id).await?;
        Ok(self.store.set_subscriber_components(id, components, &self.stamp(who, "")).await?)
    }

    /// Asks a subscriber that has not confirmed to confirm once more.
    pub async fn ask_again(&self, who: &Who, id: &str) -> Result<(), AppError> {
        who.must(Role::Operator, EVERYWHERE, "change subscribers")?;
        let known = self.get_subscriber(who, id).await?;
        if known.state != SubscriberState::Pending {
            return Err(AppError::Refused("this subscriber does not wait to confirm".to_owned()));
        }
        let asks = self.asks(&known).await?;
        self.store.ask_subscriber(id, &known.components, &asks, &self.stamp(who, "")).await?;
        self.outbox.wake();
        Ok(())
    }

    /// How many subscribers there are, by mode and state.
    pub async fn count_subscribers(&self, who: &Who) -> Result<Vec<SubscriberCount>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at subscribers")?;
        Ok(self.store.count_subscribers().await?)
    }

    /// How many would be told of something that touches these components.
    pub async fn count_reached(&self, who: &Who, components: &[String]) -> Result<u64, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at subscribers")?;
        Ok(self.store.count_reached(components).await?)
    }
}

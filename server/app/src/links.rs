//! Links in chat or mail by which one person says yes or no to one question, once, without signing in.
//!
//! A link holds what it is for and an HMAC over that; the key is derived from a secret that all nodes share.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use switchback_core::model::Millis;
use switchback_playbook::journal::{NewEntry, Phase};
use switchback_store::{Role, UserRow};

use super::App;
use super::approvals::{Answer, Question};
use super::error::AppError;
use super::ids;
use super::who::Who;

/// The name of the secret in the database.
const SECRET: &str = "link_secret";
/// What keeps these keys apart from others that are derived from the same secret.
const PURPOSE: &[u8] = b"switchback approval link v1";
/// Longer ones are none of ours.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Under whose name spent links stand among the keys that are used once.
const SPENT: &str = "approval-link";

/// What a link is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Ticket {
    id: String,
    run: String,
    step: String,
    plan: String,
    /// The row of the log that asks.
    asked: u64,
    person: String,
    by: String,
    until: Millis,
}

/// A link that was made.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Link {
    /// Where it leads. Whoever has it may answer in the person's name, once.
    pub url: String,
    /// In whose name.
    pub person: String,
    /// When it ends, in UTC milliseconds: with the wait.
    pub until: Millis,
}

/// What somebody who opened a link is asked.
#[derive(Debug)]
pub struct Opened {
    /// The question.
    pub question: Question,
    /// In whose name it is answered.
    pub person: String,
    /// When the link ends, in UTC milliseconds.
    pub until: Millis,
    ticket: Ticket,
    who: Who,
}

impl App {
    /// Makes a link by which a person answers a step's question without signing in.
    ///
    /// A link gives nothing that its maker could not give: an administrator makes any, others only where their own
    /// yes would be enough. Whoever started the run makes none.
    pub async fn make_link(
        &self,
        who: &Who,
        run: &str,
        step: &str,
        email: &str,
    ) -> Result<Link, AppError> {
        let question = self.question(run, step).await?;
        let environment = &question.run.environment;
        who.must(Role::Operator, environment, "make links")?;
        if question.run.requested_by == who.name && !question.approval.own {
            let message = "somebody else must make the link: you started this run";
            return Err(AppError::Refused(message.to_owned()));
        }
        let enough = question.approval.min <= 1 && question.admits(who).is_ok();
        if !enough && !who.can(Role::Admin, environment) {
            let message =
                "your own yes would not be enough here, so an administrator must make the link";
            return Err(AppError::Refused(message.to_owned()));
        }
        let email = email.trim().to_lowercase();
        let person = self.person(&email).await?;
        let person = person
            .ok_or_else(|| AppError::invalid("for", format!("nobody signs in as `{email}`")))?;
        person.must(Role::Operator, environment, "approve")?;
        question.admits(&person)?;
        let until = question.seen.approval_until.unwrap_or_default();
        let ticket = Ticket {
            id: self.ids.next("lnk"),
            run: run.to_owned(),
            step: step.to_owned(),
            plan: question.run.plan_sha256.clone(),
            asked: question.seen.asked,
            person: email.clone(),
            by: who.name.clone(),
            until,
        };
        let payload = serde_json::to_vec(&ticket).map_err(|e| AppError::Internal(Box::new(e)))?;
        let mac = self.link_mac(&payload).await?.finalize().into_bytes();
        let token = format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(mac));
        let says = format!("a link was made by which {email} may answer");
        self.say_to_run(who, run, "", |_, at| NewEntry {
            run_id: run.to_owned(),
            step_id: step.to_owned(),
            attempt: 0,
            phase: Phase::Note,
            at,
            detail: json!({"says": says, "link": ticket.id}),
        })
        .await?;
        Ok(Link { url: format!("{}/approve/{token}", self.public_url), person: email, until })
    }

    /// What a link asks. Changes nothing: chats and mail filters open links too.
    pub async fn open_link(&self, token: &str) -> Result<Opened, AppError> {
        let no = |why: &str| AppError::Refused(why.to_owned());
        let foreign = || no("this link is not one of ours, or it was cut off on its way");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(foreign());
        }
        let (payload, mac) = token.split_once('.').ok_or_else(foreign)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign());
        let (payload, mac) = (decode(payload)?, decode(mac)?);
        self.link_mac(&payload).await?.verify_slice(&mac).map_err(|_| foreign())?;
        let ticket: Ticket = serde_json::from_slice(&payload).map_err(|_| foreign())?;
        if ticket.until <= self.clock.now() {
            return Err(no("this link has ended with the wait that it was for"));
        }
        let rows = self.store.list_entries(&ticket.run).await?;
        let answered = |phase: &str| phase == "approved" || phase == "refused";
        let by_link = |row: &switchback_store::LogEntry| {
            answered(&row.phase) && row.detail.get("link") == Some(&json!(ticket.id))
        };
        if rows.iter().any(by_link) {
            return Err(no("this link was used; it works once"));
        }
        let question =
            self.question(&ticket.run, &ticket.step).await.map_err(|error| match error {
                AppError::Refused(_) | AppError::NotFound { .. } => {
                    no("nobody is waiting for this answer any more")
                }
                error => error,
            })?;
        if question.run.plan_sha256 != ticket.plan || question.seen.asked != ticket.asked {
            return Err(no("what this link asked about has changed since; ask for a new one"));
        }
        let who = self.person(&ticket.person).await?;
        let who = who.ok_or_else(|| no("whom this link was for has no account any more"))?;
        let (person, until) = (ticket.person.clone(), ticket.until);
        Ok(Opened { question, person, until, ticket, who })
    }

    /// Says yes or no by a link, which is then used up.
    pub async fn answer_link(
        &self,
        token: &str,
        granted: bool,
        comment: &str,
    ) -> Result<(), AppError> {
        let Opened { ticket, who, .. } = self.open_link(token).await?;
        let (id, now) = (ticket.id.as_str(), self.clock.now());
        if self.store.claim_key(SPENT, id, &ids::hash(token), now).await?.is_some() {
            return Err(AppError::Refused("this link was used; it works once".to_owned()));
        }
        let answer = Answer {
            granted,
            comment: comment.to_owned(),
            plan_sha256: Some(ticket.plan),
            asked: Some(ticket.asked),
            link: Some((ticket.id.clone(), ticket.by)),
        };
        let said = self.approve_step(&who, &ticket.run, &ticket.step, answer).await;
        if said.is_err() {
            let _ = self.store.release_key(SPENT, &ticket.id).await; // nothing was said
        }
        said
    }

    /// Somebody who may sign in, with the roles that they have now.
    async fn person(&self, email: &str) -> Result<Option<Who>, AppError> {
        let user = self.store.find_user_by_email(email).await?;
        Ok(user.filter(|user| user.disabled_at.is_none()).map(|user| {
            let UserRow { id, email, roles, .. } = user;
            let user_id = Some(id);
            Who { name: email, user_id, roles, run_id: None, reason: String::new() }
        }))
    }

    async fn link_mac(&self, payload: &[u8]) -> Result<Hmac<Sha256>, AppError> {
        Ok(self.mac_for(PURPOSE).await?.chain_update(payload))
    }

    /// An HMAC whose key is derived for one purpose from the secret that all nodes share.
    pub(super) async fn mac_for(&self, purpose: &[u8]) -> Result<Hmac<Sha256>, AppError> {
        let secret = self
            .link_secret
            .get_or_try_init(async || self.store.meta_or_put(SECRET, &ids::secret()).await);
        let secret = secret.await?;
        let failed = |_| AppError::Internal("a key of any length is good".into());
        let root = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(failed)?;
        let key = root.chain_update(purpose).finalize().into_bytes();
        Hmac::<Sha256>::new_from_slice(&key).map_err(failed)
    }
}

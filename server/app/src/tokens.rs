//! Tokens of programs: `<project or *>:<environment or *>.<secret>`, shown once, stored hashed,
//! revocable at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use switchback_core::model::Millis;
use switchback_store::{Role, StoreError, TokenKind, TokenRow};

use super::App;
use super::error::AppError;
use super::ids;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// Tokens seen lately, by the hash of their text, so that a database that is away locks nobody out.
#[derive(Default)]
pub(crate) struct TokenCache {
    known: RwLock<BTreeMap<String, Known>>,
    /// Ids of tokens that are known to be revoked.
    revoked: RwLock<BTreeSet<String>>,
    revocations: AtomicU64,
}

#[derive(Clone)]
struct Known {
    token: TokenRow,
    checked_at: Millis,
    touched_at: Millis,
}

/// How long a check of a token is good for, in milliseconds; news of a revocation comes at once.
const TRUST_MS: i64 = 5_000;
/// How exactly "last used" is kept, in milliseconds.
const TOUCH_MS: i64 = 60_000;
const CACHE_MAX: usize = 10_000;
/// How long a token that is known waits for the database.
const KNOWN_WAIT: Duration = Duration::from_millis(500);
/// Half of a ticket's life, in milliseconds.
const TICKET_MS: i64 = 1_800_000;

/// A token that is wanted.
#[derive(Clone, Debug)]
pub struct TokenDraft {
    /// What people call it.
    pub name: String,
    /// What it opens.
    pub kind: TokenKind,
    /// A project's key, or `*`.
    pub project: String,
    /// An environment's key; `*` for API tokens only.
    pub environment: String,
    /// What an API token may do.
    pub role: Role,
}

impl App {
    /// Makes a token. Its text is in the answer and nowhere else.
    pub async fn create_token(
        &self,
        who: &Who,
        draft: TokenDraft,
    ) -> Result<(TokenRow, String), AppError> {
        who.must(Role::Admin, &draft.environment, "make tokens")?;
        let text = format!("{}:{}.{}", draft.project, draft.environment, ids::secret());
        let token = self.keep_token(who, draft, &text).await?;
        Ok((token, text))
    }

    /// Keeps a token whose text someone else chose.
    pub(crate) async fn keep_token(
        &self,
        who: &Who,
        draft: TokenDraft,
        text: &str,
    ) -> Result<TokenRow, AppError> {
        let TokenDraft { name, kind, project, environment, role } = draft;
        if name.trim().is_empty() || name.len() > 100 {
            return Err(AppError::invalid("name", "say what it is for, in 1 to 100 characters"));
        }
        if kind != TokenKind::Api && environment == EVERYWHERE {
            let message = "an SDK token belongs to exactly one environment";
            return Err(AppError::invalid("environment", message));
        }
        if environment != EVERYWHERE {
            self.get_environment(&environment).await?;
        }
        if project != EVERYWHERE {
            let projects = self.store.list_projects().await?;
            if !projects.iter().any(|known| known.key == project) {
                return Err(AppError::NotFound { kind: "project", key: project });
            }
        }
        let token = TokenRow {
            id: self.ids.next("tok"),
            name: name.trim().to_owned(),
            kind,
            hint: hint(text),
            project,
            environment,
            role: if kind == TokenKind::Api { role } else { Role::Viewer },
            created_at: self.clock.now(),
            created_by: who.name.clone(),
            last_used_at: None,
            revoked_at: None,
        };
        self.store.create_token(&token, &ids::hash(text), &self.stamp(who, "")).await?;
        tracing::info!(token.id = token.id, "token `{}` made", token.name);
        Ok(token)
    }

    /// All tokens, without their texts.
    pub async fn list_tokens(&self, who: &Who) -> Result<Vec<TokenRow>, AppError> {
        who.must(Role::Admin, EVERYWHERE, "look at tokens")?;
        Ok(self.store.list_tokens().await?)
    }

    /// Revokes a token everywhere, and closes its sockets.
    pub async fn revoke_token(
        &self,
        who: &Who,
        id: &str,
        reason: &str,
    ) -> Result<TokenRow, AppError> {
        who.must(Role::Admin, EVERYWHERE, "revoke tokens")?;
        let token = self.store.revoke_token(id, &self.stamp(who, reason)).await?;
        self.announce(News::Token(id.to_owned())).await;
        tracing::info!(token.id = id, "token `{}` revoked", token.name);
        Ok(token)
    }

    /// Who a token's text belongs to. `Unauthorized` only when that is certain: a database that does
    /// not answer is `Unavailable`, as SDKs stop for ever on 401.
    pub async fn authenticate(&self, text: &str) -> Result<TokenRow, AppError> {
        let hash = ids::hash(text);
        let now = self.clock.now();
        let known = self.tokens.get(&hash);
        if let Some(known) = known.as_ref().filter(|known| now - known.checked_at < TRUST_MS) {
            return usable(known.token.clone());
        }
        // Boxed: a fleet's every request comes through here, and nearly none needs the database.
        Box::pin(self.look_token_up(hash, known, now)).await
    }

    async fn look_token_up(
        &self,
        hash: String,
        known: Option<Known>,
        now: Millis,
    ) -> Result<TokenRow, AppError> {
        let looking = self.store.find_token(&hash);
        let found = match &known {
            // Who was let in a moment ago need not wait until a database that hangs is given up.
            Some(known) => match tokio::time::timeout(KNOWN_WAIT, looking).await {
                Ok(found) => found,
                Err(_) => return usable(known.token.clone()),
            },
            None => looking.await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_outage() => {
                let known = known.ok_or(AppError::Unavailable(error))?;
                return usable(known.token);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(token) = found else { return Err(AppError::Unauthorized) };
        let mut touched_at = known.map_or(0, |known| known.touched_at);
        if now - touched_at >= TOUCH_MS {
            let touching = self.store.touch_token(&token.id, now);
            if let Ok(Ok(())) = tokio::time::timeout(KNOWN_WAIT, touching).await {
                touched_at = now;
            } else {
                tracing::debug!("the use of a token could not be noted");
            }
        }
        self.tokens.put(hash, Known { token: token.clone(), checked_at: now, touched_at });
        usable(token)
    }

    /// A ticket that stands for a token for half an hour to an hour, where a browser cannot send headers. The same for all
    /// who ask within half an hour, so that answers do not differ by it. Signed with the token's hash, which the
    /// database has and clients do not (HMAC-SHA256).
    pub fn stream_ticket(&self, token: &TokenRow) -> String {
        let expires = (self.clock.now() / TICKET_MS + 2) * TICKET_MS;
        let Some(hash) = self.tokens.hash_of(&token.id) else { return String::new() };
        format!("{}.{expires}.{}", token.id, sign(&hash, &token.id, expires))
    }

    /// The token that a ticket stands for.
    pub async fn open_ticket(&self, ticket: &str) -> Result<TokenRow, AppError> {
        let mut parts = ticket.splitn(3, '.');
        let (Some(id), Some(expires), Some(mac)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(AppError::Unauthorized);
        };
        let expires: Millis = expires.parse().map_err(|_| AppError::Unauthorized)?;
        if expires < self.clock.now() {
            return Err(AppError::Unauthorized);
        }
        if self.tokens.hash_of(id).is_none() {
            self.recheck_tokens().await?;
        }
        let hash = self.tokens.hash_of(id).ok_or(AppError::Unauthorized)?;
        let known = self.tokens.get(&hash).ok_or(AppError::Unauthorized)?;
        if !is_signed(&hash, id, expires, mac) || self.is_revoked(id) {
            return Err(AppError::Unauthorized);
        }
        usable(known.token)
    }

    /// Whether a token was revoked after its handshake. A session asks this once it has its place, so
    /// that a revocation finds the session or the session finds the revocation.
    pub fn is_revoked(&self, id: &str) -> bool {
        self.tokens.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// How many tokens this node has heard to be revoked: what was checked before is to be checked again.
    pub fn token_revocations(&self) -> u64 {
        self.tokens.revocations.load(Ordering::Acquire)
    }

    /// A token was revoked, here or on another node.
    pub(crate) fn on_token_revoked(&self, id: &str) {
        self.tokens.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        self.tokens.forget(id);
        self.tokens.revocations.fetch_add(1, Ordering::AcqRel);
        self.hub.close_token(id);
    }

    /// Notes that tokens are in use with which a client is connected: a stream is opened once and lasts for days.
    pub(crate) async fn note_open_tokens(&self) {
        let now = self.clock.now();
        for id in self.hub.token_use().into_keys() {
            if let Err(error) = self.store.touch_token(&id, now).await {
                tracing::debug!(error = %error, "the use of a token could not be noted");
            }
        }
    }

    /// Reads all tokens: those that were revoked unheard lose their sockets, the others can be checked
    /// while the database is away.
    pub(crate) async fn recheck_tokens(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for (hash, token) in self.store.list_token_hashes().await?.into_iter().take(CACHE_MAX) {
            let known = self.tokens.get(&hash);
            if token.revoked_at.is_some() {
                if !self.is_revoked(&token.id) {
                    self.on_token_revoked(&token.id);
                }
                continue;
            }
            let touched_at = known.map_or(0, |known| known.touched_at);
            self.tokens.put(hash, Known { token, checked_at: now, touched_at });
        }
        Ok(())
    }
}

impl TokenCache {
    fn get(&self, hash: &str) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    fn put(&self, hash: String, known: Known) {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHE_MAX {
            all.clear(); // a flood of tokens must not grow memory; the next checks fill it again
        }
        all.insert(hash, known);
    }

    fn hash_of(&self, id: &str) -> Option<String> {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(_, known)| known.token.id == id).map(|(hash, _)| hash.clone())
    }

    fn forget(&self, id: &str) {
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.token.id != id);
    }
}

impl Who {
    /// An API token acts in its own name.
    pub fn from_token(token: &TokenRow) -> Self {
        Self {
            name: format!("token:{}", token.name),
            user_id: None,
            roles: BTreeMap::from([(token.environment.clone(), token.role)]),
            run_id: None,
            reason: String::new(),
        }
    }
}

/// Splits `<project>:<environment>.<secret>`; what each part must be is said in the error.
pub fn parse_token(text: &str) -> Result<(&str, &str), AppError> {
    let wrong = || {
        let message = "a token looks like `<project or *>:<environment or *>.<secret>`";
        AppError::invalid("token", message)
    };
    let (project, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (environment, secret) = rest.split_once('.').ok_or_else(wrong)?;
    if project.is_empty() || environment.is_empty() || secret.len() < 8 {
        return Err(wrong());
    }
    Ok((project, environment))
}

fn mac_of(hash: &str, id: &str, expires: Millis) -> Option<Hmac<Sha256>> {
    let mac = Hmac::<Sha256>::new_from_slice(hash.as_bytes()).ok()?; // takes keys of any length
    Some(mac.chain_update(format!("stream:{id}.{expires}")))
}

fn sign(hash: &str, id: &str, expires: Millis) -> String {
    let mac = mac_of(hash, id, expires).map(|mac| mac.finalize().into_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac.unwrap_or_default())
}

/// Compares in constant time.
fn is_signed(hash: &str, id: &str, expires: Millis, mac: &str) -> bool {
    let given = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(mac).unwrap_or_default();
    mac_of(hash, id, expires).is_some_and(|mac| mac.verify_slice(&given).is_ok())
}

fn usable(token: TokenRow) -> Result<TokenRow, AppError> {
    if token.revoked_at.is_some() { Err(AppError::Unauthorized) } else { Ok(token) }
}

/// The scope and the first four characters of the secret: enough to recognise, not to guess.
fn hint(text: &str) -> String {
    match text.split_once('.') {
        Some((scope, secret)) => {
            format!("{scope}.{}…", secret.chars().take(4).collect::<String>())
        }
        None => "…".to_owned(),
    }
}

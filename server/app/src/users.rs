//! People: signing in, roles, passwords, console sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use switchback_core::model::Millis;
use switchback_store::{Role, SessionRow, UserRow};
use tokio::sync::Semaphore;

use super::App;
use super::error::{AppError, Wrong};
use super::ids;
use super::who::{EVERYWHERE, Who};

/// Passwords hashed at the same time; each takes 19 MiB.
static HASHING: Semaphore = Semaphore::const_new(2);
const PASSWORD_MIN: usize = 10;
const PASSWORD_MAX: usize = 200;
const HOUR_MS: i64 = 3_600_000;
const TOUCH_MS: i64 = 60_000;
/// The longest wait between two attempts, in milliseconds.
const DELAY_MAX_MS: i64 = 15 * 60_000;
/// How many times the free attempts an address has on all accounts together: an office shares one.
const ACCOUNTS_PER_ADDRESS: u32 = 10;
const BRAKE_MAX: usize = 10_000;
const SETUP_KEY: &str = "setup_hash";

/// Slows guessing down: after some free attempts each failure doubles the wait.
pub(crate) struct SignInBrake {
    free: u32,
    failures: Mutex<HashMap<String, (u32, Millis)>>,
}

impl SignInBrake {
    pub fn new(free: u32) -> Self {
        Self { free, failures: Mutex::default() }
    }

    /// Refuses when it is too early for another attempt. `share` times the free attempts are free.
    fn check(&self, key: &str, share: u32, now: Millis) -> Result<(), AppError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((count, at)) = failures.get(key) else { return Ok(()) };
        let wait = at + delay_ms(count.saturating_sub(self.free * share)) - now;
        if wait > 0 {
            let seconds = wait.cast_unsigned().div_ceil(1000);
            return Err(AppError::TooMany { seconds });
        }
        Ok(())
    }

    fn failed(&self, key: &str, now: Millis) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= BRAKE_MAX {
            failures.retain(|_, (_, at)| now - *at < DELAY_MAX_MS);
        }
        let entry = failures.entry(key.to_owned()).or_insert((0, now));
        *entry = (entry.0 + 1, now);
    }

    fn succeeded(&self, key: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// 1 s after the first failure too many, doubling to a quarter of an hour.
fn delay_ms(over: u32) -> i64 {
    if over == 0 { 0 } else { (1_000_i64 << (over - 1).min(20)).min(DELAY_MAX_MS) }
}

/// People seen lately, by the hash of their cookie, so that a database that is away locks nobody out.
#[derive(Default)]
pub(crate) struct SessionCache {
    known: Mutex<HashMap<String, (Who, Millis)>>,
}

/// How long someone may go on without the database confirming their session, in milliseconds.
const SESSION_TRUST_MS: i64 = HOUR_MS;
const SESSIONS_MAX: usize = 1_000;

impl SessionCache {
    fn put(&self, hash: String, who: &Who, now: Millis) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SESSIONS_MAX {
            known.clear();
        }
        known.insert(hash, (who.clone(), now));
    }

    fn get(&self, hash: &str, now: Millis) -> Option<Who> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(_, at)| now - at < SESSION_TRUST_MS).map(|(who, _)| who.clone())
    }

    fn forget(&self, hash: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }
}

/// A person to add.
#[derive(Clone, Debug)]
pub struct UserDraft {
    /// How they sign in.
    pub email: String,
    /// What people call them.
    pub name: String,
    /// Their first password.
    pub password: String,
    /// A role per environment.
    pub roles: BTreeMap<String, Role>,
}

/// What to change about a person; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// New roles.
    pub roles: Option<BTreeMap<String, Role>>,
    /// A new password.
    pub password: Option<String>,
    /// Whether they may sign in.
    pub disabled: Option<bool>,
}

impl App {
    /// Signs someone in. Returns the cookie's secret. Wrong e-mail and wrong password look the same.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &str,
        address: &str,
        user_agent: &str,
    ) -> Result<String, AppError> {
        let email = email.trim().to_lowercase();
        let now = self.clock.now();
        // One account from one address, and one address on whatever accounts it tries.
        let (account, origin) = (format!("{email}|{address}"), format!("|{address}"));
        self.brake.check(&account, 1, now)?;
        self.brake.check(&origin, ACCOUNTS_PER_ADDRESS, now)?;
        let user = self.store.find_user_by_email(&email).await?;
        let user = user.filter(|user| user.disabled_at.is_none());
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        if !verify_password(password, hash).await? {
            self.brake.failed(&account, self.clock.now());
            self.brake.failed(&origin, self.clock.now());
            tracing::warn!("a sign-in failed");
            return Err(AppError::invalid("", "e-mail or password is wrong"));
        }
        let Some(user) = user else { return Err(AppError::Unauthorized) };
        self.brake.succeeded(&account);
        self.open_session(&user, user_agent).await
    }

    async fn open_session(&self, user: &UserRow, user_agent: &str) -> Result<String, AppError> {
        let now = self.clock.now();
        let secret = ids::secret();
        let session = SessionRow {
            user_id: user.id.clone(),
            created_at: now,
            last_seen_at: now,
            expires_at: now + self.config.sign_in.idle_hours * HOUR_MS,
            user_agent: user_agent.chars().take(200).collect(),
        };
        self.store.create_session(&ids::hash(&secret), &session).await?;
        tracing::info!(user.id = user.id, "someone signed in");
        Ok(secret)
    }

    /// Who a session cookie belongs to; from memory while the database is away.
    pub async fn who_has_session(&self, secret: &str) -> Result<Who, AppError> {
        let hash = ids::hash(secret);
        match self.look_up_session(&hash).await {
            Err(AppError::Unavailable(error)) => {
                let known = self.sessions.get(&hash, self.clock.now());
                known.ok_or(AppError::Unavailable(error))
            }
            Ok(who) => {
                self.sessions.put(hash, &who, self.clock.now());
                Ok(who)
            }
            Err(error) => {
                self.sessions.forget(&hash);
                Err(error)
            }
        }
    }

    async fn look_up_session(&self, hash: &str) -> Result<Who, AppError> {
        let now = self.clock.now();
        let session = self.store.find_session(hash).await?.ok_or(AppError::Unauthorized)?;
        if session.expires_at <= now {
            return Err(AppError::Unauthorized);
        }
        if now - session.last_seen_at > TOUCH_MS {
            let expires_at = now + self.config.sign_in.idle_hours * HOUR_MS;
            self.store.touch_session(hash, now, expires_at).await?;
        }
        let user = self.store.get_user(&session.user_id).await?;
        let name = user.email;
        let (user_id, roles) = (Some(user.id), user.roles);
        Ok(Who { name, user_id, roles, run_id: None, reason: String::new() })
    }

    /// Ends a session.
    pub async fn sign_out(&self, secret: &str) -> Result<(), AppError> {
        let hash = ids::hash(secret);
        self.sessions.forget(&hash);
        Ok(self.store.delete_session(&hash).await?)
    }

    /// Whether nobody has an account yet.
    pub async fn needs_setup(&self) -> Result<bool, AppError> {
        Ok(self.store.count_users().await? == 0)
    }

    /// A fresh one-time secret for the set-up page; an older one is void.
    pub async fn new_setup_secret(&self) -> Result<String, AppError> {
        let secret = ids::secret();
        self.store.put_meta(SETUP_KEY, &ids::hash(&secret)).await?;
        Ok(secret)
    }

    /// Whether a set-up link is good.
    pub async fn check_setup(&self, secret: &str) -> Result<(), AppError> {
        let expected = self.store.find_meta(SETUP_KEY).await?;
        if !self.needs_setup().await? || expected.as_deref() != Some(ids::hash(secret).as_str()) {
            let message =
                "this set-up link is used or replaced; start the server to print a new one";
            return Err(AppError::Refused(message.to_owned()));
        }
        Ok(())
    }

    /// Makes the first administrator and signs them in; spends the link.
    pub async fn set_up(
        &self,
        secret: &str,
        draft: UserDraft,
        user_agent: &str,
    ) -> Result<String, AppError> {
        self.check_setup(secret).await?;
        let user = self.new_user(draft).await?;
        if !self.store.take_meta(SETUP_KEY, &ids::hash(secret)).await? {
            return Err(AppError::Refused("this set-up link is used".to_owned()));
        }
        self.store.create_user(&user, &self.stamp(&Who::system(), "set-up")).await?;
        self.open_session(&user, user_agent).await
    }

    /// Adds a person.
    pub async fn create_user(&self, who: &Who, draft: UserDraft) -> Result<UserRow, AppError> {
        who.must(Role::Admin, EVERYWHERE, "add people")?;
        let user = self.new_user(draft).await?;
        self.store.create_user(&user, &self.stamp(who, "")).await?;
        tracing::info!(user.id = user.id, "someone was added");
        Ok(user)
    }

    async fn new_user(&self, draft: UserDraft) -> Result<UserRow, AppError> {
        let UserDraft { email, name, password, roles } = draft;
        let email = email.trim().to_lowercase();
        let mut wrong = Vec::new();
        let mut say = |field: &str, message: String| {
            wrong.push(Wrong { field: field.to_owned(), message });
        };
        if !is_email(&email) {
            say("email", "this is not an e-mail address".to_owned());
        }
        if let Err(message) = check_password(&password) {
            say("password", message);
        }
        for environment in roles.keys().filter(|key| *key != EVERYWHERE) {
            if self.get_environment(environment).await.is_err() {
                say("roles", format!("environment `{environment}` does not exist"));
            }
        }
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        let name = name.trim();
        let name = if name.is_empty() { email.split('@').next().unwrap_or_default() } else { name };
        Ok(UserRow {
            id: self.ids.next("usr"),
            name: name.chars().take(100).collect(),
            password_hash: hash_password(password).await?,
            email,
            roles,
            created_at: self.clock.now(),
            disabled_at: None,
        })
    }

    /// Everybody, by e-mail.
    pub async fn list_users(&self, who: &Who) -> Result<Vec<UserRow>, AppError> {
        who.must(Role::Admin, EVERYWHERE, "look at people")?;
        Ok(self.store.list_users().await?)
    }

    /// Changes a person. The last administrator stays one.
    pub async fn update_user(
        &self,
        who: &Who,
        id: &str,
        change: UserChange,
    ) -> Result<UserRow, AppError> {
        if who.user_id.as_deref() != Some(id) || change.roles.is_some() || change.disabled.is_some()
        {
            who.must(Role::Admin, EVERYWHERE, "change people")?;
        }
        let mut user = self.store.get_user(id).await?;
        if let Some(password) = change.password {
            check_password(&password).map_err(|message| AppError::invalid("password", message))?;
            user.password_hash = hash_password(password).await?;
        }
        if let Some(roles) = change.roles {
            user.roles = roles;
        }
        if let Some(disabled) = change.disabled {
            user.disabled_at = disabled.then(|| self.clock.now());
        }
        let is_admin = |user: &UserRow| {
            user.disabled_at.is_none() && user.roles.get(EVERYWHERE) == Some(&Role::Admin)
        };
        let others = self.store.list_users().await?;
        if !is_admin(&user) && !others.iter().any(|other| other.id != id && is_admin(other)) {
            let message = "this is the last administrator; make another one first";
            return Err(AppError::Refused(message.to_owned()));
        }
        self.store.update_user(&user, &self.stamp(who, "")).await?;
        Ok(user)
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |part: &str| !part.is_empty() && !part.contains(['@', ' ', '<', '>', '"', ',']);
    text.len() <= 200 && plain(local) && plain(domain)
}

fn check_password(password: &str) -> Result<(), String> {
    match password.chars().count() {
        n if n < PASSWORD_MIN => Err(format!("a password has at least {PASSWORD_MIN} characters")),
        n if n > PASSWORD_MAX => Err(format!("a password has at most {PASSWORD_MAX} characters")),
        _ => Ok(()),
    }
}

/// argon2id with the library's parameters (19 MiB, 2 passes), off the async threads.
async fn hash_password(password: String) -> Result<String, AppError> {
    let _permit = HASHING.acquire().await.map_err(|error| AppError::Internal(Box::new(error)))?;
    let hashed = tokio::task::spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(error)) => Err(AppError::Internal(error.to_string().into())),
        Err(error) => Err(AppError::Internal(Box::new(error))),
    }
}

/// Takes as long without a user as with one, so that accounts cannot be found by timing.
async fn verify_password(password: &str, hash: Option<String>) -> Result<bool, AppError> {
    if password.chars().count() > PASSWORD_MAX {
        return Ok(false);
    }
    let _permit = HASHING.acquire().await.map_err(|error| AppError::Internal(Box::new(error)))?;
    let password = password.to_owned();
    let checked = tokio::task::spawn_blocking(move || {
        if let Some(hash) = hash {
            PasswordHash::new(&hash).is_ok_and(|hash| {
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            })
        } else {
            let _ = Argon2::default().hash_password(password.as_bytes());
            false
        }
    });
    checked.await.map_err(|error| AppError::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_gets_slower_and_slower() {
        let brake = SignInBrake::new(3);
        for _ in 0..3 {
            brake.failed("ada", 0);
        }
        assert!(brake.check("ada", 1, 0).is_ok());

        brake.failed("ada", 0);
        assert!(matches!(brake.check("ada", 1, 0), Err(AppError::TooMany { seconds: 1 })));
        brake.failed("ada", 0);
        assert!(matches!(brake.check("ada", 1, 1_000), Err(AppError::TooMany { seconds: 1 })));
        assert!(brake.check("ada", 1, 2_000).is_ok() && brake.check("grace", 1, 0).is_ok());
    }
}

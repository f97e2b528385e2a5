//! The demo's customers log in all day: twenty minutes of it before the console opens, some with the new
//! login. A switch in the shop breaks that one for a share of those who have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use switchback_app::{App, AppError, ids};
use switchback_core::model::Millis;

use super::ENVIRONMENT;

/// The flag of the new login.
pub const FLAG: &str = "new_login";
const USERS: u64 = 20_000;
/// Logins of a second.
const PACE: u64 = 40;
/// Of a thousand logins so many fail, with the old login and a new one that is well; and with one that is broken.
const FAILING: u64 = 20;
const BROKEN: u64 = 400;
const PAST_SECONDS: i64 = 1_200;
/// Logins of a second of the past.
const PAST_PACE: u64 = PACE;
const PLATFORMS: [(&str, &str); 4] =
    [("ios", "7.2.0"), ("android", "7.1.3"), ("web", "2026.11"), ("ios", "7.1.0")];
const ERRORS: [&str; 3] = ["invalid_password", "unknown_user", "rate_limited"];

/// The switch, and what it breaks.
#[derive(Clone, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Whether the new login is broken.
    pub fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Breaks the new login, or mends it.
    pub fn set(&self, broken: bool) {
        self.0.store(broken, Ordering::Relaxed);
    }
}

/// Twenty minutes of logins.
pub async fn past(app: &Arc<App>) -> Result<(), AppError> {
    let now = app.clock.now();
    let mut batch = Vec::new();
    for second in 0..PAST_SECONDS {
        for _ in 0..PAST_PACE {
            batch.push(login(app, now - (PAST_SECONDS - second) * 1_000, false).await);
            if batch.len() >= 4_000 {
                send(app, std::mem::take(&mut batch)).await?;
            }
        }
    }
    send(app, batch).await
}

/// Logins from now on.
pub async fn go_on(app: Arc<App>, switch: Switch) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        let now = app.clock.now();
        let mut batch = Vec::new();
        for _ in 0..PACE / 2 {
            batch.push(login(&app, now, switch.is_broken()).await);
        }
        if let Err(error) = send(&app, batch).await {
            tracing::warn!("the demo's logins could not be reported: {error}");
        }
    }
}

async fn send(app: &Arc<App>, batch: Vec<Value>) -> Result<(), AppError> {
    let taken = app.take_auth_events(ENVIRONMENT, "demo shop", batch).await;
    taken.map(drop)
}

async fn login(app: &Arc<App>, at: Millis, broken: bool) -> Value {
    let dice = u64::from_le_bytes(ids::random::<8>());
    let user = format!("customer-{}", dice % USERS);
    let (platform, version) = pick(&PLATFORMS, dice >> 16);
    let has = broken && has_new_login(app, &user).await;
    let fails = (dice >> 24) % 1_000 < if has { BROKEN } else { FAILING };
    let error = if has && fails { "token_signature" } else { pick(&ERRORS, dice >> 40) };
    let mut event = json!({
        "id": format!("demo-{dice:016x}-{at}"), "type": if fails { "login_failure" } else { "login_success" },
        "at": at, "user_id": user, "platform": platform, "app_version": version,
        "latency_ms": 18 + (dice >> 44) % 30 + if (dice >> 50).is_multiple_of(20) { 60 } else { 0 },
    });
    if fails && let Some(object) = event.as_object_mut() {
        object.insert("error".to_owned(), json!(error));
    }
    event
}

fn pick<T: Copy + Default>(all: &[T], dice: u64) -> T {
    all.get(dice as usize % all.len().max(1)).copied().unwrap_or_default()
}

async fn has_new_login(app: &Arc<App>, user: &str) -> bool {
    let Ok(feed) = app.hub.feed(ENVIRONMENT, None).await else { return false };
    let context = switchback_core::Context::new().user_id(user);
    feed.current().ruleset.is_enabled(FLAG, &context)
}

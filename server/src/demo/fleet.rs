//! The demo's apps: the real SDK, with names, versions and platforms as a shop would have them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use switchback_sdk::{Context, Switchback};
use tokio::sync::watch;

/// How often the apps ask their flags for a few users.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Users that are asked for in all.
const USERS: usize = 5_000;
/// A pause after so many connections, so that they do not all come at once.
const AT_ONCE: usize = 10;
const PAUSE: Duration = Duration::from_millis(60);

/// Name, platform and versions, newest last.
const APPS: [(&str, &str, &[&str]); 6] = [
    ("shop-ios", "ios", &["5.1.0", "5.2.0", "5.2.1"]),
    ("shop-android", "android", &["5.0.3", "5.2.0", "5.2.1"]),
    ("shop-web", "web", &["2026.11.18", "2026.11.20"]),
    ("checkout-api", "server", &["3.8.1"]),
    ("accounts-api", "server", &["1.14.0", "1.14.2"]),
    ("support-desk", "server", &["0.9.4"]),
];

/// Every app that is connected. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    url: String,
    token: String,
    apps: Arc<Mutex<Vec<Connected>>>,
    /// Counts up whenever one of the first apps has something new in force.
    news: watch::Sender<u64>,
}

/// One app.
#[derive(Clone)]
pub struct Connected {
    /// Its client.
    pub client: Switchback,
    /// Its name.
    pub app: &'static str,
    /// Its platform.
    pub platform: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(url: String, token: String) -> Self {
        Self { url, token, apps: Arc::default(), news: watch::Sender::new(0) }
    }

    /// The apps by now.
    pub fn apps(&self) -> Vec<Connected> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes when one of the phones may show something else.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Connects every app, then lets them ask for users now and then, for ever.
    pub async fn grow(self, clients: usize) {
        for number in 0..clients {
            if let Err(error) = self.connect(number).await {
                tracing::warn!(error = %error, "an app of the demo could not be made");
            }
            if number % AT_ONCE == AT_ONCE - 1 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let mut tick = tokio::time::interval(ASK_EVERY);
        for round in 0_usize.. {
            tick.tick().await;
            for (number, connected) in self.apps().iter().enumerate() {
                // Spread over the users without chance, so that every demo looks alike.
                let user = (number * 7_919 + round * 104_729) % USERS;
                let id = format!("user-{user}");
                let context = Context::new()
                    .user_id(&id)
                    .platform(connected.platform)
                    .app_version(connected.version);
                let _ = connected.client.auth_mode(&context);
                if number % 3 == round % 3 {
                    let _ = connected.client.is_enabled("new_checkout", &context);
                    let _ = connected.client.is_enabled("express_delivery", &context);
                }
            }
        }
    }

    async fn connect(&self, number: usize) -> Result<(), switchback_sdk::BuildError> {
        // The phones come first, and phones are what runs the first two.
        let kind =
            if number < super::storefront::PHONES { number % 2 } else { number % APPS.len() };
        let Some((app, platform, versions)) = APPS.get(kind) else { return Ok(()) };
        // Most are on the newest version.
        let age =
            [0, 0, 0, 1, 0, 0, 2].get((number / APPS.len() + number) % 7).copied().unwrap_or(0);
        let version = versions.iter().rev().cycle().nth(age).copied().unwrap_or_default();
        let client = Switchback::builder()
            .url(&self.url)
            .token(&self.token)
            .app(*app)
            .app_version(version)
            .platform(*platform)
            .instance(format!("{app}-{number:03}"))
            .report_every(Duration::from_secs(5))
            .build()
            .await?;
        if number < super::storefront::PHONES {
            let (news, mut changes) = (self.news.clone(), client.changes());
            tokio::spawn(async move {
                while changes.next().await.is_some() {
                    news.send_modify(|count| *count += 1);
                }
            });
        }
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).push(Connected {
            client,
            app,
            platform,
            version,
        });
        self.news.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Says goodbye for every app.
    pub async fn end(&self) {
        let apps = std::mem::take(&mut *self.apps.lock().unwrap_or_else(PoisonError::into_inner));
        futures_util::future::join_all(apps.iter().map(|app| app.client.shutdown())).await;
    }
}

//! `switchback demo`: a server on a temporary database, apps with the real SDK that follow it, and a shop
//! whose customers' phones show what each of them gets. Everything goes when it ends.

mod fleet;
mod logins;
mod people;
mod storefront;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use switchback_app::config::{Config, Init};
use switchback_app::flags::{FlagDraft, everybody};
use switchback_app::watch::guards::GuardSettings;
use switchback_app::{App, Who, ids};
use switchback_core::model::{FlagKind, FlagState, Percent};

use super::serve::{self, Signals};
use super::{Failure, Outcome, say};

const EMAIL: &str = "demo@example.com";
const ENVIRONMENT: &str = "production";
/// More would show nothing more, on one machine.
const CLIENTS_MAX: usize = 5_000;
const THREADS: usize = 2;
/// How long the end may take at most.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What the demo is started with.
#[derive(Args)]
pub struct Options {
    /// How many apps connect.
    #[arg(long, value_name = "N", default_value_t = 200)]
    clients: usize,
}

pub fn run(options: &Options, listen: Option<String>) -> Outcome {
    if options.clients < storefront::PHONES || options.clients > CLIENTS_MAX {
        let least = storefront::PHONES;
        return Err(Failure::new(format!("--clients must be {least} to {CLIENTS_MAX}")));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(demo(options.clients, listen))
}

async fn demo(clients: usize, listen: Option<String>) -> Outcome {
    let mut signals = Signals::listen()?;
    let folder = tempfile::Builder::new().prefix("switchback-demo-").tempdir()?;
    let config = Config {
        listen: listen.unwrap_or_else(|| "127.0.0.1:0".to_owned()),
        data_dir: folder.path().to_owned(),
        log: "warn".to_owned(),
        ..Config::default()
    };
    serve::start_logging(&config)?;
    let secrets = Secrets::new();
    let serve::Started { app, server, _lock, .. } = serve::start(config, &secrets.init()).await?;
    prepare(&app).await?;

    let fleet = fleet::Fleet::new(app.public_url.clone(), secrets.sdk.clone());
    let switch = logins::Switch::default();
    let shop = storefront::open(fleet.clone(), switch.clone())?;
    logins::past(&app).await?;
    guard(&app).await?;
    people::prepare(&app, folder.path()).await?;
    print(&app.public_url, &shop.url, &secrets, clients);

    let handles = [server.handle(), shop.server.handle()];
    let growing = tokio::spawn(fleet.clone().grow(clients));
    let coming = tokio::spawn(logins::go_on(Arc::clone(&app), switch));
    let end = async {
        signals.wait().await;
        say("Ending.");
        growing.abort();
        coming.abort();
        let _ = tokio::time::timeout(END_WITHIN, fleet.end()).await;
        serve::end(&app).await;
        for handle in handles {
            handle.stop(false).await;
        }
    };
    let (served, sold, ()) = tokio::join!(server, shop.server, end);
    let _ = tokio::time::timeout(END_WITHIN, app.store.close()).await;
    folder.close()?;
    Ok(served.and(sold)?)
}

/// Made anew for every demo.
struct Secrets {
    password: String,
    api: String,
    sdk: String,
}

impl Secrets {
    fn new() -> Self {
        let short = |length: usize| ids::secret().chars().take(length).collect::<String>();
        Self {
            password: format!("{}-{}-{}", short(5), short(5), short(5)),
            api: format!("*:*.{}", short(24)),
            sdk: format!("*:{ENVIRONMENT}.{}", short(24)),
        }
    }

    fn init(&self) -> Init {
        Init {
            admin: Some((EMAIL.to_owned(), self.password.clone())),
            admin_tokens: vec![self.api.clone()],
            client_tokens: vec![self.sdk.clone()],
            frontend_tokens: Vec::new(),
            event_tokens: Vec::new(),
        }
    }
}

/// Gives the console something to show: a share of the users that signs in, two flags of the app.
async fn prepare(app: &Arc<App>) -> Outcome {
    let who = Who::system();
    let share = |thousandths| Percent::from_thousandths(thousandths);
    let most = (None, share(70_000)?);
    let reason = "sign-in is being rolled out";
    app.set_flag_rollout(&who, ENVIRONMENT, "auth_rollout", most, reason).await?;
    for (key, kind, description, percent) in [
        ("new_checkout", FlagKind::Release, "The checkout with one page.", share(25_000)?),
        (logins::FLAG, FlagKind::Release, "The login with a signed token.", share(25_000)?),
        (
            "express_delivery",
            FlagKind::Operational,
            "Offers delivery within the hour.",
            Percent::ALL,
        ),
    ] {
        let rules = vec![everybody(percent)];
        let draft = FlagDraft {
            key: key.try_into()?,
            project: "default".to_owned(),
            kind,
            value_type: switchback_core::model::ValueType::Boolean,
            description: description.to_owned(),
            owner: "team-shop".to_owned(),
            tags: vec!["shop".to_owned()],
            lifetime_days: None,
            salt: None,
            state: Some(FlagState { enabled: true, rules, ..FlagState::default() }),
        };
        app.create_flag(&who, draft, "the demo's").await?;
    }
    Ok(())
}

/// Lets a guard watch the new login.
async fn guard(app: &Arc<App>) -> Outcome {
    let settings = GuardSettings::of(logins::FLAG);
    app.create_guard(&Who::system(), ENVIRONMENT, settings, "the new login is being tried").await?;
    Ok(())
}

fn print(console: &str, shop: &str, secrets: &Secrets, clients: usize) {
    let Secrets { password, api, .. } = secrets;
    // As it was called, so that the lines can be pasted into the same shell.
    let own = std::env::args().next().unwrap_or_else(|| "switchback".to_owned());
    let target = format!("--url {console} --token '{api}'");
    say(format!(
        "\
Switchback's demo. {clients} apps connect; everything lies in a temporary folder and goes with Ctrl-C.

  Console      {console}/sign-in?next=/ui/production
  Sign in as   {EMAIL}   {password}
  Shop         {shop}   ten customers' phones, live

Look at the shop, and then
  1. let everybody in, as if sign-in were broken:
     {own} playbook run auth-rollback {target} --env production --reason 'sign-in is broken'
  2. bring sign-in back, share by share:
     {own} playbook run auth-restore {target} --env production --reason 'sign-in is repaired' --input soak=2s
  3. break the new login, with the switch below the phones, and watch it being put back by itself within two minutes:
     {console}/ui/{ENVIRONMENT}/watch
  4. see whose rows are broken, repair them with a look at each before, and take it back:
     {console}/ui/checks
  5. see who was told what, and prove that nobody changed the log:
     {own} log verify {target}
"
    ));
}

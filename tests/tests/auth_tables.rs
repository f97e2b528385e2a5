//! Supabase's own tables, read from a real PostgreSQL: each row once, whatever its order, restarts and outages; and what they
//! cannot say is said.

use serde_json::{Value, json};
use switchback_tests::link::Link;
use switchback_tests::server::EVENTS;
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const PROD: &str = "/api/v1/environments/production";
/// The tables as Supabase Auth makes them, as far as they are read.
const TABLES: &str = "CREATE SCHEMA auth;
    CREATE TABLE auth.audit_log_entries (instance_id uuid, id uuid NOT NULL PRIMARY KEY, payload json, created_at timestamptz,
        ip_address varchar(64) NOT NULL DEFAULT '');
    CREATE TABLE auth.sessions (id uuid NOT NULL PRIMARY KEY, user_id uuid NOT NULL, created_at timestamptz, updated_at timestamptz,
        factor_id uuid, aal text, not_after timestamptz, refreshed_at timestamp, user_agent text, ip inet, tag text);";

/// An entry of the audit table, by its number.
fn entry(n: u32, action: &str, ago_s: u32) -> String {
    format!(
        "INSERT INTO auth.audit_log_entries (instance_id, id, payload, created_at) VALUES ('{0}', '{1}', \
         '{{\"action\":\"{action}\",\"actor_id\":\"{1}\",\"log_type\":\"account\"}}', now() - interval '{ago_s} s')",
        uuid(0),
        uuid(n),
    )
}

fn session(n: u32, ago_s: u32) -> String {
    format!(
        "INSERT INTO auth.sessions (id, user_id, created_at, updated_at, refreshed_at, aal, user_agent, ip) VALUES ('{0}', '{0}', \
         now() - interval '{ago_s} s', now() - interval '{ago_s} s', NULL, 'aal1', 'Mozilla/5.0', '192.0.2.1')",
        uuid(n),
    )
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// The app's database behind a link, and a server that reads it.
struct Shop {
    tables: Backend,
    link: Link,
    config: std::path::PathBuf,
    url: String,
}

impl Shop {
    async fn open(backend: &Backend, user: &str) -> Self {
        let tables = Backend::postgres().await;
        for statement in TABLES.split_inclusive(';') {
            tables.tamper(statement).await;
        }
        let address = url::Url::parse(&tables.database_url).unwrap();
        let target = format!("{}:{}", address.host_str().unwrap(), address.port().unwrap());
        let link = Link::to(&target).await;
        let url = format!("postgres://{user}@{}{}", link.address, address.path());
        let config = backend.folder.path().join("switchback.toml");
        let text =
            "[[watch.supabase]]\nsource = \"shop\"\nenvironment = \"production\"\nevery_s = 2\n";
        std::fs::write(&config, text).unwrap();
        Self { tables, link, config, url }
    }

    fn serve(&self, backend: &Backend) -> Server {
        let variables = [
            ("SWITCHBACK_CONFIG", self.config.to_str().unwrap()),
            ("SHOP_DATABASE_URL", self.url.as_str()),
        ];
        Server::start_on(backend, "127.0.0.1:0", &variables)
    }

    async fn connect(&self, api: &Api) {
        let settings = json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL"});
        api.put("/api/v1/data-sources/shop", json!({"settings": settings, "reason": "its logins"}))
            .await;
    }
}

async fn poller(api: &Api) -> Value {
    api.get(&format!("{PROD}/auth-pollers")).await[0]["progress"].clone()
}

async fn until_state(api: &Api, state: &str) -> Value {
    eventually(&format!("the poller is {state}"), async || {
        let found = poller(api).await;
        (found["state"] == state).then_some(found)
    })
    .await
}

async fn until_logins(api: &Api, n: u64) -> Value {
    eventually(&format!("{n} logins are counted"), async || {
        let seen = api.get(&format!("{PROD}/auth-summary")).await;
        (seen["logins"]["good"] == n).then_some(seen)
    })
    .await
}

on_both! {
    async fn rows_count_once_whatever_their_order_and_after_a_restart(backend: Backend) {
        use sqlx::{Connection as _, Executor as _};
        let shop = Shop::open(&backend, "postgres").await;
        for n in 1..=40 {
            shop.tables.tamper(&entry(n, if n % 4 == 0 { "token_revoked" } else { "login" }, 30)).await;
        }
        let server = shop.serve(&backend);
        let api = server.api();
        shop.connect(&api).await;
        let seen = until_logins(&api, 30).await;
        assert_eq!((&seen["logins"]["failure"], &seen["tells_failures"]), (&Value::Null, &json!(false)), "nobody knows of failures");
        assert_eq!(seen["sources"][0]["source"], "supabase:shop");

        // A transaction that began earlier and commits later than one that was read.
        let mut late = sqlx::PgConnection::connect(&shop.tables.database_url).await.unwrap();
        late.execute("BEGIN").await.unwrap();
        late.execute(sqlx::query(sqlx::AssertSqlSafe(entry(101, "login", 20)))).await.unwrap();
        shop.tables.tamper(&entry(102, "login", 0)).await;
        until_logins(&api, 31).await;
        late.execute("COMMIT").await.unwrap();
        until_logins(&api, 32).await;

        server.kill();
        shop.tables.tamper(&entry(103, "login", 0)).await;
        let server = shop.serve(&backend);
        let api = server.api();
        let after = until_logins(&api, 33).await;
        assert_eq!((&after["sources"][0]["taken"], &after["sources"][0]["refused"]), (&json!(33), &json!(0)));
        let looked = poller(&api).await["looked_at"].clone();
        eventually("it looks twice more", async || {
            let now = poller(&api).await;
            (now["looked_at"].as_i64().unwrap() > looked.as_i64().unwrap() + 4_000).then_some(())
        }).await;
        assert_eq!(api.get(&format!("{PROD}/auth-summary")).await["logins"]["good"], 33);
        // A sender who would tell of failures makes the share known.
        Api::new(&server.url, EVENTS).post("/api/v1/auth-events", json!([{"id": "f", "type": "login_failure"}])).await;
        let known = api.get(&format!("{PROD}/auth-summary")).await;
        assert!(known["logins"]["failure"].is_number(), "{known}");
    }

    async fn sessions_begin_and_end_as_their_rows_do(backend: Backend) {
        let shop = Shop::open(&backend, "postgres").await;
        for n in 1..=3 {
            shop.tables.tamper(&session(n, 60)).await;
        }
        shop.tables.tamper(&format!("UPDATE auth.sessions SET not_after = now() - interval '1 h' WHERE id = '{}'", uuid(3))).await;
        let server = shop.serve(&backend);
        let api = server.api();
        shop.connect(&api).await;
        let open = async |n: usize| eventually(&format!("{n} sessions are open"), async || {
            let found = api.get(&format!("{PROD}/sessions")).await;
            (found["items"].as_array().unwrap().len() == n).then_some(found)
        }).await;

        let two = open(2).await;
        assert_eq!(two["items"][0]["device"], "Mozilla/5.0");
        assert!(two["items"][0]["user_key"].as_str().unwrap().starts_with("u_"), "users are hashed: {two}");
        shop.tables.tamper(&format!("DELETE FROM auth.sessions WHERE id = '{}'", uuid(1))).await;
        let one = open(1).await;
        assert_eq!(one["items"][0]["id"], json!(uuid(2)));
        // Nobody's refresh is lost by the column that has no time zone.
        shop.tables.tamper(&format!("UPDATE auth.sessions SET refreshed_at = (now() AT TIME ZONE 'UTC') + interval '2 min' WHERE id = '{}'", uuid(2))).await;
        let begun = one["items"][0]["last_activity_at"].as_i64().unwrap();
        eventually("the activity is seen", async || {
            let now = open(1).await["items"][0]["last_activity_at"].as_i64().unwrap();
            (now - begun > 150_000 && now - begun < 300_000).then_some(())
        }).await;
    }

    async fn a_table_that_says_nothing_is_told(backend: Backend) {
        let shop = Shop::open(&backend, "postgres").await;
        let server = shop.serve(&backend);
        let api = server.api();
        let unknown = until_state(&api, "missing").await;
        assert!(unknown["said"].as_str().unwrap().contains("data source `shop` does not exist"), "{unknown}");
        shop.connect(&api).await;

        let empty = until_state(&api, "empty").await;
        assert!(empty["said"].as_str().unwrap().contains("audit_log_entries is empty"), "{empty}");
        let summary = api.get(&format!("{PROD}/auth-summary")).await;
        assert_eq!((&summary["is_reported"], &summary["logins"]["failure"]), (&json!(false), &Value::Null), "silence is not nought");
        shop.tables.tamper(&entry(1, "login", 3_000)).await;
        shop.tables.tamper(&session(1, 5)).await;
        until_state(&api, "off").await;
        shop.tables.tamper(&entry(2, "login", 0)).await;
        until_state(&api, "reads").await;

        shop.link.cut();
        let away = until_state(&api, "away").await;
        assert!(away["failures"].as_u64().unwrap() >= 1 && away["good_at"].is_number(), "{away}");
        shop.tables.tamper(&entry(3, "login", 0)).await;
        shop.link.mend();
        until_state(&api, "reads").await;
        until_logins(&api, 2).await;

        shop.tables.tamper("ALTER TABLE auth.audit_log_entries RENAME TO old").await;
        let missing = until_state(&api, "missing").await;
        assert!(missing["said"].as_str().unwrap().contains("does not exist"), "{missing}");
    }

    async fn a_role_without_the_right_is_told(backend: Backend) {
        let role = format!("reader{}", backend.folder.path().display().to_string().to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        let shop = Shop::open(&backend, &role).await;
        shop.tables.tamper(&format!("CREATE ROLE {role} LOGIN")).await;
        shop.tables.tamper(&entry(1, "login", 5)).await;
        let server = shop.serve(&backend);
        let api = server.api();
        shop.connect(&api).await;

        let denied = until_state(&api, "denied").await;
        assert!(denied["said"].as_str().unwrap().contains("permission denied for schema auth"), "{denied}");

        for grant in ["USAGE ON SCHEMA auth", "SELECT ON auth.audit_log_entries", "SELECT ON auth.sessions"] {
            shop.tables.tamper(&format!("GRANT {grant} TO {role}")).await;
        }
        until_logins(&api, 1).await;
    }
}

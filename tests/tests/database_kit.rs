//! The database kit: flags that SQL reads, a bypass that puts back exactly what it found, sessions that come back, and steps
//! that take themselves back. The schema is one like Supabase's, on a real PostgreSQL.

use reqwest::{Method, StatusCode};
use serde_json::json;
use switchback_tests::{Api, Backend, Server, eventually, on_both, shop};

/// A schema like Supabase's, as small as it can be: two tables with row-level security, one of them forced, and one without.
const SCHEMA: [&str; 14] = [
    "CREATE SCHEMA auth",
    "CREATE TABLE auth.users (id UUID PRIMARY KEY, email TEXT NOT NULL)",
    "CREATE TABLE auth.sessions (id UUID PRIMARY KEY, user_id UUID NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE, \
     created_at TIMESTAMPTZ NOT NULL DEFAULT now())",
    "CREATE TABLE auth.refresh_tokens (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, token TEXT NOT NULL, \
     session_id UUID REFERENCES auth.sessions (id) ON DELETE CASCADE)",
    "CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS \
     $$ SELECT COALESCE(NULLIF(current_setting('request.jwt.claim.role', true), ''), 'anon') $$",
    "CREATE TABLE profiles (id UUID PRIMARY KEY, name TEXT)",
    "CREATE TABLE receipts (id BIGINT PRIMARY KEY, amount NUMERIC NOT NULL)",
    "CREATE TABLE countries (code TEXT PRIMARY KEY)",
    "ALTER TABLE profiles ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE receipts ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE receipts FORCE ROW LEVEL SECURITY",
    "INSERT INTO auth.users SELECT gen_random_uuid(), 'user' || n || '@example.com' FROM generate_series(1, 500) AS n",
    "INSERT INTO auth.sessions (id, user_id) SELECT gen_random_uuid(), id FROM auth.users",
    "INSERT INTO auth.refresh_tokens (token, session_id) SELECT md5(id::text), id FROM auth.sessions",
];
/// Everything that the kit may touch, as one text.
const STATE: &str = "SELECT md5(COALESCE((SELECT string_agg(c.relname || c.relrowsecurity || c.relforcerowsecurity, ',' ORDER BY c.relname) \
     FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r'), '') \
     || pg_get_functiondef('auth.role()'::regprocedure) \
     || COALESCE((SELECT string_agg(s::text, ',' ORDER BY s.id) FROM auth.sessions AS s), '') \
     || COALESCE((SELECT string_agg(t::text, ',' ORDER BY t.id) FROM auth.refresh_tokens AS t), ''))";
/// A step that takes itself back.
const BRIEF: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: brief, title: For a moment only, owner: team-shop}
spec:
  deadline: 1m
  steps:
    - id: keep
      flag.set: {key: auth_rollout, value: true}
    - id: open
      expires: 300ms
      sql.exec: {source: app, sql: UPDATE doors SET is_open = 1, undo: UPDATE doors SET is_open = 0}
";

async fn serve(backend: &Backend) -> (Server, Api) {
    shop::open(backend, "app", &[("brief.yaml", BRIEF)]).await
}

async fn mirror(api: &Api, environment: Option<&str>) {
    let body = json!({"environment": environment, "reason": "policies read it"});
    api.put("/api/v1/data-sources/app/mirror", body).await;
}

/// Waits until a query answers as it should.
async fn until(backend: &Backend, sql: &str, wanted: &str) {
    eventually(&format!("{sql} gives {wanted}"), || async {
        (backend.ask(sql).await == wanted).then_some(())
    })
    .await;
}

on_both! {
    async fn sql_reads_the_flags_that_are_mirrored(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let is_postgres = !backend.database_url.is_empty();
        let on = |flag: &str| if is_postgres {
            format!("SELECT CASE WHEN switchback.flag_enabled('{flag}') THEN 'on' ELSE 'off' END")
        } else {
            format!("SELECT COALESCE((SELECT CASE WHEN enabled THEN 'on' ELSE 'off' END FROM switchback_flag_enabled WHERE key = '{flag}'), 'none')")
        };
        mirror(&api, Some("staging")).await;
        let table = if is_postgres { "SELECT CASE WHEN to_regclass('switchback.flags') IS NULL THEN 'none' ELSE 'there' END" } else {
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'switchback_flags') THEN 'there' ELSE 'none' END"
        };
        until(&backend, table, "there").await;
        until(&backend, &on("auth_bypass"), "off").await;

        api.put("/api/v1/environments/staging/flags/auth_bypass/enabled", json!({"enabled": true})).await;
        until(&backend, &on("auth_bypass"), "on").await;
        api.put("/api/v1/environments/staging/flags/auth_rollout/enabled", json!({"enabled": true})).await;
        api.put("/api/v1/environments/staging/flags/auth_rollout/rollout", json!({"percent": 50})).await;
        let reach = format!("SELECT COALESCE((SELECT reach FROM {} WHERE key = 'auth_rollout'), 'none')", if is_postgres { "switchback.flags" } else { "switchback_flags" });
        until(&backend, &reach, "some").await;
        assert_eq!(backend.ask(&on("auth_rollout")).await, "off", "SQL knows no user, so a share is not on");
        let newest = api.get("/api/v1/environments/staging").await["revision"].clone();
        eventually("the mirror says how far it is", || async {
            let sources = api.get("/api/v1/data-sources").await;
            (sources[0]["mirror"]["revision"] == newest).then_some(())
        })
        .await;

        // Other settings leave the mirror alone; taking it away takes its tables away.
        let settings = json!({"name": "app", "credentials": "env:SHOP_DATABASE_URL", "access": "read_write", "rows_max": 50});
        api.put("/api/v1/data-sources/app", json!({"settings": settings})).await;
        assert_eq!(api.get("/api/v1/data-sources").await[0]["settings"]["mirror"], "staging");
        mirror(&api, None).await;
        until(&backend, table, "none").await;
    }

    async fn a_step_that_expires_takes_itself_back_and_leaves_the_others(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        backend.tamper("CREATE TABLE doors (is_open BIGINT NOT NULL)").await;
        backend.tamper("INSERT INTO doors VALUES (0)").await;

        let body = json!({"environment": "staging", "reason": "only for a moment"});
        let run = api.post("/api/v1/playbooks/brief/runs", body).await;
        let run = shop::end_of(&api, &run).await;
        until(&backend, "SELECT CAST(is_open AS TEXT) FROM doors", "0").await;

        assert_eq!(run["state"], "succeeded", "{run}");
        let undoing = eventually("its undo is over", || async {
            let runs = api.get("/api/v1/runs?environment=staging").await;
            let newest = runs["items"][0].clone();
            (newest["undoes"] == run["run"]["id"] && newest["state"] == "succeeded").then_some(newest)
        })
        .await;
        assert_eq!((&undoing["trigger"], &undoing["requested_by"]), (&json!("expiry"), &json!("switchback")));
        let flag = api.get("/api/v1/environments/staging/flags/auth_rollout").await;
        assert_eq!(flag["state"]["enabled"], true, "a step that does not expire stays");
    }
}

/// The whole journey: apps and database let everybody in, sessions are gone, and the undo leaves everything as it was.
#[tokio::test]
async fn the_database_is_opened_and_put_back_exactly() {
    let backend = Backend::postgres().await;
    let (server, api) = serve(&backend).await;
    for statement in SCHEMA {
        backend.tamper(statement).await;
    }
    mirror(&api, Some("production")).await;
    until(
        &backend,
        "SELECT CASE WHEN to_regclass('switchback.flags') IS NULL THEN 'none' ELSE 'there' END",
        "there",
    )
    .await;
    let before = backend.ask(STATE).await;
    let grace = api
        .post("/api/v1/tokens", json!({"name": "grace", "kind": "api", "role": "operator"}))
        .await;
    let second =
        Api::new(&format!("http://{}", server.address()), grace["token"].as_str().unwrap());

    let inputs =
        json!({"open_rows": true, "clear_sessions": true, "reason": "sign-in fails for everybody"});
    let body = json!({"environment": "production", "reason": "sign-in fails for everybody", "inputs": inputs});
    let run = api.post("/api/v1/playbooks/auth-rollback-db/runs", body).await;
    let id = run["id"].as_str().unwrap();
    for step in ["open_rows", "clear_sessions"] {
        eventually("the step asks", || async {
            let detail = api.get(&format!("/api/v1/runs/{id}")).await;
            let rows = detail["log"].as_array().unwrap().clone();
            rows.iter().any(|row| row["step_id"] == step && row["phase"] == "waiting").then_some(())
        })
        .await;
        second
            .post(&format!("/api/v1/runs/{id}/steps/{step}/approval"), json!({"approve": true}))
            .await;
    }
    let done = shop::end_of(&api, &run).await;

    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(backend.ask("SELECT auth.role()").await, "authenticated");
    assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM pg_class WHERE relname IN ('profiles', 'receipts') AND relrowsecurity").await, "0");
    assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM auth.refresh_tokens").await, "0");
    assert_eq!(
        backend
            .ask("SELECT CASE WHEN switchback.flag_enabled('auth_bypass') THEN 'on' ELSE 'off' END")
            .await,
        "on"
    );
    assert!(done["run"]["expires_at"].is_number(), "it takes itself back after four hours");

    let undo = api
        .post(&format!("/api/v1/runs/{id}/undo"), json!({"reason": "sign-in works again"}))
        .await;
    let undone = shop::end_of(&api, &undo).await;

    assert_eq!(undone["state"], "succeeded", "{undone}");
    assert_eq!(backend.ask(STATE).await, before, "exactly what was found is put back");
    let path = format!("/api/v1/runs/{}/undo", undo["id"].as_str().unwrap());
    let again = api.send(Method::POST, &path, Some(json!({"reason": "open it again"}))).await;
    assert_eq!(
        again.status,
        StatusCode::CONFLICT,
        "opening needs its approvals again: {}",
        again.body
    );
    until(
        &backend,
        "SELECT CASE WHEN switchback.flag_enabled('auth_bypass') THEN 'on' ELSE 'off' END",
        "off",
    )
    .await;
}

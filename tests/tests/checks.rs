//! Consistency checks on a real database: found, healed, proved, monitored, undone; what goes wrong is said and changes nothing.

use reqwest::Method;
use serde_json::{Value, json};
use switchback_tests::people::{self, PACK, set};
use switchback_tests::shop;
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const PROFILES: &str = "SELECT COALESCE(SUM(person), 0) || '/' || COUNT(*) || '/' || COALESCE(MIN(phone), '') FROM profiles";

async fn serve(backend: &Backend) -> (Server, Api) {
    let (server, api) = shop::open(backend, "shop", &[]).await;
    people::make(backend, &api).await;
    set(&api, json!({"source": "shop"})).await;
    (server, api)
}

async fn look(api: &Api) -> Value {
    api.post("/api/v1/checks/people/run", json!({})).await
}

async fn end_of(api: &Api, id: &str) -> Value {
    let path = format!("/api/v1/repair-runs/{id}");
    eventually("the repair ends", || async {
        let run = api.get(&path).await;
        let state = run["state"].as_str().unwrap_or_default();
        (!["running", "undoing"].contains(&state)).then_some(run)
    })
    .await
}

async fn repair(api: &Api, wish: Value) -> Value {
    let answer = api.post("/api/v1/checks/people/backfill", wish).await;
    end_of(api, answer["run"]["id"].as_str().unwrap()).await
}

async fn found(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v1/findings?pack=people{query}")).await;
    page["findings"].as_array().cloned().unwrap_or_default()
}

on_both! {
    /// The journey: who is broken is found and masked, a dry run shows each row, the repair heals and proves it, the undo puts
    /// everything back as it was.
    async fn people_are_found_healed_and_put_back(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let before = backend.ask(PROFILES).await;

        let seen = look(&api).await;
        let open = found(&api, "&state=open").await;
        let by_phone = found(&api, "&search=%2B61412345615").await;
        let dry = api.post("/api/v1/checks/people/backfill", json!({})).await;
        let untouched = backend.ask(PROFILES).await;
        let run = repair(&api, json!({"dry_run": false, "batch_size": 2, "reason": "the doors are open"})).await;
        let healed = backend.ask(PROFILES).await;
        let again = repair(&api, json!({"dry_run": false})).await;
        let fixed = found(&api, "&state=fixed").await;
        let id = run["id"].as_str().unwrap();
        api.post(&format!("/api/v1/repair-runs/{id}/undo"), json!({"reason": "not today"})).await;
        let undone = end_of(&api, id).await;
        let put_back = backend.ask(PROFILES).await;
        let log = api.get("/api/v1/changes?limit=100").await.to_string();

        let missing = &seen["checks"][0];
        assert_eq!((&missing["grade"], &missing["state"]["figures"]), (&json!("fail"), &json!({"found": 3, "population": 5})), "{seen}");
        assert_eq!(open.len(), 4, "{open:?}");
        let one = open.iter().find(|one| one["key"] == "5").unwrap();
        assert_eq!((&one["label"], &one["country"], &one["platform"]), (&json!("61******615"), &json!("61"), &json!("ios")));
        assert_eq!(by_phone.len(), 1, "a number finds its person though only a hash is kept");
        assert_eq!(dry["preview"]["would_repair"], json!(4), "{dry}");
        let row = &dry["preview"]["checks"][0]["keys"][0]["rows"][0];
        assert_eq!((&row["action"], &row["columns"]["phone"]), (&json!("insert"), &json!([null, "+35385123456"])), "{dry}");
        assert_eq!(untouched, before, "a dry run changes nothing");
        assert_eq!((&run["state"], &run["verdict"]), (&json!("done"), &json!("PASS")), "{run}");
        let progress = &run["progress"]["checks"]["profile_missing"];
        assert_eq!((&progress["found"], &progress["healed"], &progress["left"]), (&json!(3), &json!(3), &json!(0)), "{run}");
        assert_eq!(healed, "15/5/+15551234567");
        assert_eq!(again["progress"]["checks"]["profile_missing"]["healed"], json!(0), "{again}");
        assert_eq!(fixed.len(), 4, "{fixed:?}");
        assert_eq!((&undone["state"], &put_back), (&json!("undone"), &before), "{undone}");
        assert_eq!(undone["progress"]["checks"]["profile_missing"]["restored"], json!(3), "{undone}");
        assert!(!log.contains("+61412345615") && log.contains("61******615"), "who was touched is on the log, masked: {log}");
    }

    /// A row that somebody changed after the repair is theirs: the undo leaves it and names it.
    async fn an_undo_leaves_what_others_changed(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let run = repair(&api, json!({"dry_run": false, "check": "profile_missing"})).await;
        backend.tamper("UPDATE profiles SET phone = 'theirs' WHERE person = 4").await;

        let id = run["id"].as_str().unwrap();
        api.post(&format!("/api/v1/repair-runs/{id}/undo"), json!({})).await;
        let undone = end_of(&api, id).await;

        let progress = &undone["progress"]["checks"]["profile_missing"];
        assert_eq!((&progress["restored"], &progress["conflicts"]), (&json!(2), &json!(1)), "{undone}");
        assert_eq!(progress["conflict_rows"], json!(["profiles f4"]), "{undone}");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM profiles WHERE phone = 'theirs'").await, "1");
    }

    /// The monitor heals by itself, gives up where its fix does not stick, and leaves alone what a person ignores.
    async fn the_monitor_heals_and_gives_up(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        look(&api).await;
        let ignored = json!({"pack": "people", "check": "unverified", "key": "2", "reason": "she moved"});
        api.post("/api/v1/findings/ignore", ignored).await;
        set(&api, json!({"mode": "fix"})).await;
        let wait_for = |state: &'static str, count: usize| {
            let api = &api;
            eventually("findings move", move || async move {
                let rows = found(api, &format!("&state={state}")).await;
                (rows.len() == count).then_some(rows)
            })
        };

        wait_for("fixed", 3).await;
        for _ in 0..2 {
            backend.tamper("DELETE FROM profiles WHERE person = 5").await;
            eventually("it is fixed again", || async {
                (backend.ask("SELECT COUNT(*) || '' FROM profiles WHERE person = 5").await == "1").then_some(())
            })
            .await;
        }
        backend.tamper("DELETE FROM profiles WHERE person = 5").await;
        let stuck = wait_for("stuck", 1).await;
        let detail = api.get("/api/v1/checks/people").await;
        let runs = api.get("/api/v1/repair-runs?pack=people").await;
        set(&api, json!({"paused": true, "reason": "lunch"})).await;
        let paused = api.get("/api/v1/checks/people").await;
        let undo = api.send(Method::POST, &format!("/api/v1/repair-runs/{}/undo", runs[0]["id"].as_str().unwrap()), Some(json!({}))).await;

        assert_eq!((&stuck[0]["key"], &stuck[0]["attempts"]), (&json!("5"), &json!(3)), "{stuck:?}");
        assert!(stuck[0]["message"].as_str().unwrap().contains("3 fixes"), "{stuck:?}");
        assert_eq!(backend.ask("SELECT phone FROM profiles WHERE person = 2").await, "+61400000000", "what is ignored is left");
        assert_eq!(detail["view"]["settings"]["mode"], json!("fix"), "{detail}");
        assert_eq!((&runs[0]["kind"], &runs[0]["progress"]["checks"]["profile_missing"]["healed"]), (&json!("monitor"), &json!(5)), "{runs}");
        assert_eq!((&paused["view"]["every_ms"], &paused["view"]["settings"]["paused"]), (&json!(null), &json!("lunch by token:first admin token")), "{paused}");
        assert!(undo.status.is_success(), "{}", undo.body);
    }

    /// What cannot be used is said precisely, and nothing is changed.
    async fn wrong_packs_are_refused_precisely(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let put = |from: &str, to: &str| {
            let body = json!({"source": PACK.replace(from, to)});
            let api = &api;
            async move { api.send(Method::PUT, "/api/v1/checks/people", Some(body)).await }
        };

        let no_key = put("p.id AS key, p.phone AS label, p.platform", "p.id, p.phone AS label").await;
        let no_table = put("FROM people p\n        WHERE NOT", "FROM nobody p\n        WHERE NOT").await;
        let no_column = put("key: person}]\n    - name", "key: nobody}]\n    - name").await;
        let two = put("ON CONFLICT (id) DO NOTHING", "; DELETE FROM people").await;
        let greedy = put("profiles.person) WHERE person = CAST($1 AS BIGINT)", "profiles.person) WHERE $1 <> ''").await;
        let typo = put("severity: error", "severty: error").await;
        let other = api.send(Method::PUT, "/api/v1/checks/others", Some(json!({"source": PACK}))).await;
        let kept = api.get("/api/v1/checks/people").await;

        for (answer, says) in [
            (&no_key, "no column `key`; it gives id, label"),
            (&no_table, "nobody"),
            (&no_column, "no column `nobody`"),
            (&two, "one statement, and these are 2"),
            (&greedy, "the fix changed"),
            (&typo, "unknown key `severty`"),
            (&other, "names another pack"),
        ] {
            assert_eq!(answer.status.as_u16(), 422, "{says}: {}", answer.body);
            assert!(answer.body.to_string().contains(says), "{says}: {}", answer.body);
        }
        assert_eq!(kept["version"], json!(1), "nothing of it was kept");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM people").await, "5");
    }

    /// One row that the database refuses does not keep the others from being healed; it is named.
    async fn one_bad_row_does_not_stop_the_others(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        // Somebody else's profile has the id that the fix would give.
        let pack = PACK.replace("\n          ON CONFLICT (id) DO NOTHING", "");
        backend.tamper("INSERT INTO profiles (id, person, phone) VALUES ('f4', 1, '+61412345612')").await;
        for id in 10..60 {
            backend.tamper(&format!("INSERT INTO people (id, phone) VALUES ({id}, '+614000000{id}')")).await;
        }
        let put = api.send(Method::PUT, "/api/v1/checks/people", Some(json!({"source": pack}))).await;
        assert_eq!(put.status.as_u16(), 422, "the rehearsal meets it: {}", put.body);
        backend.tamper("UPDATE profiles SET id = 'moved' WHERE id = 'f4'").await;
        api.put("/api/v1/checks/people", json!({"source": pack})).await;
        backend.tamper("UPDATE profiles SET id = 'f4' WHERE id = 'moved'").await;

        let run = repair(&api, json!({"dry_run": false, "check": "profile_missing", "batch_size": 20})).await;

        let progress = &run["progress"]["checks"]["profile_missing"];
        assert_eq!((&run["state"], &run["verdict"]), (&json!("done"), &json!("FAIL")), "{run}");
        assert_eq!((&progress["healed"], &progress["refused_count"], &progress["left"]), (&json!(52), &json!(1), &json!(1)), "{run}");
        assert_eq!(progress["refused"][0][0], json!("4"), "{run}");
    }

    /// Killed in the middle of a repair: the next start goes on, every person is healed once, and the journal has each once.
    async fn a_kill_in_the_middle_repairs_nobody_twice(backend: Backend) {
        let (server, api) = serve(&backend).await;
        let many = match &backend.address() {
            address if address.starts_with("postgres") => "FROM generate_series(1000, 2999) AS g(id)".to_owned(),
            _ => "FROM (WITH RECURSIVE g(id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM g WHERE id < 2999) SELECT id FROM g)".to_owned(),
        };
        backend.tamper(&format!("INSERT INTO people (id, phone) SELECT id, '+61' || (400000000 + id) {many}")).await;
        let wish = json!({"dry_run": false, "check": "profile_missing", "batch_size": 10});
        let answer = api.post("/api/v1/checks/people/backfill", wish).await;
        let id = answer["run"]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/repair-runs/{id}");
        let halfway = eventually("it is under way", || async {
            let run = api.get(&path).await;
            let healed = run["progress"]["checks"]["profile_missing"]["healed"].as_u64().unwrap_or(0);
            (healed > 50).then_some(run)
        })
        .await;
        assert_eq!(halfway["state"], json!("running"), "{halfway}");
        server.kill();
        let address = backend.address();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SHOP_DATABASE_URL", address.as_str())]);

        let run = end_of(&server.api(), &id).await;

        let progress = &run["progress"]["checks"]["profile_missing"];
        assert_eq!((&run["verdict"], &progress["healed"], &progress["unhealed"]), (&json!("PASS"), &json!(2_003), &json!(0)), "{run}");
        let repairs = if address.starts_with("postgres") { "switchback.repairs" } else { "switchback_repairs" };
        let journal = format!("SELECT COUNT(*) || '/' || COUNT(DISTINCT key) FROM {repairs} WHERE run = '{id}'");
        assert_eq!(backend.ask(&journal).await, "2003/2003");
        let fixed = backend.ask("SELECT COUNT(*) || '' FROM findings WHERE state = 'fixed'").await;
        assert_eq!(fixed, "2003", "the list of who was touched is whole");
    }

    /// A data source that goes away makes the monitor say so and wait; back again, it goes on.
    async fn a_source_that_goes_away_is_said_and_waited_for(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        set(&api, json!({"mode": "observe"})).await;
        let state = || async { api.get("/api/v1/checks/people").await["view"]["checks"][0]["state"].clone() };
        eventually("it was swept", || async { (state().await["figures"]["found"] == 3).then_some(()) }).await;

        backend.tamper("ALTER TABLE people RENAME TO elsewhere").await;
        let error = eventually("it says so", || async {
            let state = state().await;
            state["error"].as_str().map(str::to_owned)
        })
        .await;
        backend.tamper("ALTER TABLE elsewhere RENAME TO people").await;
        eventually("it goes on", || async { state().await["error"].is_null().then_some(()) }).await;

        assert!(error.contains("people"), "{error}");
    }
}

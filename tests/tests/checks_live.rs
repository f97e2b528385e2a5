//! Consistency checks while life goes on: sign-ups that race, two servers, locks, missing rights; alert rules, playbooks and commands that
//! use them.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both, shop};

/// People have a profile; a look at what is new goes by when they came.
const PACK: &str = "\
kind: CheckPack
metadata: {name: people, title: People are whole}
spec:
  monitor: {every: 1s, event: 1s, full: 1s, cooldown: 0s, observe_for: 0s, share_max: 100%, fixes_per_minute: 100000, fixes_per_sweep: 10000}
  checks:
    - name: profile_missing
      title: A person without a profile
      class: auth_only
      severity: error
      label: text
      detect: |
        SELECT p.id AS key, p.name AS label, p.came AS since FROM people p
        WHERE NOT EXISTS (SELECT 1 FROM profiles f WHERE f.person = p.id)
      population: SELECT count(*) AS count FROM people
      fix:
        per: key
        sql: |
          INSERT INTO profiles (person, made_by) SELECT p.id, 'repair' FROM people p WHERE p.id = CAST($1 AS BIGINT)
          ON CONFLICT (person) DO NOTHING
        tables: [{table: profiles, key: person}]
";

const PLAYBOOK: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: heal, title: Heal people, owner: shop}
spec:
  deadline: 2m
  inputs:
    wanted: {type: string, default: '0'}
  steps:
    - id: mend
      consistency.run: {pack: people, repair: true}
    - id: whole
      consistency.run: {pack: people, check: profile_missing}
    - id: counted
      probe.sql: {source: shop, sql: 'SELECT COUNT(*) FROM profiles', expect: '${{ inputs.wanted }}'}
";

async fn prepare(backend: &Backend, api: &Api) {
    let came = if backend.database_url.is_empty() {
        "TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP"
    } else {
        "TIMESTAMPTZ NOT NULL DEFAULT now()"
    };
    backend
        .tamper(&format!(
            "CREATE TABLE people (id BIGINT PRIMARY KEY, name TEXT NOT NULL, came {came})"
        ))
        .await;
    backend
        .tamper("CREATE TABLE profiles (person BIGINT PRIMARY KEY, made_by TEXT NOT NULL)")
        .await;
    api.put("/api/v1/checks/people", json!({"source": PACK})).await;
    set(api, json!({"source": "shop"})).await;
}

async fn serve(backend: &Backend) -> (Server, Api) {
    let (server, api) = shop::open(backend, "shop", &[("heal.yaml", PLAYBOOK)]).await;
    prepare(backend, &api).await;
    (server, api)
}

async fn set(api: &Api, change: Value) {
    let path = "/api/v1/checks/people/settings";
    let answer = api.send(Method::PATCH, path, Some(change)).await;
    assert!(answer.status.is_success(), "{}", answer.body);
}

async fn people(backend: &Backend, ids: std::ops::Range<u32>) {
    let rows: Vec<String> = ids.map(|id| format!("({id}, 'person {id}')")).collect();
    backend.tamper(&format!("INSERT INTO people (id, name) VALUES {}", rows.join(", "))).await;
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

async fn start(api: &Api) -> String {
    let answer = api.post("/api/v1/checks/people/backfill", json!({"dry_run": false})).await;
    answer["run"]["id"].as_str().unwrap().to_owned()
}

async fn findings(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v1/findings?pack=people{query}")).await;
    page["findings"].as_array().cloned().unwrap_or_default()
}

/// The journal's name in the data source.
fn journal(backend: &Backend) -> &'static str {
    if backend.database_url.is_empty() { "switchback_repairs" } else { "switchback.repairs" }
}

fn figure(metrics: &Value, name: &str) -> Option<String> {
    let text = metrics.as_str()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

on_both! {
    /// People come while the monitor heals and a backfill runs, some of them half: in the end everybody is whole, those that came
    /// whole were never touched, and nobody was touched twice.
    async fn sign_ups_that_race_are_healed_once(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        people(&backend, 1..400).await;
        set(&api, json!({"mode": "fix"})).await;
        let run = start(&api).await;
        for round in 0..30_u32 {
            let first = 1_000 + round * 20;
            people(&backend, first..first + 20).await;
            // Most of them whole, a moment later, or made so by us first.
            let ids: Vec<String> = (first..first + 20).filter(|id| !id.is_multiple_of(3)).map(|id| format!("({id}, 'app')")).collect();
            backend.tamper(&format!("INSERT INTO profiles (person, made_by) VALUES {} ON CONFLICT (person) DO NOTHING", ids.join(", "))).await;
        }
        end_of(&api, &run).await;
        eventually("everybody is whole", || async {
            let left = backend.ask("SELECT COUNT(*) || '' FROM people WHERE NOT EXISTS (SELECT 1 FROM profiles f WHERE f.person = people.id)").await;
            (left == "0").then_some(())
        })
        .await;

        let table = journal(&backend);
        let made = backend.ask("SELECT COUNT(*) || '' FROM profiles WHERE made_by = 'repair'").await;
        let touched = format!("SELECT COUNT(*) || '/' || COUNT(DISTINCT key) FROM {table} WHERE table_name <> ''");
        assert_eq!(backend.ask(&touched).await, format!("{made}/{made}"), "each once");
        let invented = format!("SELECT COUNT(*) || '' FROM {table} r JOIN profiles f ON CAST(f.person AS TEXT) = r.key WHERE f.made_by = 'app' AND r.table_name <> ''");
        assert_eq!(backend.ask(&invented).await, "0", "nobody whole was touched");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM profiles").await, "999");
    }

    /// A rule fires while somebody is broken and is over when everybody is whole; a playbook wants health, repairs, and takes its
    /// repair back when a later step fails.
    async fn rules_and_playbooks_use_checks(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        people(&backend, 1..4).await;
        let rule = "kind: AlertRule\nmetadata: {name: broken, title: People are broken}\nspec:\n  environments: [production]\n  \
                    severity: warning\n  when: {consistency: {pack: people, health_below: 100%}}\n  keep_for: 0s\n";
        api.put("/api/v1/alert-rules/broken", json!({"source": rule})).await;
        set(&api, json!({"mode": "observe"})).await;
        let open = || async {
            let all = api.get("/api/v1/environments/production/alerts?open=true").await;
            all.as_array().unwrap().iter().find(|alert| alert["rule"] == "broken").cloned()
        };

        let alert = eventually("the rule fires", || async { open().await }).await;
        let undone = shop::play(&api, "heal", &json!({"wanted": "77"})).await;
        let taken_back = backend.ask("SELECT COUNT(*) || '' FROM profiles").await;
        let healed = shop::play(&api, "heal", &json!({"wanted": "3"})).await;
        eventually("the rule is over", || async { open().await.is_none().then_some(()) }).await;
        let metrics = eventually("the figures follow", || async {
            let metrics = api.get("/metrics").await;
            (figure(&metrics, "switchback_check_health_ratio{pack=\"people\"}")? == "1.0").then_some(metrics)
        })
        .await;

        assert!(alert["words"].as_str().unwrap().starts_with("0 %"), "{alert}");
        assert_eq!((&undone["state"], taken_back.as_str()), (&json!("compensated"), "0"), "{undone}");
        assert_eq!(healed["state"], json!("succeeded"), "{healed}");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM profiles").await, "3");
        assert!(figure(&metrics, "switchback_check_last_sweep_timestamp_seconds{pack=\"people\"}").is_some(), "{metrics}");
    }

    /// The commands, with exit codes for cron: what fails ends with 4, a repair says PASS, and nobody is asked where nobody is.
    async fn commands_say_it_with_exit_codes(backend: Backend) {
        let (server, api) = serve(&backend).await;
        people(&backend, 1..6).await;
        drop(api);
        let run = |arguments: &[&str]| {
            let output = Command::new(program())
                .env_clear()
                .env("SWITCHBACK_URL", &server.url)
                .env("SWITCHBACK_TOKEN", ADMIN)
                .stdin(Stdio::null())
                .arg("check")
                .args(arguments)
                .output()
                .unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            (output.status.code(), said)
        };

        let broken = run(&["run", "people"]);
        let recent = run(&["recent"]);
        let dry = run(&["backfill", "people/profile_missing", "--dry-run"]);
        let unasked = run(&["backfill", "people"]);
        let report = run(&["report", "people"]);
        let page = run(&["report", "people", "--format", "html"]);
        let repaired = run(&["backfill", "people", "--yes", "--reason", "doors open"]);
        let whole = run(&["verify", "people"]);
        let list = run(&["list"]);
        let runs = run(&["runs"]);
        let id = runs.1.split_whitespace().find(|word| word.starts_with("rep_")).unwrap().to_owned();
        let undone = run(&["undo", &id, "--yes"]);
        let unknown = run(&["run", "poeple"]);

        assert_eq!(broken.0, Some(4), "{}", broken.1);
        assert!(broken.1.contains("WARN") || broken.1.contains("FAIL"), "{}", broken.1);
        assert_eq!(recent.0, Some(4), "{}", recent.1);
        assert!(dry.0 == Some(0) && dry.1.contains("would repair 5"), "{}", dry.1);
        assert!(unasked.0 == Some(2) && unasked.1.contains("--yes"), "{}", unasked.1);
        assert!(report.1.contains("p***1") && !report.1.contains("person 1"), "{}", report.1);
        assert!(page.1.starts_with("<!doctype html>"), "{}", page.1);
        assert!(repaired.0 == Some(0) && repaired.1.contains("PASS  profile_missing: 5 of 5 repaired"), "{}", repaired.1);
        assert_eq!(whole.0, Some(0), "{}", whole.1);
        assert!(list.1.contains("people") && list.1.contains("100 %"), "{}", list.1);
        assert!(undone.1.contains("5 rows put back, 0 left as they are"), "{}", undone.1);
        assert!(unknown.0 == Some(1) && unknown.1.contains("people"), "{}", unknown.1);
    }
}

/// Two servers: one of them sweeps and tells its figures; when it is killed the other goes on.
#[tokio::test]
async fn of_two_servers_one_sweeps() {
    let backend = Backend::postgres().await;
    let (first, api) = serve(&backend).await;
    people(&backend, 1..3).await;
    set(&api, json!({"mode": "fix"})).await;
    let address = backend.address();
    let second =
        Server::start_on(&backend, "127.0.0.1:0", &[("SHOP_DATABASE_URL", address.as_str())]);
    let other = second.api();
    let whole = |count: &'static str| {
        let backend = &backend;
        eventually("they are healed", move || async move {
            (backend.ask("SELECT COUNT(*) || '' FROM profiles").await == count).then_some(())
        })
    };
    whole("2").await;
    let told = |metrics: &Value| figure(metrics, "switchback_check_health_ratio").is_some();
    let (here, there) = (told(&api.get("/metrics").await), told(&other.get("/metrics").await));

    first.kill();
    people(&backend, 3..5).await;
    whole("4").await;

    assert_eq!((here, there), (true, false), "one of them");
    eventually("the other tells", || async { told(&other.get("/metrics").await).then_some(()) })
        .await;
}

/// A lock that is not given is waited for and said; given, the repair goes on to its end.
#[tokio::test]
async fn a_lock_is_waited_for() {
    use sqlx::Connection as _;

    let backend = Backend::postgres().await;
    let (_server, api) = serve(&backend).await;
    people(&backend, 1..50).await;
    let mut connection = sqlx::PgConnection::connect(&backend.database_url).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE profiles IN SHARE MODE").execute(&mut *tx).await.unwrap();
    let id = start(&api).await;
    let path = format!("/api/v1/repair-runs/{id}");

    let said = eventually("it says so", || async {
        let run = api.get(&path).await;
        run["progress"]["message"].as_str().map(str::to_owned)
    })
    .await;
    tx.rollback().await.unwrap();
    let run = end_of(&api, &id).await;

    assert!(said.contains("a lock was not given"), "{said}");
    assert_eq!((&run["state"], &run["verdict"]), (&json!("done"), &json!("PASS")), "{run}");
}

/// Who asks for a look and hangs up in its middle takes nothing from what is known: what a person ignores is left alone.
#[tokio::test]
async fn who_hangs_up_in_a_look_changes_nothing() {
    use sqlx::Connection as _;

    let backend = Backend::postgres().await;
    let (server, api) = serve(&backend).await;
    people(&backend, 1..4).await;
    set(&api, json!({"paused": true, "reason": "looks are asked for"})).await;
    api.post("/api/v1/checks/people/run", json!({})).await;
    let ignored = json!({"pack": "people", "check": "profile_missing", "key": "2", "reason": "a test account"});
    api.post("/api/v1/findings/ignore", ignored).await;
    let mut connection = sqlx::PgConnection::connect(&backend.database_url).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE profiles IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await.unwrap();
    let waiting = |wanted: &'static str| {
        let backend = &backend;
        eventually("the look waits, or ends", move || async move {
            let count = "SELECT COUNT(*) || '' FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                         WHERE NOT l.granted AND d.datname = current_database()";
            (backend.ask(count).await == wanted).then_some(())
        })
    };

    let other = server.api();
    let look =
        tokio::spawn(async move { other.post("/api/v1/checks/people/run", json!({})).await });
    waiting("1").await;
    let is_looking = !look.is_finished();
    look.abort();
    waiting("0").await;
    tx.rollback().await.unwrap();
    let dry = api.post("/api/v1/checks/people/backfill", json!({})).await;

    assert!(is_looking, "it hung up in the middle");
    assert_eq!(dry["preview"]["would_repair"], json!(2), "{dry}");
}

/// A right that is missing is said in the database's words; nothing is changed, the place is kept, and with the right the run goes on.
#[tokio::test]
async fn a_missing_right_stops_the_run_where_it_is() {
    let backend = Backend::postgres().await;
    let (_server, api) = serve(&backend).await;
    people(&backend, 1..20).await;
    backend
        .tamper(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.person > 10 THEN \
             RAISE insufficient_privilege USING MESSAGE = 'permission denied for table profiles'; END IF; RETURN NEW; END $$",
        )
        .await;
    backend.tamper("CREATE TRIGGER refuse BEFORE INSERT ON profiles FOR EACH ROW EXECUTE FUNCTION refuse()").await;
    let body = json!({"dry_run": false, "batch_size": 5});
    let answer = api.post("/api/v1/checks/people/backfill", body).await;
    let id = answer["run"]["id"].as_str().unwrap().to_owned();

    let failed = end_of(&api, &id).await;
    let healed = backend.ask("SELECT COUNT(*) || '' FROM profiles").await;
    backend.tamper("DROP TRIGGER refuse ON profiles").await;
    api.post(&format!("/api/v1/repair-runs/{id}/resume"), json!({})).await;
    let done = end_of(&api, &id).await;

    assert_eq!(failed["state"], json!("failed"), "{failed}");
    assert!(
        failed["progress"]["message"].as_str().unwrap().contains("permission denied"),
        "{failed}"
    );
    assert_eq!(healed, "10", "whole batches");
    let progress = &done["progress"]["checks"]["profile_missing"];
    assert_eq!((&done["verdict"], &progress["healed"]), (&json!("PASS"), &json!(19)), "{done}");
    assert_eq!(
        backend.ask("SELECT COUNT(*) || '/' || COUNT(DISTINCT key) FROM switchback.repairs").await,
        "19/19"
    );
}

on_both! {
    /// Rows that the run made and that others refer to by now stay: deleting them would delete, or be refused by, what is not ours.
    async fn an_undo_leaves_rows_that_others_refer_to(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        people(&backend, 1..4).await;
        let id = start(&api).await;
        end_of(&api, &id).await;
        for (table, rule) in [("orders", "ON DELETE CASCADE"), ("notes", "")] {
            let columns = format!("id BIGINT PRIMARY KEY, person BIGINT NOT NULL REFERENCES profiles (person) {rule}");
            backend.tamper(&format!("CREATE TABLE {table} ({columns})")).await;
        }
        backend.tamper("INSERT INTO orders (id, person) VALUES (1, 2)").await;
        backend.tamper("INSERT INTO notes (id, person) VALUES (1, 3)").await;

        api.post(&format!("/api/v1/repair-runs/{id}/undo"), json!({})).await;
        let undone = end_of(&api, &id).await;

        let progress = &undone["progress"]["checks"]["profile_missing"];
        assert_eq!((&undone["state"], &progress["restored"], &progress["conflicts"]), (&json!("undone"), &json!(1), &json!(2)), "{undone}");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM orders").await, "1", "an order of theirs");
        assert_eq!(backend.ask("SELECT COUNT(*) || '/' || SUM(person) FROM profiles").await, "2/5");
    }

    /// What a person ignores is left by a repair, too, and is not held against it.
    async fn a_repair_leaves_what_is_ignored(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        people(&backend, 1..4).await;
        api.post("/api/v1/checks/people/run", json!({})).await;
        let ignored = json!({"pack": "people", "check": "profile_missing", "key": "2", "reason": "a test account"});
        api.post("/api/v1/findings/ignore", ignored).await;

        let dry = api.post("/api/v1/checks/people/backfill", json!({})).await;
        let id = start(&api).await;
        let run = end_of(&api, &id).await;

        assert_eq!(dry["preview"]["would_repair"], json!(2), "{dry}");
        assert_eq!((&run["verdict"], &run["progress"]["checks"]["profile_missing"]["healed"]), (&json!("PASS"), &json!(2)), "{run}");
        assert_eq!(backend.ask("SELECT COUNT(*) || '/' || SUM(person) FROM profiles").await, "2/4");
    }

    /// The server dies after a fix is in the app's database and before it is on our record: the next one learns it from the journal, and
    /// touches nobody again.
    async fn what_the_monitor_fixed_last_is_learned_from_the_journal(backend: Backend) {
        let (server, api) = serve(&backend).await;
        // The record of a run cannot be written: the state that a crash between the two leaves.
        let on = trap(&backend, "no_record", "INSERT ON check_runs", "ABORT").await;
        people(&backend, 1..4).await;
        set(&api, json!({"mode": "fix"})).await;
        eventually("they are healed", || async {
            (backend.ask("SELECT COUNT(*) || '' FROM profiles").await == "3").then_some(())
        })
        .await;
        let unrecorded = findings(&api, "").await;
        server.kill();
        backend.tamper(&format!("DROP TRIGGER no_record{on}")).await;

        let address = backend.address();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SHOP_DATABASE_URL", address.as_str())]);
        let api = server.api();
        let fixed = eventually("the record follows", || async {
            let fixed = findings(&api, "&state=fixed").await;
            (fixed.len() == 3).then_some(fixed)
        })
        .await;

        assert!(unrecorded.iter().all(|one| one["state"] != "fixed"), "{unrecorded:?}");
        let run = fixed[0]["run_id"].as_str().unwrap_or_default().to_owned();
        assert!(run.starts_with("monitor-people-"), "{fixed:?}");
        for one in &fixed {
            assert_eq!((&one["fixed_by"], &one["run_id"], &one["attempts"]), (&json!("monitor"), &json!(run), &json!(1)), "{one}");
            assert!(one["label"].as_str().unwrap().starts_with("p***"), "who it was: {one}");
        }
        let run = api.get(&format!("/api/v1/repair-runs/{run}")).await;
        assert_eq!(run["progress"]["checks"]["profile_missing"]["healed"], json!(3), "{run}");
        let touched = format!("SELECT COUNT(*) || '/' || COUNT(DISTINCT key) FROM {}", journal(&backend));
        assert_eq!(backend.ask(&touched).await, "3/3");
    }

    /// A million people, two thousand of them half through, and others who sign up meanwhile; the server is killed in the middle of a
    /// batch. All are found and healed, each once, nobody else is touched, and the undo leaves the tables as they were.
    async fn a_million_people_keep_what_is_theirs(backend: Backend) {
        const BROKEN: &str = "(id * 2654435761) % 4294967296 % 500 = 7";
        const DIGEST: &str = "SELECT COUNT(*) || '/' || SUM(person * 2654435761 % 1000003 * LENGTH(made_by)) FROM profiles WHERE person <= 1000000";
        let (server, api) = serve(&backend).await;
        api.put("/api/v1/checks/people", json!({"source": PACK.replace("full: 1s", "full: 1m")})).await;
        let many = match backend.address() {
            address if address.starts_with("postgres") => "generate_series(1, 1000000) AS g(id)",
            _ => "(WITH RECURSIVE g(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM g WHERE id < 1000000) SELECT id FROM g) AS g",
        };
        backend.tamper(&format!("INSERT INTO people (id, name, came) SELECT id, 'person ' || id, '2020-01-01 00:00:00' FROM {many}")).await;
        backend.tamper(&format!("INSERT INTO profiles (person, made_by) SELECT id, 'app' FROM people WHERE NOT ({BROKEN})")).await;
        backend.tamper("CREATE INDEX people_came ON people (came)").await;
        backend.tamper("ANALYZE").await;
        let broken = backend.ask(&format!("SELECT COUNT(*) || '' FROM people WHERE {BROKEN}")).await;
        let before = backend.ask(DIGEST).await;

        let id = start(&api).await;
        let path = format!("/api/v1/repair-runs/{id}");
        eventually("it is under way", || async {
            let run = api.get(&path).await;
            (run["progress"]["checks"]["profile_missing"]["healed"].as_u64()? > 200).then_some(())
        })
        .await;
        server.kill();
        let address = backend.address();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SHOP_DATABASE_URL", address.as_str())]);
        let api = server.api();
        people(&backend, 2_000_000..2_000_020).await;
        backend.tamper("INSERT INTO profiles (person, made_by) SELECT id, 'app' FROM people WHERE id >= 2000010").await;
        let run = end_of(&api, &id).await;
        set(&api, json!({"mode": "fix"})).await;
        people(&backend, 3_000_000..3_000_005).await;
        eventually("everybody is whole", || async {
            let left = backend.ask("SELECT COUNT(*) || '' FROM people WHERE NOT EXISTS (SELECT 1 FROM profiles f WHERE f.person = people.id)").await;
            (left == "0").then_some(())
        })
        .await;
        let table = journal(&backend);
        let touched = backend.ask(&format!("SELECT COUNT(*) || '/' || COUNT(DISTINCT key) FROM {table}")).await;
        let invented = backend.ask(&format!("SELECT COUNT(*) || '' FROM {table} r JOIN profiles f ON CAST(f.person AS TEXT) = r.key WHERE f.made_by = 'app'")).await;
        set(&api, json!({"mode": "observe"})).await;
        api.post(&format!("{path}/undo"), json!({})).await;
        let undone = end_of(&api, &id).await;

        assert_eq!(run["verdict"], json!("PASS"), "{run}");
        let all = broken.parse::<u64>().unwrap() + 15;
        assert_eq!((touched, invented.as_str()), (format!("{all}/{all}"), "0"));
        assert_eq!((undone["state"].as_str(), backend.ask(DIGEST).await), (Some("undone"), before), "{undone}");
    }

    /// A trigger that keeps rows keeps them from an undo as well, which says so.
    async fn an_undo_says_what_a_trigger_keeps(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        people(&backend, 1..4).await;
        let id = start(&api).await;
        end_of(&api, &id).await;
        trap(&backend, "keep", "DELETE ON profiles", "IGNORE").await;

        api.post(&format!("/api/v1/repair-runs/{id}/undo"), json!({})).await;
        let undone = end_of(&api, &id).await;

        let progress = &undone["progress"]["checks"]["profile_missing"];
        assert_eq!((&undone["state"], &progress["restored"], &progress["conflicts"]), (&json!("undone"), &json!(0), &json!(3)), "{undone}");
        assert_eq!(backend.ask("SELECT COUNT(*) || '' FROM profiles").await, "3");
    }
}

/// Refuses (`ABORT`) or skips (`IGNORE`) what is done to a table; what its removal says after its name.
async fn trap(backend: &Backend, name: &str, when: &str, how: &str) -> String {
    let (_, table) = when.split_once(" ON ").unwrap();
    if backend.database_url.is_empty() {
        let raise = if how == "ABORT" { "RAISE(ABORT, 'a test')" } else { "RAISE(IGNORE)" };
        let text = format!("CREATE TRIGGER {name} BEFORE {when} BEGIN SELECT {raise}; END");
        backend.tamper(&text).await;
        return String::new();
    }
    let body = if how == "ABORT" { "RAISE EXCEPTION 'a test'" } else { "RETURN NULL" };
    let text = format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$"
    );
    backend.tamper(&text).await;
    let text =
        format!("CREATE TRIGGER {name} BEFORE {when} FOR EACH ROW EXECUTE FUNCTION {name}()");
    backend.tamper(&text).await;
    format!(" ON {table}")
}

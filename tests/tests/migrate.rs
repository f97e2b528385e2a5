//! Migrations of the app's data, taken up and down by playbooks: once, proved, and back again without a difference.

use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

/// Up, then a look that may fail.
const CHANGE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: change, title: Change the notes, owner: team-app}
spec:
  deadline: 1m
  inputs:
    count: {type: string, default: '2'}
  steps:
    - id: up
      sql.migrate: {source: app, up: sql/notes_up.sql, down: sql/notes_down.sql, verify: sql/notes_verify.sql}
    - id: counted
      probe.sql: {source: app, sql: SELECT COUNT(*) FROM notes, expect: '${{ inputs.count }}'}
";
const FILES: [(&str, &str); 4] = [
    ("change.yaml", CHANGE),
    (
        "sql/notes_up.sql",
        "ALTER TABLE notes ADD COLUMN loud TEXT; UPDATE notes SET loud = upper(note);",
    ),
    ("sql/notes_down.sql", "ALTER TABLE notes DROP COLUMN loud;"),
    (
        "sql/notes_verify.sql",
        "-- whole\nSELECT id FROM notes WHERE loud IS NULL;\nSELECT id FROM notes WHERE loud <> upper(note)",
    ),
];
const NOTES: &str = "SELECT string_agg(CAST(id AS TEXT) || note, ',' ORDER BY id) FROM notes";
const LOUD: &str = "SELECT string_agg(COALESCE(loud, '-'), ',' ORDER BY id) FROM notes";
/// People whose names were split.
const SPLIT: &str = "SELECT string_agg(CAST(id AS TEXT) || COALESCE(first_name, '-') || '|' || last_name, ',' \
                     ORDER BY id) FROM example_people";
const FULL: &str =
    "SELECT string_agg(CAST(id AS TEXT) || full_name, ',' ORDER BY id) FROM example_people";

/// The app's own database, beside the server's, and a server that may write to it.
async fn serve(backend: &Backend) -> (Server, Api, Backend) {
    let app = if backend.database_url.is_empty() {
        let app = Backend::sqlite();
        std::fs::write(app.folder.path().join("switchback.db"), "").unwrap();
        app
    } else {
        Backend::postgres().await
    };
    app.tamper("CREATE TABLE notes (id BIGINT PRIMARY KEY, note TEXT NOT NULL)").await;
    app.tamper("INSERT INTO notes VALUES (1, 'a'), (2, 'b')").await;
    app.tamper(
        "CREATE TABLE example_people (id BIGINT PRIMARY KEY, first_name TEXT, last_name TEXT)",
    )
    .await;
    app.tamper(
        "INSERT INTO example_people VALUES (1, 'Ada', 'Lovelace'), (2, 'Jan', 'van Dyk'), (3, NULL, 'Plato'), \
         (4, 'Mary Ann', 'Evans'), (5, '', 'Odd '), (6, 'É ', 'Ü')",
    )
    .await;
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(runbooks.join("sql")).unwrap();
    for (name, text) in FILES {
        std::fs::write(runbooks.join(name), text).unwrap();
    }
    let (runbooks, address) = (runbooks.display().to_string(), app.address());
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("APP_DATABASE_URL", address.as_str())];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    let settings =
        json!({"name": "app", "credentials": "env:APP_DATABASE_URL", "access": "read_write"});
    api.put("/api/v1/data-sources/app", json!({"settings": settings})).await;
    (server, api, app)
}

async fn ended(api: &Api, run: &Value) -> Value {
    let id = run["id"].as_str().unwrap().to_owned();
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{id}")).await;
        let over = detail["run"]["finished_at"].is_number() || detail["state"] == "parked";
        over.then_some(detail)
    })
    .await
}

fn body(inputs: &Value) -> Value {
    let reason = "names were split at the wrong place";
    json!({"environment": "production", "reason": reason, "inputs": inputs})
}

async fn play(api: &Api, playbook: &str, inputs: Value) -> Value {
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body(&inputs)).await;
    ended(api, &run).await
}

async fn undo(api: &Api, run: &Value) -> Value {
    let path = format!("/api/v1/runs/{}/undo", run["run"]["id"].as_str().unwrap());
    ended(api, &api.post(&path, json!({"reason": "the app needs it after all"})).await).await
}

/// What the log says that a step did.
fn says(run: &Value, step: &str, phase: &str) -> String {
    let rows = run["log"].as_array().unwrap().iter();
    let mut found =
        rows.filter(|row| row["step_id"] == json!(step) && row["phase"] == json!(phase));
    found.next_back().map(|row| row["detail"].to_string()).unwrap_or_default()
}

on_both! {
    /// The shipped playbook: backed up, proved, reversed, nobody lost; undone it leaves every value as it was.
    async fn a_data_migration_is_reversed_and_that_is_undone(backend: Backend) {
        let (_server, api, app) = serve(&backend).await;
        let before = app.ask(SPLIT).await;
        let inputs = json!({"reason": "names were split at the wrong place"});

        let dry = api.post("/api/v1/playbooks/data-migration-reversal/preview", body(&inputs)).await;
        assert_eq!(app.ask(SPLIT).await, before, "a dry run changes nothing");
        let run = play(&api, "data-migration-reversal", inputs.clone()).await;
        let full = app.ask(FULL).await;
        let again = play(&api, "data-migration-reversal", inputs).await;
        let undone = undo(&api, &run).await;

        assert!(dry.to_string().contains("12 rows would change"), "{dry}");
        if !backend.database_url.is_empty() {
            assert!(dry.to_string().contains("`example_people` is locked: nobody can read it"), "{dry}");
        }
        assert_eq!(run["state"], json!("succeeded"), "{run}");
        assert_eq!(full, "1Ada Lovelace,2Jan van Dyk,3Plato,4Mary Ann Evans,5 Odd ,6É  Ü");
        assert!(says(&run, "reverse", "done").contains("`example_names_split` is taken back: 12 rows"), "{run}");
        assert!(says(&run, "preserve.people", "verified").contains('6'), "{run}");
        assert!(says(&again, "reverse", "done").contains("was not applied; nothing was done"), "{again}");
        assert_eq!(undone["state"], json!("succeeded"), "{undone}");
        assert_eq!(app.ask(SPLIT).await, before, "the names come apart where they were joined");
        let listed = api.get("/api/v1/data-sources/app/backups").await;
        assert!(listed.as_array().unwrap().iter().all(|one| one["verified_at"].is_number()), "{listed}");
    }

    /// Applied once whoever asks; a later failure takes it back; `verify` is asked in the same transaction.
    async fn a_migration_is_applied_once_or_not_at_all(backend: Backend) {
        let (_server, api, app) = serve(&backend).await;
        let plain = app.ask(NOTES).await;

        let failed = play(&api, "change", json!({"count": "3"})).await;
        assert_eq!(failed["state"], json!("compensated"), "{failed}");
        assert!(says(&failed, "up", "undone").contains("`notes` is taken back"), "{failed}");
        let columns = if backend.database_url.is_empty() {
            "SELECT CAST(COUNT(*) AS TEXT) FROM pragma_table_info('notes')"
        } else {
            "SELECT CAST(COUNT(*) AS TEXT) FROM information_schema.columns WHERE table_name = 'notes'"
        };
        assert_eq!((app.ask(NOTES).await, app.ask(columns).await), (plain, "2".to_owned()));

        let done = play(&api, "change", json!({})).await;
        assert_eq!(done["state"], json!("succeeded"), "{done}");
        assert_eq!(app.ask(LOUD).await, "A,B");
        let dry = api.post("/api/v1/playbooks/change/preview", body(&json!({}))).await;
        assert!(dry.to_string().contains("it is applied already: nothing would be done"), "{dry}");
        let twice = play(&api, "change", json!({"count": "3"})).await;
        assert!(says(&twice, "up", "done").contains("was applied already; nothing was done"), "{twice}");
        assert_eq!(app.ask(LOUD).await, "A,B", "what another run applied is not taken back");

        app.tamper("UPDATE notes SET loud = 'x' WHERE id = 2").await;
        let broken = play(&api, "change", json!({})).await;
        assert_eq!(broken["state"], json!("compensated"), "{broken}");
        let why = says(&broken, "up", "failed");
        assert!(why.contains("says that `notes` is applied") && why.contains("line 3 gives 1 row"), "{why}");
        assert_eq!(app.ask(LOUD).await, "A,x", "nothing was guessed");
    }

    /// What `verify` does not prove is rolled back, and a mistake in a script is told with its place.
    async fn a_migration_that_does_not_hold_leaves_nothing(backend: Backend) {
        let (server, api, app) = serve(&backend).await;
        let folder = backend.folder.path().join("runbooks/sql");
        let plain = app.ask(NOTES).await;
        let lint = async |from: &str, to: &str| {
            let text = json!({"text": CHANGE.replace(from, to)});
            api.post("/api/v1/playbooks/lint", text).await["problems"].to_string()
        };

        let unproved = lint(", verify: sql/notes_verify.sql", "").await;
        let one_way = lint(", down: sql/notes_down.sql", "").await;
        let filled = lint("up: sql/notes_up.sql", "name: n, up_sql: 'DROP TABLE ${{ inputs.count }}'").await;
        std::fs::write(folder.join("notes_up.sql"), "ALTER TABLE notes ADD COLUMN loud TEXT").unwrap();
        drop(server);
        let (server, api) = restart(&backend, &app);
        let half = play(&api, "change", json!({})).await;
        let dry = api.post("/api/v1/playbooks/change/preview", body(&json!({}))).await;
        std::fs::write(folder.join("notes_up.sql"), "SELECT 1;\nALTER TABLE nots ADD COLUMN loud TEXT").unwrap();
        drop(server);
        let (_server, api) = restart(&backend, &app);
        let wrong = play(&api, "change", json!({})).await;

        assert!(unproved.contains("`verify` is missing: nothing would prove it"), "{unproved}");
        assert!(one_way.contains("`down` is missing: nothing would take it back"), "{one_way}");
        assert!(filled.contains("values do not go into the text of SQL"), "{filled}");
        for told in [says(&half, "up", "failed"), dry.to_string()] {
            assert!(told.contains("after `up`, verify: the query at line 2 gives 2 rows"), "{told}");
        }
        let told = says(&wrong, "up", "failed");
        assert!(told.contains("up: statement 2 at line 2: "), "{told}");
        assert_eq!(app.ask(NOTES).await, plain);
        app.tamper("ALTER TABLE notes ADD COLUMN loud TEXT").await; // it is not there
    }
}

/// The server again, with the same data and the runbooks as they are now.
fn restart(backend: &Backend, app: &Backend) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks").display().to_string();
    let address = app.address();
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("APP_DATABASE_URL", address.as_str())];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

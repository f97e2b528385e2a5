//! Taking flags over from elsewhere, and keeping them as files: `import`, `export`, `apply`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use switchback_core::Ruleset;
use switchback_formats::drift::{Person, Source, document};
use switchback_formats::{flagd, launchdarkly};
use switchback_tests::interrupt::before_first_change;
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Backend, Server, on_both};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/formats/tests/samples");
const LAUNCHDARKLY: &str = include_str!("../../server/formats/tests/samples/launchdarkly.json");
const FLAGD: &str = include_str!("../../server/formats/tests/samples/flagd.json");

/// Runs a command against a server; its exit code, and what it printed.
fn call(server: &Server, words: &str, path: &Path) -> (i32, String) {
    call_at(&server.url, words, path)
}

fn call_at(url: &str, words: &str, path: &Path) -> (i32, String) {
    let mut command = Command::new(program());
    command.env_clear().current_dir(std::env::temp_dir());
    command.env("SWITCHBACK_URL", url).env("SWITCHBACK_TOKEN", ADMIN);
    let path = path.display().to_string();
    let place = |word: &str| if word == "PATH" { path.clone() } else { word.to_owned() };
    let output = command.args(words.split(' ').map(place)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

#[track_caller]
fn good(server: &Server, words: &str, path: &Path) -> String {
    let (code, text) = call(server, words, path);
    assert_eq!(code, 0, "{words}: {text}");
    text
}

fn sample(name: &str) -> std::path::PathBuf {
    Path::new(SAMPLES).join(name)
}

/// Every file under a folder, with its text.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for kind in ["flags", "segments"] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{kind}/{}", path.file_name().unwrap().display());
            found.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    found
}

async fn revision(server: &Server) -> Value {
    server.api().get("/api/v1/environments/staging").await["revision"].clone()
}

on_both! {
    /// A dry run shows what would be done; doing it decides as the source does.
    async fn an_import_decides_as_its_source_does(backend: Backend) {
        let server = Server::start(&backend);
        let before = revision(&server).await;

        let text = good(&server, "import launchdarkly PATH --env staging --drift 2000", &sample("launchdarkly.json"));
        assert!(text.contains("drift: 0 of 8000 decisions differ"), "{text}");
        assert!(text.contains("left out: dates") && text.contains("create flag checkout"), "{text}");
        assert!(text.contains("nothing is changed"), "{text}");
        assert_eq!(revision(&server).await, before);

        let text = good(&server, "import launchdarkly PATH --env staging --apply --reason move", &sample("launchdarkly.json"));
        assert!(text.contains("4 changes made in staging"), "{text}");
        let text = good(&server, "import launchdarkly PATH --env staging --apply", &sample("launchdarkly.json"));
        assert!(text.contains("0 to create, 0 to update") && text.contains("4 unchanged"), "{text}");

        let imported = launchdarkly::import(LAUNCHDARKLY).unwrap();
        let served: BTreeMap<String, Value> = {
            let rows = server.api().get("/api/v1/environments/staging/flags").await;
            let rows = rows["items"].as_array().unwrap().clone();
            rows.into_iter().map(|row| (row["flag"]["key"].as_str().unwrap().to_owned(), row)).collect()
        };
        let mut stored = document(&imported);
        stored.flags.clear();
        for flag in &imported.flags {
            let row = &served[&flag.key];
            let own = json!({"key": flag.key, "project": "default", "kind": row["flag"]["kind"],
                "value_type": row["flag"]["value_type"], "salt": row["flag"]["salt"], "state": row["state"]});
            stored.flags.insert(flag.key.clone(), serde_json::from_value(own).unwrap());
        }
        let ruleset = Ruleset::compile(&stored);
        let mut source = launchdarkly::Source::new(LAUNCHDARKLY).unwrap();
        for n in 0..1000 {
            let mut person = Person { now_ms: 1_790_000_000_000, ..Person::default() };
            person.fields.insert("user_id".to_owned(), json!(format!("user-{n}")));
            person.fields.insert("company".to_owned(), json!(format!("company-{}", n % 37)));
            person.fields.insert("country".to_owned(), json!(["de", "us", "dk"][n % 3]));
            person.fields.insert("age".to_owned(), json!(n % 40));
            for flag in &imported.flags {
                let (own, key) = (ruleset.evaluate(&flag.key, &person.context()), &flag.key);
                assert_eq!(source.decide(key, &person).as_ref(), Some(own.value), "{key} for {person:?}");
                if n % 100 == 0 {
                    let context = json!({"user_id": person.fields["user_id"], "country": person.fields["country"],
                        "properties": {"company": person.fields["company"], "age": person.fields["age"]}});
                    let url = format!("/api/v1/environments/staging/flags/{key}/explain");
                    let explained = server.api().post(&url, context).await;
                    assert_eq!(explained["value"], *own.value, "{explained}");
                }
            }
        }
    }

    /// A key that means something else is shown, and changed only when told.
    async fn another_meaning_needs_to_be_told(backend: Backend) {
        let server = Server::start(&backend);
        server.api().post("/api/v1/flags", json!({"key": "plain", "state": {"enabled": false}})).await;

        let (code, text) = call(&server, "import flagd PATH --env staging --apply", &sample("flagd.json"));
        assert!(code == 1 && text.contains("--overwrite"), "{text}");
        assert!(text.contains("update flag plain") && text.contains("enabled: false -> true"), "{text}");
        let all = server.api().get("/api/v1/environments/staging/flags?text=new_checkout").await;
        assert_eq!(all["items"], json!([]), "nothing was written");

        good(&server, "import flagd PATH --env staging --apply --overwrite", &sample("flagd.json"));
        let plain = server.api().get("/api/v1/environments/staging/flags/plain").await;
        assert_eq!(plain["state"]["enabled"], true);
        let elsewhere = server.api().get("/api/v1/environments/production/flags/new_checkout").await;
        assert_eq!(elsewhere["state"]["enabled"], false, "other environments stay off");
        assert_eq!(flagd::import(FLAGD).unwrap().flags.len(), 9);
    }

    /// An export is the same every time, and makes the same again where there was nothing.
    async fn an_export_makes_the_same_again(backend: Backend) {
        let server = Server::start(&backend);
        good(&server, "import flagsmith PATH --env staging --apply", &sample("flagsmith.json"));
        let (first, second, third) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

        good(&server, "export --env staging PATH", first.path());
        good(&server, "export --env staging PATH", second.path());
        assert_eq!(files(first.path()), files(second.path()));
        assert!(files(first.path()).contains_key("segments/pro-users.yaml"));
        let text = good(&server, "apply PATH --env staging --dry-run --exit-code", first.path());
        assert!(text.contains("0 to create, 0 to update, 0 to describe"), "{text}");

        let other = Backend::sqlite();
        let empty = Server::start(&other);
        let (code, text) = call(&empty, "apply PATH --env staging --dry-run --exit-code", first.path());
        assert!(code == 2 && text.contains("create flag banner"), "{text}");
        let (code, text) = call(&empty, "apply PATH --env staging", first.path());
        assert!(code == 2 && text.contains("--yes"), "{text}");
        good(&empty, "apply PATH --env staging --yes", first.path());
        good(&empty, "export --env staging PATH", third.path());
        assert_eq!(files(first.path()), files(third.path()));
    }

    /// What is exported in another system's language is imported where there was nothing, and decides the same.
    async fn another_languages_file_makes_the_same_again(backend: Backend) {
        let server = Server::start(&backend);
        let folder = tempfile::tempdir().unwrap();
        for system in ["unleash", "flagd"] {
            let (first, second) = (folder.path().join(system), folder.path().join("again"));
            let (from, to) = (Backend::sqlite(), Backend::sqlite());
            let (from, to) = (Server::start(&from), Server::start(&to));
            let there = if system == "flagd" { &server } else { &from };
            let import = format!("import {system} PATH --env staging --apply --drift 2000");
            let export = format!("export --format {system} --env staging --project default PATH");
            good(there, &import, &sample(&format!("{system}.json")));

            let text = good(there, &export, &first);
            assert!(text.contains("flags in"), "{text}");
            let text = good(&to, &import, &first);
            assert!(text.contains("drift: 0 of"), "{text}");

            let text = good(&to, &import, &first);
            assert!(text.contains("0 to create, 0 to update"), "{text}");
            good(&to, &export, &second);
            let read = |path: &Path| std::fs::read_to_string(path).unwrap();
            assert_eq!(good(&to, &export.replace("PATH", "-"), &second), read(&second), "the same, piped");
            if system == "unleash" {
                assert_eq!(read(&first), read(&second));
            }
        }
    }

    /// What the other language cannot say is refused by name, or left out by name when told so.
    async fn what_cannot_be_said_is_not_exported(backend: Backend) {
        let server = Server::start(&backend);
        server.api().post("/api/v1/projects", json!({"key": "shop", "name": "Shop"})).await;
        let fine = json!({"enabled": true, "rules": [{"id": "r", "percent": 12.5}]});
        server.api().post("/api/v1/flags", json!({"key": "fine", "project": "shop", "state": fine})).await;
        server.api().post("/api/v1/flags", json!({"key": "plain", "project": "shop", "state": {"enabled": true}})).await;
        server.api().post("/api/v1/flags", json!({"key": "other", "state": {"enabled": true}})).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flags.json");

        for (system, reason) in [("unleash", "whole percents"), ("flagd", "session")] {
            let export = format!("export --format {system} --env staging --project shop PATH");
            let (code, text) = call(&server, &export, &file);
            assert_eq!(code, 1, "{text}");
            assert!(text.contains("flag `fine`") && text.contains(reason), "{text}");
            assert!(text.contains("nothing was written") && !file.exists(), "{text}");

            let text = good(&server, &format!("{export} --skip-unsupported"), &file);
            assert!(text.contains("left out: flag `fine`") && text.contains("1 flags in"), "{text}");
            let written = std::fs::read_to_string(&file).unwrap();
            assert!(written.contains("\"plain\"") && !written.contains("\"fine\""), "{written}");
            assert!(!written.contains("\"other\""), "of another project: {written}");
            std::fs::remove_file(&file).unwrap();
        }
    }

    /// Only `--prune` archives, and the plan says what.
    async fn nothing_is_archived_unless_told(backend: Backend) {
        let server = Server::start(&backend);
        good(&server, "import flagd PATH --env staging --apply", &sample("flagd.json"));
        let folder = tempfile::tempdir().unwrap();
        good(&server, "export --env staging PATH", folder.path());
        std::fs::remove_file(folder.path().join("flags/heads.yaml")).unwrap();
        let off = folder.path().join("flags/plain.yaml");
        let text = std::fs::read_to_string(&off).unwrap();
        std::fs::write(&off, text.replace("enabled: true", "enabled: false")).unwrap();

        let text = good(&server, "apply PATH --env staging --yes", folder.path());
        assert!(text.contains("heads has no file; it stays"), "{text}");
        assert!(text.contains("enabled: true -> false") && text.contains("1 changes made"), "{text}");
        let heads = server.api().get("/api/v1/environments/staging/flags/heads").await;
        assert_eq!(heads["flag"]["archived_at"], Value::Null);
        let text = good(&server, "apply PATH --env staging --yes --prune --reason gone", folder.path());
        assert!(text.contains("archive flag heads, in every environment"), "{text}");
        let heads = server.api().get("/api/v1/environments/staging/flags?text=heads").await;
        assert_eq!(heads["items"], json!([]));
    }

    /// `--prune` deletes segments, too, once no flag uses them; the plan says which.
    async fn a_segment_goes_when_nothing_uses_it(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        for key in ["used", "left", "foreign"] {
            let segment = json!({"key": key, "constraints": [{"field": "plan", "operator": "IN", "values": ["pro"]}]});
            let url = format!("/api/v1/environments/staging/segments/{key}");
            api.put(&url, json!({"segment": segment, "revision": 0, "reason": "for the test"})).await;
        }
        let on = |segments: &[&str]| json!({"enabled": true, "rules": [{"id": "r", "segments": segments}]});
        for (key, segments) in [("kept", &["used"][..]), ("gone", &["used", "left"]), ("elsewhere", &["foreign"])] {
            let project = if key == "elsewhere" { "other" } else { "default" };
            if key == "elsewhere" {
                api.post("/api/v1/projects", json!({"key": "other", "name": "Other"})).await;
            }
            api.post("/api/v1/flags", json!({"key": key, "project": project, "state": {"enabled": false}})).await;
            let url = format!("/api/v1/environments/staging/flags/{key}");
            let seen = api.get(&url).await["revision"].clone();
            let body = json!({"state": on(segments), "revision": seen, "reason": "for the test"});
            api.put(&format!("{url}/state"), body).await;
        }
        let folder = tempfile::tempdir().unwrap();
        good(&server, "export --env staging --project default PATH", folder.path());
        std::fs::remove_file(folder.path().join("flags/gone.yaml")).unwrap();
        std::fs::remove_file(folder.path().join("segments/left.yaml")).unwrap();

        let text = good(&server, "apply PATH --env staging --yes", folder.path());
        assert!(text.contains("segment left has no file; it stays") && text.contains("gone has no file"), "{text}");
        let text = good(&server, "apply PATH --env staging --dry-run --prune", folder.path());
        assert!(text.contains("archive flag gone") && text.contains("delete segment left, as no flag uses it"), "{text}");
        assert!(text.contains("segment foreign has no file; it stays"), "another project's flag uses it: {text}");
        assert!(text.contains("1 to archive, 1 to delete"), "{text}");

        let text = good(&server, "apply PATH --env staging --yes --prune --reason gone", folder.path());
        assert!(text.contains("archived flag gone") && text.contains("deleted segment left"), "{text}");
        let left = api.get("/api/v1/environments/staging/segments").await;
        let keys: Vec<&str> = left["items"].as_array().unwrap().iter().map(|row| row["segment"]["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["foreign", "used"]);
        let text = good(&server, "apply PATH --env staging --yes --prune", folder.path());
        assert!(text.contains("0 to archive, 0 to delete"), "{text}");
    }

    /// What somebody else changes between the plan and its doing is refused and named; the rest is done.
    async fn a_change_in_between_is_not_overwritten(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        for key in ["first", "second", "third"] {
            api.post("/api/v1/flags", json!({"key": key, "state": {"enabled": false}})).await;
        }
        let folder = tempfile::tempdir().unwrap();
        good(&server, "export --env staging PATH", folder.path());
        for key in ["first", "second", "third"] {
            let file = folder.path().join(format!("flags/{key}.yaml"));
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("enabled: false", "enabled: true")).unwrap();
        }
        let state = |key: &str| format!("/api/v1/environments/staging/flags/{key}");
        let (by_hand, seen) = (server.api(), api.get(&state("second")).await["revision"].clone());
        let url = before_first_change(server.address(), move || {
            let (api, seen) = (by_hand.clone(), seen.clone());
            async move {
                let body = json!({"state": {"enabled": false, "impressions": true}, "revision": seen, "reason": "by hand"});
                api.put("/api/v1/environments/staging/flags/second/state", body).await;
            }
        })
        .await;

        let (code, text) = {
            let path = folder.path().to_owned();
            let work = move || call_at(&url, "apply PATH --env staging --yes --reason merged", &path);
            tokio::task::spawn_blocking(work).await.unwrap()
        };

        assert_eq!(code, 1, "{text}");
        assert!(text.contains("2 of 3 changes were made; not flag `second`: "), "{text}");
        assert!(text.contains("updated flag first") && text.contains("updated flag third"), "{text}");
        for (key, enabled) in [("first", true), ("second", false), ("third", true)] {
            assert_eq!(api.get(&state(key)).await["state"]["enabled"], enabled, "{key}");
        }
        assert_eq!(api.get(&state("second")).await["state"]["impressions"], true, "what was done by hand stands");
        let text = good(&server, "apply PATH --env staging --yes --reason again", folder.path());
        assert!(text.contains("updated flag second"), "the next run sees it: {text}");
    }

    /// A typo names file and line, and nothing is changed.
    async fn a_typo_changes_nothing(backend: Backend) {
        let server = Server::start(&backend);
        good(&server, "import flagd PATH --env staging --apply", &sample("flagd.json"));
        let folder = tempfile::tempdir().unwrap();
        good(&server, "export --env staging PATH", folder.path());
        let before = revision(&server).await;
        let plain = folder.path().join("flags/plain.yaml");
        let text = std::fs::read_to_string(&plain).unwrap();
        std::fs::write(&plain, text.replace("enabled: true", "enabled: false")).unwrap();
        let limit = folder.path().join("flags/limit.yaml");
        let text = std::fs::read_to_string(&limit).unwrap();
        let line = text.lines().position(|line| line.contains("operator:")).unwrap() + 1;
        std::fs::write(&limit, text.replace("operator:", "operater:")).unwrap();

        let (code, text) = call(&server, "apply PATH --env staging --yes", folder.path());

        assert_eq!(code, 1, "{text}");
        assert!(text.contains(&format!("flags/limit.yaml:{line}:")), "{text}");
        assert!(text.contains("operater") && text.contains("operator"), "{text}");
        assert_eq!(revision(&server).await, before);
    }
}

//! What the compiler does not check about this repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that may be longer than 600 lines, and why.
const LONG: &[(&str, &str)] = &[];
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file that git tracks or would track, with its text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let read =
        |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let found: Vec<_> = names.lines().filter_map(read).collect();
    assert!(found.len() > 100, "git lists the repository's files");
    found
}

fn sources() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".rs"))
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn every_source_says_what_it_is_for() {
    let found: Vec<_> = sources()
        .filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#![doc"))
        .map(|(name, _)| name)
        .collect();
    none("files without a first line that says what they are for", &found);
}

#[test]
fn files_are_short() {
    let long = |(name, text): (String, String)| {
        let lines = text.lines().count();
        let excused = LONG.iter().any(|(file, _)| *file == name);
        (lines > LINES_MAX && !excused).then(|| format!("{name}: {lines} lines"))
    };
    let kinds = |(name, _): &(String, String)| {
        [".rs", ".html", ".css", ".js"].iter().any(|ending| name.ends_with(ending))
    };
    none(
        "split these by what they are for",
        &files().into_iter().filter(kinds).filter_map(long).collect::<Vec<_>>(),
    );
}

#[test]
fn layers_use_only_what_is_below_them() {
    let rules: &[(&str, &[&str])] = &[
        ("sdk/core/src/", &["tokio", "sqlx", "actix", "SystemTime", "Instant"]),
        ("server/app/src/notify/", &["crate::App", "crate::announcements", "crate::outbox"]),
        ("server/app/src/config/", &["crate::App", "crate::live"]),
        ("server/playbook/src/", &["SystemTime"]),
    ];
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (layer, forbidden) in rules.iter().filter(|(layer, _)| name.starts_with(layer)) {
            for (number, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim().starts_with("//"))
            {
                let hit = forbidden.iter().find(|word| line.contains(*word));
                found.extend(
                    hit.map(|word| {
                        format!("{name}:{}: {layer} knows nothing of {word}", number + 1)
                    }),
                );
            }
        }
    }
    none("imports that break the architecture", &found);
}

/// All that lies in these folders is in the binary, and assets are served to anybody.
#[test]
fn only_what_is_meant_is_embedded() {
    let meant = |name: &str| match name.rsplit_once('/') {
        Some(("templates/assets", file)) => {
            [".css", ".js", ".svg"].iter().any(|end| file.ends_with(end))
        }
        Some(("runbooks" | "runbooks/incidents" | "runbooks/alerts" | "runbooks/checks", file)) => {
            file.ends_with(".yaml")
        }
        Some(("runbooks/sql", file)) => file.ends_with(".sql"),
        _ => !(name.starts_with("templates/assets/") || name.starts_with("runbooks/")),
    };
    let odd = files().into_iter().map(|(name, _)| name).filter(|name| !meant(name));
    none("these are embedded and should not be", &odd.collect::<Vec<_>>());
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |dialect: &str| -> BTreeSet<String> {
        let folder = std::fs::read_dir(root().join("migrations").join(dialect)).unwrap();
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));

    let opened = std::fs::read_to_string(root().join("server/store/src/migrate.rs")).unwrap();
    let unlisted: Vec<_> = names("sqlite")
        .into_iter()
        .filter(|file| !opened.contains(&format!("\"{}\"", file.trim_end_matches(".sql"))))
        .collect();
    none("migrations missing from STEPS in migrate.rs", &unlisted);
}

#[test]
fn every_setting_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(switchback_tests::server::program())
        .env_clear()
        .current_dir(folder.path())
        .args(["config", "check"])
        .output()
        .unwrap();
    let operations = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let keys = String::from_utf8(output.stdout).unwrap();
    let missing: Vec<_> = keys
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter(|(key, _)| !operations.contains(&format!("`{key}`")))
        .map(|(key, _)| key.to_owned())
        .collect();
    assert!(keys.contains("listen"), "{keys}");
    none("settings that docs/operations.md does not name", &missing);
}

#[test]
fn texts_are_clean() {
    let hosts = ["crates", "npmjs", "pypi", "pythonhosted"]
        .map(|host| format!("{host}.{}", if host == "crates" { "io" } else { "org" }));
    let mut found = Vec::new();
    for (name, text) in files() {
        let is_lock = name.ends_with("Cargo.lock");
        let is_licence = name.starts_with("LICENSE");
        for (number, line) in text.lines().enumerate() {
            let mut say = |what: &str| found.push(format!("{name}:{}: {what}", number + 1));
            if line.ends_with([' ', '\t']) && !is_licence {
                say("space at the end of the line");
            }
            if !is_lock && hosts.iter().any(|host| line.contains(host.as_str())) {
                say("the host name of a package registry");
            }
            if name.ends_with(".rs") && !name.ends_with("tidy.rs") && line.contains("todo!(") {
                say("something unfinished");
            }
        }
    }
    none("mend these", &found);
}

#[test]
fn the_frames_in_the_protocol_parse() {
    let text = std::fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let frames: Vec<&str> = text.lines().filter(|line| line.starts_with("{\"type\"")).collect();
    assert!(frames.len() >= 9, "the examples are there");
    for frame in frames {
        let server = serde_json::from_str::<switchback_core::wire::ServerFrame>(frame);
        let client = serde_json::from_str::<switchback_core::wire::ClientFrame>(frame);
        assert!(server.is_ok() || client.is_ok(), "{frame}\n{server:?}\n{client:?}");
    }
}

#[tokio::test]
async fn the_playbook_in_the_documents_is_good() {
    let text = std::fs::read_to_string(root().join("docs/playbooks.md")).unwrap();
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let server = switchback_tests::Server::start(&switchback_tests::Backend::sqlite());

    let body = serde_json::json!({"text": yaml});
    let found = server.api().post("/api/v1/playbooks/lint", body).await;

    assert_eq!(found["problems"], serde_json::json!([]), "{found}");
}

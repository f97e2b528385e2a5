//! The command line: readable lines, exit codes, first starts that go wrong.

use std::process::{Command, Output};

use switchback_core::wire::{ClientFrame, ServerFrame};
use switchback_tests::server::{ADMIN, SERVER, program};
use switchback_tests::stream::hello;
use switchback_tests::{Backend, Server, Stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn command() -> Command {
    let mut command = Command::new(program());
    command.env_clear().current_dir(std::env::temp_dir());
    command
}

fn error_of(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one readable line, not {text}");
    text
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchback.toml");
    std::fs::write(&file, "listn = \"127.0.0.1:1\"\n").unwrap();

    let output = command().arg("--config").arg(&file).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let line = error_of(&output);
    assert!(
        line.contains("unknown key `listn`") && line.contains("did you mean `listen`?"),
        "{line}"
    );
}

#[test]
fn config_check_masks_secrets() {
    let url = "postgres://me:hunter2@db.example/switchback";

    let output = command().args(["config", "check", "--database-url", url]).output().unwrap();

    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        text.contains("postgres://me:****@db.example/switchback") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(text.contains("stream.heartbeat_ms = 15000"), "{text}");
}

#[test]
fn a_taken_port_is_one_readable_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();

    let output =
        command().args(["--listen", &address, "--data-dir"]).arg(folder.path()).output().unwrap();

    let line = error_of(&output);
    assert!(line.contains(&format!("{address} is taken")) && line.contains("--listen"), "{line}");
}

#[test]
fn a_folder_that_cannot_be_written_is_one_readable_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();

    let output = command()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(file.join("data"))
        .output()
        .unwrap();

    let line = error_of(&output);
    assert!(line.contains("cannot be made") && line.contains("--data-dir"), "{line}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let backend = Backend::sqlite();
    let _first = Server::start(&backend);

    let output = command()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(backend.folder.path())
        .output()
        .unwrap();

    let line = error_of(&output);
    assert!(line.contains("another Switchback runs on"), "{line}");
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let backend = Backend::sqlite();
    assert_eq!(Server::start(&backend).terminate(), Some(0));
    backend
        .tamper(
            "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
             VALUES (9999, 'from the future', CURRENT_TIMESTAMP, TRUE, x'00', 1)",
        )
        .await;

    let output = command()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(backend.folder.path())
        .output()
        .unwrap();

    let line = error_of(&output);
    assert!(line.contains("newer release"), "{line}");
}

#[tokio::test]
async fn a_playbook_runs_from_the_command_line() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let run = |arguments: &[&str]| {
        let mut command = command();
        command.env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN).args(arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code().unwrap(),
            format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
        )
    };

    let (code, text) = run(&[
        "playbook",
        "run",
        "auth-rollback",
        "--env",
        "production",
        "--dry-run",
        "--reason",
        "sign-in is broken",
    ]);
    assert!(
        code == 0 && text.contains("nothing is changed") && text.contains("Let everybody in"),
        "{text}"
    );
    let says =
        ["condition not_already: it holds", "enabled: true -> false", "connected clients: 0"];
    assert!(says.iter().all(|line| text.contains(line)), "{text}");
    let (code, text) = run(&[
        "playbook",
        "run",
        "auth-rollback",
        "--env",
        "production",
        "--reason",
        "sign-in is broken",
    ]);
    assert!(code == 0 && text.contains("auth-rollback: succeeded in"), "{text}");
    let (code, text) =
        run(&["playbook", "run", "nothing-like-it", "--reason", "sign-in is broken"]);
    assert!(code == 1 && text.contains("does not exist"), "{text}");
    let (code, text) = run(&["log", "verify"]);
    assert!(code == 0 && text.contains("unbroken"), "{text}");
    backend.tamper("UPDATE rollback_log SET actor = 'nobody' WHERE seq = 2").await;
    let (code, text) = run(&["log", "verify"]);
    assert!(code == 8 && text.contains("row 2"), "{text}");
    let (code, text) = run(&["flag", "off", "auth_rollout", "--reason", "by hand"]);
    assert!(code == 0 && text.contains("0 of 0 clients have it"), "{text}");

    let (code, text) = {
        let mut command = command();
        let output = command
            .args(["flag", "list", "--url", "http://127.0.0.1:1", "--token", "t"])
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(code == 3 && text.contains("cannot be reached"), "{text}");
}

/// While a run waits for the clients, the command line says how many have what they are to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_says_how_many_clients_have_acknowledged() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let mut app = Stream::connect(&server.url, SERVER, hello("slow")).await;
    let mut child = tokio::process::Command::from(command())
        .env("SWITCHBACK_URL", &server.url)
        .env("SWITCHBACK_TOKEN", ADMIN)
        .args(["playbook", "run", "auth-rollback", "--reason", "sign-in is broken"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().expect("the run goes on");

    while !next().await.contains("0 % of 1 clients have acknowledged revision") {}
    let epoch = loop {
        match app.news().await {
            ServerFrame::Full(document) => break document.epoch,
            ServerFrame::Delta(delta) => break delta.epoch,
            _ => {}
        }
    };
    let path = "/api/v1/environments/production/convergence";
    let revision = server.api().get(path).await["revision"].as_u64().unwrap();
    app.send(ClientFrame::Ack { epoch, revision }).await;

    while !next().await.contains("auth-rollback: succeeded in") {}
    assert!(child.wait().await.unwrap().success());
}

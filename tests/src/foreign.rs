//! Another system's SDK, unmodified, in a Node process of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const WITHIN: Duration = Duration::from_mins(1);

/// A running SDK.
pub struct Foreign {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    asked: u64,
}

impl Foreign {
    /// Starts `polling`, `delta`, `streaming`, `proxy`, `proxy-polling`, `ofrep-server` or `ofrep-web` and waits until it is ready.
    pub async fn start(kind: &str, url: &str, token: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
        let mut child = Command::new("node")
            .args(["client.mjs", kind, url, token])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts: run `cargo xtask test`, which installs what is missing");
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self { _child: child, input, lines, asked: 0 };
        client.wait_for("ready").await;
        client
    }

    /// The next line of this event; others are passed over.
    pub async fn wait_for(&mut self, event: &str) -> Value {
        self.line(event, |line| line["event"] == event).await
    }

    /// The next line of this event that was said after a moment (UTC milliseconds, as `at`).
    pub async fn wait_for_after(&mut self, event: &str, after: f64) -> Value {
        let is_after = |line: &Value| line["at"].as_f64().is_some_and(|at| at + 1.0 >= after);
        self.line(event, |line| line["event"] == event && is_after(line)).await
    }

    /// Asks for the decisions of users `0..users`, flag by flag; a flag is named with its type.
    pub async fn decisions(&mut self, flags: &[(&str, &str)], users: usize) -> Vec<Vec<Value>> {
        self.asked += 1;
        let id = self.asked;
        let question = json!({"id": id, "flags": flags, "users": users});
        self.input.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        let answer = self.line("the answer", |line| line["id"] == id).await;
        serde_json::from_value(answer["decisions"].clone()).unwrap()
    }

    async fn line(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut passed = Vec::new();
        let waiting = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line =
                    line.unwrap_or_else(|| panic!("the SDK ended before {what}: {passed:?}"));
                let line: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if is_it(&line) {
                    return line;
                }
                passed.push(line);
            }
        };
        tokio::time::timeout(WITHIN, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
    }
}

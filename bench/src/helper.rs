//! A second process of the same program, spoken with in lines. It ends when its input does.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on says where and ends"
)]

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longer than anything that is waited for here takes.
const LINE_WITHIN: Duration = Duration::from_mins(1);

/// A running helper; killed when dropped.
pub struct Helper {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    /// Starts this program again, with other arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program starts again");
        let input = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        Self { child, input, lines: BufReader::new(output).lines() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the helper runs")
    }

    /// Sends it a line.
    pub async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).await.expect("the helper listens");
    }

    /// The next line that it says.
    pub async fn next(&mut self) -> String {
        let line = tokio::time::timeout(LINE_WITHIN, self.lines.next_line());
        line.await
            .expect("the helper says something within a minute")
            .expect("the helper's output can be read")
            .expect("the helper goes on")
    }

    /// Ends it at once, as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the helper runs");
    }

    /// Lets it end, and waits for that.
    pub async fn end(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        let _ = tokio::time::timeout(LINE_WITHIN, child.wait()).await;
    }
}

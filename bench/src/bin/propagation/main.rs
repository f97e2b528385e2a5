//! From a change to other systems' SDKs, unmodified, in Node processes of their own: `propagation [--markdown]`. The time runs
//! from before the request that changes a flag until the SDK says that it has new flags.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on says where and ends; time is what it measures"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchback_bench::measure::percentile;
use switchback_bench::server::{BROWSER, SDK, Server};
use switchback_bench::table::{number, render};
use switchback_tests::foreign::Foreign;

const ROUNDS: usize = 100;

#[tokio::main]
async fn main() {
    let markdown = std::env::args().any(|argument| argument == "--markdown");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    let head = ["SDK", "p50 ms", "p99 ms", "slowest ms", "aim p99 ms"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (kind, token, name) in [
        ("streaming", SDK, "unleash-client, streaming"),
        ("ofrep-web", BROWSER, "ofrep-web-provider, events"),
    ] {
        let mut client = Foreign::start(kind, &server.url, token).await;
        let mut delays = Vec::new();
        for round in 0..ROUNDS {
            // Each round is a change of its own; the SDKs gather what comes within 50 ms.
            tokio::time::sleep(Duration::from_millis(120)).await;
            let before = now_ms();
            server.set_flag("auth_enabled", round % 2 == 1).await;
            let line = client.wait_for_after("changed", before).await;
            delays.push(
                line.get("at").and_then(serde_json::Value::as_f64).expect("the SDK says when")
                    - before,
            );
        }
        delays.sort_by(f64::total_cmp);
        table.push(vec![
            name.to_owned(),
            number(percentile(&delays, 0.50)),
            number(percentile(&delays, 0.99)),
            number(delays.last().copied().unwrap_or_default()),
            "100".to_owned(),
        ]);
    }
    server.end().await;
    print!("{}", render(&table, markdown));
}

fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1_000.0
}

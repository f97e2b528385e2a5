//! From harm to its end at an app: a flag makes logins fail, a guard sees it and puts the flag back, and the app's SDK decides anew.
//! Each trial has a server, an SDK and a guard of its own; many go on at once.
//!
//! `detection [--markdown] [--trials N] [--rounds N]`. Users come as one would meet them: eight a second, half of them with the flag.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use switchback_bench::measure::percentile;
use switchback_bench::server::{ENVIRONMENT, SDK, Server};
use switchback_bench::table::{number, render};
use switchback_core::Context;
use switchback_sdk::{AuthEvent, AuthEventKind, Switchback};
use switchback_watch::draw::Draw;
use tokio::time::{MissedTickBehavior, interval};

const FLAG: &str = "auth_rollout";
const TRIALS: usize = 24;
const ROUNDS: usize = 2;
/// 40 in a tick of five seconds: 20 with the flag and 20 without.
const USERS_PER_SECOND: u64 = 8;
const HEALTHY: f64 = 0.02;
/// Traffic before the harm begins, in seconds.
const BEFORE_S: u64 = 60;
/// When nobody waits any longer, in seconds.
const AT_MOST_S: u64 = 300;
/// Users whose decisions say whether the flag is off.
const WITNESSES: u64 = 50;

/// What became of a trial.
enum Outcome {
    /// Put back before there was harm.
    FalseAlarm,
    /// Seconds from the harm until the app's SDK has it off.
    Ended(f64),
    /// Not within the time.
    Missed,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|word| word == name)?;
        arguments.get(place + 1)?.parse::<usize>().ok()
    };
    let trials = after("--trials").unwrap_or(TRIALS).max(1);
    let rounds = after("--rounds").unwrap_or(ROUNDS).max(1);
    let head = [
        "failures of 20 + 20 users in 5 s",
        "trials",
        "before there was harm",
        "not within 5 min",
        "median s",
        "p95 s",
        "aim p95 s",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (harmed, aim) in [(0.12, "150"), (0.50, "45")] {
        let mut outcomes = Vec::new();
        for round in 0..rounds {
            let seed = |trial: usize| {
                (harmed * 100.0) as u64 * 1_000_000 + (round * trials + trial) as u64
            };
            outcomes.extend(join_all((0..trials).map(|trial| run(harmed, seed(trial)))).await);
        }
        let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|one| of(one)).count() as f64;
        let mut took: Vec<f64> = outcomes
            .iter()
            .filter_map(|one| match one {
                Outcome::Ended(seconds) => Some(*seconds),
                Outcome::Missed => Some(f64::INFINITY),
                Outcome::FalseAlarm => None,
            })
            .collect();
        took.sort_by(f64::total_cmp);
        table.push(vec![
            format!("2 % to {:.0} %", harmed * 100.0),
            number(outcomes.len() as f64),
            number(count(|one| matches!(one, Outcome::FalseAlarm))),
            number(count(|one| matches!(one, Outcome::Missed))),
            number(percentile(&took, 0.5)),
            number(percentile(&took, 0.95)),
            aim.to_owned(),
        ]);
    }
    println!("{}", render(&table, arguments.iter().any(|word| word == "--markdown")));
}

async fn run(harmed: f64, seed: u64) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    let flag = format!("{ENVIRONMENT}/flags/{FLAG}");
    let revision = server.get(&flag).await.get("revision").cloned();
    let state = json!({"enabled": true, "rules": [{"id": "everyone", "percent": 50}]});
    let body = json!({"state": state, "revision": revision, "reason": "half of the users"});
    server.send(Method::PUT, &format!("{flag}/state"), Some(body)).await;
    let body = json!({"settings": {"flag": FLAG}, "reason": "watch the new login"});
    server.send(Method::POST, &format!("{ENVIRONMENT}/guards"), Some(body)).await;
    let app = Switchback::builder()
        .url(&server.url)
        .token(SDK)
        .app("shop")
        .build()
        .await
        .expect("the SDK starts");

    let mut draw = Draw::new(seed);
    let mut users = 0;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(USERS_PER_SECOND).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut harm_since: Option<Instant> = None;
    loop {
        ticks.tick().await;
        users += 1;
        let has = |user: &str| app.is_enabled(FLAG, &Context::new().user_id(user));
        let user = format!("user-{seed}-{users}");
        let chance = if has(&user) && harm_since.is_some() { harmed } else { HEALTHY };
        let is_failure = draw.unit() < chance;
        let kind =
            if is_failure { AuthEventKind::LoginFailure } else { AuthEventKind::LoginSuccess };
        app.auth_event(AuthEvent::new(kind, &Context::new().user_id(&user)));
        let is_off = !(0..WITNESSES).any(|n| has(&format!("witness-{n}")));
        match harm_since {
            None if is_off => return Outcome::FalseAlarm,
            None if began.elapsed().as_secs() >= BEFORE_S => harm_since = Some(Instant::now()),
            Some(since) if is_off => return Outcome::Ended(since.elapsed().as_secs_f64()),
            Some(since) if since.elapsed().as_secs() >= AT_MOST_S => return Outcome::Missed,
            _ => {}
        }
    }
}

//! A day of 1,000 events a second as the roll-ups keep it, and what a dashboard asks of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PER_SECOND: u64 = 1_000;
/// Events of the day.
pub const EVENTS: u64 = PER_SECOND * 86_400;
/// Widths of cells in seconds, and for how many seconds back they are kept within a day.
const WIDTHS: [(u64, u64); 4] = [(10, 6 * 3_600), (60, 86_400), (600, 86_400), (3_600, 86_400)];
/// Each dimension with its number of values: every kind of event is counted by each of them in every cell.
const DIMENSIONS: [(&str, u64); 7] = [
    ("all", 1),
    ("latency", 40),
    ("error", 20),
    ("platform", 4),
    ("version", 10),
    ("country", 50),
    ("flag:auth_rollout", 2),
];
const KINDS: [&str; 8] = [
    "login_success",
    "login_failure",
    "token_refresh",
    "token_refresh_failure",
    "token_check",
    "signup",
    "mfa_challenge",
    "rls_violation",
];

#[expect(clippy::disallowed_methods, reason = "the day ends now, by the real clock")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Fills the roll-ups: what that many events leave, however many they were.
pub fn statements(is_postgres: bool) -> Vec<String> {
    let now = now_s();
    let kinds = KINDS.map(|kind| format!("SELECT '{kind}' AS kind")).join(" UNION ALL ");
    let mut all = Vec::new();
    for (width, kept) in WIDTHS {
        for (dimension, values) in DIMENSIONS {
            let (from, until) = ((now - kept) / width, now / width);
            let value = match (dimension, is_postgres) {
                ("all", _) => "''".to_owned(),
                ("latency", _) => "CAST(v.i + 30 AS TEXT)".to_owned(),
                _ => "'value ' || CAST(v.i AS TEXT)".to_owned(),
            };
            let each = width * PER_SECOND / KINDS.len() as u64 / values + 1;
            all.push(format!(
                "WITH RECURSIVE c(i) AS (SELECT CAST({from} AS BIGINT) UNION ALL SELECT i + 1 FROM c WHERE i < {until}), \
                 v(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM v WHERE i + 1 < {values}), k AS ({kinds}) \
                 INSERT INTO auth_counts (environment, width_s, dimension, at, kind, value, n) \
                 SELECT 'production', {width}, '{dimension}', c.i * {width} * 1000, k.kind, {value}, {each} FROM c, k, v"
            ));
        }
    }
    let at = now * 1_000;
    all.push(format!(
        "INSERT INTO auth_sources (environment, source, first_at, last_at, last_event_at, taken, duplicates, refused) \
         VALUES ('production', 'token:app', {}, {at}, {at}, {EVENTS}, 0, 0)",
        at - 86_400_000
    ));
    all.push("ANALYZE".to_owned());
    all
}

/// What the pages of the watch ask, over a quarter of an hour and over the whole day.
pub fn questions() -> Vec<(String, String)> {
    let until = now_s() * 1_000;
    let windows = [("15 minutes", until - 900_000), ("a day", until - 86_400_000)];
    let mut all = Vec::new();
    for (name, from) in windows {
        let window = format!("from={from}&until={until}");
        all.push((format!("events: rates and shares, {name}"), format!("auth-summary?{window}")));
        for (what, dimension) in
            [("chart", "all"), ("latencies", "latency"), ("chart by country", "country")]
        {
            let path = format!("auth-series?{window}&dimension={dimension}");
            all.push((format!("events: {what}, {name}"), path));
        }
        let logins = "dimension=country&kinds=login_success,login_failure";
        let path = format!("auth-series?{window}&{logins}");
        all.push((format!("events: chart of logins by country, {name}"), path));
    }
    all
}

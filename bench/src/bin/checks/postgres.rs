//! What a PostgreSQL server costs.

use sqlx::postgres::PgPool;

/// CPU time of the server's processes until now, in seconds, by Linux's `/proc`: those that live, and those that ended.
pub async fn cpu_seconds(pool: &PgPool) -> f64 {
    const TICKS: f64 = 100.0;
    let folder: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(pool)
        .await
        .expect("PostgreSQL answers");
    let mark = format!("{folder}/postmaster.pid");
    let mark = std::fs::read_to_string(mark).expect("the server runs on this machine");
    let parent = mark.lines().next().unwrap_or_default().trim().to_owned();
    let mut ticks = 0_u64;
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name in brackets: state, parent, …, user time (12th), system time, those of ended children.
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let is_self = head.split(' ').next() == Some(parent.as_str());
        if is_self || fields.get(1) == Some(&parent.as_str()) {
            let last = if is_self { 15 } else { 13 };
            let times = fields.get(11..last).unwrap_or_default();
            ticks += times.iter().filter_map(|text| text.parse::<u64>().ok()).sum::<u64>();
        }
    }
    ticks as f64 / TICKS
}

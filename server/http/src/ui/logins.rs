//! The overview's tile of logins: how many of the last quarter of an hour succeeded.

use switchback_app::AppError;
use switchback_app::watch::figures::{SILENT_MS, SeriesWish, failures_heard_at};
use switchback_watch::event::EventKind;

use super::sparks::polylines;
use super::visit::Visit;
use super::words;

/// Points of the line: minutes.
const POINTS: usize = 15;
/// From so many attempts on, a share that is bad is said to be.
const ATTEMPTS_MIN: u64 = 50;
/// The share of failures that is bad.
const BAD: f64 = 0.1;

/// Logins that succeed.
pub struct Logins {
    /// Their share, or a dash.
    pub success: String,
    /// The figure's class.
    pub tone: &'static str,
    pub detail: String,
    /// The share by the minute, as lines.
    pub parts: Vec<String>,
    /// The lines in words.
    pub says: String,
}

impl Logins {
    /// `None` when nobody logged in whom we would know of.
    pub async fn of(visit: &Visit, environment: &str) -> Result<Option<Self>, AppError> {
        let window = visit.window(None, None)?;
        let kinds = vec![EventKind::LoginSuccess, EventKind::LoginFailure];
        let wish = SeriesWish { window, dimension: "all".to_owned(), kinds };
        let series = visit.auth_series(&visit.who, environment, &wish).await?;
        let each = series.at.len().div_ceil(POINTS).max(1);
        let by_minute = |kind: EventKind| -> Vec<u64> {
            let mut sums = vec![0; series.at.len().div_ceil(each)];
            for row in series.counts.iter().filter(|row| row.kind == kind.word()) {
                for (sum, cells) in sums.iter_mut().zip(row.n.chunks(each)) {
                    *sum += cells.iter().sum::<u64>();
                }
            }
            sums
        };
        let (good, bad) = (by_minute(EventKind::LoginSuccess), by_minute(EventKind::LoginFailure));
        let (well, failed) = (good.iter().sum::<u64>(), bad.iter().sum::<u64>());
        let all = well + failed;
        if all == 0 {
            return Ok(None);
        }
        let sources = visit.list_auth_sources(&visit.who, environment).await?;
        if failures_heard_at(&sources).is_none_or(|at| at < window.from - SILENT_MS) {
            return Ok(Some(Self {
                success: "–".to_owned(),
                tone: "",
                detail: format!("{} succeeded; nobody tells of failures", words::number(well)),
                parts: Vec::new(),
                says: "The share is not known".to_owned(),
            }));
        }
        let share = |(good, bad): (&u64, &u64)| {
            (good + bad > 0).then(|| *good as f64 / (good + bad) as f64)
        };
        let shares: Vec<Option<f64>> = good.iter().zip(&bad).map(share).collect();
        let least = shares.iter().flatten().copied().fold(1.0, f64::min);
        let is_bad = all >= ATTEMPTS_MIN && failed as f64 >= BAD * all as f64;
        let least = words::share_percent((least * 10_000.0) as u64, 10_000);
        Ok(Some(Self {
            success: words::share_percent(well, all),
            tone: if is_bad { "bad" } else { "" },
            detail: format!("of {}", words::count(all, "attempt")),
            parts: polylines(&shares, 1.0),
            says: format!("At least {least} in each minute"),
        }))
    }
}

//! Too little of something that should be there, or nothing at all: the quietest outage there is.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::maths::ln_gamma;

/// The probability of so few events below which a drop is named.
pub const ALPHA: f64 = 1e-6;

/// From this mean on, the tail is bounded instead of added up.
const MEAN_MAX: f64 = 1e10;

/// The probability of at most `n` events where `mean` are usual (Poisson), its natural logarithm.
///
/// Nothing for a mean that is no positive number. The terms are added from `n` downwards, each smaller than
/// the one before; above a mean of 1e10 Chernoff's bound `exp(n - mean + n ln(mean / n))` stands in, which is
/// never too small, so that it cannot make a false alarm.
pub fn log_tail(n: u64, mean: f64) -> Option<f64> {
    if !(mean.is_finite() && mean > 0.0) {
        return None;
    }
    let count = n as f64;
    if count >= mean + 10.0 * mean.sqrt() + 40.0 {
        return Some(0.0);
    }
    if mean > MEAN_MAX {
        let bound = if n == 0 { -mean } else { count - mean + count * (mean / count).ln() };
        return Some(if count >= mean { 0.0 } else { bound.min(0.0) });
    }
    let (mut sum, mut term, mut k) = (1.0_f64, 1.0_f64, count);
    while k > 0.0 {
        term *= k / mean;
        sum += term;
        k -= 1.0;
        if term < sum * 1e-17 && k < mean {
            break;
        }
    }
    let first = count * mean.ln() - mean - ln_gamma(count + 1.0);
    Some((first + sum.ln()).min(0.0))
}

/// Whether so few events are a drop; nothing without a usual mean.
///
/// `mean` is what is usual for that window at that time of the week. Means under 13.8 never alarm: there,
/// silence alone is likelier than [`ALPHA`].
pub fn is_drop(n: u64, mean: f64) -> Option<bool> {
    log_tail(n, mean).map(|tail| tail < ALPHA.ln())
}

/// When something was last heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    last: Option<Millis>,
}

impl Heartbeat {
    /// Something came, stamped `at`; by our clock it is `now`. A stamp from the future counts as now, so that a
    /// wrong clock elsewhere cannot hide a silence.
    pub fn beat(&mut self, at: Millis, now: Millis) {
        let at = at.min(now);
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    /// How long it has been silent, in milliseconds; nothing before the first sign of life.
    pub fn silent_ms(&self, now: Millis) -> Option<Millis> {
        self.last.map(|last| now.saturating_sub(last).max(0))
    }

    /// Whether it has been silent for longer than `allowed_ms`. What was never heard of is silent since
    /// `watched_since`.
    pub fn is_absent(&self, allowed_ms: Millis, watched_since: Millis, now: Millis) -> bool {
        let silent =
            self.silent_ms(now).unwrap_or_else(|| now.saturating_sub(watched_since).max(0));
        silent > allowed_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_poisson() {
        let exact = |n: u32, mean: f64| -> f64 {
            let terms =
                (0..=n).map(|k| f64::from(k) * mean.ln() - mean - ln_gamma(f64::from(k) + 1.0));
            terms.map(f64::exp).sum::<f64>().ln()
        };
        for (n, mean) in [(0, 20.0), (3, 20.0), (40, 20.0), (100, 300.0), (0, 0.5)] {
            let found = log_tail(u64::from(n), mean).unwrap();
            assert!((found - exact(n, mean)).abs() < 1e-10, "{n} {mean}: {found}");
        }
    }

    #[test]
    fn a_drop_is_named_and_a_quiet_minute_is_not() {
        assert_eq!(is_drop(2, 60.0), Some(true));
        assert_eq!(is_drop(40, 60.0), Some(false));
        assert_eq!(is_drop(0, 13.0), Some(false));
        assert_eq!(is_drop(500_000, 1e6), Some(true));
        assert_eq!(is_drop(u64::MAX, 1e300), Some(true));
        assert_eq!(is_drop(20_000_000_000, 2e10), Some(false));
        for mean in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(is_drop(0, mean), None);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_cannot_hide_a_silence() {
        let mut heart = Heartbeat::default();
        assert!(heart.is_absent(60_000, 0, 60_001));
        heart.beat(9_999_999, 1_000);
        assert_eq!(heart.silent_ms(31_000), Some(30_000));
        assert_eq!(heart.silent_ms(500), Some(0));
        assert!(heart.is_absent(60_000, 0, 62_000));
        assert!(!heart.is_absent(60_000, 0, Millis::MIN));
    }
}

//! Latencies as counts in buckets that widen with the latency, so that counts of any two places and times add up.
//!
//! Eight buckets to each doubling: a quantile is off by at most 4.5 % (half of 2^(1/8)). The idea is DDSketch's (Masson,
//! Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019) with a
//! fixed range of 1 ms to an hour.

/// Buckets in a histogram.
pub const BUCKETS: usize = 176;
const PER_DOUBLING: f64 = 8.0;

/// The bucket of a latency in milliseconds.
pub fn bucket_of(ms: u32) -> usize {
    if ms <= 1 {
        return 0;
    }
    let place = (f64::from(ms).log2() * PER_DOUBLING).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 256")]
    (place as usize).min(BUCKETS - 1)
}

/// The latency in milliseconds that stands for a bucket: the middle of it, on the logarithmic scale.
pub fn middle_of(bucket: usize) -> f64 {
    if bucket == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 176")]
    let place = bucket.min(BUCKETS - 1) as f64;
    ((place - 0.5) / PER_DOUBLING).exp2()
}

/// Counts by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Adds `n` latencies to a bucket; a bucket that does not exist counts as the last.
    pub fn add(&mut self, bucket: usize, n: u64) {
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += n;
            self.total += n;
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, n) in self.counts.iter_mut().zip(&other.counts) {
            *count += n;
        }
        self.total += other.total;
    }

    /// How many latencies it holds.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency in milliseconds that a share `q` (0 to 1) of all does not exceed; none when it is empty.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
        let wanted = q.clamp(0.0, 1.0) * self.total as f64;
        let mut seen = 0;
        for (bucket, n) in self.counts.iter().enumerate() {
            seen += n;
            #[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
            if *n > 0 && seen as f64 >= wanted {
                return Some(middle_of(bucket));
            }
        }
        None
    }

    /// How many latencies lie above a bound in milliseconds, to the width of a bucket.
    pub fn above(&self, ms: u32) -> u64 {
        self.counts.iter().skip(bucket_of(ms) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_latencies(ms in 1_u32..3_600_000) {
            let middle = middle_of(bucket_of(ms));
            prop_assert!((middle / f64::from(ms) - 1.0).abs() < 0.05 || ms == 1, "{ms} -> {middle}");
        }

        #[test]
        fn quantiles_are_near_the_exact_ones(mut all in prop::collection::vec(1_u32..60_000, 1..300), q in 0.01..1.0_f64) {
            let mut histogram = Histogram::default();
            for ms in &all {
                histogram.add(bucket_of(*ms), 1);
            }
            all.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
            let place = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let exact = f64::from(all[place - 1]);
            let found = histogram.quantile(q).unwrap();
            prop_assert!((found / exact - 1.0).abs() < 0.05, "{q}: {found} for {exact}");
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_the_largest_fits() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert!(bucket_of(u32::MAX) < BUCKETS && bucket_of(3_600_000) < BUCKETS);
        let mut one = Histogram::default();
        one.add(bucket_of(100), 10);
        assert_eq!((one.above(200), one.above(50)), (0, 10));
    }
}

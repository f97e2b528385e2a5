//! Seeded randomness for rehearsals and estimates: the same seed gives the same users everywhere.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): small, quick, and its whole state is one number.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of the users fail.
    pub fn binomial(&mut self, of: &Binomial) -> u64 {
        let low = if of.spread > WIDE {
            // The sum of twelve uniforms has a variance of 1 and needs no logarithm; this far from the
            // edges its lighter tails are below what a rehearsal can show.
            let normal = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
            let value = (of.mean + normal * of.spread.sqrt()).round();
            (value.max(0.0) as u64).min(of.n)
        } else {
            self.by_inversion(of)
        };
        if of.turned { of.n - low } else { low }
    }

    fn by_inversion(&mut self, of: &Binomial) -> u64 {
        let mut left = self.unit();
        let (mut chance, mut found) = (of.none, 0_u64);
        while left >= chance && found < of.n {
            left -= chance;
            found += 1;
            chance *= (of.n - found + 1) as f64 / found as f64 * of.odds;
        }
        found
    }
}

/// Above this variance a binomial count is drawn from its normal approximation.
const WIDE: f64 = 200.0;

/// So many users, each of whom fails with the same chance.
#[derive(Clone, Debug)]
pub struct Binomial {
    n: u64,
    odds: f64,
    /// The chance that nobody fails.
    none: f64,
    mean: f64,
    spread: f64,
    /// Successes are drawn: the chance is over one half.
    turned: bool,
}

impl Binomial {
    /// `n` users at a chance from 0 to 1; what is no number counts as 0.
    pub fn new(n: u64, chance: f64) -> Self {
        let n = n.min(1 << 50);
        let chance = if chance.is_nan() { 0.0 } else { chance.clamp(0.0, 1.0) };
        let turned = chance > 0.5;
        let p = if turned { 1.0 - chance } else { chance };
        Self {
            n,
            odds: p / (1.0 - p),
            none: (n as f64 * (-p).ln_1p()).exp(),
            mean: n as f64 * p,
            spread: n as f64 * p * (1.0 - p),
            turned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_mean_and_variance_of_a_binomial() {
        for (n, p) in [(20, 0.02), (40, 0.5), (38, 0.9), (500, 0.3), (100_000, 0.2)] {
            let (mut draw, of) = (Draw::new(7), Binomial::new(n, p));
            let counts: Vec<f64> = (0..20_000).map(|_| draw.binomial(&of) as f64).collect();
            let mean = counts.iter().sum::<f64>() / 20_000.0;
            let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 20_000.0;

            let expected = n as f64 * p * (1.0 - p);
            assert!((mean - n as f64 * p).abs() < 5.0 * (expected / 20_000.0).sqrt(), "{n} {p}");
            assert!((variance / expected - 1.0).abs() < 0.06, "{n} {p}: {variance} {expected}");
        }
    }

    #[test]
    fn the_edges_are_exact() {
        let mut draw = Draw::new(1);
        for (n, p, expected) in [(9, 0.0, 0), (9, 1.0, 9), (0, 0.5, 0), (9, f64::NAN, 0)] {
            assert_eq!(draw.binomial(&Binomial::new(n, p)), expected);
        }
    }
}

//! Whether users arrive in the arms as the rollout says: if not, something measures wrongly.
//!
//! Sequential, after Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data" (2022): a
//! Dirichlet prior of weight 1,000 around the intended shares against exactly those shares,
//!
//! ```text
//! ln BF = lnG(A) - lnG(A + n) + sum(lnG(a_i + n_i) - lnG(a_i)) - sum(n_i ln p_i),  a_i = 1000 p_i, A = 1000
//! ```
//!
//! and the alarm is at `BF >= 1/alpha`. The usual chi-square test alarms falsely more than twenty times
//! as often as it says when it is looked at every five seconds.

use crate::maths::ln_gamma;

/// The chance of a false alarm, over all looks together.
pub const ALPHA: f64 = 0.001;
/// Users that each arm needs before anything is said.
pub const USERS_MIN: u64 = 8;

const PRIOR_WEIGHT: f64 = 1_000.0;

/// The evidence that the arms do not have their shares: the natural logarithm of the Bayes factor.
///
/// `counts` are users counted once each, at their first arrival; a user who comes back would count as
/// evidence twice. Shares are brought to a sum of 1. Nothing is said for fewer than two arms, an arm
/// without a share, or arms and shares that differ in number.
pub fn evidence(counts: &[u64], shares: &[f64]) -> Option<f64> {
    let whole: f64 = shares.iter().sum();
    let good = |share: &f64| share.is_finite() && *share > 0.0;
    if counts.len() != shares.len() || counts.len() < 2 || !shares.iter().all(good) {
        return None;
    }
    let n: f64 = counts.iter().map(|count| *count as f64).sum();
    let arms = counts.iter().zip(shares).map(|(count, share)| {
        let (count, share) = (*count as f64, share / whole);
        let prior = PRIOR_WEIGHT * share;
        ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln()
    });
    let found = ln_gamma(PRIOR_WEIGHT) - ln_gamma(PRIOR_WEIGHT + n) + arms.sum::<f64>();
    found.is_finite().then_some(found)
}

/// Whether the arms have other shares than they should; nothing while an arm that should have
/// [`USERS_MIN`] users by now cannot be judged.
///
/// An arm that stays empty is judged as soon as it should hold so many: that nobody arrives in it is the
/// plainest mismatch there is.
pub fn mismatch(counts: &[u64], shares: &[f64], alpha: f64) -> Option<bool> {
    let whole: f64 = shares.iter().sum();
    let n: f64 = counts.iter().map(|count| *count as f64).sum();
    let found = evidence(counts, shares)?;
    let enough = counts
        .iter()
        .zip(shares)
        .all(|(count, share)| *count >= USERS_MIN || n * share / whole >= USERS_MIN as f64);
    let alpha = if alpha > 0.0 && alpha < 1.0 { alpha } else { ALPHA };
    enough.then_some(found >= -alpha.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_as_intended_are_no_mismatch() {
        assert_eq!(mismatch(&[1_020, 980], &[0.5, 0.5], ALPHA), Some(false));
        assert_eq!(mismatch(&[103, 897], &[10.0, 90.0], ALPHA), Some(false));
    }

    #[test]
    fn other_shares_are() {
        assert_eq!(mismatch(&[1_400, 600], &[0.5, 0.5], ALPHA), Some(true));
        assert_eq!(mismatch(&[0, 400], &[0.5, 0.5], ALPHA), Some(true));
    }

    #[test]
    fn too_few_users_and_bad_input_say_nothing() {
        assert_eq!(mismatch(&[7, 1], &[0.5, 0.5], ALPHA), None);
        for shares in [[0.0, 1.0], [f64::NAN, 1.0], [-1.0, 2.0]] {
            assert_eq!(mismatch(&[100, 100], &shares, ALPHA), None);
        }
        assert_eq!(evidence(&[1], &[1.0]), None);
        assert!(evidence(&[u64::MAX, u64::MAX], &[0.5, 0.5]).is_none_or(f64::is_finite));
    }
}

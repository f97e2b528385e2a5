//! The few special functions that the rules need, in logarithms so that nothing overflows.

/// `ln(sum(exp(x)))`, exact for values however large or small. Minus infinity for none.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return top;
    }
    top + values.iter().map(|value| (value - top).exp()).sum::<f64>().ln()
}

/// The natural logarithm of the gamma function, for `x > 0`; 0 for anything else.
///
/// Stirling's series (Abramowitz and Stegun 6.1.41) from 15 upwards, where seven terms leave less than
/// 1e-16, and the recurrence `lnG(x) = lnG(x + 1) - ln x` below.
pub fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1_260.0,
        -1.0 / 1_680.0,
        1.0 / 1_188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    if !(x.is_finite() && x > 0.0) {
        return 0.0;
    }
    let (mut high, mut product) = (x, 1.0);
    while high < 15.0 {
        product *= high;
        high += 1.0;
    }
    let inverse = 1.0 / high;
    let series = COEFFICIENTS.iter().rev().fold(0.0, |sum, c| sum * inverse * inverse + c);
    (high - 0.5) * high.ln() - high + 0.5 * (2.0 * std::f64::consts::PI).ln() + series * inverse
        - f64::ln(product)
}

/// The middle of some numbers, the mean of the middle two when they are even in number; numbers that are
/// not finite are left out.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(high);
    }
    let low = *sorted.get(sorted.len() / 2 - 1)?;
    Some(low + (high - low) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_of_the_gamma_function_is_that_of_factorials() {
        let mut expected = 0.0;
        for n in 1..200_u32 {
            let x = f64::from(n);
            assert!((ln_gamma(x) - expected).abs() < 1e-12 * (1.0 + expected), "{n}");
            expected += x.ln();
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-14);
        assert!(ln_gamma(f64::NAN).abs() < 1e-300 && ln_gamma(-1.0).abs() < 1e-300);
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        assert!((log_sum_exp(&[1e6, 1e6]) - (1e6 + 2_f64.ln())).abs() < 1e-9);
        assert!((log_sum_exp(&[-1e6, -1e6]) - (-1e6 + 2_f64.ln())).abs() < 1e-9);
        assert!(log_sum_exp(&[]).is_infinite());
    }

    #[test]
    fn the_median_leaves_out_what_is_no_number() {
        assert_eq!(median([3.0, f64::NAN, 1.0]), Some(2.0));
        assert_eq!(median([f64::INFINITY]), None);
    }
}

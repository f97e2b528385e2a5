//! Other systems' bucketing, for rules that were imported: whoever was in stays in.
//!
//! Each formula gives a fraction of whole numbers; scaling it by multiplication before division keeps every
//! comparison exact, where the originals compare floating-point numbers.

use md5::Md5;
use sha1::{Digest, Sha1};

use super::Salted;
use crate::model::Formula;

/// A foreign formula that has its salt.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    formula: Formula,
    salt: Box<str>,
    murmur: Salted,
}

/// Parts of a whole; `above` says that the original compares with "at most" instead of "below".
struct Fraction {
    parts: u64,
    whole: u64,
    above: bool,
}

impl Foreign {
    /// `None` for our own formula.
    pub(crate) fn new(formula: Formula, salt: &str) -> Option<Box<Self>> {
        let murmur = Salted::plain(salt);
        (formula != Formula::Native).then(|| Box::new(Self { formula, salt: salt.into(), murmur }))
    }

    /// Where the unit is on a scale of 0 to `scale - 1`; `None` when the formula needs a unit, or the scale is 0.
    pub(crate) fn point(&self, unit: Option<&str>, scale: u64) -> Option<u64> {
        let Fraction { parts, whole, above } = match (self.formula, unit) {
            (Formula::LaunchDarkly, None) => Fraction { parts: 0, whole: 1, above: false },
            (_, None) => return None,
            (formula, Some(unit)) => self.fraction(formula, unit),
        };
        let scaled = u128::from(parts) * u128::from(scale);
        let whole = u128::from(whole);
        let point = if above {
            scaled.div_ceil(whole).saturating_sub(1)
        } else {
            scaled.checked_div(whole)?
        };
        u64::try_from(point).ok()?.min(scale.checked_sub(1)?).into()
    }

    fn fraction(&self, formula: Formula, unit: &str) -> Fraction {
        let salt = &*self.salt;
        let (parts, whole) = match formula {
            Formula::Native | Formula::Flagd => {
                (u64::from(self.murmur.hash(unit.as_bytes())), 1 << 32)
            }
            Formula::LaunchDarkly => (sha1_60(&[salt, ".", unit]), (1 << 60) - 1),
            Formula::GrowthBookV1 => (u64::from(fnv(&[unit, salt])) % 1_000, 1_000),
            Formula::GrowthBookV2 => {
                let first = fnv(&[salt, unit]);
                (u64::from(fnv(&[Decimal::of(first).as_str()])) % 10_000, 10_000)
            }
            Formula::Flagsmith | Formula::FlagsmithSplit => (flagsmith(salt, unit), 9_998),
        };
        Fraction { parts, whole, above: formula == Formula::FlagsmithSplit }
    }
}

/// The first 15 hexadecimal digits of the SHA-1.
fn sha1_60(texts: &[&str]) -> u64 {
    let mut hash = Sha1::new();
    for text in texts {
        hash.update(text);
    }
    let digest: [u8; 20] = hash.finalize().into();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first) >> 4)
}

/// FNV-1a, 32 bits, over UTF-8. (GrowthBook's JavaScript hashes UTF-16 code units: the same for ASCII.)
fn fnv(texts: &[&str]) -> u32 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// 0 to 9,997: MD5 of `salt,unit` modulo 9,999; at 9,998 the text is repeated and hashed again. A salt that holds
/// a comma is the start of the text as it is: local evaluation hashes `state,environment_identifier`.
fn flagsmith(salt: &str, unit: &str) -> u64 {
    const REPEATS_MAX: usize = 64;
    (1..=REPEATS_MAX)
        .map(|times| md5_mod(salt, unit, times))
        .find(|parts| *parts != 9_998)
        .unwrap_or(0)
}

fn md5_mod(salt: &str, unit: &str, times: usize) -> u64 {
    let mut hash = Md5::new();
    for n in 0..times {
        hash.update(if n == 0 { "" } else { "," });
        hash.update(salt);
        hash.update(if salt.contains(',') { "" } else { "," });
        hash.update(unit);
    }
    let digest: [u8; 16] = hash.finalize().into();
    (u128::from_be_bytes(digest) % 9_999) as u64
}

/// A number as decimal digits, without allocating.
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    fn of(mut number: u32) -> Self {
        let mut text = Self { digits: [b'0'; 10], start: 10 };
        for (place, digit) in text.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            text.start = place;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        text
    }

    fn as_str(&self) -> &str {
        self.digits.get(self.start..).and_then(|d| std::str::from_utf8(d).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(formula: Formula, salt: &str, unit: &str) -> f64 {
        let Fraction { parts, whole, .. } =
            Foreign::new(formula, salt).unwrap().fraction(formula, unit);
        parts as f64 / whole as f64
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
    }

    #[test]
    fn launchdarkly_agrees_with_its_own_tests() {
        close(fraction(Formula::LaunchDarkly, "hashKey.saltyA", "userKeyA"), 0.421_575_874);
        close(fraction(Formula::LaunchDarkly, "hashKey.saltyA", "userKeyB"), 0.670_848_497);
        close(fraction(Formula::LaunchDarkly, "61", "userKeyA"), 0.098_012_065);
        let without = Foreign::new(Formula::LaunchDarkly, "61").unwrap().point(None, 100_000);
        assert_eq!(without, Some(0));
    }

    #[test]
    fn growthbook_agrees_with_its_vectors() {
        close(fraction(Formula::GrowthBookV2, "seed", "a"), 0.0505);
        close(fraction(Formula::GrowthBookV1, "", "a"), 0.220);
    }

    #[test]
    fn flagsmith_agrees_with_its_vector() {
        close(fraction(Formula::Flagsmith, "12", "93") * 100.0, 27.655_531_1);
        close(fraction(Formula::Flagsmith, "12,9", "3") * 100.0, 27.655_531_1);
    }

    #[test]
    fn flagd_agrees_with_its_vector() {
        let flagd = Foreign::new(Formula::Flagd, "auth_enabled").unwrap();
        assert_eq!(flagd.point(Some("user-1"), 100), Some(71));
        assert_eq!(flagd.point(Some("user-1"), 1000), Some(714));
        assert_eq!(flagd.point(None, 100), None);
        for (name, place) in [("jack", 2), ("queen", 3), ("ten", 0), ("nine", 1), ("3", 0)] {
            let flagd = Foreign::new(Formula::Flagd, "fractional-flag").unwrap();
            assert_eq!(flagd.point(Some(name), 100).unwrap() / 25, place, "{name}");
        }
    }

    #[test]
    fn a_split_includes_its_limit() {
        let split = Foreign::new(Formula::FlagsmithSplit, "12").unwrap();
        let parts = flagsmith("12", "93");
        let whole = 9_998;
        // u <= parts / whole, exactly at the limit
        assert!(split.point(Some("93"), whole).unwrap() < parts);
        assert!(
            Foreign::new(Formula::Flagsmith, "12").unwrap().point(Some("93"), whole).unwrap()
                == parts
        );
    }

    #[test]
    fn decimals_are_written_without_zeros_before_them() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(Decimal::of(number).as_str(), number.to_string());
        }
    }
}

//! Semantic versions without allocation: they are compared on the hot path.

use std::cmp::Ordering;

/// A version's parts, borrowed from its text. Build metadata is checked and dropped, as it has no
/// part in precedence (semver.org 2.0.0, section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) numbers: [u64; 3],
    /// The dotted identifiers after `-`; empty for a release.
    pub(crate) pre: &'a str,
}

impl<'a> Version<'a> {
    /// `1.2.3`, `1.2.3-beta.1`, `1.2.3+build`; no `v`, no missing parts, no leading zeros.
    pub(crate) fn strict(text: &'a str) -> Option<Self> {
        Self::parse(text, 3)
    }

    /// As [`Version::strict`], but `3.2` means `3.2.0` and `3` means `3.0.0`: app stores allow them.
    pub(crate) fn lenient(text: &'a str) -> Option<Self> {
        Self::parse(text, 1)
    }

    fn parse(text: &'a str, parts_min: usize) -> Option<Self> {
        let (text, build) = split(text, '+');
        let (core, pre) = split(text, '-');
        if build.is_some_and(|build| !build.split('.').all(is_identifier))
            || pre.is_some_and(|pre| !pre.split('.').all(is_pre_release))
        {
            return None;
        }
        let mut numbers = [0; 3];
        let mut parts = core.split('.');
        for (index, number) in numbers.iter_mut().enumerate() {
            match parts.next() {
                Some(part) => *number = self::number(part)?,
                None if index >= parts_min => break,
                None => return None,
            }
        }
        parts.next().is_none().then_some(Self { numbers, pre: pre.unwrap_or("") })
    }

    /// Precedence as semver.org 2.0.0 section 11 has it.
    pub(crate) fn compare(&self, other: &Version<'_>) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        if numbers != Ordering::Equal {
            return numbers;
        }
        match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_pre_release(self.pre, other.pre),
        }
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(left, right)| (left, Some(right)))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_pre_release(text: &str) -> bool {
    is_identifier(text) && !(is_number(text) && text.len() > 1 && text.starts_with('0'))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn number(text: &str) -> Option<u64> {
    if text.len() > 1 && text.starts_with('0') || text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Numbers compare as numbers (of any length) and come before words; more identifiers win.
fn compare_pre_release(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let (a, b) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let order = match (is_number(a), is_number(b)) {
            (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_parts_are_zero_only_when_lenient() {
        assert_eq!(Version::lenient("3.2").map(|v| v.numbers), Some([3, 2, 0]));
        assert_eq!(
            Version::lenient("3-beta").map(|v| (v.numbers, v.pre)),
            Some(([3, 0, 0], "beta"))
        );
        for wrong in
            ["3.2", "v3.2.0", "3.2.0.1", "03.2.0", "", "3..0", "3.2.x", "3.2.0-", "3.2.0-01"]
        {
            assert_eq!(Version::strict(wrong), None, "{wrong}");
        }
        assert_eq!(Version::lenient("v3.2"), None);
    }

    proptest! {
        /// The `semver` crate is the judge.
        #[test]
        fn agrees_with_the_semver_crate(a in text(), b in text()) {
            let (ours, theirs) = (Version::strict(&a), semver::Version::parse(&a).ok());
            prop_assert_eq!(ours.is_some(), theirs.is_some(), "{:?}", a);
            if let (Some(x), Some(y), Some(p), Ok(q)) =
                (ours, Version::strict(&b), theirs, semver::Version::parse(&b))
            {
                prop_assert_eq!(x.compare(&y), p.cmp_precedence(&q));
            }
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-3]\\.[0-2]\\.[0-2]",
            "[0-1]\\.[0-1]\\.0-(0|1|10|9|a|b|rc)(\\.(0|1|11|2|x|-))?(\\+[a-z0]{1,2})?",
            "[0-9v.+a-]{0,9}",
        ]
    }
}

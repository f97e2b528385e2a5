//! Looking short texts up in few instructions and few cache lines.

/// What hashing mixes in, so that zeros do not stay zeros: digits of pi.
const MIX: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

/// The most bytes of which a [`Place`] says all.
const SHORT: usize = 16;

/// Finds the number of what has a text, from 1 on. A power of two of places, at least a quarter of them free.
///
/// Short texts are said by their places, so that finding one reads one place and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Index(Vec<Place>);

/// A text's length and both its ends, which may overlap: all of a short text. Of a long one the second is a hash.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    first: u64,
    last: u64,
    length: u32,
    /// 0: the place is free.
    number: u32,
}

impl Index {
    /// Adds a text that is not there yet, under the next number; the first is 1.
    pub(crate) fn add(&mut self, text: &str, number: u32) {
        if (number as usize + 1) * 4 > self.0.len() * 3 {
            let old = std::mem::take(&mut self.0);
            self.0 = vec![Place::default(); (old.len() * 2).max(16)];
            old.into_iter().filter(|place| place.number != 0).for_each(|place| self.put(place));
        }
        self.put(Place { number, ..Place::of(text.as_bytes()) });
    }

    fn put(&mut self, new: Place) {
        let mask = self.0.len().wrapping_sub(1);
        let mut at = new.hash() as usize & mask;
        while let Some(place) = self.0.get_mut(at) {
            if place.number == 0 {
                *place = new;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of a text; `is` says of a long one whether a number is its own.
    #[inline]
    pub(crate) fn find(&self, text: &str, is: impl Fn(u32) -> bool) -> Option<u32> {
        if text.len() > SHORT {
            return self.find_long(text, is);
        }
        let wanted = Place::of_short(text.as_bytes());
        self.find_place(wanted, |_| true)
    }

    #[inline(never)]
    fn find_long(&self, text: &str, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_place(Place::of_long(text.as_bytes()), is)
    }

    #[inline]
    fn find_place(&self, wanted: Place, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.0.len().wrapping_sub(1);
        let mut at = wanted.hash() as usize & mask;
        loop {
            let place = self.0.get(at)?;
            // A free place looks like that of the empty text.
            if place.number == 0 || (place.is_like(wanted) && is(place.number)) {
                return (place.number != 0).then_some(place.number);
            }
            at = (at + 1) & mask;
        }
    }
}

impl Place {
    fn of(bytes: &[u8]) -> Self {
        if bytes.len() > SHORT { Self::of_long(bytes) } else { Self::of_short(bytes) }
    }

    #[inline]
    fn of_short(bytes: &[u8]) -> Self {
        let (first, last) = ends(bytes);
        Self { first, last, length: bytes.len() as u32, number: 0 }
    }

    fn of_long(bytes: &[u8]) -> Self {
        let (first, last) = digest(bytes);
        Self { first, last, length: bytes.len() as u32, number: 0 }
    }

    /// The same on every machine.
    #[inline]
    fn hash(self) -> u32 {
        fold(self.first ^ u64::from(self.length) ^ MIX[0], self.last ^ MIX[1]) as u32
    }

    /// One branch instead of three.
    #[inline]
    fn is_like(self, other: Self) -> bool {
        let ends = (self.first ^ other.first) | (self.last ^ other.last);
        ends | u64::from(self.length ^ other.length) == 0
    }
}

/// The first and the last bytes of a short text as numbers.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    match *bytes {
        [first, second, .., last] => (u64::from(first) | u64::from(second) << 8, last.into()),
        [first, last] => (first.into(), last.into()),
        [only] => (only.into(), only.into()),
        [] => (0, 0),
    }
}

/// Two hashes of a long text.
fn digest(bytes: &[u8]) -> (u64, u64) {
    let (words, _) = bytes.as_chunks();
    let end = bytes.last_chunk();
    words
        .iter()
        .chain(end)
        .map(|word| u64::from_le_bytes(*word))
        .fold((0, bytes.len() as u64), |(sum, hash), word| {
            (sum ^ word, fold(hash ^ word ^ MIX[0], MIX[1]))
        })
}

/// Both halves of a product.
#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever was added is found, under its own number, and nothing else.
        #[test]
        fn an_index_finds_what_was_added(
            texts in prop::collection::btree_set("[ab]{0,5}|[ab]{15,18}|a{0,40}[ab]{2}a{0,40}", 0..100),
            asked in prop::collection::vec("[ab]{0,5}|[ab]{15,18}|a{0,40}[ab]{2}a{0,40}", 50),
        ) {
            let mut index = Index::default();
            texts.iter().zip(1..).for_each(|(text, number)| index.add(text, number));
            let nth = |number: u32| texts.iter().nth(number as usize - 1);
            for text in texts.iter().chain(&asked) {
                let found = index.find(text, |number| nth(number) == Some(text));
                prop_assert_eq!(found.and_then(nth), texts.get(text), "{}", text);
            }
        }
    }

    #[test]
    fn names_that_are_counted_are_spread() {
        for length in 0..40 {
            let name = |n: usize| format!("{}{n:04}{}", "f".repeat(length), "o".repeat(length / 2));
            let homes: BTreeSet<u32> =
                (0..1_000).map(|n| Place::of(name(n).as_bytes()).hash() & 2047).collect();
            // At random it would be 2,048 * (1 - e^(-1000/2048)) = 791.
            assert!(homes.len() > 740, "{length}: {} places of 2,048 for 1,000 names", homes.len());
        }
    }
}

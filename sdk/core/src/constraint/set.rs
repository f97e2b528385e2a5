//! Lists of texts, to look one up in. A ruleset keeps each text once and lists hold numbers: little memory, and few cache
//! lines that a decision has to wait for.

use std::hash::BuildHasher as _;

/// Lists up to this length are compared one by one: quicker than hashing.
const FEW: usize = 4;

/// The texts of a ruleset, each under a number from 1 on.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// One after the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
    slots: Slots,
}

/// Finds the number of what has a text: half of a hash, and the number from 1 on; 0: nothing. A power of two of places, at
/// least a quarter of them free.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<(u32, u32)>);

/// Texts to look one up in, as numbers: a few in order, or a table with zeros where it is free.
#[derive(Debug, Default)]
pub(crate) struct Set(Box<[u32]>);

impl Texts {
    /// The number of a text, which it gets if it has none.
    fn add(&mut self, text: &str) -> u32 {
        let hash = hash(text);
        if let Some(known) = self.find(hash, text) {
            return known;
        }
        self.bytes.extend_from_slice(text.as_bytes());
        // Over 4 GiB of texts: those after are never found.
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        let id = self.ends.len() as u32;
        self.slots.add(hash, id);
        id
    }

    #[inline]
    fn find(&self, hash: u32, text: &str) -> Option<u32> {
        self.slots.find(hash, |id| self.is(id, text))
    }

    fn get(&self, id: u32) -> &[u8] {
        let ends =
            |n: u32| self.ends.get(n.wrapping_sub(1) as usize).map_or(0, |end| *end as usize);
        self.bytes.get(ends(id - 1)..ends(id)).unwrap_or_default()
    }

    #[inline]
    fn is(&self, id: u32, text: &str) -> bool {
        self.get(id) == text.as_bytes()
    }

    /// Gives back memory that was held for more.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

impl Slots {
    /// Adds the next number; the first is 1.
    pub(crate) fn add(&mut self, hash: u32, id: u32) {
        if (id as usize + 1) * 4 > self.0.len() * 3 {
            let old = std::mem::take(&mut self.0);
            self.0 = vec![(0, 0); (old.len() * 2).max(16)];
            old.into_iter().filter(|(_, id)| *id != 0).for_each(|(hash, id)| self.place(hash, id));
        }
        self.place(hash, id);
    }

    fn place(&mut self, hash: u32, id: u32) {
        let mask = self.0.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.0.get_mut(at) {
            if slot.1 == 0 {
                *slot = (hash, id);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// The number with this hash of which `is` says that it is the one.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.0.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            match *self.0.get(at)? {
                (_, 0) => return None,
                (same, id) if same == hash && is(id) => return Some(id),
                _ => at = (at + 1) & mask,
            }
        }
    }
}

/// What [`Slots`] take.
#[inline]
pub(crate) fn hash(text: &str) -> u32 {
    foldhash::fast::FixedState::default().hash_one(text) as u32
}

/// Where a number is looked for first in a table of `places`.
#[inline]
fn home(id: u32, places: usize) -> usize {
    // The golden ratio spreads neighbours; the upper bits say where.
    ((u64::from(id.wrapping_mul(0x9E37_79B1)) * places as u64) >> 32) as usize
}

impl Set {
    pub(crate) fn new<'a>(list: impl Iterator<Item = &'a str>, texts: &mut Texts) -> Self {
        let ids: Box<[u32]> = list.map(|text| texts.add(text)).collect();
        if ids.len() <= FEW {
            return Self(ids);
        }
        let places = (ids.len() + ids.len() / 4).next_power_of_two();
        let mut table = vec![0; places];
        for id in ids {
            let mut at = home(id, places);
            while let Some(place) = table.get_mut(at) {
                if *place == 0 || *place == id {
                    *place = id;
                    break;
                }
                at = (at + 1) & (places - 1);
            }
        }
        Self(table.into())
    }

    #[inline]
    pub(crate) fn contains(&self, text: &str, texts: &Texts) -> bool {
        if self.0.len() <= FEW {
            return self.0.iter().any(|id| texts.is(*id, text));
        }
        texts.find(hash(text), text).is_some_and(|id| self.holds(id))
    }

    #[inline]
    fn holds(&self, id: u32) -> bool {
        let mask = self.0.len().wrapping_sub(1);
        let mut at = home(id, self.0.len());
        loop {
            match self.0.get(at) {
                Some(found) if *found == id => return true,
                None | Some(0) => return false,
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For explanations: `[de, fr]`.
    pub(crate) fn shown(&self, texts: &Texts) -> String {
        let ids = self.0.iter().filter(|id| **id != 0);
        sample(ids.filter_map(|id| std::str::from_utf8(texts.get(*id)).ok()))
    }
}

/// The first few texts in order, and how many more there are.
pub(super) fn sample<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut texts: Vec<&str> = texts.collect();
    texts.sort_unstable();
    let more = texts.len().saturating_sub(FEW);
    texts.truncate(FEW);
    let texts = texts.join(", ");
    if more > 0 { format!("[{texts} and {more} more]") } else { format!("[{texts}]") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is in a list is found in it, and nothing else, however many lists share the texts.
        #[test]
        fn a_set_holds_what_it_was_given(
            lists in prop::collection::vec(prop::collection::vec("[a-c]{0,4}", 0..40), 1..8),
            asked in prop::collection::vec("[a-d]{0,4}", 20),
        ) {
            let mut texts = Texts::default();
            let sets: Vec<Set> =
                lists.iter().map(|list| Set::new(list.iter().map(String::as_str), &mut texts)).collect();
            texts.shrink();
            for (list, set) in lists.iter().zip(&sets) {
                let wanted: BTreeSet<&str> = list.iter().map(String::as_str).collect();
                for text in wanted.iter().copied().chain(asked.iter().map(String::as_str)) {
                    prop_assert_eq!(set.contains(text, &texts), wanted.contains(text), "{} in {:?}", text, list);
                }
            }
        }
    }
}

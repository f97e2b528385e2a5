//! Lists of texts, to look one up in. A ruleset keeps each text once and lists hold numbers: little memory, and few cache
//! lines that a decision has to wait for.

use crate::lookup::Index;

/// Lists up to this length are kept in place and compared one by one.
const FEW: usize = 4;

/// The texts of a ruleset, each under a number from 1 on.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// One after the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
    index: Index,
}

/// Texts to look one up in, as numbers.
#[derive(Debug)]
pub(crate) enum Set {
    /// In order, then zeros.
    Few([u32; FEW]),
    /// A power of two of places, zeros where they are free.
    Table(Box<[u32]>),
}

impl Texts {
    /// The number of a text, which it gets if it has none.
    fn add(&mut self, text: &str) -> u32 {
        if let Some(known) = self.find(text) {
            return known;
        }
        self.bytes.extend_from_slice(text.as_bytes());
        // Over 4 GiB of texts: those after are never found.
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        let id = self.ends.len() as u32;
        self.index.add(text, id);
        id
    }

    /// The number of a text, if a list has it.
    #[inline]
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.index.find(text, |id| self.get(id) == text.as_bytes())
    }

    #[inline]
    fn get(&self, id: u32) -> &[u8] {
        let ends =
            |n: u32| self.ends.get(n.wrapping_sub(1) as usize).map_or(0, |end| *end as usize);
        self.bytes.get(ends(id - 1)..ends(id)).unwrap_or_default()
    }

    /// Gives back memory that was held for more.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// Where a number is looked for first in a table of `places`.
#[inline]
fn home(id: u32, places: usize) -> usize {
    // The golden ratio spreads neighbours; the upper bits say where.
    ((u64::from(id.wrapping_mul(0x9E37_79B1)) * places as u64) >> 32) as usize
}

impl Set {
    pub(crate) fn new<'a>(list: impl Iterator<Item = &'a str>, texts: &mut Texts) -> Self {
        let ids: Vec<u32> = list.map(|text| texts.add(text)).collect();
        if ids.len() <= FEW {
            let mut few = [0; FEW];
            few.iter_mut().zip(ids).for_each(|(place, id)| *place = id);
            return Self::Few(few);
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
        Self::Table(table.into())
    }

    #[inline]
    pub(crate) fn contains(&self, text: &str, texts: &Texts) -> bool {
        texts.find(text).is_some_and(|id| self.holds(id))
    }

    /// Whether it has the text with this number.
    #[inline]
    pub(crate) fn holds(&self, id: u32) -> bool {
        let table = match self {
            Self::Few(few) => return few.contains(&id),
            Self::Table(table) => table,
        };
        let mask = table.len().wrapping_sub(1);
        let mut at = home(id, table.len());
        loop {
            match table.get(at) {
                Some(found) if *found == id => return true,
                None | Some(0) => return false,
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Few([0, ..]))
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        let places = match self {
            Self::Few(few) => &few[..],
            Self::Table(table) => table,
        };
        places.iter().copied().filter(|id| *id != 0)
    }

    /// For explanations: `[de, fr]`.
    pub(crate) fn shown(&self, texts: &Texts) -> String {
        sample(self.ids().filter_map(|id| std::str::from_utf8(texts.get(id)).ok()))
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

//! A table's keys at one moment, packed; and what of them is missing or changed later.
//!
//! Packed keys are chunks of base64 text, up to [`CHUNK_KEYS`] keys each: one byte for the form (`i` whole numbers as
//! zigzag differences to the one before, in LEB128; `u` UUIDs; `t` texts; `h` hashes), one for whether hashes of columns
//! follow the keys, then the keys. Numbers that a table holds in order take one byte each.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::error::SourceError;

/// Keys in a chunk, at most.
pub const CHUNK_KEYS: usize = 65_536;
/// Names that a comparison gives, at most; it counts all.
pub const NAMES_MAX: usize = 10_000;

/// What a row is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    /// A whole number.
    Int(i64),
    /// A UUID.
    Uuid([u8; 16]),
    /// Anything else, as text.
    Text(&'k [u8]),
    /// A hash of personal data.
    Hash(u64),
}

impl Key<'_> {
    /// 64 bits that stand for it: a number itself, else murmur3 (x64, 128 bits, seed 7), its lower half.
    pub fn hash(&self) -> u64 {
        match self {
            Self::Int(number) => number.cast_unsigned(),
            Self::Hash(hash) => *hash,
            Self::Uuid(bytes) => hash_of_16(bytes),
            Self::Text(text) => hash_of(text),
        }
    }

    fn form(&self) -> u8 {
        match self {
            Self::Int(_) => b'i',
            Self::Uuid(_) => b'u',
            Self::Text(_) => b't',
            Self::Hash(_) => b'h',
        }
    }

    /// As people know it.
    pub fn name(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Hash(hash) => format!("#{hash:016x}"),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Uuid(bytes) => {
                let number = u128::from_be_bytes(*bytes);
                let hex = format!("{number:032x}");
                let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
                [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
            }
        }
    }
}

/// A [`Key`] that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeyBuf {
    Int(i64),
    Uuid([u8; 16]),
    Text(Box<[u8]>),
    Hash(u64),
}

impl KeyBuf {
    fn as_key(&self) -> Key<'_> {
        match self {
            Self::Int(number) => Key::Int(*number),
            Self::Uuid(bytes) => Key::Uuid(*bytes),
            Self::Text(text) => Key::Text(text),
            Self::Hash(hash) => Key::Hash(*hash),
        }
    }
}

impl From<Key<'_>> for KeyBuf {
    fn from(key: Key<'_>) -> Self {
        match key {
            Key::Int(number) => Self::Int(number),
            Key::Uuid(bytes) => Self::Uuid(bytes),
            Key::Text(text) => Self::Text(text.into()),
            Key::Hash(hash) => Self::Hash(hash),
        }
    }
}

/// Not 0: with that, no bytes would hash as the number 0 does.
const SEED: u32 = 7;

/// Murmur3 of some bytes; reading from memory does not fail.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    murmur3::murmur3_x64_128(&mut std::io::Cursor::new(bytes), SEED).unwrap_or_default() as u64
}

/// The same of sixteen bytes, which are one block.
fn hash_of_16(bytes: &[u8; 16]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix = |mut h: u64| {
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    };
    let both = u128::from_le_bytes(*bytes);
    let (k1, k2) = (both as u64, (both >> 64) as u64);
    let (mut h1, mut h2) = (u64::from(SEED), u64::from(SEED));
    h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
    h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    (h1, h2) = (h1 ^ 16, h2 ^ 16);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    mix(h1).wrapping_add(mix(h2))
}

/// Packs keys, one after the other.
#[derive(Debug, Default)]
pub struct Packer {
    with_columns: bool,
    chunk: Vec<u8>,
    form: u8,
    keys: usize,
    last: i64,
    done: Vec<String>,
}

impl Packer {
    /// `with_columns` also keeps a hash of columns with each key.
    pub fn new(with_columns: bool) -> Self {
        Self { with_columns, ..Self::default() }
    }

    /// Adds a key.
    pub fn push(&mut self, key: Key<'_>, columns: u64) {
        if self.keys == CHUNK_KEYS || (self.keys > 0 && self.form != key.form()) {
            self.flush();
        }
        if self.keys == 0 {
            (self.form, self.last) = (key.form(), 0);
            self.chunk.extend([key.form(), u8::from(self.with_columns)]);
        }
        match key {
            Key::Int(number) => {
                let step = number.wrapping_sub(self.last);
                put_varint(&mut self.chunk, ((step << 1) ^ (step >> 63)).cast_unsigned());
                self.last = number;
            }
            Key::Uuid(bytes) => self.chunk.extend(bytes),
            Key::Hash(hash) => self.chunk.extend(hash.to_le_bytes()),
            Key::Text(text) => {
                put_varint(&mut self.chunk, text.len() as u64);
                self.chunk.extend(text);
            }
        }
        if self.with_columns {
            self.chunk.extend(columns.to_le_bytes());
        }
        self.keys += 1;
    }

    fn flush(&mut self) {
        if self.keys > 0 {
            self.done.push(BASE64.encode(&self.chunk));
            self.chunk.clear();
            self.keys = 0;
        }
    }

    /// The chunks.
    pub fn finish(mut self) -> Vec<String> {
        self.flush();
        self.done
    }
}

/// The keys that a table has now, by hash, with the hash of their columns, in the order in which they were read.
#[derive(Debug, Default)]
pub struct Present(Vec<(u64, u64)>);

impl Present {
    /// From pairs as a survey gives them.
    pub fn new(pairs: Vec<(u64, u64)>) -> Self {
        Self(pairs)
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.0.len() as u64
    }

    /// A digest that no order changes: rows, exclusive or and sum of the keys' and columns' hashes, in hex.
    pub fn digest(&self) -> String {
        let (mut xor, mut sum) = (0u64, 0u64);
        for (key, columns) in &self.0 {
            // Mixed, so that equal columns of two rows do not cancel out.
            let mixed = (key ^ columns.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = mixed ^ (mixed >> 29);
            (xor, sum) = (xor ^ mixed, sum.wrapping_add(mixed));
        }
        format!("{:x}-{xor:016x}-{sum:016x}", self.rows())
    }

    /// A key that two rows share, by hash. Sorts a copy of the keys, unless they were read in order.
    pub fn twice(&self) -> Option<u64> {
        if self.0.is_sorted_by(|one, other| one.0 < other.0) {
            return None;
        }
        let mut keys: Vec<u64> = self.0.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        })
    }
}

/// Some keys by name, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Named {
    /// All of them.
    pub count: u64,
    /// The first [`NAMES_MAX`].
    pub names: Vec<String>,
}

impl Named {
    fn note(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < NAMES_MAX {
            self.names.push(name());
        }
    }
}

/// What became of the keys that were there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys that are gone.
    pub missing: Named,
    /// Keys that are there with other columns.
    pub changed: Named,
}

/// The next kept key is looked for among so many present ones.
const NEAR: usize = 64;
/// After so many in a row that were not near, one is looked for among [`FAR`].
const MISSES_MAX: usize = 1_024;
/// How far the walk leaps where a table has grown in its middle, or shrunk.
const FAR: usize = 65_536;
/// Keys that are held until the end; with more of them the table was rewritten, and they are looked up at once.
const UNMET_MAX: usize = 262_144;

/// Finds what became of the keys that were kept, chunk by chunk.
///
/// A table that nobody rewrote gives its rows in the order of the look before. So kept and present keys are walked through side by
/// side, which waits for memory far less than looking each one up. Those that do not meet on the way, such as rows that an update
/// moved, are sorted and compared later.
#[derive(Debug)]
pub struct Comparison {
    present: Arc<Present>,
    at: usize,
    /// Present ones that were walked past.
    passed: Vec<(u64, u64)>,
    /// All present ones by hash, once many did not meet.
    sorted: Option<Vec<(u64, u64)>>,
    unmet: Vec<Unmet>,
    misses: usize,
    difference: Difference,
}

/// A kept key that did not come by on the walk.
#[derive(Debug)]
struct Unmet {
    hash: u64,
    columns: Option<u64>,
    key: KeyBuf,
}

impl Comparison {
    /// With what is there now.
    pub fn new(present: Arc<Present>) -> Self {
        Self {
            present,
            at: 0,
            passed: Vec::new(),
            sorted: None,
            unmet: Vec::new(),
            misses: 0,
            difference: Difference::default(),
        }
    }

    /// Takes the next chunk of kept keys.
    ///
    /// # Errors
    /// The chunk is not one of ours.
    pub fn add(&mut self, chunk: &str) -> Result<(), SourceError> {
        let damaged = || SourceError::Refused("the keys that were kept are damaged".to_owned());
        let bytes = BASE64.decode(chunk).map_err(|_| damaged())?;
        let (head, mut rest) = bytes.split_at_checked(2).ok_or_else(damaged)?;
        let (form, with_columns) =
            (head.first().copied().unwrap_or_default(), head.get(1) == Some(&1));
        let mut last = 0i64;
        while !rest.is_empty() {
            let key = take_key(form, &mut rest, &mut last).ok_or_else(damaged)?;
            let columns = if with_columns {
                Some(u64::from_le_bytes(take(&mut rest).ok_or_else(damaged)?))
            } else {
                None
            };
            let hash = key.hash();
            match self.meet(hash) {
                Some(now) if columns.is_some_and(|columns| columns != now) => {
                    self.difference.changed.note(|| key.name());
                }
                Some(_) => {}
                None => self.unmet.push(Unmet { hash, columns, key: key.into() }),
            }
        }
        if self.unmet.len() >= UNMET_MAX {
            let sorted = self.sorted.take().unwrap_or_else(|| {
                self.passed = Vec::new();
                sort(self.present.0.clone())
            });
            self.difference.settle(&self.unmet, &sorted);
            self.unmet.clear();
            self.sorted = Some(sorted);
        }
        Ok(())
    }

    /// Walks to a key that is close ahead. Returns its columns' hash.
    fn meet(&mut self, hash: u64) -> Option<u64> {
        let leaps = self.misses > 0 && self.misses.is_multiple_of(MISSES_MAX);
        let reach = if leaps { FAR } else { NEAR };
        let ahead = self.present.0.get(self.at..).unwrap_or_default();
        let ahead = ahead.get(..reach).unwrap_or(ahead);
        let Some(step) = ahead.iter().position(|(key, _)| *key == hash) else {
            self.misses += 1;
            return None;
        };
        let (passed, met) = ahead.split_at_checked(step)?;
        if self.sorted.is_none() {
            self.passed.extend(passed);
        }
        (self.at, self.misses) = (self.at + step + 1, 0);
        met.first().map(|(_, columns)| *columns)
    }

    /// What became of all of them.
    pub fn finish(self) -> Difference {
        let Self { present, at, passed: mut others, sorted, unmet, mut difference, .. } = self;
        if !unmet.is_empty() {
            let others = sorted.unwrap_or_else(|| {
                others.extend(present.0.get(at..).unwrap_or_default());
                sort(others)
            });
            difference.settle(&unmet, &others);
        }
        difference
    }
}

fn sort(mut pairs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    pairs.sort_unstable();
    pairs
}

impl Difference {
    /// Adds what became of some kept keys, among present ones in order. Missing keys are named in the order in which they were
    /// read.
    fn settle(&mut self, unmet: &[Unmet], present: &[(u64, u64)]) {
        let mut order: Vec<(u64, usize)> =
            unmet.iter().enumerate().map(|(place, one)| (one.hash, place)).collect();
        order.sort_unstable();
        let mut near = present.iter().peekable();
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        for (hash, place) in order {
            while near.next_if(|(key, _)| *key < hash).is_some() {}
            let now = near.peek().filter(|(key, _)| *key == hash).map(|(_, columns)| *columns);
            match (now, unmet.get(place).and_then(|one| one.columns)) {
                (None, _) => missing.push(place),
                (Some(now), Some(columns)) if now != columns => changed.push(place),
                _ => {}
            }
        }
        for (mut places, named) in [(missing, &mut self.missing), (changed, &mut self.changed)] {
            places.sort_unstable();
            for one in places.iter().filter_map(|place| unmet.get(*place)) {
                named.note(|| one.key.as_key().name());
            }
        }
    }
}

fn take_key<'b>(form: u8, rest: &mut &'b [u8], last: &mut i64) -> Option<Key<'b>> {
    Some(match form {
        b'i' => {
            let coded = take_varint(rest)?;
            let step = (coded >> 1).cast_signed() ^ -((coded & 1).cast_signed());
            *last = last.wrapping_add(step);
            Key::Int(*last)
        }
        b'u' => Key::Uuid(take(rest)?),
        b'h' => Key::Hash(u64::from_le_bytes(take(rest)?)),
        b't' => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            let (text, after) = rest.split_at_checked(length)?;
            *rest = after;
            Key::Text(text)
        }
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = KeyBuf> {
        prop_oneof![
            any::<i64>().prop_map(KeyBuf::Int),
            (0i64..500).prop_map(KeyBuf::Int),
            any::<[u8; 16]>().prop_map(KeyBuf::Uuid),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(|text| KeyBuf::Text(text.into())),
        ]
    }

    #[test]
    fn a_far_move_is_caught_up_with() {
        let keys = |from: i64, to: i64| (from..to).map(|number| (Key::Int(number).hash(), 0));
        let mut packer = Packer::new(false);
        (0..100_000).for_each(|number| packer.push(Key::Int(number), 0));
        // Two thousand new rows in a place that was free, and a hundred rows gone.
        let now = keys(0, 10_000).chain(keys(200_000, 202_000)).chain(keys(10_100, 100_000));
        let mut comparison = Comparison::new(Arc::new(Present::new(now.collect())));
        for chunk in packer.finish() {
            comparison.add(&chunk).unwrap();
        }

        assert!(comparison.unmet.len() < 2_000, "{} were left over", comparison.unmet.len());
        assert_eq!(comparison.finish().missing.count, 100);
    }

    #[test]
    fn a_table_that_was_rewritten_is_compared_all_the_same() {
        let rows = 400_000;
        let mut packer = Packer::new(true);
        (0..rows).for_each(|number| packer.push(Key::Int(number), 1));
        let now = (0..rows).rev().filter(|number| number % 1_000 != 7);
        let now = now.map(|number| (Key::Int(number).hash(), u64::from(number != 399_990)));
        let mut comparison = Comparison::new(Arc::new(Present::new(now.collect())));
        for chunk in packer.finish() {
            comparison.add(&chunk).unwrap();
            assert!(comparison.unmet.len() < UNMET_MAX);
        }
        let found = comparison.finish();

        assert_eq!((found.missing.count, found.missing.names[1].as_str()), (400, "1007"));
        assert_eq!((found.changed.count, found.changed.names[0].as_str()), (1, "399990"));
    }

    #[test]
    fn two_rows_with_a_key_are_seen_in_any_order() {
        let of = |keys: &[u64]| Present::new(keys.iter().map(|key| (*key, 0)).collect()).twice();
        assert_eq!(of(&[1, 2, 3]), None);
        assert_eq!(of(&[3, 1, 2]), None);
        assert_eq!(of(&[3, 1, 3]), Some(3));
        assert_eq!(of(&[1, 1]), Some(1));
    }

    proptest! {
        #[test]
        fn a_block_is_hashed_as_any_bytes_are(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(hash_of_16(&bytes), hash_of(&bytes));
        }
    }

    #[test]
    fn numbers_in_order_take_a_byte_each() {
        let mut packer = Packer::new(false);
        (1..=100_000).for_each(|number| packer.push(Key::Int(number), 0));
        let chunks = packer.finish();

        assert_eq!(chunks.len(), 2);
        assert!(chunks.iter().map(String::len).sum::<usize>() < 140_000);
    }

    #[test]
    fn names_are_as_people_know_them() {
        let id = 0x1234_5678_9abc_def0_1234_5678_9abc_def0_u128.to_be_bytes();
        assert_eq!(Key::Uuid(id).name(), "12345678-9abc-def0-1234-56789abcdef0");
        assert_eq!(Key::Int(-7).name(), "-7");
    }

    proptest! {
        /// Deleted rows are named, changed ones too, and new rows never matter; wherever rows have moved meanwhile.
        #[test]
        fn what_is_gone_is_named(
            before in prop::collection::btree_map(any_key(), any::<u64>(), 0..400),
            gone in any::<u64>(),
            new in prop::collection::btree_map(any_key(), any::<u64>(), 0..200),
            moved in any::<u64>(),
            put_first in any::<bool>(),
        ) {
            let mut packer = Packer::new(true);
            for (key, columns) in &before {
                packer.push(key.as_key(), *columns);
            }
            let (mut stayed, mut went) = (Vec::new(), Vec::new());
            let (mut missing, mut changed) = (Vec::new(), Vec::new());
            for (index, (key, columns)) in before.iter().enumerate() {
                let columns = match (gone >> (index % 60)) & 3 {
                    0 if !new.contains_key(key) => {
                        missing.push(key.as_key().name());
                        continue;
                    }
                    1 => {
                        changed.push(key.as_key().name());
                        columns.wrapping_add(1)
                    }
                    _ => *columns,
                };
                let is_moved = (moved >> (index % 61)).trailing_zeros() >= 3;
                let list = if is_moved { &mut went } else { &mut stayed };
                list.push((key.as_key().hash(), columns));
            }
            let added = new.iter().filter(|(key, _)| !before.contains_key(key));
            let added: Vec<_> = added.map(|(key, columns)| (key.as_key().hash(), *columns)).collect();
            went.reverse();
            let now = if put_first { [added, went, stayed] } else { [stayed, added, went] };
            let present = Present::new(now.concat());
            prop_assume!(present.twice().is_none());
            let mut comparison = Comparison::new(Arc::new(present));
            for chunk in packer.finish() {
                comparison.add(&chunk).unwrap();
            }
            let mut difference = comparison.finish();

            prop_assert_eq!(difference.missing.names, missing);
            difference.changed.names.sort();
            changed.sort();
            prop_assert_eq!(difference.changed.names, changed);
        }

        /// What is no chunk is refused.
        #[test]
        fn damage_is_refused_or_harmless(text in ".{0,60}") {
            let _ = Comparison::new(Arc::default()).add(&text);
        }
    }
}

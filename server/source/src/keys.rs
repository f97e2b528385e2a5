//! A table's keys at one moment, packed; and what of them is missing or changed later.
//!
//! Packed keys are chunks of base64 text, up to [`CHUNK_KEYS`] keys each: one byte for the form (`i` whole numbers as
//! zigzag differences to the one before, in LEB128; `u` UUIDs; `t` texts; `h` hashes), one for whether hashes of columns
//! follow the keys, then the keys. Numbers that a table holds in order take one byte each.

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

/// The keys that a table has now, by hash, with the hash of their columns.
#[derive(Debug, Default)]
pub struct Present(Vec<(u64, u64)>);

impl Present {
    /// From pairs in any order.
    pub fn new(mut pairs: Vec<(u64, u64)>) -> Self {
        pairs.sort_unstable();
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

    /// A key that two rows share, by hash.
    pub fn twice(&self) -> Option<u64> {
        self.0.windows(2).find_map(|pair| match pair {
            [one, other] if one.0 == other.0 => Some(one.0),
            _ => None,
        })
    }

    /// The columns' hash of a key at or behind `from`, which moves there: keys are asked for in order.
    fn find(&self, hash: u64, from: &mut usize) -> Option<u64> {
        let rest = self.0.get(*from..).unwrap_or_default();
        // The next one is close, unless the table has grown a lot.
        let step = match rest.get(..64) {
            Some(close) if close.last().is_some_and(|(key, _)| *key >= hash) => {
                close.partition_point(|(key, _)| *key < hash)
            }
            _ => rest.partition_point(|(key, _)| *key < hash),
        };
        *from += step;
        self.0.get(*from).filter(|(key, _)| *key == hash).map(|(_, columns)| *columns)
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
    fn note(&mut self, key: &Key<'_>) {
        self.count += 1;
        if self.names.len() < NAMES_MAX {
            self.names.push(key.name());
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

impl Difference {
    /// Adds what a chunk of earlier keys shows against the present ones.
    ///
    /// # Errors
    /// The chunk is not one of ours.
    pub fn add(&mut self, chunk: &str, present: &Present) -> Result<(), SourceError> {
        let damaged = || SourceError::Refused("the keys that were kept are damaged".to_owned());
        let bytes = BASE64.decode(chunk).map_err(|_| damaged())?;
        let (head, mut rest) = bytes.split_at_checked(2).ok_or_else(damaged)?;
        let (form, with_columns) =
            (head.first().copied().unwrap_or_default(), head.get(1) == Some(&1));
        let mut last = 0i64;
        let mut keys: Vec<(u64, Key<'_>)> = Vec::new();
        let mut order: Vec<(u64, u32)> = Vec::new();
        while !rest.is_empty() {
            let key = take_key(form, &mut rest, &mut last).ok_or_else(damaged)?;
            let columns = if with_columns {
                u64::from_le_bytes(take(&mut rest).ok_or_else(damaged)?)
            } else {
                0
            };
            order.push((key.hash(), keys.len() as u32));
            keys.push((columns, key));
        }
        // In the order of the present ones, so that each is found right behind the one before.
        order.sort_unstable();
        let mut near = 0;
        for (hash, place) in order {
            let Some((columns, key)) = keys.get(place as usize) else { continue };
            match present.find(hash, &mut near) {
                None => self.missing.note(key),
                Some(now) if with_columns && now != *columns => self.changed.note(key),
                Some(_) => {}
            }
        }
        Ok(())
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
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Owned {
        Int(i64),
        Uuid([u8; 16]),
        Text(Vec<u8>),
    }

    fn borrow(key: &Owned) -> Key<'_> {
        match key {
            Owned::Int(number) => Key::Int(*number),
            Owned::Uuid(bytes) => Key::Uuid(*bytes),
            Owned::Text(text) => Key::Text(text),
        }
    }

    fn any_key() -> impl Strategy<Value = Owned> {
        prop_oneof![
            any::<i64>().prop_map(Owned::Int),
            (0i64..500).prop_map(Owned::Int),
            any::<[u8; 16]>().prop_map(Owned::Uuid),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Owned::Text),
        ]
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
        /// Deleted rows are named, changed ones too, and new rows never matter.
        #[test]
        fn what_is_gone_is_named(
            before in prop::collection::btree_map(any_key(), any::<u64>(), 0..200),
            gone in any::<u64>(),
            new in prop::collection::btree_map(any_key(), any::<u64>(), 0..50),
        ) {
            let mut packer = Packer::new(true);
            for (key, columns) in &before {
                packer.push(borrow(key), *columns);
            }
            let mut now: BTreeMap<&Owned, u64> = new.iter().map(|(key, columns)| (key, *columns)).collect();
            let (mut missing, mut changed) = (Vec::new(), Vec::new());
            for (index, (key, columns)) in before.iter().enumerate() {
                match (gone >> (index % 60)) & 3 {
                    0 if !new.contains_key(key) => missing.push(borrow(key).name()),
                    1 => {
                        now.insert(key, columns.wrapping_add(1));
                        changed.push(borrow(key).name());
                    }
                    _ => { now.insert(key, *columns); }
                }
            }
            let present = Present::new(now.iter().map(|(key, columns)| (borrow(key).hash(), *columns)).collect());
            prop_assume!(present.twice().is_none());
            let mut difference = Difference::default();
            for chunk in packer.finish() {
                difference.add(&chunk, &present).unwrap();
            }

            difference.missing.names.sort();
            missing.sort();
            prop_assert_eq!(difference.missing.names, missing);
            difference.changed.names.sort();
            changed.sort();
            prop_assert_eq!(difference.changed.names, changed);
        }

        /// What is no chunk is refused.
        #[test]
        fn damage_is_refused_or_harmless(text in ".{0,60}") {
            let _ = Difference::default().add(&text, &Present::default());
        }
    }
}

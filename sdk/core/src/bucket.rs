//! Bucketing: which share of the units a rollout lets in, and which variant a unit gets.

mod foreign;

pub(crate) use foreign::Foreign;

/// Slots that units are spread over: one is 0.001 %.
pub const SLOTS: u32 = 100_000;

/// The seed of rollouts; Unleash's.
const ROLLOUT_SEED: u32 = 0;

/// The seed of variants; Unleash's. Another one than the rollout's, or the two would be correlated:
/// the first 10 % let in would all get the first variant.
const VARIANT_SEED: u32 = 86_028_157;

/// Puts `unit` in one of 100,000 slots: the same one on every machine and in every release.
///
/// The salt stops two flags at 10 % from picking the same users. `h % 100` is Unleash's own bucket,
/// so whole percents agree with every Unleash SDK; the next three digits refine it to 0.001 %
/// without moving anyone. Changing this moves real users, so it needs a new document version and
/// new vectors. Hash: MurmurHash3 x86 32-bit, seed 0, over the UTF-8 bytes of `salt:unit`.
///
/// ```
/// assert_eq!(switchback_core::slot("gr1", "123") / 1000 + 1, 73); // Unleash's published vector
/// ```
#[must_use]
pub fn slot(salt: &str, unit: &str) -> u32 {
    slot_of(Salted::rollout(salt).hash(unit.as_bytes()))
}

/// Puts `unit` on a scale of 1 to `total_weight`, for choosing a variant; 0 when there is no weight.
///
/// MurmurHash3 x86 32-bit with seed 86028157 over `salt:unit`, as Unleash does.
///
/// ```
/// assert_eq!(switchback_core::variant_point("gr1", "123", 1000), 796);
/// ```
#[must_use]
pub fn variant_point(salt: &str, unit: &str, total_weight: u64) -> u64 {
    let hash = u64::from(Salted::variants(salt).hash(unit.as_bytes()));
    hash.checked_rem(total_weight).map_or(0, |point| point + 1)
}

/// The slot of a hash: Unleash's bucket first, then three more digits.
#[inline]
pub(crate) fn slot_of(hash: u32) -> u32 {
    (hash % 100) * 1000 + (hash / 100) % 1000
}

/// MurmurHash3 x86 32-bit (Austin Appleby, public domain) that has already read `salt:`.
///
/// Bytes that do not fill a block wait in `carry`, so a unit may start at any offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salted {
    hash: u32,
    /// The last bytes, as many as `length` is over a multiple of four: 0 to 3.
    carry: u32,
    length: u32,
}

impl Salted {
    pub(crate) fn rollout(salt: &str) -> Self {
        Self::new(salt, ROLLOUT_SEED)
    }

    pub(crate) fn variants(salt: &str) -> Self {
        Self::new(salt, VARIANT_SEED)
    }

    /// Has read `salt` alone, with seed 0: flagd's.
    fn plain(salt: &str) -> Self {
        Self { hash: 0, carry: 0, length: 0 }.feed(salt.as_bytes())
    }

    fn new(salt: &str, seed: u32) -> Self {
        Self { hash: seed, carry: 0, length: 0 }.feed(salt.as_bytes()).feed(b":")
    }

    /// The hash of `salt:unit`.
    #[inline]
    pub(crate) fn hash(self, unit: &[u8]) -> u32 {
        let end = self.feed(unit);
        let mut hash = end.hash ^ scramble(end.carry) ^ end.length;
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }

    #[inline]
    fn feed(self, bytes: &[u8]) -> Self {
        let held = (self.length % 4) * 8;
        let (mut hash, mut carry) = (self.hash, u64::from(self.carry));
        let (blocks, rest) = bytes.as_chunks::<4>();
        for block in blocks {
            carry |= u64::from(u32::from_le_bytes(*block)) << held;
            hash = mix(hash, carry as u32);
            carry >>= 32;
        }
        if !rest.is_empty() {
            carry |= u64::from(up_to_three(rest)) << held;
            if held + rest.len() as u32 * 8 >= 32 {
                hash = mix(hash, carry as u32);
                carry >>= 32;
            }
        }
        let length = self.length.wrapping_add(bytes.len() as u32);
        Self { hash, carry: carry as u32, length }
    }
}

/// The bytes that do not fill a block.
#[inline]
fn up_to_three(rest: &[u8]) -> u32 {
    rest.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[inline]
fn mix(hash: u32, block: u32) -> u32 {
    (hash ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

#[inline]
fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of plain bytes: what the published vectors of MurmurHash3 are about.
    fn plain(bytes: &[u8], seed: u32) -> u32 {
        Salted { hash: seed, carry: 0, length: 0 }.hash(bytes)
    }

    #[test]
    fn agrees_with_the_published_vectors_of_murmur3() {
        assert_eq!(plain(b"", 0), 0);
        assert_eq!(plain(b"", 1), 0x514e_28b7);
        assert_eq!(plain(&[0xff; 4], 0), 0x7629_3b50);
        assert_eq!(plain(&[0x21, 0x43, 0x65, 0x87], 0), 0xf55b_516b);
        assert_eq!(plain(&[0x21, 0x43, 0x65], 0), 0x7e4a_8634);
        assert_eq!(plain(b"The quick brown fox jumps over the lazy dog", 0x9747_b28c), 0x2fa8_26cd);
    }

    #[test]
    fn a_split_at_any_byte_gives_the_same_hash() {
        let text = "a salt of any length:and the unit";
        for at in 0..text.len() {
            let (left, right) = text.as_bytes().split_at(at);
            let start = Salted { hash: 7, carry: 0, length: 0 };
            assert_eq!(start.feed(left).hash(right), plain(text.as_bytes(), 7), "split at {at}");
        }
    }
}

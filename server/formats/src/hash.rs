//! The hashes of other systems, written down once more: a drift report must not share code with what it checks.

use md5::{Digest as _, Md5};
use sha1::Sha1;

/// MurmurHash3 x86, 32 bits.
pub fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = seed;
    let (blocks, rest) = bytes.as_chunks::<4>();
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let tail = rest.iter().rev().fold(0_u32, |tail, byte| (tail << 8) | u32::from(*byte));
    if !rest.is_empty() {
        hash ^= scramble(tail);
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// FNV-1a, 32 bits.
pub fn fnv1a(text: &str) -> u32 {
    let mut hash = 2_166_136_261_u32;
    for byte in text.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    }
    hash
}

/// The first 15 hexadecimal digits of SHA-1 as a share of all they can be.
pub fn sha1_share(text: &str) -> f64 {
    let digest = Sha1::digest(text.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    (number / 16) as f64 / 1_152_921_504_606_846_975.0
}

/// Flagsmith's percentage of ids.
pub fn md5_percentage(ids: &[&str]) -> f64 {
    let text = ids.join(",");
    for times in 1..64 {
        let digest = Md5::digest(vec![text.as_str(); times].join(","));
        let number = digest.iter().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        let share = (number % 9_999) as f64 / 9_998.0 * 100.0;
        if share < 100.0 {
            return share;
        }
    }
    0.0
}

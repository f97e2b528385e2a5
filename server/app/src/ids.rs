//! The edges where time and randomness come from; everything inside takes them as arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use switchback_core::model::Millis;

/// Tells the time; tests move it by hand.
pub trait Clock: Send + Sync {
    /// Now, in UTC milliseconds.
    fn now(&self) -> Millis;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Makes ids and secrets.
#[derive(Clone)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    last: Arc<AtomicI64>,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Ids {
    /// Ids under this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Arc::new(AtomicI64::new(0)) }
    }

    /// A typed id that sorts by time, such as `run_01jd2k...`: 60 bits of time in 1/4096 ms steps,
    /// never the same twice in a process, then 40 random bits.
    pub fn next(&self, prefix: &str) -> String {
        let now = self.clock.now() << 12;
        let previous = self.last.fetch_max(now, Ordering::Relaxed);
        let stamp =
            if now > previous { now } else { self.last.fetch_add(1, Ordering::Relaxed) + 1 };
        let mut id = format!("{prefix}_");
        push_base32(&mut id, stamp.cast_unsigned(), 12);
        push_base32(&mut id, u64::from_le_bytes(random::<8>()), 8);
        id
    }
}

/// What sorts after every id of a kind that was made until a moment (UTC milliseconds), and before all later ones.
pub fn after(prefix: &str, at: Millis) -> String {
    let mut id = format!("{prefix}_");
    push_base32(&mut id, ((at + 1) << 12).cast_unsigned(), 12);
    id
}

/// `N` bytes from the system's generator.
///
/// # Panics
/// Never in practice; when the system has no randomness left to give, the process must not go on.
#[expect(clippy::expect_used, reason = "without randomness no secret can be made")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A secret text of 256 bits.
pub fn secret() -> String {
    let mut text = String::with_capacity(56);
    for word in random::<32>().chunks_exact(8) {
        let word = word.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        push_base32(&mut text, word, 13);
    }
    text
}

/// The SHA-256 of a secret, in hex: what is stored in its place.
pub fn hash(secret: &str) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let digest = sha2::Sha256::digest(secret.as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn push_base32(text: &mut String, value: u64, digits: u32) {
    for digit in (0..digits).rev() {
        let index = (value >> (digit * 5)) & 31;
        text.push(ALPHABET.get(index as usize).copied().map_or('0', char::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_of_their_making() {
        let ids = Ids::new(Arc::new(SystemClock));

        let made: Vec<String> = (0..1000).map(|_| ids.next("run")).collect();

        assert!(made.is_sorted() && made.iter().all(|id| id.len() == 24), "{:?}", made.first());
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(secret(), secret());
    }
}

//! Slows down a browser that asks far too often: so many requests a second for one token from one address.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Addresses that are counted at once; beyond, the second begins anew for all.
const ADDRESSES_MAX: usize = 100_000;

/// Requests by token and address.
type Counts = HashMap<(String, String), u32>;

/// Counts of the second that runs.
#[derive(Debug, Default)]
pub struct Brake {
    second: Mutex<(i64, Counts)>,
}

impl Brake {
    /// Whether one more request may pass. `now` in UTC milliseconds.
    pub fn admits(&self, token: &str, address: &str, now: i64, per_second: u32) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, counts) = &mut *second;
        if *at != now / 1_000 || counts.len() >= ADDRESSES_MAX {
            *at = now / 1_000;
            counts.clear();
        }
        let count = counts.entry((token.to_owned(), address.to_owned())).or_insert(0);
        *count += 1;
        *count <= per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_so_many_of_one_address() {
        let brake = Brake::default();
        assert!((0..3).all(|_| brake.admits("t", "a", 1_000, 3)));
        assert!(!brake.admits("t", "a", 1_999, 3));
        assert!(brake.admits("t", "b", 1_999, 3));
        assert!(brake.admits("t", "a", 2_000, 3));
    }
}

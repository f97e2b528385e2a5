//! Who failed already: a user who goes on failing is one fact, however many ticks it fills.
//!
//! Counted anew in each tick, such users take back one healthy rollout in ten where two ticks of them count, and more
//! than half where a minute does, at a promise of one in a hundred (`docs/statistics.md`).

use std::collections::{HashSet, VecDeque};

/// Users that are remembered at most: some megabytes. Beyond, the one who failed first is forgotten, and counts once
/// more should they fail again.
pub const USERS_MAX: usize = 100_000;

/// The users who failed since a guard's start, for one metric.
///
/// Kept in memory alone: after a restart each of them may count once more.
#[derive(Clone, Debug, Default)]
pub struct Once {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Once {
    /// Whether a user belongs in this tick's counts, as seen and, if so, as failed. Who failed in an earlier
    /// tick is left out of both: they tell nothing new. Ask once a tick for each user, by a hash of who they are.
    pub fn admits(&mut self, user: u64, failed: bool) -> bool {
        if self.known.contains(&user) {
            return false;
        }
        if failed {
            self.known.insert(user);
            self.order.push_back(user);
            if self.order.len() > USERS_MAX
                && let Some(first) = self.order.pop_front()
            {
                self.known.remove(&first);
            }
        }
        true
    }

    /// How many users failed, of those that are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody failed.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_goes_on_failing_counts_once_and_others_in_every_tick() {
        let mut once = Once::default();
        assert!(once.is_empty());
        assert!(once.admits(1, false) && once.admits(1, false));
        assert!(once.admits(1, true));
        assert!(!once.admits(1, true) && !once.admits(1, false));
        assert!(once.admits(2, true));
        assert_eq!(once.len(), 2);
    }

    #[test]
    fn memory_is_bounded_and_the_first_are_forgotten_first() {
        let mut once = Once::default();
        for user in 0..=USERS_MAX as u64 {
            assert!(once.admits(user, true), "{user}");
        }
        assert_eq!(once.len(), USERS_MAX);
        assert!(once.admits(0, false));
        assert!(!once.admits(1, false));
    }
}

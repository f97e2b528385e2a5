//! Following one environment, without I/O: what to do with each frame, and when to come back.

use crate::model::Revision;
use crate::wire::ServerFrame;

/// The shortest wait before the second attempt to connect, at most, in milliseconds.
const BACKOFF_BASE_MS: u64 = 500;

/// The longest wait between two attempts, in milliseconds.
const BACKOFF_CAP_MS: u64 = 30_000;

/// Follows one environment. The Rust SDK and the relay run this; the JS SDK mirrors it.
///
/// Revisions compare only within one epoch. A restored backup starts a new epoch, and only a full
/// document (or full values) leads into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    at: Option<Position>,
    /// A full document was asked for and is not here yet.
    is_waiting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    epoch: String,
    revision: Revision,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Apply it, then acknowledge. If that fails, call [`Follower::on_lost`] and ask.
    Apply,
    /// Ask for a full document.
    Ask,
    /// Nothing: old news, or not about the state.
    Nothing,
}

impl Follower {
    /// Follows on from a state that is already there, such as one from a disk cache.
    pub fn resume(epoch: impl Into<String>, revision: Revision) -> Self {
        Self { at: Some(Position { epoch: epoch.into(), revision }), is_waiting: false }
    }

    /// Epoch and revision of the state that is here, for `hello` and `ack`.
    pub fn position(&self) -> Option<(&str, Revision)> {
        self.at.as_ref().map(|at| (at.epoch.as_str(), at.revision))
    }

    /// A new connection: what was asked for on the old one will not come.
    pub fn on_connect(&mut self) {
        self.is_waiting = false;
    }

    /// The state that is here cannot be built upon: a delta did not apply. The next full document
    /// is taken, whatever its revision.
    pub fn on_lost(&mut self) -> Reply {
        self.at = None;
        self.ask()
    }

    /// Takes a frame. [`Reply::Apply`] has moved the position already.
    pub fn on_frame(&mut self, frame: &ServerFrame) -> Reply {
        match frame {
            ServerFrame::Full(document) => self.replace(&document.epoch, document.revision),
            ServerFrame::Values(values) => self.replace(&values.epoch, values.revision),
            ServerFrame::Delta(delta) => match &mut self.at {
                Some(at) if at.epoch == delta.epoch => {
                    if at.revision == delta.from && delta.from < delta.to {
                        at.revision = delta.to;
                        Reply::Apply
                    } else if at.revision < delta.to {
                        self.ask_once()
                    } else {
                        Reply::Nothing // old news, from a replay or a lagging relay: never go back
                    }
                }
                _ => self.ask_once(),
            },
            ServerFrame::Heartbeat { epoch, revision } => match &self.at {
                Some(at) if at.epoch == *epoch && at.revision >= *revision => Reply::Nothing,
                // Heartbeats are slow, so asking at each one is a retry and no storm.
                _ => self.ask(),
            },
            ServerFrame::Notice(_) | ServerFrame::Goodbye { .. } => Reply::Nothing,
        }
    }

    fn replace(&mut self, epoch: &str, revision: Revision) -> Reply {
        if self.at.as_ref().is_some_and(|at| at.epoch == epoch && at.revision >= revision) {
            self.is_waiting = false;
            return Reply::Nothing;
        }
        *self = Self::resume(epoch, revision);
        Reply::Apply
    }

    fn ask_once(&mut self) -> Reply {
        if self.is_waiting { Reply::Nothing } else { self.ask() }
    }

    fn ask(&mut self) -> Reply {
        self.is_waiting = true;
        Reply::Ask
    }
}

/// How long to wait before connecting again, in milliseconds: exponential with full jitter, from 0
/// to 500 ms after the first failure (`attempt` 0), up to 30 s. `draw` is a random number.
///
/// Full jitter (Marc Brooker, "Exponential Backoff and Jitter", 2015) spreads a fleet best.
#[must_use]
pub fn backoff_ms(attempt: u32, draw: u32) -> u64 {
    let ceiling = BACKOFF_BASE_MS.saturating_mul(1 << attempt.min(16)).min(BACKOFF_CAP_MS);
    (u64::from(draw) * (ceiling + 1)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Document;
    use crate::wire::Delta;

    fn full(epoch: &str, revision: Revision) -> ServerFrame {
        ServerFrame::Full(Document { epoch: epoch.to_owned(), revision, ..Document::default() })
    }

    fn delta(epoch: &str, from: Revision, to: Revision) -> ServerFrame {
        ServerFrame::Delta(Delta { epoch: epoch.to_owned(), from, to, ..Delta::default() })
    }

    fn heartbeat(epoch: &str, revision: Revision) -> ServerFrame {
        ServerFrame::Heartbeat { epoch: epoch.to_owned(), revision }
    }

    #[test]
    fn follows_deltas_and_ignores_old_news() {
        let mut follower = Follower::default();

        assert_eq!(follower.on_frame(&full("a", 3)), Reply::Apply);
        assert_eq!(follower.on_frame(&delta("a", 3, 4)), Reply::Apply);
        assert_eq!(follower.on_frame(&delta("a", 3, 4)), Reply::Nothing);
        assert_eq!(follower.on_frame(&full("a", 2)), Reply::Nothing);
        assert_eq!(follower.on_frame(&heartbeat("a", 4)), Reply::Nothing);
        assert_eq!(follower.position(), Some(("a", 4)));
    }

    #[test]
    fn a_gap_asks_once_and_again_at_each_heartbeat() {
        let mut follower = Follower::resume("a", 3);

        assert_eq!(follower.on_frame(&delta("a", 5, 6)), Reply::Ask);
        assert_eq!(follower.on_frame(&delta("a", 6, 7)), Reply::Nothing);
        assert_eq!(follower.on_frame(&heartbeat("a", 7)), Reply::Ask);
        assert_eq!(follower.on_frame(&full("a", 7)), Reply::Apply);
        assert_eq!(follower.on_frame(&delta("a", 8, 9)), Reply::Ask);
    }

    #[test]
    fn only_a_full_document_leads_into_a_new_epoch() {
        let mut follower = Follower::resume("a", 30);

        assert_eq!(follower.on_frame(&delta("b", 30, 31)), Reply::Ask);
        assert_eq!(follower.on_frame(&heartbeat("b", 2)), Reply::Ask);
        assert_eq!(follower.position(), Some(("a", 30)));
        assert_eq!(follower.on_frame(&full("b", 2)), Reply::Apply);
        assert_eq!(follower.position(), Some(("b", 2)));
    }

    #[test]
    fn a_lost_state_takes_the_next_full_document() {
        let mut follower = Follower::resume("a", 30);

        assert_eq!(follower.on_lost(), Reply::Ask);
        assert_eq!(follower.on_frame(&full("a", 30)), Reply::Apply);
    }

    #[test]
    fn backing_off_grows_and_stays_within_bounds() {
        assert_eq!(backoff_ms(0, 0), 0);
        assert_eq!(backoff_ms(0, u32::MAX), 500);
        assert_eq!(backoff_ms(3, u32::MAX), 4_000);
        assert_eq!(backoff_ms(u32::MAX, u32::MAX), 30_000);
    }
}

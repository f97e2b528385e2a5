//! Which writes of sessions go together.

use std::collections::BTreeSet;

use crate::user_session_writes::{SessionWrite, Whose};

/// Writes of one kind, with their places among all.
type Alike<'w> = (Vec<usize>, Vec<&'w SessionWrite>);

/// Writes that may be done kind by kind.
#[derive(Default)]
pub(crate) struct Round<'w> {
    pub starts: Alike<'w>,
    pub touches: Alike<'w>,
    pub ends: Alike<'w>,
}

/// Puts together what is alike, so that logins and logouts that come mixed are a few statements. A session that begins after
/// its user left, or in the place of one that was spoken of, waits for the next round.
pub(crate) fn rounds(writes: &[SessionWrite]) -> Vec<Round<'_>> {
    let mut all = Vec::new();
    let mut round = Round::default();
    let mut spoken: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (place, write) in writes.iter().enumerate() {
        let alike = match write {
            SessionWrite::Start { environment, session, replaces } => {
                let mut names = [Some(&session.user_key), Some(&session.id), replaces.as_ref()]
                    .into_iter()
                    .flatten();
                if names.any(|name| spoken.contains(&(environment, name))) {
                    all.push(std::mem::take(&mut round));
                    spoken.clear();
                }
                &mut round.starts
            }
            SessionWrite::Touch { environment, ids, .. } => {
                spoken.extend(ids.iter().map(|id| (environment.as_str(), id.as_str())));
                &mut round.touches
            }
            SessionWrite::End {
                environment,
                whose: Whose::User(name) | Whose::Session(name),
                ..
            } => {
                spoken.insert((environment, name));
                &mut round.ends
            }
        };
        alike.0.push(place);
        alike.1.push(write);
    }
    all.push(round);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user_sessions::UserSession;

    fn start_of(id: &str, user: &str) -> SessionWrite {
        let session = UserSession {
            id: id.to_owned(),
            user_key: user.to_owned(),
            started_at: 0,
            last_activity_at: 0,
            ended_at: None,
            session_duration_seconds: None,
            end_reason: None,
            platform: None,
            app_version: None,
            country: None,
            device: None,
        };
        SessionWrite::Start { environment: "production".to_owned(), session, replaces: None }
    }

    fn end_of(whose: Whose) -> SessionWrite {
        SessionWrite::End { environment: "production".to_owned(), whose, at: 1 }
    }

    #[test]
    fn mixed_writes_are_one_round_unless_somebody_comes_back() {
        let user = |name: &str| Whose::User(name.to_owned());
        let writes = [
            start_of("s1", "ada"),
            end_of(user("bob")),
            start_of("s2", "eve"),
            end_of(user("ada")),
            start_of("s3", "ada"),
            end_of(Whose::Session("s3".to_owned())),
        ];

        let rounds = rounds(&writes);

        let places: Vec<_> =
            rounds.iter().map(|one| (&one.starts.0[..], &one.ends.0[..])).collect();
        assert_eq!(places, [(&[0, 2][..], &[1, 3][..]), (&[4], &[5])]);
    }
}

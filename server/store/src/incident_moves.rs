//! Which components an incident's update moves, and where to.

use std::collections::BTreeMap;

use crate::components::ComponentStatus;
use crate::incidents::IncidentStatus;

/// Components and what they are.
pub(crate) type States = BTreeMap<String, ComponentStatus>;

/// What an update of an incident moves. `was`: how the incident went before; `is`: how it goes now; `said`: what the update
/// names; `all`: what the incident names by now; `others`: what other incidents that are open and have begun name.
///
/// An update moves what it names. Work that begins takes all of its own. The end gives back what the incident held, unless
/// another holds it still: a component that was named and left operational was not held, and work that never began held
/// nothing.
pub(crate) fn moves(
    was: IncidentStatus,
    is: IncidentStatus,
    said: &States,
    mut all: States,
    others: &[States],
) -> States {
    let had_begun = was != IncidentStatus::Scheduled;
    if is == IncidentStatus::Scheduled {
        all.clear();
    } else if is.is_over() {
        all.retain(|key, status| {
            let is_held = had_begun && *status != ComponentStatus::Operational;
            is_held || said.contains_key(key)
        });
        for (key, status) in &mut all {
            *status = said.get(key).copied().unwrap_or(ComponentStatus::Operational);
            let held = others.iter().filter_map(|other| other.get(key)).max();
            *status = held.map_or(*status, |held| *held.max(status));
        }
    } else if had_begun {
        all.retain(|key, _| said.contains_key(key)); // somebody may have moved the others since
    }
    all
}

#[cfg(test)]
mod tests {
    use ComponentStatus::{MajorOutage, Operational, PartialOutage, UnderMaintenance};
    use IncidentStatus::{
        Completed, Identified, InProgress, Investigating, Monitoring, Resolved, Scheduled,
    };

    use super::*;

    fn states(pairs: &[(&str, ComponentStatus)]) -> States {
        pairs.iter().map(|(key, status)| ((*key).to_owned(), *status)).collect()
    }

    #[test]
    fn an_update_moves_only_what_it_names() {
        let all = states(&[("app", MajorOutage), ("auth", Operational)]);
        let said = states(&[("app", PartialOutage)]);
        let after = states(&[("app", PartialOutage), ("auth", Operational)]);

        assert_eq!(moves(Investigating, Monitoring, &States::new(), all, &[]), States::new());
        assert_eq!(moves(Investigating, Identified, &said, after, &[]), said);
    }

    #[test]
    fn the_end_gives_back_what_was_held() {
        let all = states(&[("app", MajorOutage), ("auth", Operational), ("pay", PartialOutage)]);
        let others = [states(&[("pay", MajorOutage), ("auth", MajorOutage)])];

        let given = moves(Monitoring, Resolved, &States::new(), all, &others);

        assert_eq!(given, states(&[("app", Operational), ("pay", MajorOutage)]));
    }

    #[test]
    fn work_takes_its_own_when_it_begins_and_nothing_when_it_never_did() {
        let all = || states(&[("app", UnderMaintenance)]);
        let none = States::new();

        assert_eq!(moves(Scheduled, InProgress, &none, all(), &[]), all());
        assert_eq!(
            moves(InProgress, Completed, &none, all(), &[]),
            states(&[("app", Operational)])
        );
        assert_eq!(moves(Scheduled, Completed, &none, all(), &[]), none);
        assert_eq!(moves(Scheduled, Scheduled, &none, all(), &[]), none);
    }
}

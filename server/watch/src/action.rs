//! What a guard does by itself, and everything that keeps it from doing so.
//!
//! Nothing here turns a flag on or raises a share: there is no such [`Act`]. What was taken back stays back
//! until a person says otherwise.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::units::duration_words;

use crate::guard::{Action, Guard, Standing, Verdict};

/// So many things may happen by themselves in one environment within [`CEILING_MS`].
pub const CEILING: usize = 3;
/// The time that [`CEILING`] is for, in milliseconds.
pub const CEILING_MS: Millis = 10 * 60_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Nothing.
    Nothing,
    /// People are told.
    Warn,
    /// The rollout goes no further.
    Hold,
    /// The flag goes back to what it was.
    PutBack,
    /// A playbook is started.
    RunPlaybook {
        /// Its name.
        name: String,
        /// One person agrees first.
        approval: bool,
    },
    /// Nothing happens by itself in this environment any more, until a person ends that.
    Freeze,
}

/// What has happened around a guard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Somebody has switched automation off.
    pub automation_off: bool,
    /// A freeze holds.
    pub frozen: bool,
    /// When something last happened to this flag by itself.
    pub flag_acted: Option<Millis>,
    /// When things happened by themselves in this environment.
    pub environment_acted: &'a [Millis],
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What is to be done.
    pub act: Act,
    /// Somebody is woken.
    pub page: bool,
    /// What would have been done, had something not kept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Act>,
    /// One sentence for people.
    pub words: String,
}

/// What follows from a verdict.
///
/// A time of an earlier action that lies in the future, by a clock that was set back, counts as just now.
pub fn next_action(
    settings: &Guard,
    verdict: &Verdict,
    around: &Surroundings<'_>,
    now: Millis,
) -> Next {
    let plain = |act, page| Next { act, page, instead_of: None, words: verdict.words.clone() };
    match verdict.standing {
        Standing::Ok | Standing::Insufficient => plain(Act::Nothing, false),
        Standing::Warn => plain(Act::Warn, false),
        Standing::SampleRatio | Standing::NotThisFlag => plain(Act::Hold, true),
        Standing::NoData { age_ms } => plain(Act::Hold, age_ms > settings.no_data_page_ms),
        Standing::Bad => match &settings.action {
            Action::Warn => plain(Act::Warn, true),
            Action::Hold => plain(Act::Hold, true),
            Action::PutBack => restrained(settings, verdict, around, now, Act::PutBack),
            Action::RunPlaybook { name, approval } => {
                let act = Act::RunPlaybook { name: name.clone(), approval: *approval };
                restrained(settings, verdict, around, now, act)
            }
        },
    }
}

/// The act, unless something keeps it: then the rollout holds and somebody is woken.
fn restrained(
    settings: &Guard,
    verdict: &Verdict,
    around: &Surroundings<'_>,
    now: Millis,
    act: Act,
) -> Next {
    let since = |at: Millis| now.saturating_sub(at);
    let cooling = around.flag_acted.filter(|at| since(*at) < settings.cool_down_ms);
    let lately = around.environment_acted.iter().filter(|at| since(**at) < CEILING_MS).count();
    let (held, why) = if around.automation_off {
        (Act::Hold, "Automation is off, so that a person decides.".to_owned())
    } else if around.frozen {
        (Act::Hold, "Automation is frozen here, so that a person decides.".to_owned())
    } else if let Some(at) = cooling {
        let ago = duration_words(since(at).max(0).unsigned_abs());
        (Act::Hold, format!("This flag was changed by itself {ago} ago, so that a person decides."))
    } else if lately >= CEILING {
        let within = duration_words(CEILING_MS.unsigned_abs());
        let why = format!(
            "{lately} things happened by themselves within {within}: automation is frozen here until a person \
             ends that."
        );
        (Act::Freeze, why)
    } else {
        return Next { act, page: true, instead_of: None, words: verdict.words.clone() };
    };
    Next { act: held, page: true, instead_of: Some(act), words: format!("{} {why}", verdict.words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{GuardState, Reading, observe};

    const NOW: Millis = 1_000_000_000;

    fn verdict(standing: Standing) -> Verdict {
        let settings = Guard::default();
        let mut state = GuardState::new(&settings, NOW);
        let mut verdict = observe(&mut state, &settings, &[Reading::default()], None, NOW);
        verdict.standing = standing;
        verdict
    }

    fn next(around: &Surroundings<'_>) -> Next {
        next_action(&Guard::default(), &verdict(Standing::Bad), around, NOW)
    }

    #[test]
    fn harm_puts_the_flag_back_and_doubt_only_holds() {
        assert_eq!(next(&Surroundings::default()).act, Act::PutBack);
        let around = Surroundings::default();
        let act = |standing| next_action(&Guard::default(), &verdict(standing), &around, NOW).act;
        for doubt in
            [Standing::SampleRatio, Standing::NotThisFlag, Standing::NoData { age_ms: 90_000 }]
        {
            assert_eq!(act(doubt), Act::Hold);
        }
        assert_eq!(act(Standing::Insufficient), Act::Nothing);
    }

    #[test]
    fn one_flag_is_put_back_once_in_its_cool_down() {
        let hour = 3_600_000;
        for (at, expected) in [
            (NOW - hour, Act::Hold),
            (NOW - 6 * hour, Act::PutBack),
            (NOW + hour, Act::Hold), // the clock was set back
            (Millis::MIN, Act::PutBack),
        ] {
            let found = next(&Surroundings { flag_acted: Some(at), ..Surroundings::default() });
            assert_eq!(found.act, expected, "{at}");
        }
    }

    #[test]
    fn the_fourth_within_ten_minutes_freezes() {
        let acted = [NOW - 1, NOW - 2, NOW - CEILING_MS + 1, NOW - CEILING_MS - 1];
        let three = next(&Surroundings { environment_acted: &acted, ..Surroundings::default() });
        let two = next(&Surroundings { environment_acted: &acted[1..], ..Surroundings::default() });

        assert_eq!((three.act, three.instead_of), (Act::Freeze, Some(Act::PutBack)));
        assert_eq!(two.act, Act::PutBack);
    }

    #[test]
    fn with_automation_off_or_frozen_a_person_decides() {
        let off = next(&Surroundings { automation_off: true, ..Surroundings::default() });
        let frozen = next(&Surroundings { frozen: true, ..Surroundings::default() });

        for found in [off, frozen] {
            assert_eq!((found.act, found.page), (Act::Hold, true));
            assert!(found.words.ends_with("a person decides."), "{}", found.words);
        }
    }
}

//! The sentence in which a guard says where things stand.

use super::{Arrivals, Guard, Standing, Verdict};

pub(super) fn sentence(settings: &Guard, verdict: &Verdict, arrivals: Arrivals) -> String {
    let subject = &settings.subject;
    match verdict.standing {
        Standing::Bad => format!("Users with {subject} fail {}.", how_often(verdict)),
        Standing::Warn => {
            format!(
                "Users with {subject} seem to fail {}; this is not certain yet.",
                how_often(verdict)
            )
        }
        Standing::Ok => match verdict.ratio {
            None => format!("Users with {subject} fail no more than others."),
            Some(_) => format!("Nothing shows that users with {subject} fail more than others."),
        },
        Standing::Insufficient => format!(
            "Too few users so far: {} with {subject} and {} without; {} of each are needed.",
            verdict.treated, verdict.control, settings.min_users
        ),
        Standing::SampleRatio => {
            let all = (arrivals.treated.saturating_add(arrivals.control)).max(1) as f64;
            format!(
                "{:.1} % of new users have {subject} where {:.1} % should: the counting is wrong, so that \
                 nothing can be said.",
                arrivals.treated as f64 / all * 100.0,
                arrivals.share * 100.0
            )
        }
        Standing::NotThisFlag => format!(
            "Users fail far more than usual, with {subject} and without: something else is broken."
        ),
        Standing::NoData { age_ms } => {
            let age = switchback_playbook::units::duration_words(age_ms.max(0).unsigned_abs());
            format!("No data about `{}` for {age}: nothing can be said.", verdict.metric)
        }
    }
}

fn how_often(verdict: &Verdict) -> String {
    let at_least = match verdict.ratio_at_least {
        // The bound is over all ticks, so that it says little about a change that came late.
        Some(bound) if bound > 1.05 && verdict.ratio.is_none_or(|ratio| bound < ratio) => {
            format!(" (at least {})", short(bound))
        }
        _ => String::new(),
    };
    match verdict.ratio {
        Some(ratio) if ratio > 1.0 => format!("{} times as often{at_least}", short(ratio)),
        Some(_) => "more often".to_owned(),
        None => format!("more often{at_least}; of the others none did"),
    }
}

/// `3.1`, `14`, `1.05`: no more digits than one can know.
fn short(ratio: f64) -> String {
    if ratio >= 9.95 {
        format!("{ratio:.0}")
    } else if ratio >= 1.095 {
        format!("{ratio:.1}")
    } else {
        format!("{ratio:.2}")
    }
}

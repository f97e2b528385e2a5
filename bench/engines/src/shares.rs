//! Whether an engine decides what the flags say: nobody is timed on the way to an error.

use std::collections::BTreeMap;

use super::world::{Engine, Flag, GROUP, Kind, VARIANTS, user};

const USERS: usize = 2_000;
/// Five standard deviations of a fair coin over that many users.
const OFF_BY_MAX: f64 = 0.056;

/// Compares shares over made-up users; the first that is wrong is named.
pub fn check(engine: &dyn Engine, flags: &[Flag]) -> Result<(), String> {
    let shares = |key: &str, group: &str| {
        let mut shares: BTreeMap<String, f64> = BTreeMap::new();
        for n in 0..USERS {
            *shares.entry(engine.decide(key, &user(n), group)).or_default() += 1.0 / USERS as f64;
        }
        shares
    };
    let expect = |key: &str, group: &str, wanted: &[(&str, f64)]| {
        let found = shares(key, group);
        let is_near = |(name, share): &(&str, f64)| {
            let off_by = (found.get(*name).copied().unwrap_or_default() - share).abs();
            // All or nothing has no luck in it.
            off_by <= if (0.001..0.999).contains(share) { OFF_BY_MAX } else { 1e-9 }
        };
        let is_right = found.len() <= wanted.len() && wanted.iter().all(is_near);
        if is_right {
            Ok(())
        } else {
            Err(format!("`{key}` for `{group}` is {found:?}, not {wanted:?}"))
        }
    };
    expect("plain", GROUP, &[("on", 1.0)])?;
    expect("rollout", GROUP, &[("on", 0.5), ("off", 0.5)])?;
    expect("targeting", GROUP, &[("on", 0.5), ("off", 0.5)])?;
    expect("targeting", "nobody", &[("off", 1.0)])?;
    let names = super::world::variants();
    let even: Vec<(&str, f64)> =
        names.iter().map(|name| (name.as_str(), 1.0 / VARIANTS as f64)).collect();
    expect("variants", GROUP, &even)?;
    // Of all flags: each one is there, and not one is as another.
    let mut on = 0;
    let sample: Vec<String> = (0..4).map(user).collect();
    for flag in flags {
        for who in &sample {
            let decided = engine.decide(&flag.key, who, GROUP);
            let fits = match flag.kind {
                Kind::Plain => decided == "on",
                Kind::Rollout | Kind::Targeting => decided == "on" || decided == "off",
                Kind::Variants => names.contains(&decided),
            };
            if !fits {
                return Err(format!("`{}` is {decided} for {who}", flag.key));
            }
            let is_half = matches!(flag.kind, Kind::Rollout | Kind::Targeting);
            on += usize::from(is_half && decided == "on");
        }
    }
    let share = on as f64 / (sample.len() * flags.len() / 2) as f64;
    if (share - 0.5).abs() > OFF_BY_MAX {
        return Err(format!("{share:.2} of the shares over all flags are on"));
    }
    Ok(())
}

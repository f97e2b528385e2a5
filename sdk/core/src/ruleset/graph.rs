//! Prerequisites as a graph: cycles, chains that are too long, and chains that fan out too much.

use super::{PREREQUISITE_DEPTH_MAX, PREREQUISITE_VISITS_MAX};

/// What is wrong with each flag's prerequisites, if anything. `edges` holds, for each flag, the
/// flags that it asks. Takes time linear in flags and edges (Kahn's algorithm).
pub(super) fn faults(edges: &[Vec<u32>]) -> Vec<Option<&'static str>> {
    let mut waiting: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut askers: Vec<Vec<u32>> = vec![Vec::new(); edges.len()];
    for (asker, asked) in edges.iter().enumerate() {
        for flag in asked {
            if let Some(askers) = askers.get_mut(*flag as usize) {
                askers.push(asker as u32);
            }
        }
    }

    // Depth and visits of each flag; known once all that it asks are known.
    let mut costs: Vec<Option<(u32, u32)>> = vec![None; edges.len()];
    let mut ready: Vec<usize> =
        waiting.iter().enumerate().filter(|(_, n)| **n == 0).map(|(flag, _)| flag).collect();
    while let Some(flag) = ready.pop() {
        let asked = edges.get(flag).into_iter().flatten();
        let cost = asked.filter_map(|one| *costs.get(*one as usize)?).fold(
            (0, 1_u32),
            |(depth, visits): (u32, u32), (its_depth, its_visits)| {
                (depth.max(its_depth.saturating_add(1)), visits.saturating_add(its_visits))
            },
        );
        if let Some(slot) = costs.get_mut(flag) {
            *slot = Some(cost);
        }
        for asker in askers.get(flag).into_iter().flatten() {
            if let Some(waiting) = waiting.get_mut(*asker as usize) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    ready.push(*asker as usize);
                }
            }
        }
    }

    let fault = |cost: Option<(u32, u32)>| match cost {
        None => Some("form a cycle, or lead to one"),
        Some((depth, _)) if depth > PREREQUISITE_DEPTH_MAX => Some("are nested too deeply"),
        Some((_, visits)) if visits > PREREQUISITE_VISITS_MAX => Some("lead to too many flags"),
        Some(_) => None,
    };
    costs.into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_depth_and_fan_out_are_found() {
        let two_and_a_cycle = [vec![], vec![0], vec![3], vec![2], vec![2], vec![5]];
        let found: Vec<bool> = faults(&two_and_a_cycle).iter().map(Option::is_some).collect();
        assert_eq!(found, [false, false, true, true, true, true]);

        let chain: Vec<Vec<u32>> =
            (0..20_u32).map(|i| i.checked_sub(1).into_iter().collect()).collect();
        let found = faults(&chain);
        assert_eq!(found.iter().position(Option::is_some), Some(17));

        let fan: Vec<Vec<u32>> =
            (0..8_u32).map(|i| i.checked_sub(1).map_or(vec![], |below| vec![below; 20])).collect();
        assert_eq!(faults(&fan).iter().position(Option::is_some), Some(3));
    }
}

//! Random playbooks and random deaths against a model of a few lines that knows no crashes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use switchback_playbook::invert::{Which, invert};

use switchback_playbook::journal::{Entry, NewEntry, Phase};
use switchback_playbook::next_move::next_move;
use switchback_playbook::state::RunView;
use switchback_playbook::{Ending, compile, lint};

use crate::support::*;

const FLAGS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Doing {
    Set(usize, bool),
    Kill(usize),
    Open,
    Wait,
    Log,
}

#[derive(Clone, Debug)]
struct Step {
    doing: Doing,
    fails: bool,
    goes_on: bool,
}

/// Steps in a row; those of an inner list run at the same time, so many at once.
type Steps = Vec<(usize, Vec<Step>)>;

fn steps() -> impl Strategy<Value = Steps> {
    let doing = prop_oneof![
        4 => (0usize..4, any::<bool>()).prop_map(|(flag, on)| Doing::Set(flag, on)),
        2 => (0usize..4).prop_map(Doing::Kill),
        1 => Just(Doing::Open),
        1 => Just(Doing::Wait),
        1 => Just(Doing::Log),
    ];
    let step = (doing, prop::bool::weighted(0.12), prop::bool::weighted(0.3));
    let step = step.prop_map(|(doing, fails, goes_on)| Step { doing, fails, goes_on });
    let some = prop_oneof![
        3 => prop::collection::vec(step.clone(), 1..2),
        1 => prop::collection::vec(step, 2..5).prop_map(with_different_flags),
    ];
    prop::collection::vec((1usize..4, some), 1..7)
}

/// Two steps of a group may not change the same flag.
fn with_different_flags(mut steps: Vec<Step>) -> Vec<Step> {
    let mut seen = BTreeSet::new();
    steps.retain(|step| match step.doing {
        _ if step.fails => seen.insert(FLAGS.len()),
        Doing::Set(flag, _) | Doing::Kill(flag) => seen.insert(flag),
        _ => true,
    });
    steps
}

fn deaths() -> impl Strategy<Value = Vec<Fault>> {
    let death = (1u64..40, any::<bool>())
        .prop_map(|(at, before)| if before { Fault::DieBefore(at) } else { Fault::DieAfter(at) });
    prop::collection::vec(death, 0..4)
}

fn yaml(steps: &Steps) -> String {
    let line = |(index, step): (usize, &Step)| {
        // A step that fails names a flag that does not exist.
        let kind = match &step.doing {
            _ if step.fails => "flag.set: {key: nowhere, value: true}".to_owned(),
            Doing::Set(flag, on) => format!("flag.set: {{key: {}, value: {on}}}", FLAGS[*flag]),
            Doing::Kill(flag) => format!("flag.kill: {{key: {}, killed: true}}", FLAGS[*flag]),
            Doing::Open => "incident.open: {template: auth_down}".to_owned(),
            Doing::Wait => "wait: {for: 3s}".to_owned(),
            Doing::Log => "log: {message: m}".to_owned(),
        };
        let on_error = if step.goes_on { "continue" } else { "stop" };
        format!("{{id: s{index}, on_error: {on_error}, {kind}}}")
    };
    let lines = |(index, (max, inner)): (usize, &(usize, Vec<Step>))| match inner.as_slice() {
        [one] => format!("- {}", line((index, one))),
        some => {
            let some: Vec<String> = some.iter().enumerate().map(line).collect();
            format!("- {{id: g{index}, group: {{max: {max}, steps: [{}]}}}}", some.join(", "))
        }
    };
    steps.iter().enumerate().map(lines).collect::<Vec<_>>().join("\n")
}

/// The model: (on, killed) of each flag, open incidents, how it ends.
fn model(steps: &Steps) -> (Vec<(bool, bool)>, usize, Ending) {
    let clean = (vec![(false, false); 4], 0, Ending::Compensated);
    let (mut flags, mut incidents) = (clean.0.clone(), 0);
    for step in steps.iter().flat_map(|(_, steps)| steps) {
        let mut failed = step.fails;
        match step.doing {
            _ if failed => {}
            Doing::Set(flag, true) if flags[flag].1 => failed = true, // it is killed
            Doing::Set(flag, on) => flags[flag].0 = on,
            Doing::Kill(flag) => flags[flag].1 = true,
            Doing::Open => incidents += 1,
            Doing::Wait | Doing::Log => {}
        }
        if failed && !step.goes_on {
            return clean;
        }
    }
    (flags, incidents, Ending::Succeeded)
}

/// `PROPTEST_CASES`, or what a push affords.
#[expect(clippy::disallowed_methods, reason = "the number of cases is given so")]
fn cases() -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(wanted.unwrap_or(10_000))
}

proptest! {
    #![proptest_config(cases())]

    /// However often the nodes die, a run ends where the model ends.
    #[test]
    fn a_run_ends_where_the_model_ends(steps in steps(), faults in deaths()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let fake = Fake::new(plan_of(&yaml(&steps)));
        fake.with(|inner| inner.faults = faults);

        let ending = runtime.block_on(async { fake.drive_to_end(&TestClock::new()).await });

        let states = fake.states();
        let flags = FLAGS.iter().map(|key| (states[*key].enabled, states[*key].killed)).collect();
        prop_assert_eq!((flags, fake.open_incidents(), ending), model(&steps));
    }

    /// What a run did and its inverse takes back leaves everything as it was, however often the nodes die.
    #[test]
    fn do_then_undo_changes_nothing(steps in steps(), faults in deaths()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let fake = Fake::new(plan_of(&yaml(&steps)));
        let before = fake.states();
        runtime.block_on(async { fake.drive_to_end(&TestClock::new()).await });
        let (plan, entries) = fake.with(|inner| (inner.plan.clone().unwrap(), inner.entries.clone()));

        match invert("r1", &plan, &entries, Which::All) {
            Err(nothing) => prop_assert!(nothing.contains("nothing"), "{}", nothing),
            Ok(inverted) => {
                let (playbook, _) = lint::load(&inverted.yaml, library())
                    .unwrap_or_else(|problems| panic!("{problems:#?}\n{}", inverted.yaml));
                let back = compile(&playbook, library(), ENV, &given(&[]), "a test").unwrap();
                fake.with(|inner| {
                    (inner.plan, inner.faults) = (Some(back), faults);
                    (inner.operations, inner.dead) = (0, false);
                    inner.entries.clear();
                });
                let ending = runtime.block_on(async { fake.drive_to_end(&TestClock::new()).await });
                prop_assert_eq!(ending, Ending::Succeeded, "{:#?}", fake.phases());
            }
        }
        prop_assert_eq!(fake.states(), before);
        prop_assert_eq!(fake.open_incidents(), 0);
    }

    /// Each step's intent is committed before its effect, and each flag write has exactly one outcome.
    #[test]
    fn every_write_has_an_intent_before_and_one_outcome(steps in steps(), faults in deaths()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let fake = Fake::new(plan_of(&yaml(&steps)));
        fake.with(|inner| inner.faults = faults);

        runtime.block_on(async { fake.drive_to_end(&TestClock::new()).await });

        let mut open = BTreeSet::new();
        let mut revisions = Vec::new();
        for entry in fake.with(|inner| inner.entries.clone()) {
            let row = entry.row;
            match row.phase {
                Phase::Intent | Phase::UndoIntent => {
                    open.insert(row.step_id);
                }
                Phase::Done | Phase::Undone => {
                    prop_assert!(open.remove(&row.step_id), "{} without intent", row.step_id);
                    revisions.extend(row.detail.get("revision").and_then(serde_json::Value::as_u64));
                }
                _ => {}
            }
        }
        let writes: Vec<u64> = fake.with(|inner| inner.writes.iter().map(|(_, at)| *at).collect());
        prop_assert_eq!(revisions, writes);
    }

    /// Whatever rows a journal holds, the choice of the next move is made and does not panic.
    #[test]
    fn next_move_answers_on_any_rows(rows in prop::collection::vec((0usize..7, 0usize..21, 0i64..99), 0..30), now in 0i64..2_000_000, busy in prop::collection::btree_set(0usize..7, 0..3)) {
        const PHASES: [Phase; 21] = [
            Phase::Intent, Phase::Done, Phase::Failed, Phase::Unknown, Phase::Verified, Phase::Unverified,
            Phase::UndoIntent, Phase::Undone, Phase::UndoFailed, Phase::Skipped, Phase::Waiting,
            Phase::Approved, Phase::Refused, Phase::Decided, Phase::CancelRequested,
            Phase::Compensating, Phase::Parked, Phase::Finished, Phase::Note, Phase::Voided, Phase::BrokeGlass,
        ];
        let plan = plan_once();
        let entries: Vec<Entry> = rows.iter().enumerate().map(|(seq, (step, phase, number))| {
            let step_id = plan.steps.get(*step).map_or(String::new(), |step| step.id.clone());
            let detail = json!({
                "until": number, "retry": number % 2 == 0, "conflict": number % 3 == 0, "by": "ada",
                "decision": (["redo", "undo", "was_done"][*number as usize % 3]),
                "ending": "succeeded", "cause": "cancel",
            });
            let row = NewEntry { run_id: "r".into(), step_id, attempt: 1, phase: PHASES[*phase], at: *number, detail };
            Entry { seq: seq as u64, epoch: 1, row }
        }).collect();

        next_move(&plan, &entries, 0, now, &busy);
        RunView::of(&plan, &entries).state(&plan);
    }
}

fn plan_once() -> switchback_playbook::Plan {
    static ONCE: std::sync::OnceLock<switchback_playbook::Plan> = std::sync::OnceLock::new();
    let steps = "- {id: x, flag.set: {key: a, value: true}}\n- {id: y, approve: {timeout: 1m}}\n\
        - {id: z, if: steps.x.ok, incident.open: {template: auth_down}}\n\
        - {id: g, if: steps.z.ok, group: {max: 2, steps: [{id: a, log: {message: m}}, {id: b, flag.kill: {key: b, killed: true}}]}}\n\
        - {id: last, if: steps.g.a.ok, log: {message: m}}";
    ONCE.get_or_init(|| plan_of(steps)).clone()
}

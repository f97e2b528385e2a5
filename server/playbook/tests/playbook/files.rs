//! The shipped files are clean; typical mistakes are named with their place and the way out.

use std::collections::BTreeMap;

use crate::support::*;
use proptest::prelude::*;
use switchback_playbook::lint::{lint, load};
use switchback_playbook::steps::Answer;
use switchback_playbook::{Ending, compile, dry_run};

fn said(spec: &str, steps: &str) -> Vec<String> {
    lint(&file(spec, steps), library()).iter().map(ToString::to_string).collect()
}

#[test]
fn every_shipped_file_is_clean() {
    for name in ["auth-rollback", "auth-rollback-db", "auth-restore", "rehearsal"] {
        assert_eq!(lint(&runbook(name), library()), [], "{name}");
    }
    assert!(library().iter().count() >= 5);
}

#[test]
fn typical_mistakes_are_named_with_place_and_way_out() {
    let cases = [
        (
            "deadline: 5m",
            "- {id: a, flag.sett: {key: a, value: true}}",
            "7:15: spec.steps[0].flag.sett: `flag.sett` is neither a kind of step nor a key of one (did you mean `flag.set`?)",
        ),
        (
            "deadline: 5m",
            "- {id: a, flag.set: {kay: a, value: true}}",
            "7:26: spec.steps[0].flag.set.kay: unknown key `kay` (did you mean `key`?)",
        ),
        (
            "deadline: 5m",
            "- {id: a, flag.set: {key: a}}",
            "7:25: spec.steps[0].flag.set.value: `value` is missing",
        ),
        (
            "deadlin: 5m",
            "- {id: a, log: {message: m}}",
            "5:3: spec.deadlin: unknown key `deadlin` (did you mean `deadline`?)",
        ),
        (
            "deadline: 5 m",
            "- {id: a, log: {message: m}}",
            "5:13: spec.deadline: `5 m` is not a duration; write one like 300ms, 5s, 10m, 4h or 30d",
        ),
        (
            "deadline: 1m",
            "- {id: a, wait: {for: 2m}}",
            "spec.deadline: the waits alone take 2m, and the deadline is 1m (raise the deadline)",
        ),
        (
            "inputs: {eta: {type: duration, default: 2h}}",
            "- {id: a, log: {message: '${{ inputs.etta }}'}}",
            "7:30: spec.steps[0].log.message: `inputs.etta` is not defined here (did you mean `inputs.eta`?)",
        ),
        (
            "concurrency: {key: k, on_conflict: queu}",
            "- {id: a, log: {message: m}}",
            "5:38: spec.concurrency.on_conflict: `queu` is not a choice here (did you mean `queue`?)",
        ),
        (
            "always: [{report: {to: [incidents]}}]",
            "- {id: a, log: {message: m}}",
            "5:27: spec.always[0].report.to[0]: `incidents` is no place for a report: rollback_log or incident (did you mean `incident`?)",
        ),
        (
            "deadline: 5m",
            "- {id: a, log: {message: m}}\n- {id: a, log: {message: m}}",
            "8:7: spec.steps[1].id: the id `a` is taken (the step at line 7 has it)",
        ),
        (
            "deadline: 5m",
            "- {id: a, flag.set: {key: a, value: true}, danger: true}",
            "7:7: spec.steps[0]: a dangerous step needs an approval (add `approve: {roles: [admin]}`)",
        ),
        (
            "deadline: 5m",
            "- {id: a, incident.open: {template: auth_don}}",
            "7:41: spec.steps[0].incident.open.template: there is no incident template `auth_don` (did you mean `auth_down`?)",
        ),
        (
            "deadline: 5m",
            "- {id: a, flag.set: {key: a, value: false}, expires: 4h}",
            "7:58: spec.steps[0].flag.set.expires: an expiry turns a flag off, and this step does so at once (leave `expires` out)",
        ),
        (
            "deadline: 5m",
            "- {id: a, log: {message: 'password: hunter2'}}",
            "7:31: this looks like a password (a playbook is read by many and kept for ever; take secrets out of it)",
        ),
    ];
    for (spec, steps, expected) in cases {
        let said = said(spec, steps);
        assert_eq!(said, [expected]);
    }
}

#[test]
fn a_plan_is_complete_and_its_hash_is_stable() {
    let (playbook, _) = load(&runbook("auth-rollback"), library()).unwrap();
    let inputs = given(&[("reason", "sign-in is down"), ("eta", "90m")]);
    let plan = compile(&playbook, library(), ENV, &inputs, "sign-in is down").unwrap();
    let stored = serde_json::to_string(&plan).unwrap();
    let read: switchback_playbook::Plan = serde_json::from_str(&stored).unwrap();

    assert_eq!(plan.sha256(), read.sha256());
    assert_eq!(plan.concurrency_key, "auth/production");
    assert!(stored.contains("within 1 hour 30 minutes"));
    assert!(!stored.contains("${{"));
    let missing = compile(&playbook, library(), ENV, &BTreeMap::new(), "").unwrap_err();
    assert_eq!(missing[0].to_string(), "inputs.reason: this input is required");
}

#[tokio::test(start_paused = true)]
async fn the_auth_rollback_runs_and_the_restore_brings_everything_back() {
    let inputs = given(&[("reason", "sign-in is down")]);
    let plan = |name: &str| {
        let (playbook, _) = load(&runbook(name), library()).unwrap();
        compile(&playbook, library(), ENV, &inputs, "sign-in is down").unwrap()
    };
    let fake = Fake::new(plan("auth-rollback"));

    let clock = TestClock::new();
    let down = fake.drive_to_end(&clock).await;
    let during = fake.states();
    let incidents = fake.open_incidents();
    fake.with(|inner| (inner.plan, inner.entries) = (Some(plan("auth-restore")), Vec::new()));
    let up = fake.drive_to_end(&TestClock::new()).await;
    let after = fake.states();

    assert_eq!((down, up), (Ending::Succeeded, Ending::Succeeded), "{:#?}", fake.phases());
    assert!(during["auth_bypass"].enabled && !during["auth_enabled"].enabled);
    assert_eq!(during["auth_bypass"].expires_at, Some(T0 + 4 * 3_600_000));
    assert!(!after["auth_bypass"].enabled && after["auth_enabled"].enabled);
    assert!(after["auth_rollout"].enabled);
    assert_eq!((incidents, fake.open_incidents()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_everything_and_changes_nothing() {
    let (playbook, _) = load(&runbook("auth-rollback"), library()).unwrap();
    let inputs = given(&[("reason", "sign-in is down")]);
    let plan = compile(&playbook, library(), ENV, &inputs, "sign-in is down").unwrap();
    let fake = Fake::new(plan.clone());

    let preview = dry_run(&plan, &fake.world(&TestClock::new())).await;

    assert_eq!(preview.clients, Answer::Known(100));
    assert!(matches!(&preview.steps[0].effect.change, Answer::Known(Some(_))));
    assert_eq!(preview.steps[0].effect.clients, Answer::Known(100));
    assert_eq!(preview.steps[0].does, "Turn flag `auth_bypass` on for 4h, then off by itself");
    assert_eq!(fake.with(|inner| (inner.operations, inner.entries.len())), (0, 0));
}

#[test]
fn a_step_for_each_value_is_several_steps() {
    let steps = "- {id: off, foreach: [a, b, '${{ environment }}-c'], flag.kill: {key: '${{ item }}', killed: true}}\n\
                 - {id: then, if: steps.off_2.ok, log: {message: 'after ${{ inputs.x }}'}}";
    let spec = "inputs: {x: {type: string, default: y}}";

    assert_eq!(said(spec, steps), Vec::<String>::new());
    let plan = plan_with(spec, steps);
    let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["off_1", "off_2", "off_3", "then"]);
    assert_eq!(plan.steps[2].params["key"], "production-c");
    let outside = said("", "- {id: one, log: {message: '${{ item }}'}}");
    assert!(outside[0].contains("`item` is not defined here"), "{outside:?}");
    let nothing = said("", "- {id: one, foreach: [], log: {message: m}}");
    assert!(nothing[0].contains("1 to 50 values are expected"), "{nothing:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever somebody uploads, lint answers.
    #[test]
    fn lint_never_panics_on_any_text(text in "\\PC{0,300}") {
        lint(&text, library());
    }

    /// Nor on a real file with a piece of it torn out, doubled or replaced.
    #[test]
    fn lint_never_panics_on_a_damaged_file(from in 0usize..4000, len in 0usize..40, put in "[-{}\\[\\]:,&*!|>'\"%@`#$ a0\\n]{0,6}") {
        let text = runbook("auth-rollback");
        let chars: Vec<char> = text.chars().collect();
        let from = from.min(chars.len());
        let to = (from + len).min(chars.len());
        let damaged: String = chars[..from].iter().copied().chain(put.chars()).chain(chars[to..].iter().copied()).collect();
        lint(&damaged, library());
    }
}

/// What every shipped playbook does, the playbook that takes it back undoes: flags and incidents are as before.
#[tokio::test(start_paused = true)]
async fn every_shipped_playbook_is_taken_back_whole() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut taken_back = 0;
    for path in files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (playbook, _) = load(&runbook(&name), library()).unwrap();
        let inputs = playbook.inputs.iter().filter(|input| input.required);
        let inputs = inputs.map(|input| (input.name.clone(), input.sample())).collect();
        let mut plan =
            compile(&playbook, library(), ENV, &inputs, "a test of what is shipped").unwrap();
        plan.steps.iter_mut().for_each(|step| step.approve = None); // as in a drill
        let fake = Fake::new(plan.clone());
        fake.with(|inner| {
            // Its preconditions hold.
            for require in &plan.require {
                if let switchback_playbook::format::Wanted::Flag { flag, on } = &require.wanted {
                    inner.flags.get_mut(flag).unwrap().state.enabled = *on;
                }
            }
            // So are backups of what its steps name.
            for step in &plan.steps {
                let source = step.params.get("source").and_then(serde_json::Value::as_str);
                inner.backups.extend(source.map(|source| (source.to_owned(), source.to_owned())));
            }
        });
        let before = fake.states();
        let ending = fake.drive_to_end(&TestClock::new()).await;
        assert_eq!(ending, Ending::Succeeded, "{name}: {:#?}", fake.phases());
        let entries = fake.with(|inner| inner.entries.clone());

        match switchback_playbook::invert::invert(
            "r1",
            &plan,
            &entries,
            switchback_playbook::invert::Which::All,
        ) {
            Err(nothing) => assert!(nothing.contains("changed nothing"), "{name}: {nothing}"),
            Ok(back) => {
                taken_back += 1;
                let (playbook, _) = load(&back.yaml, library())
                    .unwrap_or_else(|problems| panic!("{name}: {problems:#?}\n{}", back.yaml));
                let plan = compile(&playbook, library(), ENV, &BTreeMap::new(), "a test").unwrap();
                fake.with(|inner| (inner.plan, inner.entries) = (Some(plan), Vec::new()));
                let ending = fake.drive_to_end(&TestClock::new()).await;
                assert_eq!(ending, Ending::Succeeded, "{name}: {:#?}", fake.phases());
            }
        }
        assert_eq!(fake.states(), before, "{name}");
        assert_eq!(fake.open_incidents(), 0, "{name}");
    }
    assert!(taken_back >= 3, "{taken_back} of them change something");
}

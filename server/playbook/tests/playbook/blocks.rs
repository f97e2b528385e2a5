//! Groups run their steps at the same time; calls run another playbook's steps in their place.

use crate::support::*;
use serde_json::json;
use switchback_playbook::journal::Phase;
use switchback_playbook::plan::{Condition, Plan};
use switchback_playbook::templates::Library;
use switchback_playbook::{Ending, compile, dry_run, lint};

/// Four waits for apps that never answer: 10 s each.
fn slow(max: usize) -> Plan {
    let one = |name: &str| {
        format!("{{id: {name}, flag.ack: {{at_least: 90%, within: 10s, on_timeout: continue}}}}")
    };
    let steps: Vec<String> = ["a", "b", "c", "d"].iter().map(|name| one(name)).collect();
    plan_of(&format!("- {{id: g, group: {{max: {max}, steps: [{}]}}}}", steps.join(", ")))
}

#[tokio::test(start_paused = true)]
async fn so_many_steps_of_a_group_run_at_once() {
    for (max, seconds) in [(1, 40), (2, 20), (3, 20), (4, 10)] {
        let clock = TestClock::new();
        let fake = Fake::new(slow(max));
        fake.with(|inner| inner.acked = 0);

        let ending = fake.drive_to_end(&clock).await;

        let took = switchback_playbook::ports::Clock::now_ms(&clock) - T0;
        assert_eq!(ending, Ending::Succeeded);
        let wanted = seconds * 1_000..seconds * 1_000 + 2_000;
        assert!(wanted.contains(&took), "{max} at once took {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_no_more_of_the_group_and_takes_the_rest_back() {
    let steps = "- {id: g, group: {max: 1, steps: [{id: x, flag.set: {key: a, value: true}}, \
        {id: bad, flag.set: {key: nowhere, value: true}}, {id: never, flag.set: {key: b, value: true}}]}}";
    let fake = Fake::new(plan_of(steps));
    let before = fake.states();

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Compensated);

    assert_eq!(fake.states(), before);
    let phases = fake.phases();
    assert!(phases.contains(&("g.x".to_owned(), Phase::Undone)), "{phases:#?}");
    assert!(phases.iter().all(|(id, _)| id != "g.never"), "{phases:#?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_and_may_does_not_stop_the_others() {
    let steps = "- {id: g, group: {steps: [{id: bad, on_error: continue, flag.set: {key: nowhere, value: true}}, \
        {id: w, wait: {for: 5s}}, {id: x, flag.set: {key: a, value: true}}]}}\n\
        - {id: then, if: steps.g.x.ok and not steps.g.bad.ok, flag.set: {key: b, value: true}}";
    let fake = Fake::new(plan_of(steps));

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    assert!(fake.states()["a"].enabled && fake.states()["b"].enabled);
}

#[test]
fn times_of_a_group_are_those_of_its_longest() {
    let plan = plan_of(
        "- {id: g, group: {steps: [{id: a, wait: {for: 5s}}, {id: b, wait: {for: 7s}}]}}\n- {id: w, wait: {for: 1s}}",
    );

    assert_eq!((plan.fixed_ms(), plan.slowest_ms()), (8_000, 8_000));
    assert_eq!(slow(4).slowest_ms(), 15_000);
    assert!((30_000..=45_000).contains(&slow(2).slowest_ms()));
}

fn problems(steps: &str, library: &Library) -> Vec<String> {
    let found = lint::lint(&file("deadline: 5m", steps), library);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_group_cannot_be_is_said() {
    for (steps, wanted) in [
        (
            "- {id: g, group: {steps: [{id: a, flag.set: {key: a, value: true}}, {id: b, flag.kill: {key: a, killed: true}}]}}",
            "two steps of the group change the flag `a`",
        ),
        ("- {id: g, group: {max: 11, steps: [{id: a, log: {message: m}}]}}", "from 1 to 10"),
        ("- {id: g, group: {steps: []}}", "1 to 50 steps are expected"),
        ("- {id: g, group: {max: 2}}", "`steps` is missing"),
        (
            "- {id: g, retry: {times: 1}, group: {steps: [{id: a, log: {message: m}}]}}",
            "`group` has no `retry`",
        ),
        (
            "- {id: g, group: {steps: [{id: a, approve: {timeout: 1m}, log: {message: m}}]}}",
            "a step of a group has no `approve`",
        ),
        (
            "- {id: g, group: {steps: [{id: a, group: {steps: [{id: b, log: {message: m}}]}}]}}",
            "`group` does not stand in a group",
        ),
        (
            "- {id: g, group: {steps: [{id: a, log: {message: m}}, {id: b, if: steps.g.a.ok, log: {message: m}}]}}",
            "`steps.g.a.ok` is not defined here",
        ),
        (
            "- {id: g, group: {steps: [{id: a, log: {message: m}}, {id: a, log: {message: m}}]}}",
            "the id `a` is taken",
        ),
        (
            "- {id: require, group: {steps: [{id: a, log: {message: m}}]}}",
            "cannot be called `require`",
        ),
    ] {
        let found = problems(steps, library());
        assert!(found.iter().any(|text| text.contains(wanted)), "{wanted}: {found:#?}");
    }
}

fn playbook(name: &str, spec: &str, steps: &str) -> String {
    file(spec, steps)
        .replace("{name: t, title: T}", &format!("{{name: {name}, title: T of {name}}}"))
}

/// A library with these playbooks, which may call each other.
fn with(playbooks: &[(&str, &str, &str)]) -> Library {
    let mut library = library().clone();
    for (name, spec, steps) in playbooks {
        let text = playbook(name, spec, steps);
        library.insert_playbook(switchback_playbook::format::parse(&text).unwrap());
    }
    library
}

fn planned(library: &Library, spec: &str, steps: &str) -> Plan {
    let text = file(spec, steps);
    let (playbook, _) =
        lint::load(&text, library).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    compile(&playbook, library, ENV, &given(&[]), "because of a test").unwrap()
}

const CALLED: (&str, &str, &str) = (
    "shut",
    "deadline: 1m\ninputs: {flag: {type: string, default: a}, really: {type: bool, default: false}, reason: {type: string, required: true, min: 10}}\n\
     vars: {loud: true}\n\
     require: [{id: open, flag: d, is: off, else: stop_ok}]\n\
     preserve: [{id: receipts, source: shop, table: receipts, key: id}]",
    "- {id: off, flag.set: {key: '${{ inputs.flag }}', value: true}}\n\
     - {id: say, if: steps.off.ok and inputs.really and vars.loud, incident.open: {template: auth_down}}\n\
     - {id: more, if: steps.say.ok, incident.update: {of: say, template: auth_degraded}}\n\
     - {id: ask, danger: true, approve: {roles: [admin], timeout: 1s, on_timeout: skip}, flag.kill: {key: c, killed: true}}",
);

#[tokio::test(start_paused = true)]
async fn a_called_playbook_sees_its_own_values_and_steps() {
    let library = with(&[CALLED]);
    let steps = "- {id: off, flag.set: {key: b, value: true}}\n\
        - {id: both, playbook.call: {playbook: shut, with: {really: true}}}\n\
        - {id: then, if: steps.both.say.ok, log: {message: m}}";
    let plan = planned(&library, "deadline: 10m", steps);
    let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["off", "both.off", "both.say", "both.more", "both.ask", "then"]);
    assert_eq!(plan.preserve[0].id, "both.receipts");
    assert_eq!((plan.require[0].id.as_str(), plan.version), ("both.open", 2));
    let fake = Fake::new(plan);
    fake.with(|inner| inner.rows = 1);

    let preview =
        dry_run(&fake.with(|inner| inner.plan.clone().unwrap()), &fake.world(&TestClock::new()))
            .await;
    assert!(preview.steps[4].needs_approval && preview.steps[4].danger);
    assert_eq!(
        fake.drive_to_end(&TestClock::new()).await,
        Ending::Succeeded,
        "{:#?}",
        fake.phases()
    );

    assert_eq!((fake.open_incidents(), fake.with(|inner| inner.updates.len())), (1, 1));
    assert!(fake.states()["a"].enabled && fake.states()["b"].enabled && !fake.states()["c"].killed);
    assert!(
        fake.phases().contains(&("both.ask".to_owned(), Phase::Skipped)),
        "its approval applies"
    );
    assert!(fake.phases().contains(&("then".to_owned(), Phase::Done)));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_nothing_to_do_leaves_its_own_steps_out_alone() {
    let library = with(&[CALLED]);
    let steps = "- {id: both, playbook.call: {playbook: shut}}\n- {id: then, flag.set: {key: b, value: true}}";
    let fake = Fake::new(planned(&library, "deadline: 10m", steps));
    fake.with(|inner| inner.flags.get_mut("d").unwrap().state.enabled = true);

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    assert!(!fake.states()["a"].enabled && fake.states()["b"].enabled);
}

#[tokio::test(start_paused = true)]
async fn a_late_condition_of_a_call_is_that_of_its_caller() {
    let library = with(&[CALLED]);
    let steps = "- {id: first, on_error: continue, flag.set: {key: nowhere, value: true}}\n\
        - {id: both, if: steps.first.ok, playbook.call: {playbook: shut}}\n\
        - {id: other, if: not steps.first.ok, playbook.call: {playbook: shut, with: {flag: b}}}\n\
        - {id: no, if: false, playbook.call: {playbook: shut, with: {flag: d}}}";
    let plan = planned(&library, "deadline: 10m", steps);
    assert!(
        plan.steps.iter().any(|step| step.id == "no.off" && step.condition == Condition::Never)
    );
    assert!(plan.require.iter().all(|require| !require.id.starts_with("no.")));
    let fake = Fake::new(plan);

    assert_eq!(
        fake.drive_to_end(&TestClock::new()).await,
        Ending::Succeeded,
        "{:#?}",
        fake.phases()
    );

    let states = fake.states();
    assert!(!states["a"].enabled && states["b"].enabled && !states["d"].enabled);
}

#[test]
fn calls_that_cannot_be_are_refused_precisely() {
    let calls = |name: &str| format!("- {{id: c, playbook.call: {{playbook: {name}}}}}");
    let (b, c, d, e) = (calls("b"), calls("c"), calls("d"), calls("e"));
    let spec = "deadline: 5m";
    let deep = with(&[
        ("a", spec, &b),
        ("b", spec, &c),
        ("c", spec, &d),
        ("d", spec, &e),
        ("e", spec, "- {id: x, log: {message: m}}"),
    ]);
    let round = with(&[("a", spec, &b), ("b", spec, &calls("a"))]);
    let many = "- {id: c, foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9], playbook.call: {playbook: shut}}";
    let wide = "- {id: c, foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9], playbook.call: {playbook: wide2}}";
    let most = with(&[CALLED, ("wide2", spec, many), ("wide", spec, wide)]);
    for (library, steps, wanted) in [
        (&deep, calls("c"), ""),
        (&deep, calls("b"), "over 3 calls deep: t → b → c → d → e"),
        (&round, calls("a"), "a playbook would call itself: t → a → b → a"),
        (&round, calls("nobody"), "there is no playbook `nobody`"),
        (
            &most,
            calls("shut").replace("shut}", "shut, with: {flagg: a}}"),
            "`shut`: no input `flagg`",
        ),
        (&most, calls("wide"), "with every `foreach`, group and call it has over 50 steps"),
    ] {
        let found = problems(&steps, library);
        if wanted.is_empty() {
            assert_eq!(found, Vec::<String>::new(), "three deep is allowed");
        } else {
            assert!(found.iter().any(|text| text.contains(wanted)), "{wanted}: {found:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_groups_and_calls_did_is_taken_back_by_a_playbook_of_its_own() {
    let library = with(&[CALLED]);
    let steps = "- {id: g, group: {steps: [{id: x, flag.set: {key: b, value: true}}, {id: y, incident.open: {template: auth_down}}]}}\n\
        - {id: g_x, sql.exec: {source: shop, sql: UPDATE a SET b = 1, undo: UPDATE a SET b = 0}}\n\
        - {id: both, playbook.call: {playbook: shut}}";
    let fake = Fake::new(planned(&library, "deadline: 10m", steps));
    let before = fake.states();
    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);
    let (plan, entries) = fake.with(|inner| (inner.plan.clone().unwrap(), inner.entries.clone()));

    let back = switchback_playbook::invert::invert(
        "r1",
        &plan,
        &entries,
        switchback_playbook::invert::Which::All,
    )
    .unwrap();

    let (playbook, _) = lint::load(&back.yaml, &library)
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{}", back.yaml));
    let back = compile(&playbook, &library, ENV, &given(&[]), "a test").unwrap();
    fake.with(|inner| inner.plan = Some(back));
    fake.with(|inner| inner.entries.clear());
    assert_eq!(
        fake.drive_to_end(&TestClock::new()).await,
        Ending::Succeeded,
        "{:#?}",
        fake.phases()
    );
    assert_eq!(fake.states(), before);
    assert_eq!(fake.open_incidents(), 0);
    assert_eq!(
        fake.with(|inner| json!(inner.sql)),
        json!(["UPDATE a SET b = 1", "UPDATE a SET b = 0"])
    );
}

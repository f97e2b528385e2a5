//! A run survives death at every commit and every effect, and a failed one unwinds to a clean slate.

use crate::support::*;
use serde_json::json;
use switchback_playbook::Ending;
use switchback_playbook::journal::{Decision, NewEntry, Person, Phase};
use switchback_playbook::ports::Clock as _;
use switchback_playbook::state::RunState;

const STEPS: &str = "\
- {id: one, flag.set: {key: a, value: true}, expires: 1h, verify: {flag.ack: {at_least: 99%, within: 1s}}}
- {id: two, flag.kill: {key: b, killed: true}}
- {id: three, flag.rollout: {key: c, percent: 10%}}
- {id: four, incident.open: {template: auth_down}}
- {id: five, sql.exec: {source: shop, sql: UPDATE a SET b = 1, undo: UPDATE a SET b = 0}}
- {id: moved, sql.migrate: {source: shop, name: n, up_sql: SELECT 1, down_sql: SELECT 2, verify_sql: SELECT 3, direction: down}}
- {id: called, http.request: {method: POST, url: 'http://app.test/jobs', body: {a: 1}, undo: {method: DELETE, url: 'http://app.test/jobs'}}}
- {id: six, flag.ack: {at_least: 90%, within: 1s}}
- {id: seven, probe.http: {url: 'http://app.test/'}, verify: {probe.sql: {source: shop, sql: SELECT 1, expect: 1}}}
- {id: eight, log: {message: hello}}
- {id: nine, notify.in_app: {title: t, message: m}}
- {id: ten, backup.take: {source: shop}}
- {id: eleven, backup.verify: {of: ten}}";

const GROUPED: &str = "\
- {id: one, flag.set: {key: a, value: true}}
- id: both
  group:
    max: 3
    steps:
    - {id: x, flag.set: {key: b, value: true}, verify: {flag.ack: {at_least: 99%, within: 1s}}}
    - {id: y, sql.exec: {source: shop, sql: UPDATE a SET b = 1, undo: UPDATE a SET b = 0}}
    - {id: z, incident.open: {template: auth_down}}
    - {id: w, wait: {for: 1s}}
    - {id: v, flag.kill: {key: c, killed: true}}
- {id: last, flag.kill: {key: d, killed: true}}
- {id: back, flag.snapshot_restore: {ago: 1h}}
- {id: end, probe.http: {url: 'http://app.test/'}}";

const SPEC: &str = "\
deadline: 10m
preserve:
  - {id: receipts, source: shop, table: receipts, key: id}";

fn person(name: &str) -> Person {
    Person { name: name.into(), roles: vec!["admin".into()], comment: String::new() }
}

fn broke(inner: &mut Inner, what: &str) {
    inner.broken.insert(what.to_owned());
}

/// What the world looks like, without times.
fn world(fake: &Fake) -> String {
    let mut flags = fake.states();
    for state in flags.values_mut() {
        state.expires_at = state.expires_at.map(|_| 1);
    }
    fake.with(|i| {
        let mut sql = i.sql.clone();
        sql.sort(); // steps of a group come in any order
        format!("{flags:?} {:?} {:?} {sql:?} {:?}", i.incidents, i.notices, i.state)
    })
}

/// Runs once per operation of the undisturbed run, with a death before and after it.
async fn at_every_boundary(steps: &str, prepare: fn(&Fake), expected: Ending) {
    let clock = TestClock::new();
    let calm = Fake::new(plan_with(SPEC, steps));
    prepare(&calm);
    assert_eq!(calm.drive_to_end(&clock).await, expected, "{:#?}", calm.phases());
    let (operations, writes) = calm.with(|inner| (inner.operations, inner.writes.len()));
    assert!(operations > 20);

    for number in 1..=operations {
        for fault in [Fault::DieBefore(number), Fault::DieAfter(number)] {
            let clock = TestClock::new();
            let fake = Fake::new(plan_with(SPEC, steps));
            prepare(&fake);
            fake.with(|inner| inner.faults = vec![fault]);

            assert_eq!(fake.drive_to_end(&clock).await, expected, "{fault:?}");

            assert_eq!(world(&fake), world(&calm), "{fault:?}");
            assert_eq!(
                fake.with(|i| i.writes.len()),
                writes,
                "a flag was written twice: {fault:?}"
            );
        }
    }
}

/// Every call takes effect and its answer is lost, one at a time: with steps that may be tried again, the end is that of the
/// undisturbed run, and no flag is written twice.
#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_change_nothing() {
    for (steps, ending) in
        [(STEPS, Ending::Succeeded), (GROUPED, Ending::Succeeded), (STEPS, Ending::Compensated)]
    {
        let again: String = steps
            .lines()
            .map(|line| {
                line.replacen(
                    "id: ",
                    "retry: {times: 2, backoff: 10ms}, id: ",
                    usize::from(line.contains("- {id: ")),
                )
            })
            .collect::<Vec<_>>()
            .join("\n");
        let fake = || {
            let fake = Fake::new(plan_with(SPEC, &again));
            fake.with(|inner| {
                inner.http_status = if ending == Ending::Succeeded { 200 } else { 500 }
            });
            fake
        };
        let calm = fake();
        assert_eq!(calm.drive_to_end(&TestClock::new()).await, ending, "{:#?}", calm.phases());
        let (operations, writes) = calm.with(|inner| (inner.operations, inner.writes.len()));
        for number in 1..=operations {
            let fake = fake();
            fake.with(|inner| inner.faults = vec![Fault::TimeOutAfter(number)]);

            assert_eq!(
                fake.drive_to_end(&TestClock::new()).await,
                ending,
                "{number}: {:#?}",
                fake.phases()
            );

            assert_eq!(world(&fake), world(&calm), "{number}");
            assert_eq!(fake.with(|i| i.writes.len()), writes, "a flag was written twice: {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_dies_anywhere_ends_in_the_same_place() {
    at_every_boundary(STEPS, |_| {}, Ending::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_dies_anywhere_ends_in_the_same_place() {
    at_every_boundary(GROUPED, |_| {}, Ending::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn an_unwinding_that_dies_anywhere_ends_in_the_same_place() {
    let fails = |fake: &Fake| fake.with(|inner| inner.http_status = 500);
    at_every_boundary(STEPS, fails, Ending::Compensated).await;
    at_every_boundary(GROUPED, fails, Ending::Compensated).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_step_unwinds_to_a_clean_slate() {
    let failures: [(&str, Act); 5] = [
        ("one", |i| broke(i, "a")),
        ("two", |i| broke(i, "b")),
        ("three", |i| broke(i, "c")),
        ("four", |i| broke(i, "incidents")),
        ("six", |i| i.meddle = Some((1, |i| i.acked = 50))),
    ];
    for (step, fail) in failures {
        let clock = TestClock::new();
        let fake = Fake::new(plan_with(SPEC, STEPS));
        let before = fake.states();
        fake.with(fail);

        let ending = fake.drive_to_end(&clock).await;

        assert_eq!(ending, Ending::Compensated, "{step}: {:#?}", fake.phases());
        assert_eq!(fake.states(), before, "{step}");
        assert_eq!(fake.open_incidents(), 0, "{step}");
        let undone: Vec<_> =
            fake.phases().into_iter().filter(|(_, p)| *p == Phase::Undone).collect();
        let mut sorted = undone.clone();
        let order = ["called", "moved", "five", "four", "three", "two", "one"];
        sorted.sort_by_key(|(id, _)| order.iter().position(|known| known == id));
        assert_eq!(undone, sorted, "undo goes newest first");
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_leaves_somebody_elses_change_alone_and_asks() {
    let clock = TestClock::new();
    let steps = "- {id: one, flag.set: {key: a, value: true}}\n- {id: two, flag.set: {key: b, value: true}}";
    let fake = Fake::new(plan_of(&format!(
        "{steps}\n- {{id: bad, flag.set: {{key: nowhere, value: true}}}}"
    )));
    // The fifth operation is the intent of `bad`: somebody changes `b` just before it.
    fake.with(|inner| {
        inner.meddle = Some((5, |inner| {
            inner.revision += 1;
            let flag = inner.flags.get_mut("b").unwrap();
            (flag.revision, flag.state.impressions) = (inner.revision, true);
        }));
    });

    let parked = fake.drive_to_end(&clock).await;
    let still = fake.states()["b"].clone();
    let again = fake.drive_to_end(&clock).await;
    let rows = fake.phases().len();
    fake.say(NewEntry::decision("r1", "two", T0, Decision::Redo, &person("ada")));
    let ending = fake.drive_to_end(&clock).await;

    assert_eq!((parked, again), (Ending::Parked, Ending::Parked));
    assert_eq!(
        rows,
        fake.with(|i| i.entries.iter().position(|e| e.row.phase == Phase::Decided).unwrap())
    );
    assert!(still.enabled && still.impressions);
    assert_eq!(ending, Ending::Compensated);
    assert!(!fake.states()["b"].enabled && !fake.states()["a"].enabled);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_lost_its_lease_touches_nothing_more() {
    let clock = TestClock::new();
    let fake = Fake::new(plan_with(SPEC, STEPS));
    let (world, first) = (fake.world(&clock), fake.lease());
    let second = fake.lease();

    let (old, new) = tokio::join!(
        switchback_playbook::drive("r1", &first, &world),
        switchback_playbook::drive("r1", &second, &world),
    );

    assert!(matches!(old, Err(switchback_playbook::DriveError::Fenced)));
    assert_eq!(new.unwrap(), Ending::Succeeded);
    assert!(fake.with(|inner| inner.entries.iter().all(|entry| entry.epoch == second.epoch)));
    assert_eq!(fake.with(|inner| inner.writes.len()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_in_the_middle_stops_the_driver_at_once() {
    let clock = TestClock::new();
    let fake = Fake::new(plan_with(SPEC, STEPS));
    fake.with(|inner| inner.meddle = Some((9, |inner| inner.epoch += 1)));

    let lease = fake.lease();
    let old = switchback_playbook::drive("r1", &lease, &fake.world(&clock)).await;
    assert!(matches!(old, Err(switchback_playbook::DriveError::Fenced)));
    assert_eq!(fake.drive_to_end(&clock).await, Ending::Succeeded);

    assert_eq!(fake.with(|inner| inner.writes.len()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_may_not_be_repeated_is_never_guessed() {
    let clock = TestClock::new();
    let mut plan = plan_of("- {id: one, incident.open: {template: auth_down}}");
    plan.steps[0].idempotent = false;
    let fake = Fake::new(plan);
    fake.with(|inner| inner.faults = vec![Fault::DieAfter(2)]);

    let parked = fake.drive_to_end(&clock).await;
    let state = fake.with(|inner| inner.state);
    fake.say(NewEntry::decision("r1", "one", T0, Decision::WasDone, &person("ada")));
    let ending = fake.drive_to_end(&clock).await;

    assert_eq!((parked, state), (Ending::Parked, Some(RunState::Parked)));
    assert_eq!(ending, Ending::Succeeded);
    assert_eq!(fake.open_incidents(), 1);
}

#[tokio::test(start_paused = true)]
async fn cancel_unwinds_even_in_the_middle_of_a_wait() {
    let clock = TestClock::new();
    let fake = Fake::new(plan_of(
        "- {id: one, flag.set: {key: a, value: true}}\n- {id: w, wait: {for: 5m}}",
    ));
    let world = fake.world(&clock);
    let (lease, canceller) = (fake.lease(), fake.clone());
    let cancel = async {
        world.clock.sleep_until(T0 + 3_000).await;
        canceller.say(NewEntry::cancel("r1", T0 + 3_000, &person("ada")));
    };

    let (ending, ()) = tokio::join!(switchback_playbook::drive("r1", &lease, &world), cancel);

    assert_eq!(ending.unwrap(), Ending::Cancelled);
    assert!(!fake.states()["a"].enabled);
    assert!(world.clock.now_ms() < T0 + 4_000);
}

#[tokio::test(start_paused = true)]
async fn an_approval_counts_people_of_the_right_roles_once() {
    let clock = TestClock::new();
    let steps = "- {id: one, flag.set: {key: a, value: true}, danger: true, approve: {roles: [admin], min: 2, timeout: 1m}}";
    let (twice, enough) = (Fake::new(plan_of(steps)), Fake::new(plan_of(steps)));
    let guest = Person { name: "eve".into(), roles: vec!["viewer".into()], comment: String::new() };
    for who in [&person("ada"), &person("ada"), &guest] {
        twice.say(NewEntry::approval("r1", "one", T0, true, who));
    }
    for who in ["ada", "bob"] {
        enough.say(NewEntry::approval("r1", "one", T0, true, &person(who)));
    }

    assert_eq!(twice.drive_to_end(&clock).await, Ending::Compensated);
    assert_eq!(enough.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    assert!(!twice.states()["a"].enabled && enough.states()["a"].enabled);
}

/// What people agreed to has moved by the time the last of them agrees: they are asked again, and an answer to the
/// question before does not count.
#[tokio::test(start_paused = true)]
async fn approvals_are_void_when_the_world_has_moved() {
    let clock = TestClock::new();
    let steps = "- {id: one, flag.set: {key: a, value: true}, approve: {roles: [admin], min: 2, timeout: 1m}}";
    let fake = Fake::new(plan_of(steps));
    let say = |who: &str, asked: u64| {
        let mut entry = NewEntry::approval("r1", "one", clock_ms(&clock), true, &person(who));
        entry.detail["asked"] = json!(asked);
        fake.say(entry);
    };
    let wait = |seconds: i64| clock.sleep_until(T0 + seconds * 1_000);
    let asked = || fake.with(|inner| inner.entries.last().unwrap().seq);

    let people = async {
        wait(1).await;
        let first = asked();
        say("ada", first);
        fake.with(|inner| inner.flags.get_mut("a").unwrap().revision = 7);
        say("bob", first);
        wait(2).await;
        let second = asked();
        say("ada", first);
        say("bob", second);
        wait(3).await;
        assert!(!fake.states()["a"].enabled, "an answer to the question before does not count");
        say("ada", second);
    };
    let (ending, ()) = tokio::join!(fake.drive_to_end(&clock), people);

    assert_eq!(ending, Ending::Succeeded);
    let voided = fake.phases().iter().filter(|(_, phase)| *phase == Phase::Voided).count();
    assert_eq!((voided, fake.states()["a"].enabled), (1, true));
}

#[tokio::test(start_paused = true)]
async fn break_glass_needs_nobody_else() {
    let steps = "- {id: one, flag.set: {key: a, value: true}, approve: {roles: [admin], min: 2, timeout: 1m}}";
    let fake = Fake::new(plan_of(steps));
    fake.say(NewEntry::break_glass("r1", "one", T0, &person("ada")));

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_undoes_what_was_done() {
    let clock = TestClock::new();
    let steps = "- {id: one, flag.set: {key: a, value: true}}\n- {id: two, approve: {timeout: 9m}}";
    let fake = Fake::new(plan_with("deadline: 1m", steps));

    assert_eq!(fake.drive_to_end(&clock).await, Ending::Compensated);

    assert!(!fake.states()["a"].enabled);
    assert!(clock_ms(&clock) - T0 < 62_000);
}

#[tokio::test(start_paused = true)]
async fn a_precondition_ends_the_run_before_its_first_step() {
    let spec = "deadline: 1m\nrequire: [{id: off, flag: a, is: off, else: stop_ok}]";
    let fake = Fake::new(plan_with(spec, "- {id: one, flag.set: {key: b, value: true}}"));
    fake.with(|inner| inner.flags.get_mut("a").unwrap().state.enabled = true);

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::NothingToDo);

    assert!(fake.with(|inner| inner.writes.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn nobody_connected_is_said_and_is_no_failure() {
    let fake = Fake::new(plan_of("- {id: one, flag.ack: {at_least: 99%, within: 1s}}"));
    fake.with(|inner| (inner.connected, inner.acked) = (0, 0));

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    let done =
        fake.with(|i| i.entries.iter().find(|e| e.row.phase == Phase::Done).unwrap().clone());
    assert!(done.row.detail["says"].as_str().unwrap().starts_with("no client is connected"));
}

fn clock_ms(clock: &TestClock) -> i64 {
    switchback_playbook::ports::Clock::now_ms(clock)
}

/// A driver may run on any thread.
#[test]
fn driving_is_send() {
    fn send<T: Send>(_: &T) {}
    let fake = Fake::new(plan_of("- {id: one, log: {message: m}}"));
    let lease = fake.lease();
    let clock = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = clock.block_on(async { fake.world(&TestClock::new()) });
    send(&switchback_playbook::drive("r1", &lease, &world));
}

const LOSES: &str = "- {id: one, flag.set: {key: a, value: true}}";

fn rows(fake: &Fake, rows: u64) {
    fake.with(|inner| inner.rows = rows);
}

#[tokio::test(start_paused = true)]
async fn lost_rows_take_the_run_back() {
    let clock = TestClock::new();
    let fake = Fake::new(plan_with(SPEC, LOSES));
    rows(&fake, 10);
    // The table is looked at by the first operation; the flag is written by the fourth.
    fake.with(|inner| inner.meddle = Some((4, |inner| inner.rows = 9)));

    assert_eq!(fake.drive_to_end(&clock).await, Ending::CompensateFailed);

    assert!(!fake.states()["a"].enabled, "the flag was put back");
    let broken: Vec<_> =
        fake.phases().into_iter().filter(|(id, _)| id == "preserve.receipts").collect();
    let phases: Vec<Phase> = broken.into_iter().map(|(_, phase)| phase).collect();
    assert_eq!(phases, [Phase::Done, Phase::Unverified, Phase::Unverified]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_only_warns_lets_the_run_stand() {
    let clock = TestClock::new();
    let spec = SPEC.replace("key: id}", "key: id, on_broken: warn}");
    let fake = Fake::new(plan_with(&spec, LOSES));
    rows(&fake, 10);
    fake.with(|inner| inner.meddle = Some((4, |inner| inner.rows = 9)));

    assert_eq!(fake.drive_to_end(&clock).await, Ending::Succeeded);

    assert!(fake.phases().contains(&("preserve.receipts".to_owned(), Phase::Unverified)));
}

#[tokio::test(start_paused = true)]
async fn data_that_cannot_be_compared_is_a_persons_decision() {
    let clock = TestClock::new();
    let fake = Fake::new(plan_with(SPEC, LOSES));
    fake.with(|inner| inner.meddle = Some((4, |inner| broke(inner, "source"))));

    assert_eq!(fake.drive_to_end(&clock).await, Ending::Parked);
    assert_eq!(fake.phases().last().unwrap().0, "preserve.receipts");

    // The source is back: looking again finds that nothing is lost.
    fake.with(|inner| inner.broken.clear());
    fake.say(NewEntry::decision("r1", "preserve.receipts", T0, Decision::Redo, &person("ada")));
    assert_eq!(fake.drive_to_end(&clock).await, Ending::Succeeded);
}

//! What must hold before the first step: expressions that look at the world, and people who decide when it does not.

use async_trait::async_trait;
use serde_json::json;
use switchback_playbook::Ending;
use switchback_playbook::journal::{Decision, NewEntry, Person, Phase};
use switchback_playbook::lint::{lint, load};
use switchback_playbook::ports::PortError;
use switchback_playbook::preview::criteria;
use switchback_playbook::steps::Answer;
use switchback_playbook::watch::Watch;

use crate::support::{Fake, T0, TestClock, file, library, plan_with};

const STEPS: &str = "- {id: one, flag.kill: {key: b, killed: true}}";

fn spec(expr: &str, otherwise: &str) -> String {
    format!("deadline: 10m\nrequire:\n  - {{id: ready, expr: \"{expr}\", else: {otherwise}}}")
}

fn person() -> Person {
    Person { name: "ada".into(), roles: vec!["admin".into()], comment: "I have looked".into() }
}

fn seen(fake: &Fake) -> Vec<String> {
    fake.with(|inner| {
        let rows = inner.entries.iter().filter(|entry| entry.row.step_id == "require.ready");
        rows.filter_map(|entry| entry.row.detail["says"].as_str().map(str::to_owned)).collect()
    })
}

#[tokio::test(start_paused = true)]
async fn expressions_look_at_the_world() {
    for (expr, ending) in [
        ("flag('a') == false and reason == 'a test'", Ending::Succeeded),
        ("not flag('a') or count('nowhere', 'SELECT x')", Ending::Succeeded), // what it never comes to is not asked
        ("flag('a')", Ending::Failed),
        ("now > 0 and flag('a') == flag('b')", Ending::Succeeded),
        ("1 / 0 > 1", Ending::Failed),
        ("count('app', 'SELECT COUNT(*) FROM (SELECT 1, 2) AS two') < 100", Ending::Succeeded),
    ] {
        let fake = Fake::new(plan_with(&spec(expr, "fail"), STEPS));
        let found = fake.drive_to_end(&TestClock::new()).await;
        assert_eq!(found, ending, "{expr}: {:?}", seen(&fake));
    }
    let fake = Fake::new(plan_with(&spec("flag('a')", "stop_ok"), STEPS));
    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::NothingToDo);
    assert_eq!(seen(&fake), ["flag('a') is false; asked is `flag('a')`"]);
}

#[tokio::test(start_paused = true)]
async fn a_person_decides_what_an_unmet_one_means() {
    for (decision, then_on, ending) in [
        (Decision::WasDone, false, Ending::Succeeded),
        (Decision::Redo, true, Ending::Succeeded),
        (Decision::Redo, false, Ending::Parked),
        (Decision::Undo, false, Ending::Compensated),
    ] {
        let fake = Fake::new(plan_with(&spec("flag('a')", "ask"), STEPS));
        let before = fake.states();
        assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Parked);
        assert_eq!(fake.states(), before, "nothing was changed yet");
        fake.with(|inner| inner.flags.get_mut("a").unwrap().state.enabled = then_on);
        fake.say(NewEntry::decision("r1", "require.ready", T0, decision, &person()));

        assert_eq!(fake.drive_to_end(&TestClock::new()).await, ending, "{decision:?}");
        let done = fake.with(|inner| inner.flags["b"].state.killed);
        assert_eq!(json!(done), json!(ending == Ending::Succeeded), "{decision:?}");
    }
}

/// A step's `if:` looks at the world when its turn comes, once: what later steps change does not matter to it any more.
#[tokio::test(start_paused = true)]
async fn a_steps_condition_looks_when_its_turn_comes() {
    let steps = "\
- {id: on, flag.set: {key: a, value: true}}
- {id: then, if: \"flag('a') and steps.on.ok and steps.on.out.flag == 'a'\", flag.kill: {key: b, killed: true}}
- {id: off, flag.set: {key: a, value: false}}
- {id: never, if: \"flag('a')\", flag.kill: {key: c, killed: true}}";
    let plan = plan_with("deadline: 10m", steps);
    assert_eq!(plan.version, 3, "an earlier release must not misread it");
    let fake = Fake::new(plan);
    fake.with(|inner| inner.flags.get_mut("a").unwrap().state.enabled = false);

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    let state = |id: &str| {
        fake.with(|inner| {
            let mine = inner.entries.iter().filter(|entry| entry.row.step_id == id);
            mine.map(|entry| entry.row.phase).collect::<Vec<_>>()
        })
    };
    assert_eq!(state("if.then"), [Phase::Verified]);
    assert_eq!(state("then").last(), Some(&Phase::Done));
    assert_eq!(state("if.never"), [Phase::Unverified]);
    assert_eq!(state("never"), [Phase::Skipped]);
}

/// What has no answer is neither yes nor no: the step fails, and the run takes back what it did.
#[tokio::test(start_paused = true)]
async fn a_condition_without_an_answer_fails_its_step() {
    let steps = "\
- {id: on, flag.kill: {key: b, killed: true}}
- {id: then, if: \"failures('signup', 5) > 0\", flag.kill: {key: a, killed: true}}";
    let fake = Fake::new(plan_with("deadline: 10m", steps));
    let before = fake.states();

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Compensated);

    assert_eq!(fake.states(), before);
}

/// The condition of a group is looked at once for all of its steps.
#[tokio::test(start_paused = true)]
async fn a_groups_condition_is_looked_at_once() {
    for (is_on, wanted) in [(true, Phase::Done), (false, Phase::Skipped)] {
        let steps = "\
- id: both
  if: flag('c')
  group:
    steps:
      - {id: one, flag.kill: {key: a, killed: true}}
      - {id: two, flag.kill: {key: b, killed: true}}";
        let fake = Fake::new(plan_with("deadline: 10m", steps));
        fake.with(|inner| inner.flags.get_mut("c").unwrap().state.enabled = is_on);

        assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

        fake.with(|inner| {
            let of = |id: &str| inner.entries.iter().filter(|one| one.row.step_id == id).count();
            assert_eq!(of("if.both"), 1);
            for id in ["both.one", "both.two"] {
                let last = inner.entries.iter().rfind(|one| one.row.step_id == id).unwrap();
                assert_eq!(last.row.phase, wanted, "{id}");
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_speaks_for_it_is_looked_at() {
    let spec = "\
decision:
  - {text: The new sign-in is on., expr: flag('a')}
  - {text: The old one is off., expr: not flag('a')}
  - {text: Sign-ups fail., expr: \"failures('signup', 5) > 0\"}
  - {text: Refreshes fail., expr: \"failures('refresh', 5) > 0\"}
  - {text: People judge.}";
    let plan = plan_with(spec, STEPS);
    let fake = Fake::new(plan.clone());
    fake.with(|inner| inner.flags.get_mut("a").unwrap().state.enabled = true);
    let (playbook, _) = load(&file(spec, STEPS), library()).unwrap();

    let found = criteria(&playbook, &plan, &fake.world(&TestClock::new())).await;

    let holds: Vec<_> = found.iter().map(|one| one.holds.clone()).collect();
    assert_eq!(holds[..2], [Some(Answer::Known(true)), Some(Answer::Known(false))]);
    assert!(matches!(holds[2], Some(Answer::Unknown(_))), "{holds:?}");
    let late = "there was no answer within 2 s".to_owned();
    assert_eq!(holds[3], Some(Answer::Unknown(late)));
    assert_eq!(holds[4], None);
    assert_eq!(found[0].says, "flag('a') is true; asked is `flag('a')`");
}

#[async_trait]
impl Watch for Fake {
    async fn failures(&self, _: &str, what: &str, minutes: u32) -> Result<Option<f64>, PortError> {
        if what == "refresh" {
            std::future::pending::<()>().await;
        }
        Ok((what == "login").then_some(f64::from(minutes) / 100.0))
    }
}

#[tokio::test(start_paused = true)]
async fn failing_logins_are_looked_at() {
    for (expr, ending) in [
        ("failures('login', 6) > 0.05", Ending::Succeeded),
        ("failures('login', 5) > 0.05", Ending::Failed),
        ("failures('signup', 5) < 1", Ending::Failed), // nobody reports sign-ups
        ("failures('logon', 5) < 1", Ending::Failed),
        ("failures('login', 0) < 1", Ending::Failed),
    ] {
        let fake = Fake::new(plan_with(&spec(expr, "fail"), STEPS));
        let found = fake.drive_to_end(&TestClock::new()).await;
        assert_eq!(found, ending, "{expr}: {:?}", seen(&fake));
    }
}

#[test]
fn names_are_checked_when_the_file_is_read() {
    for (spec, steps) in [
        (spec("flagg('a')", "fail"), STEPS),
        ("decision:\n  - {text: It is on., expr: flagg('a')}".to_owned(), STEPS),
        (
            "deadline: 1m".to_owned(),
            "- {id: one, if: flagg('a'), flag.kill: {key: b, killed: true}}",
        ),
    ] {
        let found = lint(&file(&spec, steps), library());
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        let is_refused = said.iter().any(|text| {
            text.contains("`flagg` is not defined here") && text.contains("did you mean `flag`?")
        });
        assert!(is_refused, "{said:?}");
    }
}

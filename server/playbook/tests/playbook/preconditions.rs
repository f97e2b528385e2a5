//! What must hold before the first step: expressions that look at the world, and people who decide when it does not.

use serde_json::json;
use switchback_playbook::Ending;
use switchback_playbook::journal::{Decision, NewEntry, Person};
use switchback_playbook::lint::lint;

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
    ] {
        let fake = Fake::new(plan_with(&spec(expr, "fail"), STEPS));
        let found = fake.drive_to_end(&TestClock::new()).await;
        assert_eq!(found, ending, "{expr}: {:?}", seen(&fake));
    }
    let fake = Fake::new(plan_with(&spec("flag('a')", "stop_ok"), STEPS));
    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::NothingToDo);
    assert_eq!(seen(&fake), ["flag('a'): flag('a') is false"]);
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

#[test]
fn names_are_checked_when_the_file_is_read() {
    let found = lint(&file(&spec("flagg('a')", "fail"), STEPS), library());
    assert!(
        found
            .iter()
            .map(ToString::to_string)
            .any(|text| text.contains("`flagg` is not defined here")
                && text.contains("did you mean `flag`?")),
        "{found:?}"
    );
}

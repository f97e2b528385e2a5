//! Loading: from the document's text to flags that can be asked, for 10,000 of them.

use std::hint::black_box;

use serde_json::{Value, json};
use switchback_core::Ruleset;
use switchback_core::model::Document;

use super::measure::{cpu_ns, live_bytes, median};
use super::table::number;
use super::world::{Kind, variants};

const FLAGS: usize = 10_000;
/// Groups in all, of which each targeting rule names another hundred.
const GROUPS: usize = 1_000;

/// The document as it travels: a quarter each of plain flags, shares, variants, and targeting rules with 100 groups.
fn text() -> String {
    let kinds = [Kind::Plain, Kind::Rollout, Kind::Targeting, Kind::Variants];
    let flag = |n: usize| {
        let groups = (0..100).map(|one| format!("group-{}", (n * 37 + one) % GROUPS));
        let state = match kinds[n % 4] {
            Kind::Plain => json!({"enabled": true}),
            Kind::Rollout => json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]}),
            Kind::Targeting => json!({"enabled": true, "rules": [{
                "id": "beta", "groups": groups.collect::<Vec<_>>(), "platforms": ["android", "ios"], "percent": 50,
                "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2.0"]}],
            }]}),
            Kind::Variants => json!({"enabled": true, "variants":
                variants().iter().map(|name| json!({"name": name, "weight": 20})).collect::<Vec<_>>()}),
        };
        let key = format!("flag-{n:05}");
        json!({"key": key, "project": "shop", "salt": key, "state": state})
    };
    let flags: Vec<Value> = (0..FLAGS).map(flag).collect();
    let document = json!({
        "epoch": "bench", "environment": "production", "revision": 1, "flags": flags, "segments": {},
    });
    document.to_string()
}

/// CPU nanoseconds of making something, the median of 25 times; freeing it does not count.
fn ns<T>(mut make: impl FnMut() -> T) -> f64 {
    let samples = (0..25).map(|_| {
        let before = cpu_ns();
        let made = black_box(make());
        let after = cpu_ns();
        drop(made);
        (after - before) as f64
    });
    median(samples.collect())
}

/// Time of both steps, and what each leaves in memory.
pub fn report() -> String {
    let text = text();
    let read = || Document::read(black_box(&text)).expect("the document is ours");
    let before = live_bytes();
    let document = read();
    let of_document = live_bytes() - before;
    let ruleset = Ruleset::compile(&document);
    let of_ruleset = live_bytes() - before - of_document;
    assert!(
        ruleset.problems().is_empty() && ruleset.keys().len() == FLAGS,
        "everything is understood"
    );
    drop(ruleset);
    let parsing = ns(read);
    let compiling = ns(|| Ruleset::compile(black_box(&document)));
    let (ms, mb) = (|ns: f64| number(ns / 1e6), |bytes: f64| number(bytes / 1e6));
    format!(
        "W6, {} flags in {} MB of JSON: {} ms to parse and {} ms to compile; {} MB live for the ruleset, {} MB for the \
         document\n",
        number(FLAGS as f64),
        mb(text.len() as f64),
        ms(parsing),
        ms(compiling),
        mb(of_ruleset),
        mb(of_document),
    )
}

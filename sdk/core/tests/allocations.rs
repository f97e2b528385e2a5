//! A decision allocates nothing. Alone in its program, as it counts every allocation.
#![expect(unsafe_code, reason = "an allocator that counts can only be written with unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use serde_json::json;
use switchback_core::{Context, Moment, Ruleset};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System.alloc` with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> usize {
    let before = COUNT.get();
    act();
    COUNT.get() - before
}

#[test]
fn a_decision_allocates_nothing() {
    let many: Vec<String> = (0..100).map(|n| format!("group-{n}")).collect();
    let constraints = json!([
        {"field": "plan", "operator": "NOT_IN", "values": many},
        {"field": "plan", "operator": "STR_CONTAINS", "values": ["RO"], "case_insensitive": true},
        {"field": "plan", "operator": "STR_ENDS_WITH", "values": ["RO"], "case_insensitive": true},
        {"field": "age", "operator": "NUM_GTE", "values": ["18"]},
        {"field": "level", "operator": "NUM_GTE", "values": ["2.5"]},
        {"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2.0"]},
        {"field": "engine", "operator": "SEMVER_LT", "values": ["1.0.0-beta.11.with-a-long-name"]},
        {"field": "current_time", "operator": "DATE_AFTER", "values": ["2020-01-01T00:00:00Z"]},
        {"field": "remote_address", "operator": "IN_CIDR", "values": ["10.0.0.0/8"]},
        {"field": "proxy", "operator": "IN_CIDR", "values": ["2001:db8::/32"]},
        {"field": "tags", "operator": "IN", "values": ["b"]},
        {"field": "plan", "operator": "REGEX", "values": ["^p[a-z]o$"]},
        {"field": "nothing", "operator": "IS_SET", "inverted": true},
    ]);
    let document = serde_json::from_value(json!({
        "epoch": "e", "environment": "production", "revision": 1,
        "segments": {"s": {"key": "s", "constraints": constraints}},
        "flags": [
            {"key": "plain", "project": "p", "salt": "plain", "state": {"enabled": true}},
            {"key": "full", "project": "p", "salt": "full", "state": {
                "enabled": true, "expires_at": 9_000_000_000_000_i64, "max_staleness_ms": 60000,
                "prerequisites": [{"flag": "plain"}],
                "rules": [{
                    "id": "r", "groups": many, "platforms": ["ios", "android"],
                    "constraints": constraints, "segments": ["s"], "percent": 99.999,
                }],
                "variants": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}],
            }},
        ],
    }))
    .unwrap();
    let ruleset = Ruleset::compile(&document);
    let context = Context::new()
        .user_id("user-1")
        .groups(["group-99", "staff"])
        .platform("ios")
        .app_version("3.2.1")
        .remote_address("10.1.2.3")
        .property("plan", "pro")
        .property("age", 42)
        .property("level", "3")
        .property("engine", "1.0.0-beta.2.with-a-long-name")
        .property("proxy", "2001:db8::1")
        .property("tags", vec!["a", "b"])
        .now_ms(1_900_000_000_000);
    assert_eq!(ruleset.evaluate("full", &context).reason.to_string(), "rule(r)");

    assert!(allocations(|| drop(black_box(vec![1]))) > 0, "the counter counts");
    let found = allocations(|| {
        for key in ["plain", "full", "nowhere"] {
            black_box(ruleset.evaluate(key, &context));
            black_box(ruleset.evaluate_at(key, &context, Moment::default()));
            black_box(ruleset.is_enabled(key, &context));
        }
        ruleset.evaluate_all(&context, |key, evaluation| {
            black_box((key, evaluation));
        });
        black_box(ruleset.auth_mode(&context));
    });

    assert_eq!(found, 0);
}

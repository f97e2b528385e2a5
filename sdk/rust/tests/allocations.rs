//! A yes or no allocates nothing, not even for a flag that asks for impressions, as long as nobody listens.
//! Alone in its program, as it counts allocations.
#![expect(unsafe_code, reason = "an allocator that counts can only be written with unsafe")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::result_large_err,
    dead_code,
    reason = "helpers of tests, not all of them used here; the large error is tungstenite's"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use serde_json::json;
use support::Server;
use switchback_sdk::Context;

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

#[tokio::test]
async fn a_yes_or_no_allocates_nothing_while_nobody_listens() {
    let server = Server::start().await;
    let loud = json!({"key": "loud", "project": "p", "salt": "x", "state": {"enabled": true, "impressions": true}});
    let (flags, _peer) = tokio::join!(server.client().build(), server.serve(json!([loud])));
    let flags = flags.unwrap();
    let user = Context::new().user_id("u-17");
    let allocations = || {
        let before = COUNT.get();
        for _ in 0..100 {
            assert!(black_box(flags.is_enabled("loud", &user)));
        }
        COUNT.get() - before
    };

    allocations(); // the thread's own set-up
    assert_eq!(allocations(), 0);
    let listener = flags.impressions();
    assert!(allocations() >= 100, "with a listener there is something to tell");
    drop(listener);
    assert_eq!(allocations(), 0);
}

//! The client against a small server: following, coming back, starting without it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::result_large_err,
    reason = "helpers of tests; the large error is tungstenite's"
)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{SOON, Server, ack, client, delta, flag, full, until};
use switchback_sdk::{AuthMode, BuildError, Context, Impression, Source, Switchback};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::http::StatusCode;

#[tokio::test]
async fn starts_live_and_follows() {
    let server = Server::start().await;
    let (flags, mut peer) = tokio::join!(
        server.client().app_version("1.2").build(),
        server.serve(json!([flag("a", true)]))
    );
    let flags = flags.unwrap();
    let context = Context::new();
    let mut changes = flags.changes();

    assert_eq!(peer.authorization, "Bearer sb-token");
    assert!(flags.is_enabled("a", &context));
    assert!(flags.status().live);
    assert_eq!(flags.status().source, Source::Live);
    assert_eq!(flags.auth_mode(&context), AuthMode::Enforced);

    peer.say(delta(1, 2, json!([flag("a", false), flag("auth_bypass", true)]))).await;
    assert_eq!(peer.hear_ack().await, ack("e1", 2));
    assert!(timeout(SOON, flags.wait_for_revision(2)).await.unwrap());
    assert!(!flags.is_enabled("a", &context));
    assert_eq!(flags.auth_mode(&context), AuthMode::Bypass);
    let change = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(
        (change.revision, change.keys.as_slice()),
        (2, &["a".to_owned(), "auth_bypass".to_owned()][..])
    );
    assert!(!format!("{flags:?}").contains("sb-token"));
    peer.ping().await;
}

#[tokio::test]
async fn acknowledges_reports_and_says_goodbye() {
    let server = Server::start().await;
    let (flags, mut peer) = tokio::join!(
        server.client().build(),
        server.serve(json!([flag("a", true), flag("b", false)]))
    );
    let flags = flags.unwrap();
    for _ in 0..3 {
        flags.is_enabled("a", &Context::new());
        flags.evaluation("b", &Context::new());
        flags.is_enabled("unknown", &Context::new());
    }

    let mut counts = Vec::new();
    while counts.len() < 2 {
        let frame = peer.hear().await;
        assert_eq!(frame["type"], "report");
        counts.extend(frame["counts"].as_array().unwrap().clone());
    }
    assert_eq!(counts[0], json!({"flag": "a", "enabled": true, "count": 3}));
    assert_eq!(counts[1], json!({"flag": "b", "enabled": false, "count": 3}));

    flags.is_enabled("b", &Context::new());
    let (last, ()) = tokio::join!(peer.hear(), flags.shutdown());
    assert_eq!(last["counts"], json!([{"flag": "b", "enabled": false, "count": 1}]));
    peer.hear_the_end().await;
    assert!(!flags.status().live);
    assert!(flags.is_enabled("a", &Context::new()));
}

#[tokio::test]
async fn a_gap_asks_for_everything() {
    let server = Server::start().await;
    let (flags, mut peer) =
        tokio::join!(server.client().build(), server.serve(json!([flag("a", true)])));
    let flags = flags.unwrap();

    peer.say(json!({"type": "of_a_later_release", "x": 1})).await;
    peer.say(delta(4, 5, json!([]))).await;
    assert_eq!(peer.hear().await, json!({"type": "ask"}));
    assert_eq!(flags.status().revision, 1);
    peer.say(full("e1", 5, json!([flag("b", true)]))).await;
    assert_eq!(peer.hear().await, ack("e1", 5));
    assert!(flags.is_enabled("b", &Context::new()));
    assert!(!flags.is_enabled("a", &Context::new()));
}

#[tokio::test]
async fn comes_back_with_its_revision() {
    let server = Server::start().await;
    let (flags, peer) =
        tokio::join!(server.client().build(), server.serve(json!([flag("a", true)])));
    let flags = flags.unwrap();

    drop(peer);
    let mut peer = server.accept().await;
    let hello = peer.hear().await;
    assert_eq!((&hello["epoch"], &hello["revision"]), (&json!("e1"), &json!(1)));
    assert!(!flags.status().live);
    assert!(flags.status().stale_since.is_some());
    assert!(flags.is_enabled("a", &Context::new()));

    let heartbeat = json!({"type": "heartbeat", "epoch": "e1", "revision": 1});
    peer.say(heartbeat.clone()).await;
    assert_eq!(peer.hear_ack().await, ack("e1", 1), "a server that was started anew does not know");
    peer.say(heartbeat).await;
    peer.say(delta(1, 2, json!([]))).await;
    assert_eq!(peer.hear_ack().await, ack("e1", 2), "once is enough");
    until(|| flags.status().live).await;
    assert_eq!(flags.status().last_error, None);
}

#[tokio::test]
async fn starts_from_disk_while_the_server_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let url = server.url();
    let with_cache = || client(&url).cache_dir(directory.path());
    let (flags, mut peer) =
        tokio::join!(with_cache().build(), server.serve(json!([flag("a", true)])));
    flags.unwrap().shutdown().await;
    peer.hear_the_end().await;
    drop(server);

    let flags = with_cache().build().await.unwrap();
    let status = flags.status();
    assert_eq!((status.source, status.live, status.revision), (Source::Disk, false, 1));
    assert!(status.last_error.is_some());
    assert!(flags.is_enabled("a", &Context::new()));
    flags.shutdown().await;

    let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("true", "false")).unwrap();
    let flags = with_cache().ready_timeout(Duration::from_millis(50)).build().await.unwrap();
    assert_eq!(flags.status().source, Source::Empty);
    assert!(flags.is_enabled_or("a", &Context::new(), true));
    assert_eq!(flags.auth_mode(&Context::new()), AuthMode::Enforced);
}

#[tokio::test]
async fn what_is_on_disk_grows_stale_from_when_it_was_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let url = server.url();
    let with_cache = || client(&url).cache_dir(directory.path());
    let bypass = json!({"key": "auth_bypass", "project": "p", "salt": "x", "state": {
        "enabled": true, "max_staleness_ms": 900_000, "on_stale": "off",
    }});
    let (flags, mut peer) = tokio::join!(with_cache().build(), server.serve(json!([bypass])));
    let flags = flags.unwrap();
    assert_eq!(flags.auth_mode(&Context::new()), AuthMode::Bypass);
    flags.shutdown().await;
    peer.hear_the_end().await;
    drop(server);

    let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::File::options().append(true).open(file).unwrap();
    let confirmed = file.metadata().unwrap().modified().unwrap();
    file.set_modified(confirmed - Duration::from_mins(16)).unwrap();

    let flags = with_cache().build().await.unwrap();
    assert_eq!(flags.auth_mode(&Context::new()), AuthMode::Enforced);
    assert_eq!(flags.evaluation("auth_bypass", &Context::new()).reason, "stale");
}

#[tokio::test]
async fn a_silent_server_does_not_hold_up_the_app() {
    let server = Server::start().await;
    let start = Instant::now();
    let build = server.client().ready_timeout(Duration::from_millis(200)).build();
    let (flags, _stream) = tokio::join!(build, server.accept_silently());

    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(flags.unwrap().status().source, Source::Empty);
}

#[tokio::test]
async fn a_connection_without_heartbeats_is_made_anew() {
    let server = Server::start().await;
    let build = server.client().silence_timeout(Duration::from_millis(200)).build();
    let (flags, _peer) = tokio::join!(build, server.serve(json!([flag("a", true)])));
    let flags = flags.unwrap();

    let mut again = server.accept().await;
    assert_eq!(again.hear().await["revision"], 1);
    assert!(flags.status().last_error.unwrap().contains("silent"));
}

#[tokio::test]
async fn a_goodbye_is_heeded() {
    let server = Server::start().await;
    let (flags, mut peer) =
        tokio::join!(server.client().build(), server.serve(json!([flag("a", true)])));
    let flags = flags.unwrap();

    peer.say(json!({"type": "goodbye", "reason": "shutdown", "reconnect_after_ms": 10})).await;
    let mut peer = server.accept().await;
    peer.hear().await;
    peer.say(json!({"type": "goodbye", "reason": "revoked", "reconnect_after_ms": null})).await;
    peer.hear_the_end().await;
    until(|| flags.status().last_error.is_some_and(|error| error.contains("revoked"))).await;
    timeout(Duration::from_millis(300), server.accept()).await.map(drop).unwrap_err();
    assert!(flags.is_enabled("a", &Context::new()));
    flags.shutdown().await;
}

#[tokio::test]
async fn a_refused_token_is_told_at_once() {
    let server = Server::start().await;
    let (flags, ()) =
        tokio::join!(server.client().build(), server.refuse(StatusCode::UNAUTHORIZED));
    let status = flags.unwrap().status();

    assert!(!status.live);
    assert!(status.last_error.unwrap().contains("401"));
}

#[tokio::test]
async fn notices_and_changes_reach_callbacks() {
    let server = Server::start().await;
    let (flags, mut peer) = tokio::join!(server.client().build(), server.serve(json!([])));
    let flags = flags.unwrap();
    let (seen, mut heard) = tokio::sync::mpsc::channel(8);
    let also = seen.clone();
    let _notices = flags.on_notice(move |notice| also.try_send(notice.title.clone()).unwrap());
    let _changes = flags.on_change(move |change| seen.try_send(change.keys.concat()).unwrap());

    let notice = json!({"type": "notice", "id": "1", "severity": "info", "title": "Sign in again",
        "message": "", "at": 0});
    peer.say(notice).await;
    assert_eq!(timeout(SOON, heard.recv()).await.unwrap().unwrap(), "Sign in again");
    peer.say(delta(1, 2, json!([flag("a", true)]))).await;
    assert_eq!(timeout(SOON, heard.recv()).await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn impressions_are_of_flags_that_ask_and_hold_nobody_up() {
    let server = Server::start().await;
    let asks = |key: &str, impressions: bool| {
        json!({"key": key, "project": "p", "salt": key, "state": {
            "enabled": true, "impressions": impressions, "variants": [{"name": "blue", "weight": 100}],
        }})
    };
    let serve = server.serve(json!([asks("loud", true), asks("quiet", false)]));
    let (flags, _peer) = tokio::join!(server.client().build(), serve);
    let flags = flags.unwrap();
    let user = Context::new().user_id("u-17").session_id("s");
    flags.is_enabled("loud", &user); // nobody listens yet
    let mut impressions = flags.impressions();
    let poisoned = flags.on_impression(|impression| panic!("{}", impression.flag));

    flags.is_enabled("quiet", &user);
    flags.is_enabled("unknown", &user);
    assert!(flags.is_enabled("loud", &user));
    assert_eq!(flags.variant("loud", &Context::new()), Some("blue".to_owned()));

    let first = timeout(SOON, impressions.next()).await.unwrap().unwrap();
    let expected = Impression {
        flag: "loud".to_owned(),
        unit: Some("u-17".to_owned()),
        enabled: true,
        variant: Some("blue".to_owned()),
        reason: "default".to_owned(),
        revision: 1,
        missed: 0,
    };
    assert_eq!(first, expected);
    let second = timeout(SOON, impressions.next()).await.unwrap().unwrap();
    assert_eq!(second, Impression { unit: None, ..expected });

    for _ in 0..3_000 {
        assert!(flags.is_enabled("loud", &user)); // a listener has panicked, another is too slow
    }
    let late = timeout(SOON, impressions.next()).await.unwrap().unwrap();
    assert_eq!(late.missed, 3_000 - 1_024);
    drop(poisoned);
}

#[tokio::test]
async fn a_browser_token_is_named_as_the_mistake() {
    let server = Server::start().await;
    let serve = async {
        let mut peer = server.accept().await;
        peer.hear().await;
        peer.say(json!({"type": "values", "epoch": "e1", "revision": 1, "values": []})).await;
        peer.hear_the_end().await;
    };
    let (flags, ()) = tokio::join!(server.client().build(), serve);

    let error = flags.unwrap_err();
    assert_eq!(error, BuildError::BrowserToken);
    assert!(error.to_string().contains("needs a server token"), "{error}");
}

#[tokio::test]
async fn the_last_handle_ends_the_connection() {
    let server = Server::start().await;
    let (flags, mut peer) = tokio::join!(server.client().build(), server.serve(json!([])));
    let flags = flags.unwrap();
    let other = flags.clone();

    drop(flags);
    peer.ping().await;
    drop(other);
    peer.hear_the_end().await;
}

#[tokio::test]
async fn mistakes_of_the_caller_are_errors() {
    let wrong = client("localhost:8080").build().await.unwrap_err();
    assert!(matches!(wrong, BuildError::Url { .. }), "{wrong}");
    assert_eq!(client("http://h").token("").build().await.unwrap_err(), BuildError::Token);
    let wrong = client("https://h").root_certificates([vec![1, 2]]).build().await.unwrap_err();
    assert_eq!(wrong, BuildError::Certificate { index: 0 });
}

#[test]
fn outside_a_runtime_building_is_an_error() {
    let build = std::pin::pin!(client("http://127.0.0.1:1").build());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = build.poll(&mut context) else {
        panic!("it was built")
    };
    assert_eq!(error, BuildError::NoRuntime);
}

#[test]
fn test_clients_need_nothing() {
    let flags =
        Switchback::for_tests().flag_on("a").flag_off("b").flag("c", json!({"n": 3})).build();
    let context = Context::new();

    assert!(flags.is_enabled("a", &context));
    assert!(!flags.is_enabled_or("b", &context, true));
    assert_eq!(flags.value::<serde_json::Value>("c", &context).unwrap()["n"], 3);
    assert_eq!(flags.value_or("a", &context, 5_u32), 5);
    assert_eq!(flags.variant("a", &context), None);
    assert_eq!(flags.evaluation("d", &context).reason, "unknown_flag");
    assert_eq!(flags.status().source, Source::Test);
}

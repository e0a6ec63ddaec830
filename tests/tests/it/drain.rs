//! The drain: a request that outlasts its grace is cut, and its client sees that; a stream of events
//! ends between two.

use tests::websocket::{Message, WebSocket};
use tests::{Site, app};

#[test]
fn a_request_that_outlasts_the_drain_timeout_is_cut_and_fails_visibly() {
    let site = Site::watching_a_pointer().with("--drain-timeout", "1s");
    let site = site.start("v1");
    let mut unanswered = site.begin("/slow?ms=600000");
    let mut answered = site.begin("/slow?ms=0&bytes=1000000000");
    assert_eq!(answered.head().unwrap().status, 200);
    site.wait_until("both are in flight", |status| status.in_flight() == 2);
    site.deploy("v2");
    site.await_active("v2");

    let answer = unanswered.answer().unwrap();
    assert_eq!(answer.status, 504, "{answer:?}");
    let came = answered.rest().len();
    assert!(came < 1_000_000_000, "{came}");
    let status = site.wait_until("v1 is gone", |status| status.is_at_rest());
    let v2 = status.handoff("v2").unwrap();
    let took = v2.drained_ms.unwrap().0 - v2.promoted_ms.unwrap().0;
    assert!(took >= 1000, "cut after {took} ms");
    site.await_version("v2");
}

#[test]
fn an_event_stream_and_a_websocket_have_a_grace_of_their_own() {
    let site = Site::watching_a_pointer().with("--tunnel-drain-timeout", "500ms");
    let site = site.start("v1");
    let mut stream = site.begin("/stream?events=1000000&every=50");
    assert_eq!(stream.head().unwrap().status, 200);
    let (mut socket, _) = WebSocket::open(site.connect());
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.await_active("v2");

    stream.assert_ended_between_events();
    // To its client nothing has failed: the connection goes on.
    assert_eq!(stream.get("/version").unwrap().release(), "v2");
    tests::eventually(
        || "the WebSocket is cut".to_owned(),
        || socket.echo("still there?").err(),
    );
    assert!(site.status().is_draining("v1"), "the upload has more time");
    assert_eq!(upload.finish().unwrap().release(), "v1");
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn a_websocket_is_closed_with_the_status_that_is_configured() {
    for (options, expected) in [
        (&[][..], 1001),
        (&[("--websocket-close-code", "1012")], 1012),
    ] {
        let site = Site::watching_a_pointer().with("--tunnel-drain-timeout", "1s");
        let with = |site: Site, (name, value): &(&str, &str)| site.with(name, value);
        let site = options.iter().fold(site, with).start("v1");
        let (mut socket, _) = WebSocket::open(site.connect());
        site.deploy("v2");
        let Message::Close(Some(frame)) = socket.receive().expect("a message") else {
            panic!("it is closed with a frame");
        };
        assert_eq!(u16::from(frame.code), expected);
    }
}

#[test]
fn an_event_stream_that_is_ended_tells_its_browser_when_to_come_back_if_that_is_configured() {
    let ended = |site: Site| {
        let site = site.with("--tunnel-drain-timeout", "500ms").start("v1");
        let mut stream = site.begin("/stream?events=1000000&every=50");
        assert_eq!(stream.head().unwrap().status, 200);
        site.deploy("v2");
        let text = stream.assert_ended_between_events();
        assert_eq!(stream.get("/version").unwrap().release(), "v2");
        text
    };
    let site = Site::watching_a_pointer();
    let text = ended(site.with("--event-retry", "1500ms"));
    let (events, hint) = text.trim_end().rsplit_once("\n\n").expect("two blocks");
    assert_eq!(hint, "retry: 1500");
    assert!(!events.contains("retry"), "{events}");
    let text = ended(Site::watching_a_pointer());
    assert!(!text.contains("retry"), "{text}");
}

#[test]
fn the_oldest_of_too_many_draining_releases_is_cut() {
    // Its own grace shall not be what ends it.
    let site = Site::watching_a_pointer()
        .with("--max-draining", "1")
        .with("--tunnel-drain-timeout", "1h")
        .with("--drain-timeout", "1h");
    let site = site.start("v1");
    let mut oldest = site.begin("/stream?events=1000000&every=50");
    assert_eq!(oldest.head().unwrap().release(), "v1");
    site.deploy("v2");
    assert!(site.await_active("v2").is_draining("v1"));
    let upload = site.begin_upload("/upload");

    site.deploy("v3");
    site.await_active("v3");

    oldest.assert_ended_between_events();
    let status = site.wait_until("v1 is gone", |status| {
        !status.is_draining("v1") && status.stopping.is_empty()
    });
    assert!(status.is_draining("v2"), "{status:#?}");
    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v2"));
    site.wait_until("v2 is gone", |status| status.is_at_rest());
}

#[cfg(unix)]
#[test]
fn a_request_keeps_its_grace_when_its_release_serves_again_and_drains_once_more() {
    let site = Site::watching_a_pointer()
        .with("--tunnel-drain-timeout", "500ms")
        .with("--drain-timeout", "1h")
        .with("--stop", "kill");
    let site = site.start("v1");
    let mut stream = site.begin("/stream?events=1000000&every=50");
    assert_eq!(stream.head().unwrap().status, 200);
    let upload = site.begin_upload("/upload");
    site.wait_until("both are in flight", |status| status.in_flight() == 2);
    site.deploy("v2");
    site.await_active("v2");
    stream.assert_ended_between_events();

    site.ask(r#"{"serial":1,"rollback":{"to":null,"serial":1}}"#);
    let status = site.await_active("v1");
    assert_eq!(status.generation(), Some(1), "{}", site.log());
    site.await_version("v1");
    site.deploy("v3");
    site.await_active("v3");
    site.await_version("v3");
    let status = site.wait_until("v2 is gone", |status| status.stopping.is_empty());

    assert!(status.is_draining("v1"), "{status:#?}");
    assert_eq!(upload.finish().unwrap().release(), "v1");
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn two_may_drain_side_by_side_by_default() {
    let site = Site::watching_a_pointer().start("v1");
    let first = site.begin_upload("/upload");
    site.deploy("v2");
    site.await_active("v2");
    let second = site.begin_upload("/upload");
    site.deploy(app("v3"));
    let status = site.await_active("v3");
    assert!(status.is_draining("v1") && status.is_draining("v2"));
    assert_eq!(first.finish().unwrap().release(), "v1");
    assert_eq!(second.finish().unwrap().release(), "v2");
}

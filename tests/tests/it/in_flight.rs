//! Requests in flight during a swap end on the release that they began on.

use tests::wait::with_enough_time;
use tests::websocket::WebSocket;
use tests::{Running, Site};

/// Swaps, and says whether the old release still had something in flight then.
fn swap_meanwhile(site: &Running) -> bool {
    site.deploy("v2");
    site.await_active("v2").is_draining("v1")
}

#[test]
fn a_slow_request_ends_on_the_release_it_began_on() {
    with_enough_time(|time| {
        let site = Site::watching_a_pointer().start("v1");
        let mut request = site.begin(&format!("/slow?ms={}", time.as_millis()));
        site.wait_until("it is in flight", |status| status.in_flight() == 1);
        let overlapped = swap_meanwhile(&site);
        let answer = request.answer().unwrap();
        assert_eq!((answer.status, answer.release()), (200, "v1"));
        site.await_version("v2");
        overlapped
    });
}

#[test]
fn an_event_stream_goes_on_to_its_own_end() {
    with_enough_time(|time| {
        let events = time.as_millis() / 50;
        let site = Site::watching_a_pointer().start("v1");
        let mut stream = site.begin(&format!("/stream?events={events}&every=50"));
        let head = stream.head().unwrap();
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let overlapped = swap_meanwhile(&site);
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().unwrap() {
            text += std::str::from_utf8(&chunk).unwrap();
        }
        let last = format!("data: {events} of {events} from v1\n\n");
        assert!(text.ends_with(&last), "{text}");
        assert_eq!(text.matches("from v1").count() as u128, events);
        overlapped
    });
}

#[test]
fn a_websocket_goes_on_talking_to_the_release_it_was_opened_with() {
    let site = Site::watching_a_pointer().start("v1");
    let (mut socket, release) = WebSocket::open(site.connect());
    assert_eq!(release, "v1");
    assert_eq!(socket.echo("before").unwrap(), "before");

    assert!(swap_meanwhile(&site));

    assert_eq!(socket.echo("after").unwrap(), "after");
    let (_, release) = WebSocket::open(site.connect());
    assert_eq!(release, "v2", "a new one is opened with the new release");
    assert_eq!(socket.echo("and on").unwrap(), "and on");
    assert!(site.status().is_draining("v1"));
    drop(socket);
    site.wait_until("v1 is gone", |status| !status.is_draining("v1"));
}

#[test]
fn an_upload_arrives_whole_where_it_began() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");

    assert!(swap_meanwhile(&site));
    site.await_version("v2");

    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v1"));
    // Of "handoff!".
    let digest = "3cac5aa669be46dcd650b6b33755541112f0b0cc37fad1376abf01d5663e61e3";
    assert!(answer.text().contains(digest), "{}", answer.text());
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn a_download_that_the_client_takes_its_time_for_arrives_whole() {
    // More than the buffers on its way hold, so that the app cannot be done with it early.
    const BYTES: usize = 64 << 20;

    let site = Site::watching_a_pointer().start("v1");
    let mut download = site.begin(&format!("/slow?ms=0&bytes={BYTES}"));
    let head = download.head().unwrap();
    assert_eq!((head.status, head.release()), (200, "v1"));

    assert!(swap_meanwhile(&site));
    site.await_version("v2");

    assert_eq!(download.bytes(BYTES).unwrap().len(), BYTES);
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn the_old_release_is_not_stopped_while_anything_is_in_flight() {
    let site = Site::watching_a_pointer().start("v1");
    let v1 = site.status().active.clone().expect("an active one");
    let upload = site.begin_upload("/upload");
    for version in ["v2", "v3"] {
        site.deploy(version);
        let status = site.await_active(version);
        assert!(status.is_draining("v1"), "{status:#?}");
    }
    let direct = tests::Connection::open(v1.address.unwrap());
    let answer = direct.and_then(|mut app| app.get("/version")).unwrap();
    assert_eq!(answer.text(), "v1");
    assert_eq!(upload.finish().unwrap().release(), "v1");
    let status = site.wait_until("all but v3 is gone", |status| status.is_at_rest());
    let handoff = status.handoff("v2").unwrap();
    assert!(handoff.drained_ms.is_some() && handoff.stopped_ms.is_some());
    assert!(handoff.drained_ms <= handoff.stopped_ms);
}

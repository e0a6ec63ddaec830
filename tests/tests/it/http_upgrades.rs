//! Connections that stop being HTTP: bytes both ways until both sides have ended.

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire, field};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: y\r\n\
                        upgrade: websocket\r\nconnection: upgrade\r\n\r\n";

/// An open tunnel: the client's end and the app's.
fn tunnel(stage: &Stage) -> (Wire, Wire) {
    let mut client = stage.client_sends(UPGRADE);
    let mut app = stage.app();
    let head = app.head();
    assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
    assert_eq!(field(&head, "connection"), Some("upgrade"), "{head}");
    assert_eq!(field(&head, "sec-websocket-key"), Some("x"), "{head}");
    app.send(SWITCH);
    let head = client.answer_head();
    assert_eq!(sorted(&head), sorted(SWITCHED));
    (client, app)
}

fn sorted(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.lines().collect();
    lines[1..].sort_unstable();
    lines
}

/// A short frame; a client's is masked.
fn frame(payload: &[u8], is_masked: bool) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    if is_masked {
        [&[0x82, 0x80 | length, 0, 0, 0, 0], payload].concat()
    } else {
        [&[0x82, length], payload].concat()
    }
}

const CLOSE_TO_CLIENT: &[u8] = &[0x88, 2, 3, 0xe9];
const CLOSE_TO_APP: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9];

#[test]
fn a_tunnel_passes_bytes_both_ways_one_by_one() {
    let stage = Stage::new();
    let (mut client, mut app) = tunnel(&stage);
    for byte in 0..=u8::MAX {
        client.send([byte]);
        app.expect([byte]);
        app.send([byte, 0]);
        client.expect([byte, 0]);
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: it comes to a standstill, with puppet and test under Wine, too"
)]
fn a_tunnel_passes_large_amounts_both_ways_at_once() {
    const SIZE: usize = 8 << 20;

    let stage = Stage::new();
    let (mut client, mut app) = tunnel(&stage);
    std::thread::scope(|scope| {
        for (to, fill) in [(client.sender(), b'c'), (app.sender(), b'a')] {
            let mut to = to;
            scope.spawn(move || to.send(vec![fill; SIZE]));
        }
        for (from, fill) in [(&mut app, b'c'), (&mut client, b'a')] {
            scope.spawn(move || assert!(from.bytes(SIZE) == vec![fill; SIZE]));
        }
    });
}

#[test]
fn bytes_right_behind_the_heads_are_the_tunnels_first() {
    let stage = Stage::new();
    let mut client = stage.client_sends(UPGRADE.to_owned() + "early from the client");
    let mut app = stage.app();
    app.head();
    app.send(SWITCH.to_owned() + "early from the app");
    client.answer_head();
    client.expect("early from the app");
    app.expect("early from the client");
}

#[test]
fn half_a_tunnel_may_end_before_the_other_half() {
    let stage = Stage::new();
    let (mut client, mut app) = tunnel(&stage);
    client.half_close();
    assert_eq!(app.end(), End::Closed);
    app.send("and yet");
    client.expect("and yet");
    app.half_close();
    assert_eq!(client.end(), End::Closed);

    let (mut client, mut app) = tunnel(&stage);
    app.half_close();
    assert_eq!(client.end(), End::Closed);
    client.send("and yet");
    app.expect("and yet");
    client.half_close();
    assert_eq!(app.end(), End::Closed);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: a reset is seen as a proper end, or not at all"
)]
fn a_reset_of_one_end_of_a_tunnel_is_one_of_the_other() {
    let stage = Stage::new();
    let (mut client, app) = tunnel(&stage);
    app.reset();
    assert_eq!(client.end(), End::Reset);
    let (client, mut app) = tunnel(&stage);
    client.reset();
    assert_eq!(app.end(), End::Reset);
}

#[test]
fn any_other_protocol_is_a_tunnel_too() {
    let stage = Stage::new();
    let upgrade = UPGRADE.replace("websocket\r\nSec", "Proto/2, other\r\nSec");
    let mut client = stage.client_sends(upgrade);
    let mut app = stage.app();
    assert_eq!(field(&app.head(), "upgrade"), Some("Proto/2, other"));
    app.send(SWITCH.replace("websocket\r\n", "proto/2\r\n"));
    assert_eq!(field(&client.answer_head(), "upgrade"), Some("proto/2"));
    client.send("x");
    app.expect("x");
}

#[test]
fn an_upgrade_that_the_app_does_not_want_is_a_request_like_any_other() {
    let stage = Stage::new();
    let mut client = stage.client_sends(UPGRADE);
    let mut app = stage.app();
    app.head();
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_bad_gateway() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(SWITCH.to_owned() + OK);
    client.expect_refusal(502);
    app.await_end_soon();
}

#[test]
fn a_101_to_another_protocol_is_a_bad_gateway() {
    for protocol in ["h2c", "websocket2", "websocket, h2c", ""] {
        let stage = Stage::new();
        let mut client = stage.client_sends(UPGRADE);
        let mut app = stage.app();
        app.head();
        app.send(SWITCH.replace("websocket\r\n", &format!("{protocol}\r\n")));
        client.expect_refusal(502);
        app.await_end_soon();
    }
}

#[test]
fn a_101_without_a_protocol_is_a_bad_gateway() {
    let stage = Stage::new();
    let mut client = stage.client_sends(UPGRADE);
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    client.expect_refusal(502);
    app.await_end_soon();
}

#[test]
fn http_2_in_the_clear_is_not_passed_on() {
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: upgrade\r\nUpgrade: H2C\r\n",
        "HTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: h2c\r\nConnection: keep-alive\r\n",
    ] {
        let stage = Stage::new();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut client = stage.client_sends(request);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
        client.send(GET);
        app.expect(GET_PASSED_ON);
    }
}

#[test]
fn another_protocol_beside_http_2_is_passed_on_alone() {
    let stage = Stage::new();
    let mut client = stage.client_sends(
        UPGRADE.replace("Upgrade: websocket\r\n", "Upgrade: h2c, websocket, H2C\r\n"),
    );
    let mut app = stage.app();
    let head = app.head();
    assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
    app.send(SWITCH);
    assert_eq!(field(&client.answer_head(), "upgrade"), Some("websocket"));
    client.send("x");
    app.expect("x");
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_none() {
    let stage = Stage::new();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(SWITCH);
    client.expect_refusal(502);
}

#[test]
fn a_client_of_version_1_0_does_not_upgrade() {
    let stage = Stage::new();
    let mut client = stage.client_sends(UPGRADE.replace("HTTP/1.1", "HTTP/1.0"));
    let mut app = stage.app();
    let head = app.head();
    assert_eq!(field(&head, "upgrade"), None, "{head}");
    assert_eq!(field(&head, "connection"), None, "{head}");
    app.send(OK);
    assert!(client.answer_head().starts_with("HTTP/1.0 200 OK\r\n"));
}

#[test]
fn a_client_that_leaves_before_the_switch_cancels_it() {
    let stage = Stage::new();
    let client = stage.client_sends(UPGRADE);
    let mut app = stage.app();
    app.head();
    drop(client);
    app.await_end_soon();
}

#[test]
fn a_tunnel_keeps_its_release_in_flight() {
    let stage = Stage::new();
    let (mut client, mut app) = tunnel(&stage);
    stage
        .site()
        .wait_until("it is in flight", |status| status.in_flight() == 1);
    stage.swap();
    client.send("still");
    app.expect("still");
    drop(client);
    app.end();
    drop(app);
    stage
        .site()
        .wait_until("it is drained", |status| status.draining.is_empty());
}

/// A tunnel that is asked to end in half a second, and has to have ended after a minute.
fn drained() -> (Stage, Wire, Wire) {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "1s")]);
    let (mut client, mut app) = tunnel(&stage);
    client.send(frame(b"to the app", true));
    app.expect(frame(b"to the app", true));
    app.send(frame(b"to the client", false));
    client.expect(frame(b"to the client", false));
    (stage, client, app)
}

#[test]
fn a_websocket_that_is_evicted_gets_a_close_frame_both_ways() {
    let (stage, mut client, mut app) = drained();
    stage.swap();
    client.expect(CLOSE_TO_CLIENT);
    assert_eq!(client.end(), End::Closed);
    app.expect(CLOSE_TO_APP);
    assert_eq!(app.end(), End::Closed);
}

#[test]
fn a_shutdown_asks_a_websocket_to_end_and_does_not_wait_for_it() {
    let stage = Stage::with(&[("--shutdown-timeout", "1h")]);
    let (mut client, mut app) = tunnel(&stage);
    client.send(frame(b"to the app", true));
    app.expect(frame(b"to the app", true));
    let (mut silent, _app) = tunnel(&stage);
    stage.site().ask_to_stop();
    client.expect(CLOSE_TO_CLIENT);
    assert_eq!(client.end(), End::Closed);
    app.expect(CLOSE_TO_APP);
    assert_eq!(app.end(), End::Closed);
    // One that does not answer is cut.
    silent.expect(CLOSE_TO_CLIENT);
    stage.site().await_exit();
}

#[test]
fn a_close_frame_comes_between_two_frames_also_when_one_is_on_its_way() {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "6s")]);
    let (mut client, mut app) = tunnel(&stage);
    let whole = frame(b"a frame in two parts", false);
    let (first, second) = whole.split_at(7);
    app.send(first);
    client.expect(first);
    stage.swap();
    // The other direction is between two frames.
    app.expect(CLOSE_TO_APP);
    assert!(!client.has_received(), "not within a frame");
    app.send(second);
    client.expect(second);
    client.expect(CLOSE_TO_CLIENT);
    assert_eq!(client.end(), End::Closed);
}

#[test]
fn a_websocket_within_a_frame_is_cut_at_the_deadline() {
    let (stage, mut client, mut app) = drained();
    app.send(&frame(b"a frame in two parts", false)[..7]);
    client.expect(&frame(b"a frame in two parts", false)[..7]);
    stage.swap();
    client.end();
    app.expect(CLOSE_TO_APP);
    app.end();
}

#[test]
fn a_tunnel_of_another_protocol_is_cut_at_the_deadline_without_a_word() {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "1s")]);
    let mut client = stage.client_sends(UPGRADE.replace("websocket", "proto"));
    let mut app = stage.app();
    app.head();
    app.send(SWITCH.replace("websocket", "proto"));
    client.answer_head();
    stage.swap();
    client.end();
    app.end();
}

#[test]
fn an_event_stream_ends_between_two_events_and_its_connection_goes_on() {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "1s"), ("--drain-timeout", "10m")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
    client.answer_head();
    client.expect("9\r\ndata: 1\n\n\r\n");
    stage.swap();
    client.expect("0\r\n\r\n");
    app.end();
}

#[test]
fn an_event_stream_within_an_event_is_cut_at_the_tunnels_deadline_and_looks_cut() {
    let stage = Stage::with(&[("--tunnel-drain-timeout", "1s"), ("--drain-timeout", "10m")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n");
    client.answer_head();
    client.expect("8\r\ndata: 1\n\r\n");
    stage.swap();
    assert_eq!(client.end(), End::Reset);
    app.end();
}

#[test]
fn an_answer_that_outlasts_its_drain_looks_cut() {
    let stage = Stage::with(&[("--drain-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    client.answer_head();
    client.expect("abc");
    stage.swap();
    assert_eq!(client.end(), End::Reset);
    app.end();
}

#[test]
fn a_request_that_outlasts_its_drain_is_a_504() {
    let stage = Stage::with(&[("--drain-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    stage.swap();
    client.expect_refusal(504);
    app.end();
}

#[test]
fn a_client_that_takes_nothing_is_cut_with_its_release() {
    let stage = Stage::with(&[("--drain-timeout", "1s"), ("--stop-timeout", "5s")]);
    let client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    app.sends_until_full(1_000_000_000);
    stage.swap();
    app.end();
    drop(app);
    stage
        .site()
        .wait_until("the old release is gone", |status| status.is_at_rest());
    drop(client);
}

//! Clients that neither send nor take what they are to, in every phase of an exchange: they do not
//! hold the app for ever.

use std::time::{Duration, Instant};

use tests::stage::{End, GET, GET_PASSED_ON, OK, Stage, Wire, field};
use tests::wait::sleep_for;

const SECOND: (&str, &str) = ("HANDOFF_CLIENT_TIMEOUT", "1s");
/// Longer than a sender waits until it takes a connection for full.
const SECONDS: (&str, &str) = ("HANDOFF_CLIENT_TIMEOUT", "5s");
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BEGINNING: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";
const MUCH: usize = 1_000_000_000;
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\n";

/// A client and its app, which has begun to answer before it has the whole request.
fn answered_early(stage: &Stage) -> (Wire, Wire) {
    let mut client = stage.client_sends(CHUNKED.to_owned() + "5\r\nhello\r\n");
    let mut app = stage.app();
    app.head();
    assert_eq!(app.chunk(), "hello");
    app.send(BEGINNING);
    client.answer_head();
    assert_eq!(client.chunk(), "begin");
    (client, app)
}

#[track_caller]
fn await_in_flight(stage: &Stage, count: usize) {
    let site = stage.site();
    site.wait_until("it is over, or not", |status| status.in_flight() == count);
}

fn tunnel(stage: &Stage) -> (Wire, Wire) {
    let mut client = stage.client_sends(UPGRADE);
    let mut app = stage.app();
    app.head();
    app.send(SWITCH);
    client.answer_head();
    (client, app)
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_does_not_keep_the_app() {
    let stage = Stage::with(&[SECONDS]);
    let _client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"));
    await_in_flight(&stage, 1);
    app.send_until_cut(MUCH);
    await_in_flight(&stage, 0);
}

#[test]
fn a_client_that_takes_its_answer_slowly_gets_it() {
    const PIECE: usize = 128 * 1024;

    let stage = Stage::with(&[SECONDS]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"));
    let sent = app.sends_until_full(MUCH);
    client.answer_head();
    let since = Instant::now();
    let mut received = 0;
    while since.elapsed() < Duration::from_secs(12) && received + PIECE < sent {
        client.bytes(PIECE);
        received += PIECE;
        sleep_for(Duration::from_millis(300), "a slow client");
    }
    client.bytes(sent - received);
}

#[test]
fn a_body_that_breaks_after_the_head_of_its_answer_ends_both_halves() {
    let stage = Stage::new();
    let (mut client, mut app) = answered_early(&stage);
    client.send("ZZ\r\nno chunk\r\n");
    let (rest, _) = app.rest();
    assert_eq!(rest, "", "the app does not take it for whole");
    let (rest, _) = client.rest();
    assert_eq!(rest, "", "the client does not take its answer for whole");
}

#[test]
fn a_body_that_ends_too_soon_after_the_head_of_its_answer_ends_both_halves() {
    let stage = Stage::with(&[("HANDOFF_HALF_CLOSE", "true")]);
    let (mut client, mut app) = answered_early(&stage);
    client.half_close();
    let (rest, _) = app.rest();
    assert_eq!(rest, "", "the app does not take it for whole");
    let (rest, _) = client.rest();
    assert_eq!(rest, "", "the client does not take its answer for whole");
}

#[test]
fn a_body_that_stops_after_the_head_of_its_answer_ends_both_halves() {
    let stage = Stage::with(&[SECOND]);
    let (mut client, mut app) = answered_early(&stage);
    app.await_end_soon();
    let (rest, _) = client.rest();
    assert_eq!(rest, "", "the client does not take its answer for whole");
}

#[test]
fn an_answer_may_be_silent_for_longer_than_a_client() {
    let stage = Stage::with(&[SECOND]);
    let (mut client, mut app) = answered_early(&stage);
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    sleep_for(Duration::from_secs(4), "longer than a limit of others");
    app.send("3\r\nend\r\n0\r\n\r\n");
    assert_eq!(
        (client.chunk(), client.chunk()),
        ("end".into(), String::new())
    );
}

#[test]
fn an_app_may_take_a_body_slower_than_a_client_may_send_it() {
    const LENGTH: usize = 100_000_000;

    let stage = Stage::with(&[SECOND]);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    let sent = client.sends_until_full(LENGTH);
    sleep_for(Duration::from_secs(4), "longer than a limit of others");
    assert!(sent < LENGTH && !client.has_received());
    std::thread::scope(|scope| {
        scope.spawn(|| app.receive(LENGTH));
        client.send(vec![b'x'; LENGTH - sent]);
    });
    app.send(OK);
    client.expect_refusal(200);
}

#[test]
fn a_body_of_a_byte_now_and_then_is_a_408() {
    let stage = Stage::new();
    let mut client = stage.client_sends(CHUNKED);
    let mut app = stage.app();
    app.head();
    let since = Instant::now();
    while !client.has_received() {
        client.send("1\r\nx\r\n");
        assert!(since.elapsed() < Duration::from_secs(60), "it goes on");
        sleep_for(Duration::from_secs(1), "a slow client");
    }
    assert!(since.elapsed() > Duration::from_secs(15), "no grace");
    let head = client.expect_refusal(408);
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    app.await_end_soon();
}

#[test]
fn without_a_minimum_rate_a_byte_now_and_then_is_enough() {
    let stage = Stage::with(&[("HANDOFF_MIN_RATE", "0")]);
    let mut client = stage.client_sends(CHUNKED);
    let mut app = stage.app();
    app.head();
    for _ in 0..25 {
        client.send("1\r\nx\r\n");
        assert_eq!(app.chunk(), "x");
        sleep_for(Duration::from_secs(1), "longer than the grace period");
    }
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    app.send(OK);
    client.expect_refusal(200);
}

#[test]
fn a_tunnel_may_be_silent() {
    let stage = Stage::with(&[SECOND]);
    let (mut client, mut app) = tunnel(&stage);
    sleep_for(Duration::from_secs(4), "longer than a limit of others");
    client.send("still");
    app.expect("still");
    app.send("here");
    client.expect("here");
}

#[test]
fn a_tunnel_whose_client_takes_nothing_does_not_keep_the_app() {
    let stage = Stage::with(&[SECONDS]);
    let (_client, mut app) = tunnel(&stage);
    await_in_flight(&stage, 1);
    app.send_until_cut(MUCH);
    await_in_flight(&stage, 0);
}

#[test]
fn a_tunnel_that_the_app_has_ended_does_not_wait_for_its_client_for_ever() {
    let stage = Stage::with(&[SECOND]);
    let (mut client, app) = tunnel(&stage);
    await_in_flight(&stage, 1);
    app.half_close();
    assert_eq!(client.end(), End::Closed);
    await_in_flight(&stage, 0);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: a reset is seen as a proper end, or not at all"
)]
fn a_client_that_is_gone_after_its_half_of_a_tunnel_does_not_keep_the_app() {
    let stage = Stage::new();
    let (client, mut app) = tunnel(&stage);
    await_in_flight(&stage, 1);
    client.half_close();
    assert_eq!(app.end(), End::Closed);
    client.reset();
    await_in_flight(&stage, 0);
}

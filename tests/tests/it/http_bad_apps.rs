//! An app that fails is seen to fail: a 502, or an answer that visibly breaks off. No client ever
//! takes a part for the whole.

use std::time::Duration;

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire, field};
use tests::wait::sleep_for;

/// [`OK`](tests::stage::OK), on a connection of which there is no other use.
const LAST_OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const OLD_GET: &str = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";

/// A client, and its app that has its request.
fn asked(stage: &Stage, request: &str) -> (Wire, Wire) {
    let client = stage.client_sends(request);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    (client, app)
}

/// Of each of these answers the client gets 502, the app's connection is not used again, and the
/// client's is.
#[track_caller]
fn assert_bad_gateways(answers: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let stage = Stage::new();
    let mut client = stage.client();
    let mut apps = Vec::new();
    for answer in answers {
        client.send(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(answer);
        client.expect_refusal(502);
        app.await_end_soon();
        client.send(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(LAST_OK);
        client.expect_answer(OK_PASSED_ON, "ok");
        apps.push(app);
    }
    stage.assert_nothing_more_reaches(apps);
}

#[test]
fn what_is_not_http_is_a_bad_gateway() {
    assert_bad_gateways([
        "SSH-2.0-OpenSSH_9.2\r\n",
        "garbage\r\n\r\n",
        "\0\0\0\0",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
    ]);
}

#[test]
fn an_answer_without_a_head_is_a_bad_gateway() {
    assert_bad_gateways(["<html><body>as in HTTP/0.9</body></html>"]);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: a reset is seen as a proper end, or not at all"
)]
fn an_answer_with_an_odd_field_is_a_bad_gateway() {
    let answer = |line| format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok");
    assert_bad_gateways(
        [
            "X : a",
            "X: a\0b",
            "X",
            ": a",
            "X\0: a",
            "X: a\r\n folded",
            "X: a\rb",
            " X: a",
        ]
        .map(answer),
    );
}

#[test]
fn an_answer_with_two_lengths_is_a_bad_gateway() {
    let answer = |lengths| format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\nok!");
    assert_bad_gateways(["2\r\nContent-Length: 3", "3\r\nContent-Length: 2", "2, 3"].map(answer));
}

#[test]
fn two_lengths_are_a_bad_gateway_also_where_there_is_no_body() {
    let stage = Stage::new();
    let mut client = stage.client_sends("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = stage.app();
    app.expect("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n");
    assert!(client.answer_head().starts_with("HTTP/1.1 502 "));
    app.await_end_soon();
}

#[test]
fn an_answer_whose_length_is_none_is_a_bad_gateway() {
    let answer = |length| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
    assert_bad_gateways(
        [
            "+2",
            "-2",
            "0x2",
            "2a",
            "",
            " ",
            "2 2",
            "99999999999999999999",
            "2,",
            ",",
        ]
        .map(answer),
    );
}

#[test]
fn an_answer_in_an_unknown_coding_is_a_bad_gateway() {
    let answer = |coding| {
        let fields = format!("Transfer-Encoding: {coding}");
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    };
    assert_bad_gateways(
        [
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "identity",
            "xchunked",
            "chunked, chunked",
        ]
        .map(answer),
    );
}

#[test]
fn an_answer_of_version_1_0_in_chunks_is_a_bad_gateway() {
    assert_bad_gateways([
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ]);
}

#[test]
fn an_endless_head_is_a_bad_gateway() {
    assert_bad_gateways([
        format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1_000)),
    ]);
}

#[test]
fn an_answer_may_have_a_large_head() {
    let stage = Stage::new();
    let (mut client, mut app) = asked(&stage, GET);
    let cookies = "set-cookie: 0123456789012345678901234567890123456789\r\n".repeat(200);
    app.send(format!(
        "HTTP/1.1 200 OK\r\n{cookies}content-length: 0\r\n\r\n"
    ));
    assert_eq!(client.answer_head().matches("set-cookie: 0").count(), 200);
}

#[test]
fn an_app_that_closes_without_a_byte_is_a_bad_gateway() {
    let stage = Stage::new();
    let (mut client, app) = asked(&stage, GET);
    drop(app);
    client.expect_refusal(502);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn an_app_that_resets_without_a_byte_is_a_bad_gateway() {
    let stage = Stage::new();
    let (mut client, app) = asked(&stage, GET);
    app.reset();
    client.expect_refusal(502);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn an_app_that_ends_within_a_head_is_a_bad_gateway() {
    let stage = Stage::new();
    for part in [
        "H",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n",
    ] {
        for is_reset in [false, true] {
            let (mut client, mut app) = asked(&stage, GET);
            app.send(part);
            if is_reset {
                app.reset()
            } else {
                drop(app)
            }
            client.expect_refusal(502);
        }
    }
    stage.assert_nothing_more_reaches([]);
}

/// The client gets what there was, and then a reset, however the app ended.
#[track_caller]
fn assert_cut(stage: &Stage, request: &str, answer: &str, arrives: &str, is_reset: bool) {
    let (mut client, mut app) = asked(stage, request);
    app.send(answer);
    let head = client.answer_head();
    assert!(head.contains(" 200 OK\r\n"), "{head}");
    client.expect(arrives);
    if is_reset {
        app.reset()
    } else {
        drop(app)
    }
    assert_eq!(client.end(), End::Reset, "{request:?} {answer:?}");
}

#[test]
fn an_answer_that_is_shorter_than_its_length_breaks_off() {
    let stage = Stage::new();
    for is_reset in [false, true] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
        assert_cut(&stage, GET, answer, "abc", is_reset);
        assert_cut(&stage, OLD_GET, answer, "abc", is_reset);
    }
}

#[test]
fn an_answer_that_ends_before_its_last_chunk_breaks_off() {
    let stage = Stage::new();
    for is_reset in [false, true] {
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for end in ["", "5", "0\r\n", "0\r\nX: y\r\n"] {
            let answer = format!("{start}3\r\nabc\r\n{end}");
            assert_cut(&stage, GET, &answer, "3\r\nabc\r\n", is_reset);
            assert_cut(&stage, OLD_GET, &answer, "abc", is_reset);
        }
        assert_cut(
            &stage,
            GET,
            &format!("{start}5\r\nabc"),
            "3\r\nabc\r\n",
            is_reset,
        );
    }
}

#[test]
fn an_answer_with_a_bad_chunk_breaks_off() {
    let stage = Stage::new();
    for bad in [
        "x\r\n",
        "-1\r\n",
        "3\r\nabcd\r\n",
        "10000000000000000\r\n",
        "0\r\nbad\r\n\r\n",
    ] {
        let (mut client, mut app) = asked(&stage, GET);
        app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.answer_head();
        client.expect("3\r\nabc\r\n");
        app.send(bad);
        let (rest, end) = client.rest();
        assert!(!rest.contains("0\r\n\r\n"), "{bad:?}: {rest:?}");
        assert_eq!(end, End::Reset, "{bad:?}");
        app.await_end_soon();
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: a reset is seen as a proper end, or not at all"
)]
fn an_answer_without_a_length_that_is_reset_breaks_off() {
    let stage = Stage::new();
    for request in [GET, OLD_GET] {
        let (mut client, mut app) = asked(&stage, request);
        app.send("HTTP/1.1 200 OK\r\n\r\nabc");
        let head = client.answer_head();
        let is_chunked = field(&head, "transfer-encoding").is_some();
        client.expect(if is_chunked { "3\r\nabc\r\n" } else { "abc" });
        app.reset();
        assert_eq!(client.end(), End::Reset, "{request:?}");
    }
}

#[test]
fn a_failure_at_once_behind_the_head_is_never_a_whole_answer() {
    let stage = Stage::new();
    for request in [GET, OLD_GET] {
        let (mut client, mut app) = asked(&stage, request);
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        app.reset();
        // Which part of it arrives depends on when the reset does.
        let (received, end) = client.rest();
        assert!(!received.contains("ok"));
        let is_refusal = received.contains(" 502 Bad Gateway\r\n");
        assert!(is_refusal || end == End::Reset, "{received:?} {end:?}");
    }
}

#[test]
fn a_bad_answer_costs_other_clients_nothing() {
    let stage = Stage::new();
    let (mut good_client, mut good_app) = asked(&stage, GET);
    let (mut client, mut app) = asked(&stage, GET);
    app.send("garbage\r\n\r\n");
    client.expect_refusal(502);
    good_app.send(OK);
    good_client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn an_answer_whose_rest_does_not_come_is_cut_at_its_idle_timeout() {
    let stage = Stage::with(&[("HANDOFF_RESPONSE_IDLE_TIMEOUT", "2s")]);
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (mut client, mut app) = asked(&stage, GET);
        app.send(head);
        client.answer_head();
        for byte in ["1", "\r", "\n", "a", "\r"] {
            sleep_for(
                Duration::from_millis(700),
                "a slow app, for longer than the limit",
            );
            app.send(byte);
        }
        app.await_end_soon();
        let (_, end) = client.rest();
        // Wine shows a reset as a proper end.
        assert!(cfg!(windows) || end == End::Reset, "{head}");
    }
    stage.site().await_log("responses_stalled");
}

#[test]
fn an_app_that_waits_for_its_client_is_not_late() {
    const LENGTH: usize = 50_000_000;

    let stage = Stage::with(&[("HANDOFF_RESPONSE_IDLE_TIMEOUT", "1s")]);
    let (mut client, mut app) = asked(&stage, GET);
    app.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    let sent = app.sends_until_full(LENGTH);
    sleep_for(
        Duration::from_secs(4),
        "a client that stops, for longer than the limit of the app",
    );
    client.answer_head();
    std::thread::scope(|scope| {
        scope.spawn(|| app.send(vec![b'x'; LENGTH - sent]));
        client.bytes(LENGTH);
    });
}

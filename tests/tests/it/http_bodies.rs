//! Bodies of any kind and size, both ways, each byte as soon as it is there.

use std::thread;
use std::time::Duration;

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire, field};
use tests::wait::sleep_for;

const LARGE: usize = 64 << 20;
const PIECE: usize = 64 << 10;

/// Returns a piece of a body that differs from every other piece.
fn piece(number: usize) -> Vec<u8> {
    let mut piece = vec![(number * 7) as u8; PIECE];
    piece[..8].copy_from_slice(&number.to_le_bytes());
    piece[PIECE - 8..].copy_from_slice(&(!number).to_le_bytes());
    piece
}

fn send_large(to: &mut Wire, is_chunked: bool) {
    for number in 0..LARGE / PIECE {
        if is_chunked {
            to.send(format!("{PIECE:x}\r\n"));
        }
        to.send(piece(number));
        if is_chunked {
            to.send("\r\n");
        }
    }
    if is_chunked {
        to.send("0\r\n\r\n");
    }
}

fn receive_large(from: &mut Wire, is_chunked: bool) {
    let (mut received, mut expected) = (Vec::new(), Vec::new());
    let (mut number, mut total) = (0, 0);
    while total < LARGE {
        let part = if is_chunked {
            from.chunk_bytes()
        } else {
            from.bytes(PIECE)
        };
        assert!(!part.is_empty(), "the end after {total} bytes");
        total += part.len();
        received.extend(part);
        while expected.len() < received.len() {
            expected.extend(piece(number));
            number += 1;
        }
        let rest = expected.split_off(received.len());
        assert!(received == expected, "other bytes before {total}");
        received.clear();
        expected = rest;
    }
    if is_chunked {
        assert_eq!(from.chunk(), "");
    }
}

fn framing(is_chunked: bool) -> String {
    if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {LARGE}")
    }
}

#[track_caller]
fn a_large_upload_arrives(is_chunked: bool) {
    let stage = Stage::new();
    let framing = framing(is_chunked);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.expect(format!(
        "POST / HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n",
        framing.to_lowercase()
    ));
    thread::scope(|scope| {
        scope.spawn(|| send_large(&mut client, is_chunked));
        receive_large(&mut app, is_chunked);
    });
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[track_caller]
fn a_large_download_arrives(is_chunked: bool) {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    let framing = framing(is_chunked);
    thread::scope(|scope| {
        scope.spawn(|| {
            app.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            send_large(&mut app, is_chunked);
        });
        let expected = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing.to_lowercase());
        client.expect_answer(&expected, "");
        receive_large(&mut client, is_chunked);
    });
}

#[test]
fn a_large_upload_of_a_known_length_arrives_whole() {
    a_large_upload_arrives(false);
}

#[test]
fn a_large_upload_in_chunks_arrives_whole() {
    a_large_upload_arrives(true);
}

#[test]
fn a_large_download_of_a_known_length_arrives_whole() {
    a_large_download_arrives(false);
}

#[test]
fn a_large_download_in_chunks_arrives_whole() {
    a_large_download_arrives(true);
}

#[test]
fn each_chunk_of_an_answer_arrives_before_the_next_is_sent() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let head = client.answer_head();
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    for n in 0..20 {
        app.send(format!("8\r\ndata: {n:02}\r\n"));
        assert_eq!(client.chunk(), format!("data: {n:02}"));
    }
    app.send("0\r\n\r\n");
    assert_eq!(client.chunk(), "");
}

#[test]
fn each_byte_of_an_answer_of_known_length_arrives_before_the_next_is_sent() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
    client.answer_head();
    for n in 0..10 {
        app.send(n.to_string());
        client.expect(n.to_string());
    }
}

#[test]
fn each_byte_of_an_answer_that_ends_with_its_connection_arrives_at_once_and_so_does_its_end() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nX: y\r\n\r\n");
    client.expect_answer(
        "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n",
        "",
    );
    for n in 0..10 {
        app.send(n.to_string());
        assert_eq!(client.chunk(), n.to_string());
    }
    drop(app);
    assert_eq!(client.chunk(), "");
    client.send(GET);
    stage.app().expect(GET_PASSED_ON);
}

#[test]
fn an_answer_without_a_length_ends_with_the_connection_of_a_client_of_version_1_0() {
    let stage = Stage::new();
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let head = client.answer_head();
    assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    client.expect("abc");
    app.send("3\r\ndef\r\n0\r\n\r\n");
    assert_eq!(client.rest(), ("def".to_owned(), End::Closed));
}

#[test]
fn each_chunk_of_a_request_arrives_before_the_next_is_sent() {
    let stage = Stage::new();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for n in 0..20 {
        client.send(format!("2\r\n{n:02}\r\n"));
        assert_eq!(app.chunk(), format!("{n:02}"));
    }
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn each_byte_of_a_request_of_known_length_arrives_before_the_next_is_sent() {
    let stage = Stage::new();
    let mut client = stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    for n in 0..10 {
        client.send(n.to_string());
        app.expect(n.to_string());
    }
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn an_app_may_answer_while_it_still_receives() {
    let stage = Stage::new();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.answer_head();
    for n in 0..10 {
        client.send(format!("2\r\n{n:02}\r\n"));
        assert_eq!(app.chunk(), format!("{n:02}"));
        app.send(format!("2\r\n{n:02}\r\n"));
        assert_eq!(client.chunk(), format!("{n:02}"));
    }
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    app.send("0\r\n\r\n");
    assert_eq!(client.chunk(), "");
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn a_complete_answer_ends_its_request_and_the_client_can_go_on() {
    let stage = Stage::new();
    let mut client =
        stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut app = stage.app();
    app.head();
    app.expect("abc");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    // The app never sees this as a request that is whole.
    app.end();
    client.send("def");
    let app = stage.serve_on_new_connection(&mut client);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn the_rest_of_a_body_behind_its_answer_is_no_slow_head() {
    the_rest_is_no_slow_head("Content-Length: 6\r\n\r\nabc", "def");
    the_rest_is_no_slow_head("Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n0\r\n\r\n");
}

fn the_rest_is_no_slow_head(begin: &str, rest: &str) {
    let stage = Stage::with(&[("--header-timeout", "3s")]);
    let mut client = stage.client_sends(format!("POST / HTTP/1.1\r\nHost: a\r\n{begin}"));
    let mut app = stage.app();
    app.head();
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    app.shut_down();
    client.send(rest);
    sleep_for(Duration::from_secs(5), "longer than the limit");
    assert!(!client.has_received(), "nothing came that nobody asked for");
    let app = stage.serve_on_new_connection(&mut client);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_slow_client_does_not_make_an_answer_pile_up() {
    // Far more than the sockets on the way hold.
    const MORE: usize = 256 << 20;

    let stage = Stage::new();
    let client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MORE}\r\n\r\n"));
    let taken = app.sends_until_full(MORE);
    assert!(taken < MORE / 2, "{taken} bytes have gone somewhere");
    drop(client);
    app.await_end_soon();
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let stage = Stage::new();
    let mut client = stage.client_sends("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = stage.app();
    for _ in 0..2 {
        app.expect("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
        client.expect_answer("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n", "");
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}

#[test]
fn an_answer_to_head_without_a_length_gets_none() {
    for fields in ["X: y\r\n", "X: y\r\nTransfer-Encoding: chunked\r\n"] {
        let stage = Stage::new();
        let mut client = stage.client_sends("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut app = stage.app();
        app.head();
        app.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        client.expect_answer("HTTP/1.1 200 OK\r\nx: y\r\n\r\n", "");
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
    }
}

#[test]
fn an_answer_that_never_has_a_body_has_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let stage = Stage::new();
        let (mut client, mut app) = stage.kept();
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
        client.expect_answer(&format!("HTTP/1.1 {status}\r\netag: \"x\"\r\n\r\n"), "");
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
    }
}

#[test]
fn a_304_loses_its_length_which_hyper_does_not_pass_on() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
    client.expect_answer("HTTP/1.1 304 Not Modified\r\n\r\n", "");
}

#[test]
fn an_empty_answer_says_so() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    for answer in [
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 200 OK\r\n{answer}"));
        let expected = format!("HTTP/1.1 200 OK\r\n{}", answer.to_lowercase());
        client.expect(&expected[..15]);
        let head = client.answer_head();
        if field(&head, "transfer-encoding").is_some() {
            assert_eq!(client.chunk(), "");
        } else {
            assert_eq!(field(&head, "content-length"), Some("0"));
        }
    }
}

//! Answers that come before the end of a request reach clients that send all of it first.

use std::time::{Duration, Instant};

use tests::stage::{End, Stage, Wire, field};
use tests::wait::sleep_for;

/// Number of bytes that no sockets on the way hold.
const MUCH: usize = 30_000_000;
const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Sends `body`, and only then receives the answer, which is the last.
#[track_caller]
fn expect_last_answer(client: &mut Wire, status: u16, body: impl AsRef<[u8]>) {
    client.send(body);
    let head = client.expect_refusal(status);
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    assert_eq!(client.end(), End::Closed);
}

fn chunks(length: usize) -> Vec<u8> {
    let chunk = [b"10000\r\n", [b'x'; 0x10000].as_slice(), b"\r\n"].concat();
    chunk.repeat(length / 0x10000)
}

#[test]
fn an_early_answer_of_the_app_reaches_a_client_that_first_sends_all() {
    let length = format!("Content-Length: {MUCH}\r\n");
    let bodies = [
        (length.as_str(), vec![b'x'; MUCH]),
        ("Transfer-Encoding: chunked\r\n", chunks(MUCH)),
    ];
    let ends: [fn(Wire); 3] = [drop::<Wire>, |app| app.half_close(), Wire::reset];
    for (fields, body) in &bodies {
        for end in ends {
            let stage = Stage::new();
            let mut client = stage.client_sends(post(fields));
            let mut app = stage.app();
            app.head();
            app.send(TOO_LARGE);
            end(app);
            expect_last_answer(&mut client, 413, body);
        }
    }
}

#[test]
fn an_early_answer_of_the_app_reaches_a_client_that_first_sends_all_and_is_slow() {
    const PIECE: usize = 64 * 1024;

    let stage = Stage::new();
    let mut client = stage.client_sends(post(&format!("Content-Length: {}\r\n", 48 * PIECE)));
    let mut app = stage.app();
    app.head();
    app.send(TOO_LARGE);
    app.half_close();
    for _ in 0..48 {
        client.send([b'x'; PIECE]);
        sleep_for(Duration::from_millis(100), "a slow client");
    }
    expect_last_answer(&mut client, 413, "");
}

#[test]
fn refusals_of_handoff_reach_a_client_that_first_sends_all() {
    let length = format!("Content-Length: {MUCH}\r\n");
    let stage = Stage::with(&[("--max-target", "100")]);
    let requests = [
        (400, post(&length).replace("Host: a\r\n", "")),
        (
            414,
            post(&length).replace("/ ", &format!("/{} ", "x".repeat(200))),
        ),
        (501, post(&length).replace("POST /", "CONNECT a:1")),
        (
            501,
            post(&(length.clone() + "Max-Forwards: 0\r\n")).replace("POST", "TRACE"),
        ),
    ];
    for (status, head) in requests {
        let mut client = stage.client_sends(head);
        expect_last_answer(&mut client, status, vec![b'x'; MUCH]);
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_refusal_for_want_of_an_app_reaches_a_client_that_first_sends_all() {
    let stage = Stage::starting_with(&[("--first-hold-timeout", "1s")]);
    let mut client = stage.client_sends(post(&format!("Content-Length: {MUCH}\r\n")));
    expect_last_answer(&mut client, 503, vec![b'x'; MUCH]);
}

#[test]
fn refusals_of_what_is_no_request_reach_a_client_that_first_sends_all() {
    let stage = Stage::new();
    let heads = [
        (400, "POST / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned()),
        (400, post("Content-Length: x\r\n")),
        (431, post(&"X: y\r\n".repeat(200))),
        (431, post(&format!("X: {}\r\n", "y".repeat(100_000)))),
    ];
    for (status, head) in heads {
        let mut client = stage.client();
        let body = [head.into_bytes(), vec![b'x'; MUCH]].concat();
        expect_last_answer(&mut client, status, body);
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_408_for_a_head_reaches_a_client_that_goes_on_sending() {
    let stage = Stage::with(&[("--header-timeout", "1s")]);
    let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    for _ in 0..50 {
        client.send("x");
        sleep_for(Duration::from_millis(100), "a slow client");
    }
    expect_last_answer(&mut client, 408, "");
}

#[test]
fn a_client_that_never_ends_its_connection_does_not_delay_a_shutdown() {
    let stage = Stage::new();
    let mut client = stage.client_sends("no request\r\n\r\n");
    client.expect_refusal(400);
    assert_eq!(client.end(), End::Closed);
    let since = Instant::now();
    stage.site().ask_to_stop();
    stage.site().await_exit();
    assert!(since.elapsed() < Duration::from_secs(20), "it was awaited");
    drop(client);
}

//! A client that leaves takes its request along, in every phase of it; and one that still sends
//! gets an early answer.

use std::thread;

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire, field};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";

/// A way in which a client leaves.
type Leave = fn(Wire);

const WAYS: [Leave; 2] = [drop::<Wire>, Wire::reset];

#[test]
fn a_client_that_leaves_while_it_waits_cancels_its_request() {
    for leave in WAYS {
        let stage = Stage::new();
        let client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        leave(client);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_half_closes_while_it_waits_has_left() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    client.half_close();
    app.await_end_soon();
    client.await_end_soon();
}

#[test]
fn a_client_that_half_closes_is_answered_with_the_option_for_it() {
    let stage = Stage::with(&[("HANDOFF_HALF_CLOSE", "true")]);
    let mut client = stage.client_sends(GET);
    client.half_close();
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK);
    let head = client.answer_head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    client.expect("ok");
    client.end();
}

#[test]
fn a_client_that_leaves_within_its_request_cancels_it() {
    for leave in WAYS {
        let stage = Stage::new();
        let mut client = stage.client_sends(POST);
        let mut app = stage.app();
        app.head();
        client.send("abc");
        app.expect("abc");
        leave(client);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_leaves_within_a_chunked_request_does_not_seem_to_have_sent_it_all() {
    for leave in WAYS {
        let stage = Stage::new();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = stage.client_sends(head);
        let mut app = stage.app();
        app.head();
        client.send("3\r\nabc\r\n");
        assert_eq!(app.chunk(), "abc");
        leave(client);
        let (rest, _) = app.rest();
        assert_eq!(rest, "");
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: an end behind bytes that nobody reads is not always seen"
)]
fn a_client_that_leaves_with_a_body_that_nobody_reads_cancels_its_request() {
    for leave in WAYS {
        let stage = Stage::new();
        let mut client = stage.client();
        client.shrink_send_buffer();
        client.send(POST.replace("1000000", "1000000000"));
        let mut app = stage.app();
        app.head();
        // Nothing of this is read by the app: it piles up as far as the client itself.
        let sent = client.sends_until_full(1_000_000_000);
        // Some is, and so the client's end can arrive; but behind what handoff has not read. The
        // system lets handoff send on once a third of its buffer is free.
        app.receive(sent * 2 / 5);
        let site = stage.site();
        site.wait_until("it is in flight", |status| status.in_flight() == 1);
        leave(client);
        site.wait_until("it is cancelled", |status| status.in_flight() == 0);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_leaves_with_requests_sent_ahead_cancels_them() {
    for leave in WAYS {
        let stage = Stage::new();
        let client = stage.client_sends(GET.repeat(3));
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        leave(client);
        app.await_end_soon();
        stage.assert_nothing_more_reaches([]);
    }
}

#[test]
fn a_client_that_leaves_within_an_answer_cancels_it() {
    for leave in WAYS {
        let stage = Stage::new();
        let mut client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc");
        client.answer_head();
        client.expect("abc");
        leave(client);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_leaves_a_silent_event_stream_ends_it() {
    for leave in WAYS {
        let stage = Stage::new();
        let mut client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        client.answer_head();
        client.expect("9\r\ndata: 1\n\n\r\n");
        leave(client);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_leaves_without_taking_its_answer_ends_it() {
    for leave in WAYS {
        let stage = Stage::new();
        let client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        app.sends_until_full(1_000_000_000);
        leave(client);
        app.await_end_soon();
    }
}

#[test]
fn a_client_that_leaves_while_it_is_held_is_forgotten() {
    for leave in WAYS {
        let stage = Stage::starting();
        let client = stage.client_sends(GET);
        stage
            .site()
            .wait_until("it is held", |status| status.held == 1);
        leave(client);
        stage
            .site()
            .wait_until("it is forgotten", |status| status.held == 0);
        stage.make_ready();
        stage.assert_nothing_more_reaches([]);
    }
}

#[test]
fn a_held_request_is_answered_when_the_app_is_ready() {
    let stage = Stage::starting();
    let mut client = stage.client_sends(GET);
    stage
        .site()
        .wait_until("it is held", |status| status.held == 1);
    stage.make_ready();
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn a_client_that_leaves_after_its_answer_leaves_the_apps_connection_for_others() {
    let stage = Stage::new();
    let (client, mut app) = stage.kept();
    drop(client);
    let mut client = stage.client_sends(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn connections_that_only_open_and_close_are_nothing() {
    let stage = Stage::new();
    for _ in 0..10 {
        drop(stage.client());
        stage.client().reset();
        drop(stage.client_sends("GET / HT"));
    }
    let (_client, app) = stage.kept();
    stage.assert_nothing_more_reaches([app]);
}

const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";

/// A client that sends 10 MiB, whatever it hears meanwhile, gets an answer that came at once.
#[track_caller]
fn gets_an_early_answer(head: &str, answers: fn(Wire)) {
    const MORE: usize = 10 << 20;

    let stage = Stage::new();
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    thread::scope(|scope| {
        let mut sender = client.sender();
        scope.spawn(move || {
            let piece = [b'x'; 64 << 10];
            for _ in 0..MORE / piece.len() {
                let chunk = [b"10000\r\n", piece.as_slice(), b"\r\n"].concat();
                // Refused at last, it is: it has been answered.
                if sender.try_send(chunk).is_err() {
                    return;
                }
            }
        });
        answers(app);
        let head = client.answer_head();
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        client.expect("no!");
        client.shut_down();
    });
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const LENGTH: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";

#[test]
fn an_early_answer_reaches_a_client_that_still_sends_when_the_app_closes() {
    for head in [CHUNKED, LENGTH] {
        gets_an_early_answer(head, |mut app| app.send(TOO_LARGE));
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends_when_the_app_resets() {
    for head in [CHUNKED, LENGTH].repeat(5) {
        gets_an_early_answer(head, |mut app| {
            app.receive(100_000);
            app.send(TOO_LARGE);
            app.reset();
        });
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends_when_the_app_does_nothing_more() {
    for head in [CHUNKED, LENGTH] {
        gets_an_early_answer(head, |mut app| {
            app.send(TOO_LARGE);
            std::mem::forget(app);
        });
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_first_sends_all_of_a_small_body() {
    const SIZE: usize = 200_000;

    let stage = Stage::new();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!");
    drop(app);
    client.send(vec![b'x'; SIZE]);
    let head = client.answer_head();
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    client.expect("no!");
    assert_eq!(field(&head, "connection"), None);
    stage.serve_on_new_connection(&mut client);
}

#[test]
fn a_refusal_of_ours_reaches_a_client_that_still_sends() {
    let stage = Stage::new();
    let mut client = stage.client_sends(LENGTH.replace("Host: a\r\n", ""));
    thread::scope(|scope| {
        let mut sender = client.sender();
        scope.spawn(move || while sender.try_send([0; 64 << 10]).is_ok() {});
        client.expect_refusal(400);
        client.shut_down();
    });
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_client_that_sends_much_more_than_it_said_is_no_request_more() {
    let stage = Stage::new();
    let mut client =
        stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nokXX");
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    client.send("\r\n\r\n");
    client.expect_refusal(400);
    assert_eq!(client.end(), End::Closed);
    stage.assert_nothing_more_reaches([app]);
}

//! Requests that are sent again, and those that never are: an app's connection may end just when it
//! is used.

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage};

/// Plays an exchange. On a kept connection the app gets this request, and ends the connection
/// instead of answering. The request comes again on a new connection, or is answered with 502.
#[track_caller]
fn ends_unanswered(request: &str, comes_again: bool, is_reset: bool) {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    client.send(request);
    let expected = request
        .replace("Host", "host")
        .replace("Content-Length", "content-length");
    app.expect(&expected);
    if is_reset {
        app.reset()
    } else {
        drop(app)
    }
    if !comes_again {
        client.expect_refusal(502);
        return stage.assert_nothing_more_reaches([]);
    }
    let mut app = stage.app();
    app.expect(&expected);
    app.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.expect_answer("HTTP/1.1 204 No Content\r\n\r\n", "");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_get_that_meets_the_end_of_a_kept_connection_is_sent_again() {
    for is_reset in [false, true] {
        ends_unanswered(GET, true, is_reset);
    }
}

#[test]
fn what_may_be_done_twice_is_sent_again() {
    for method in ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
        ends_unanswered(
            &format!("{method} / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n"),
            true,
            false,
        );
    }
}

#[test]
fn what_may_not_be_done_twice_is_not_sent_again() {
    for method in ["POST", "PATCH", "PROPFIND", "BREW", "get"] {
        for is_reset in [false, true] {
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n");
            ends_unanswered(&request, false, is_reset);
        }
    }
}

#[test]
fn what_has_a_body_is_not_sent_again() {
    for method in ["GET", "PUT", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
        ends_unanswered(&request, false, false);
    }
}

#[test]
fn what_was_sent_on_a_new_connection_is_not_sent_again() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    drop(app);
    client.expect_refusal(502);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn what_was_sent_again_is_not_sent_a_third_time() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    client.send(GET);
    app.expect(GET_PASSED_ON);
    drop(app);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    drop(app);
    client.expect_refusal(502);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn what_has_been_answered_in_part_is_not_sent_again() {
    for part in ["H", "HTTP/1.1 200 OK\r\nX: y\r\n"] {
        let stage = Stage::new();
        let (mut client, mut app) = stage.kept();
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(part);
        drop(app);
        client.expect_refusal(502);
        stage.assert_nothing_more_reaches([]);
    }
}

#[test]
fn what_has_been_answered_for_the_time_being_is_not_sent_again() {
    for status in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let stage = Stage::new();
        let (mut client, mut app) = stage.kept();
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 {status}\r\n\r\n"));
        drop(app);
        client.expect_refusal(502);
        stage.assert_nothing_more_reaches([]);
    }
}

#[test]
fn a_connection_that_the_app_has_closed_is_not_used() {
    let stage = Stage::new();
    let (mut client, app) = stage.kept();
    app.half_close();
    let mut app = app;
    app.end();
    let post = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(post);
    let mut app = stage.app();
    app.expect(post.replace("Host", "host"));
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_connection_is_let_go_before_the_app_says_it_would_close_it() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok");
    client.expect_answer(OK_PASSED_ON, "ok");
    client.send(GET);
    let mut fresh = stage.app();
    fresh.expect(GET_PASSED_ON);
    app.end();
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let stage = Stage::with(&[("--upstream-idle-timeout", "1s")]);
    let (_client, mut app) = stage.kept();
    app.end();
}

#[test]
fn a_long_download_does_not_keep_others_waiting() {
    let stage = Stage::new();
    let mut slow = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    slow.answer_head();
    slow.expect("abc");
    let (_client, _app) = stage.kept();
    app.send("defghij");
    slow.expect("defghij");
}

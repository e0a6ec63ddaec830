//! The parts before and after a message: interim answers, expectations, trailers.

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, field};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

#[test]
fn a_client_that_expects_100_gets_it_and_the_app_does_not_hear_of_it() {
    let stage = Stage::new();
    let head = format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut client = stage.client_sends(head);
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n");
    client.send("five!");
    app.expect("five!");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_client_that_expects_100_and_does_not_wait_is_served() {
    let stage = Stage::new();
    let head = format!("{POST}Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nfive!");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!");
    app.send(OK);
    let head = client.answer_head();
    if head == "HTTP/1.1 100 Continue\r\n\r\n" {
        client.expect_answer(OK_PASSED_ON, "ok");
    } else {
        assert_eq!(head, OK_PASSED_ON);
        client.expect("ok");
    }
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_client_that_is_refused_is_not_told_to_go_on() {
    let stage = Stage::new();
    let head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut client = stage.client_sends(head);
    client.expect_refusal(400);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_client_of_version_1_0_is_not_told_to_go_on() {
    let stage = Stage::new();
    let head =
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nfive!";
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!");
    app.send(OK);
    client.expect_answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", "ok");
}

#[test]
fn an_expectation_of_something_else_is_not_passed_on() {
    let stage = Stage::new();
    let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\nExpect: the-best\r\n\r\n");
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn an_interim_answer_never_breaks_the_final_one_and_does_not_pass_which_hyper_cannot_send() {
    for status in [
        "100 Continue",
        "102 Processing",
        "103 Early Hints",
        "199 Odd",
        "104 Upload",
    ] {
        for is_at_once in [true, false] {
            let stage = Stage::new();
            let mut client = stage.client_sends(GET);
            let mut app = stage.app();
            app.expect(GET_PASSED_ON);
            let interim = format!("HTTP/1.1 {status}\r\nLink: </a.css>; rel=preload\r\n\r\n");
            if is_at_once {
                app.send(interim.repeat(3) + OK);
            } else {
                app.send(&interim);
                app.send(&interim[..10]);
                app.send(&interim[10..]);
                app.send(OK);
            }
            client.expect_answer(OK_PASSED_ON, "ok");
            client.send(GET);
            app.expect(GET_PASSED_ON);
            app.send(OK);
            client.expect_answer(OK_PASSED_ON, "ok");
            stage.assert_nothing_more_reaches([app]);
        }
    }
}

#[test]
fn an_app_that_says_100_before_it_reads_gets_the_body() {
    let stage = Stage::new();
    let head = format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("five!");
    app.expect("five!");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn trailers_of_a_request_arrive() {
    let stage = Stage::new();
    let head = format!("{POST}Trailer: X-Sum, X-Two\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut client = stage.client_sends(head + "2\r\nok\r\n0\r\nX-Sum: 7\r\nX-Two: 8\r\n\r\n");
    let mut app = stage.app();
    let head = app.head();
    assert_eq!(field(&head, "trailer"), Some("X-Sum, X-Two"));
    app.expect("2\r\nok\r\n0\r\nx-sum: 7\r\nx-two: 8\r\n\r\n");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn trailers_of_a_request_cannot_frame_or_route_it() {
    let stage = Stage::new();
    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let trailers = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\
                    Connection: close\r\nX-Forwarded-For: 6.6.6.6\r\nX-Sum: 7\r\n\
                    X-IIS-WindowsAuthToken: 1a4\r\nMS-ASPNETCORE-WinAuthToken: 1a4\r\n\
                    X_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-ID: 6\r\n";
    let mut client = stage.client_sends(head + "2\r\nok\r\n0\r\n" + trailers + "\r\n");
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    app.expect("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

/// Returns what a client gets of a chunked answer with trailers.
fn answered_with_trailers(request_fields: &str, answer_fields: &str) -> String {
    let stage = Stage::new();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{request_fields}\r\n");
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    let head = app.head();
    let asks = request_fields.to_ascii_lowercase().contains("trailers");
    assert_eq!(field(&head, "te"), asks.then_some("trailers"), "{head}");
    assert_eq!(field(&head, "connection"), asks.then_some("te"), "{head}");
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{answer_fields}\r\n");
    app.send(head + "2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n");
    client.answer_head();
    client.expect("2\r\nok\r\n0\r\n");
    let rest = client.head_or_blank_line();
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    rest
}

#[test]
fn announced_trailers_of_an_answer_reach_a_client_that_takes_them() {
    let te = "TE: trailers\r\nConnection: te\r\n";
    let trailers = answered_with_trailers(te, "Trailer: X-Sum\r\n");
    assert_eq!(trailers, "x-sum: 7\r\n\r\n");
}

#[test]
fn announced_trailers_are_lost_where_te_has_more_in_it_which_hyper_does_not_look_through() {
    let te = "TE: gzip;q=0.5, Trailers;q=1\r\n";
    let trailers = answered_with_trailers(te, "Trailer: X-Sum\r\n");
    assert_eq!(trailers, "\r\n");
}

#[test]
fn trailers_of_an_answer_do_not_reach_a_client_that_did_not_ask_for_them() {
    assert_eq!(answered_with_trailers("", "Trailer: X-Sum\r\n"), "\r\n");
}

#[test]
fn trailers_of_an_answer_that_were_not_announced_are_lost_which_hyper_does_not_send() {
    assert_eq!(answered_with_trailers("TE: trailers\r\n", ""), "\r\n");
}

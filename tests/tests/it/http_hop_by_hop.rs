//! Fields that are meant for one connection end with it; everything else arrives as it was sent.

use tests::stage::{GET_PASSED_ON, OK, OK_PASSED_ON, Stage, fields};

/// Returns what the app gets of a GET with these fields, without request line and Host.
fn at_the_app(request_fields: &str) -> String {
    let stage = Stage::new();
    let mut client =
        stage.client_sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{request_fields}\r\n"));
    let mut app = stage.app();
    let head = app.head();
    app.send(OK);
    assert!(client.answer_head().starts_with("HTTP/1.1 200 OK\r\n"));
    let start = "GET / HTTP/1.1\r\nhost: a\r\n";
    head.strip_prefix(start).expect(&head).to_owned()
}

/// Returns what a client gets of an answer with these fields, without the status line.
fn at_the_client(answer_fields: &str) -> String {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(format!(
        "HTTP/1.1 200 OK\r\n{answer_fields}Content-Length: 2\r\n\r\nok"
    ));
    let head = client.answer_head();
    client.expect("ok");
    let head = head.strip_prefix("HTTP/1.1 200 OK\r\n").expect(&head);
    head.strip_suffix("content-length: 2\r\n\r\n")
        .unwrap_or(head)
        .to_owned()
}

const GET: &str = tests::stage::GET;

#[test]
fn what_is_the_clients_connections_does_not_reach_the_app() {
    let fields = "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nTE: gzip\r\nX-Kept: 1\r\n";
    assert_eq!(at_the_app(fields), "x-kept: 1\r\n\r\n");
}

#[test]
fn every_connection_field_counts() {
    let fields = "Connection: X-A\r\nX-A: 1\r\nX-B: 1\r\nConnection: ,x-b ,, X-c\t\r\nX-C: 1\r\n\
                  X-D: 1\r\n";
    assert_eq!(at_the_app(fields), "x-d: 1\r\n\r\n");
}

#[test]
fn a_field_that_connection_names_is_gone_however_often_it_comes() {
    let fields = "X-A: 1\r\nConnection: x-a\r\nX-A: 2\r\nX-B: 1\r\nx-a: 3\r\n";
    assert_eq!(at_the_app(fields), "x-b: 1\r\n\r\n");
}

#[test]
fn close_is_for_the_clients_connection_only() {
    let stage = Stage::new();
    let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK);
    let closing = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n";
    client.expect_answer(closing, "ok");
    client.end();
    let mut client = stage.client_sends(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn what_is_the_apps_connections_does_not_reach_the_client() {
    let fields = "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Kept: 1\r\n";
    assert_eq!(at_the_client(fields), "x-kept: 1\r\n");
}

#[test]
fn an_app_that_closes_its_connection_does_not_close_the_clients() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..2 {
        client.send(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        client.expect_answer(OK_PASSED_ON, "ok");
        app.end();
    }
}

#[test]
fn an_app_of_version_1_0_is_answered_for_in_version_1_1() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..2 {
        client.send(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect_answer(OK_PASSED_ON, "ok");
    }
}

#[test]
fn repeated_fields_stay_in_their_order() {
    let head = at_the_app("X-A: 1\r\nX-B: 1\r\nX-A: 2\r\nx-a: 3, 4\r\nX-A: \r\n");
    assert_eq!(fields(&head, "x-a"), ["1", "2", "3, 4", ""]);
    let head = at_the_client("Set-Cookie: a=1\r\nX-B: 1\r\nSet-Cookie: b=2\r\nset-cookie: a=3\r\n");
    assert_eq!(fields(&head, "set-cookie"), ["a=1", "b=2", "a=3"]);
}

#[test]
fn names_arrive_in_lower_case_and_repeated_ones_together_which_hyper_does() {
    let head = at_the_app("X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n");
    assert_eq!(head, "x-a: 1\r\nx-a: 3\r\nx-b: 2\r\n\r\n");
}

#[test]
fn the_last_field_takes_the_place_of_one_that_ends_here_which_hyper_does() {
    let head = at_the_app("X-A: 1\r\nKeep-Alive: 1\r\nX-B: 2\r\nX-C: 3\r\n");
    assert_eq!(head, "x-a: 1\r\nx-c: 3\r\nx-b: 2\r\n\r\n");
}

#[test]
fn values_arrive_byte_for_byte_without_the_blanks_around_them() {
    let stage = Stage::new();
    let value = b"a\"b\\c \t d;,=?/{}\xe9\xff\xc3\xbc";
    let request = [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \t ".as_slice(),
        value,
        b" \t\r\n\r\n",
    ];
    let mut client = stage.client_sends(request.concat());
    let mut app = stage.app();
    let expected = [
        b"GET / HTTP/1.1\r\nhost: a\r\nx: ".as_slice(),
        value,
        b"\r\n\r\n",
    ];
    app.expect(expected.concat());
    let answer = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ".as_slice(),
        value,
        b"\r\n\r\nok",
    ];
    app.send(answer.concat());
    let expected = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: ".as_slice(),
        value,
        b"\r\n",
    ];
    client.expect(expected.concat());
}

#[test]
fn a_status_arrives_with_its_reason() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    for status in [
        "200 Fine",
        "201 Created",
        "299 Odd",
        "404 Not Found",
        "418 I'm a teapot",
        "500 Internal Server Error",
        "599 x",
        "999 Beyond",
    ] {
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok"));
        client.expect_answer(
            &format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n"),
            "ok",
        );
    }
}

#[test]
fn a_missing_reason_stays_missing() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    for status in ["404", "404 "] {
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok"));
        client.expect_answer("HTTP/1.1 404 \r\ncontent-length: 2\r\n\r\n", "ok");
    }
}

#[test]
fn the_apps_date_stays_and_a_missing_one_is_added() {
    let date = "Thu, 01 Jan 1970 00:00:00 GMT";
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(format!("HTTP/1.1 204 No Content\r\nDate: {date}\r\n\r\n"));
    assert_eq!(fields(&client.head(), "date"), [date]);
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 204 No Content\r\n\r\n");
    let head = client.head();
    let added = fields(&head, "date");
    assert!(added.len() == 1 && added[0].ends_with(" GMT"), "{added:?}");
}

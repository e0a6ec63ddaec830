//! The end of an answer: what comes after it reaches no client.

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, chunked, fields};

#[test]
fn of_length_and_chunks_in_an_answer_the_chunks_count() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        let stage = Stage::new();
        let mut client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(format!(
            "HTTP/1.1 200 OK\r\n{fields}\r\n{}",
            chunked("five!", 5)
        ));
        client.expect_answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "");
        assert_eq!(
            (client.chunk(), client.chunk()),
            ("five!".into(), String::new())
        );
    }
}

#[test]
fn the_same_length_twice_in_an_answer_is_passed_on_once() {
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
    ] {
        let stage = Stage::new();
        let mut client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(format!("HTTP/1.1 200 OK\r\n{lengths}\r\nfive!"));
        let head = client.answer_head();
        // A comma is a 502 as well: nobody has to guess.
        if head.starts_with("HTTP/1.1 200") {
            assert_eq!(fields(&head, "content-length"), ["5"], "{head}");
            client.expect("five!");
        } else {
            assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        }
    }
}

#[test]
fn bytes_after_an_answer_never_reach_anybody() {
    for answer in [
        OK.to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 304 Not Modified\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into(),
    ] {
        let stage = Stage::new();
        let mut client = stage.client_sends(GET);
        let mut app = stage.app();
        app.expect(GET_PASSED_ON);
        app.send(answer.clone() + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let (status, _) = answer.split_once("\r\n").unwrap();
        assert!(client.answer_head().starts_with(status));
        if answer.contains("chunked") {
            client.expect("2\r\nok\r\n0\r\n\r\n");
        } else if answer.ends_with("ok") {
            client.expect("ok");
        }
        let mut other = stage.client_sends(GET);
        let mut fresh = stage.app();
        fresh.expect(GET_PASSED_ON);
        fresh.send(OK);
        other.expect_answer(OK_PASSED_ON, "ok");
        client.send(GET);
        fresh.expect(GET_PASSED_ON);
        fresh.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
        app.await_end_soon();
        stage.assert_nothing_more_reaches([fresh]);
    }
}

#[test]
fn bytes_that_an_app_sends_on_an_idle_connection_never_reach_anybody() {
    let stage = Stage::new();
    let (mut client, mut app) = stage.kept();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    app.await_end_soon();
    client.send(GET);
    let mut fresh = stage.app();
    fresh.expect(GET_PASSED_ON);
    fresh.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([fresh]);
}

#[test]
fn what_an_app_sends_after_the_head_of_an_answer_to_head_never_reaches_anybody() {
    let stage = Stage::new();
    let mut client = stage.client_sends("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = stage.app();
    app.expect("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    app.send(OK);
    assert_eq!(client.answer_head(), OK_PASSED_ON);
    client.send(GET);
    let mut fresh = stage.app();
    fresh.expect(GET_PASSED_ON);
    fresh.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    app.await_end_soon();
    stage.assert_nothing_more_reaches([fresh]);
}

#[test]
fn an_answer_without_content_has_no_length() {
    for method in ["HEAD", "GET"] {
        let stage = Stage::new();
        let mut client = stage.client_sends(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut app = stage.app();
        app.expect(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
        app.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.answer_head(), "HTTP/1.1 204 No Content\r\n\r\n");
        client.send(GET);
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
    }
}

#[test]
fn an_answer_of_a_later_minor_version_is_one_of_1_1() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK.replace("HTTP/1.1", "HTTP/1.2"));
    client.expect_answer(OK_PASSED_ON, "ok");
    // It keeps its connection, as one of 1.1 does.
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn the_size_of_a_chunk_may_begin_with_zeros() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    let body = "00000000000000000005;x=0\r\nfive!\r\n00000000000000000000\r\n\r\n";
    app.send(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    ));
    client.expect_answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "");
    assert_eq!(
        (client.chunk(), client.chunk()),
        ("five!".into(), String::new())
    );
    client.send(GET);
    app.expect(GET_PASSED_ON);
}

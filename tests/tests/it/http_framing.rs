//! The boundaries of messages: one request never becomes two, and what is left of
//! one never becomes the start of somebody else's.

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, chunked, field};

/// Each is answered with 400, its connection ends, and the app never hears of it.
#[track_caller]
fn assert_refused(requests: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let stage = Stage::new();
    for request in requests {
        // What follows it shall not be taken for a request, either.
        let mut client = stage.client_sends([request.as_ref(), GET.as_bytes()].concat());
        client.expect_refusal(400);
        assert_eq!(client.rest().0, "");
    }
    stage.assert_nothing_more_reaches([]);
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// Each request arrives like this and is answered, and then its connection ends, whatever followed.
#[track_caller]
fn assert_passed_on(requests: impl IntoIterator<Item = (String, String)>) {
    let stage = Stage::new();
    let mut apps = Vec::new();
    for (request, expected) in requests {
        let mut client = stage.client_sends(request);
        let mut app = stage.app();
        app.expect(expected);
        // The next one comes on another connection.
        app.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        let head = client.answer_head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        client.expect("ok");
        apps.push(app);
    }
    stage.assert_nothing_more_reaches(apps);
}

/// The same for one.
#[track_caller]
fn assert_passed_on_as(request: &str, expected: &str) {
    assert_passed_on([(request.to_owned(), expected.to_owned())]);
}

#[test]
fn of_length_and_chunks_in_a_request_the_chunks_count_and_the_connection_ends() {
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let stage = Stage::new();
        let request = post(fields, &chunked("five!", 5));
        let mut client = stage.client_sends(request + GET);
        let mut app = stage.app();
        let head = app.head();
        assert_eq!(field(&head, "content-length"), None, "{head}");
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        assert_eq!((app.chunk(), app.chunk()), ("five!".into(), String::new()));
        app.send(OK);
        assert_eq!(field(&client.answer_head(), "connection"), Some("close"));
        client.expect("ok");
        client.end();
        stage.assert_nothing_more_reaches([app]);
    }
}

#[test]
fn two_lengths_are_refused() {
    assert_refused([post("Content-Length: 5\r\nContent-Length: 6\r\n", "five!")]);
}

#[test]
fn two_lengths_in_one_field_are_refused() {
    assert_refused([post("Content-Length: 5, 5\r\n", "five!")]);
}

#[test]
fn the_same_length_twice_is_passed_on_once() {
    assert_passed_on_as(
        &post("Content-Length: 5\r\nContent-Length: 5\r\n", "five!"),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!",
    );
}

#[test]
fn a_length_is_digits() {
    let case = |length| post(&format!("Content-Length: {length}\r\n"), "five!");
    assert_refused(
        [
            "+5",
            "-5",
            "0x5",
            "5a",
            "5.0",
            "5 5",
            "",
            "５",
            "99999999999999999999",
            "18446744073709551616",
        ]
        .map(case),
    );
}

#[test]
fn a_coding_that_is_not_chunked_is_refused() {
    let case = |coding| {
        post(
            &format!("Transfer-Encoding: {coding}\r\n"),
            &chunked("a", 1),
        )
    };
    assert_refused(
        [
            "xchunked",
            "chunked, identity",
            "identity",
            "gzip",
            "chunked;q=1",
            "\"chunked\"",
            "chunk",
            "chunked\u{b}",
            "",
        ]
        .map(case),
    );
}

#[test]
fn a_coding_below_the_chunks_is_refused_as_the_app_would_not_hear_of_it() {
    let case = |coding| {
        post(
            &format!("Transfer-Encoding: {coding}\r\n"),
            &chunked("a", 1),
        )
    };
    assert_refused(
        [
            "gzip, chunked",
            "identity, chunked",
            "chunked, chunked",
            "xchunked,chunked",
        ]
        .map(case),
    );
}

#[test]
fn codings_in_two_fields_are_refused() {
    let case = |(first, second)| {
        let fields = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        post(&fields, &chunked("a", 1))
    };
    assert_refused(
        [
            ("chunked", "identity"),
            ("identity", "chunked"),
            ("chunked", "chunked"),
            ("chunked", ""),
        ]
        .map(case),
    );
}

#[test]
fn a_coding_is_chunked_in_any_case() {
    assert_passed_on_as(
        &post("Transfer-Encoding: CHUNKED\r\n", &chunked("five!", 5)),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n\r\n",
    );
}

#[test]
fn chunks_from_a_client_of_version_1_0_are_refused() {
    let fields = "Host: a\r\nTransfer-Encoding: chunked\r\n";
    assert_refused([format!(
        "POST / HTTP/1.0\r\n{fields}\r\n{}",
        chunked("a", 1)
    )]);
}

#[test]
fn a_blank_before_a_colon_is_refused() {
    assert_refused([
        post("Content-Length : 5\r\n", "five!"),
        post("Transfer-Encoding : chunked\r\n", &chunked("a", 1)),
        post("X\t: a\r\n", ""),
    ]);
}

#[test]
fn a_folded_field_is_refused() {
    assert_refused([
        post("X: a\r\n b\r\n", ""),
        post("X: a\r\n\tContent-Length: 5\r\n", ""),
        "POST / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(),
    ]);
}

#[test]
fn odd_bytes_in_a_field_are_refused() {
    let case = |line| post(&format!("{line}\r\n"), "");
    assert_refused(
        [
            "X: a\0b",
            "X: a\rb",
            "X: a\u{1}b",
            "X: a\u{7f}b",
            "X\0: a",
            "X@: a",
            ": a",
            "X",
            "X(a): b",
            "\u{b}Content-Length: 5",
        ]
        .map(case),
    );
}

#[test]
fn lines_that_end_in_a_bare_lf_are_lines_which_hyper_allows_and_the_app_gets_crlf() {
    assert_passed_on_as(
        "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nfive!",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!",
    );
}

#[test]
fn a_lone_cr_is_no_line_end() {
    assert_refused([
        "POST / HTTP/1.1\r\nHost: a\rContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\rHost: a\r\r",
    ]);
}

#[test]
fn extensions_of_chunks_end_here() {
    let body = "5;a=b;c=\"d\"\r\nfive!\r\n0;e\r\n\r\n";
    assert_passed_on_as(
        &post("Transfer-Encoding: chunked\r\n", body),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n\r\n",
    );
}

/// The head has been passed on when each of these bodies turns out to be bad: the app must not take
/// what it has got for a whole request, and nobody may take the rest for a request.
#[track_caller]
fn assert_cut(bodies: impl IntoIterator<Item = impl AsRef<str>>) {
    let stage = Stage::new();
    for body in bodies {
        let request = post("Transfer-Encoding: chunked\r\n", body.as_ref());
        let mut client = stage.client_sends(request + GET);
        let mut app = stage.app();
        let (received, _) = app.rest();
        assert!(!received.contains("\r\n0\r\n"), "{received:?}");
        assert!(!received.contains("GET"), "{received:?}");
        let (answer, _) = client.rest();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_chunk_size_that_is_none_cuts_the_request() {
    let case = |size| format!("{size}\r\na\r\n0\r\n\r\n");
    assert_cut(["-1", "+1", "0x1", "g", " 1", "", "1 1", "1\u{b}"].map(case));
}

#[test]
fn a_chunk_size_that_overflows_cuts_the_request() {
    assert_cut([
        "10000000000000001\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na\r\n0\r\n\r\n",
    ]);
}

#[test]
fn a_chunk_that_is_longer_than_it_says_cuts_the_request() {
    assert_cut(["1\r\nab\r\n0\r\n\r\n", "1\r\na0\r\n\r\n"]);
}

#[test]
fn a_chunk_size_that_ends_in_a_bare_lf_cuts_the_request() {
    assert_cut(["1\na\n0\n\n", "1;a\nb\r\na\r\n0\r\n\r\n"]);
}

#[test]
fn endless_extensions_of_chunks_cut_the_request() {
    assert_cut([format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(40_000))]);
}

#[test]
fn what_connection_names_cannot_take_the_framing_away() {
    assert_passed_on_as(
        &post(
            "Connection: content-length, host\r\nContent-Length: 5\r\n",
            "five!",
        ),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!",
    );
    assert_passed_on_as(
        &post(
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            &chunked("a", 1),
        ),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    );
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let body = chunked("five!", 5);
    let with_body = |method| {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let expected = head
            .replace("Host", "host")
            .replace("Transfer-Encoding", "transfer-encoding");
        (head + &body, expected + &body)
    };
    let of_a_length = (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfive!".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!".to_owned(),
    );
    let in_chunks = ["GET", "DELETE", "OPTIONS", "PROPFIND", "PUT"].map(with_body);
    assert_passed_on([of_a_length].into_iter().chain(in_chunks));
}

#[test]
fn a_length_of_zero_and_no_length_arrive_as_they_came() {
    assert_passed_on_as(
        &post("Content-Length: 0\r\n", ""),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    );
    assert_passed_on_as(&post("", ""), "POST / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn a_body_without_a_byte_in_chunks_arrives_in_chunks() {
    assert_passed_on_as(
        &post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let stage = Stage::new();
    let request = |n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all: String = (0..5).map(request).collect();
    let mut client = stage.client_sends(all);
    let mut app = stage.app();
    for n in 0..5 {
        app.expect(format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(!app.has_received(), "one after the other");
        app.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"));
    }
    for n in 0..5 {
        client.expect_answer(
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
            &n.to_string(),
        );
    }
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_request_behind_a_body_is_the_next_request() {
    let stage = Stage::new();
    let first = post("Content-Length: 5\r\n", "five!");
    let second = post("Transfer-Encoding: chunked\r\n", &chunked("six!!!", 3));
    let mut client = stage.client_sends(first + &second + GET);
    let mut app = stage.app();
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfive!");
    app.send(OK);
    app.expect("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut body = String::new();
    loop {
        let chunk = app.chunk();
        if chunk.is_empty() {
            break;
        }
        body += &chunk;
    }
    assert_eq!(body, "six!!!");
    app.send(OK);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    for _ in 0..3 {
        client.expect_answer(OK_PASSED_ON, "ok");
    }
    stage.assert_nothing_more_reaches([app]);
}

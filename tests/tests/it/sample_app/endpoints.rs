//! The answers of a well-behaved app.

use std::time::{Duration, Instant};

use super::running::{Release, connect, get, request, start};

#[test]
fn every_answer_names_the_release() {
    let (_app, address) = Release::new("v7-beta.1", &[]).listen(&[]);

    let targets = [
        "/",
        "/version",
        "/health",
        "/slow?ms=0",
        "/stream?events=1",
        "/echo",
        "/ws",
    ];
    for target in targets
        .into_iter()
        .chain(["/upload", "/no-such-file", "/slow?ms=soon"])
    {
        let answer = get(address, target);
        assert_eq!(answer.header("x-release"), Some("v7-beta.1"), "{target}");
    }
    assert_eq!(get(address, "/").text(), "sample-app v7-beta.1\n");
    assert_eq!(get(address, "/version").text(), "v7-beta.1");
    assert_eq!(get(address, "/health").status, 200);
}

#[test]
fn a_connection_serves_more_than_one_request() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    for _ in 0..3 {
        connection.send("GET", "/version", "");
        assert_eq!(connection.answer().unwrap().text(), "v1");
    }
    connection.send("GET", "/version", "Connection: close\r\n");
    assert_eq!(
        connection.answer().unwrap().header("connection"),
        Some("close")
    );
    assert_eq!(connection.read_to_end().unwrap(), b"");
}

#[test]
fn http_2_is_spoken_to_those_who_begin_with_it() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");

    // Its first frame has settings.
    let answer = connection.bytes(4).unwrap();
    assert_eq!(answer[3], 4, "{answer:?}");
}

#[test]
fn slow_answers_after_the_time_asked_for() {
    let (_app, address) = start(&[]);

    let begin = Instant::now();
    let answer = get(address, "/slow?ms=300");

    assert!(
        begin.elapsed() >= Duration::from_millis(300),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!((answer.status, answer.text()), (200, "sample-app v1\n"));
}

#[test]
fn slow_sends_as_many_bytes_as_asked_for() {
    let (_app, address) = start(&[]);

    for bytes in [0, 1, 65_536, 3_000_001] {
        let answer = get(address, &format!("/slow?ms=0&bytes={bytes}"));
        assert_eq!(
            answer.header("content-length"),
            Some(bytes.to_string().as_str())
        );
        assert_eq!(answer.body.len(), bytes);
    }
}

#[test]
fn slow_reads_an_upload_first_and_so_keeps_the_connection() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);
    let body = vec![b'u'; 2_000_000];

    connection.send(
        "POST",
        "/slow?ms=0",
        &format!("Content-Length: {}\r\n", body.len()),
    );
    connection.write(&body);
    assert_eq!(connection.answer().unwrap().status, 200);

    connection.send("GET", "/version", "");
    assert_eq!(connection.answer().unwrap().text(), "v1");
}

#[test]
fn a_query_that_makes_no_sense_is_refused() {
    let (_app, address) = start(&[]);

    for target in ["/slow?ms=soon", "/slow?bytes=-1", "/stream?events=all"] {
        assert_eq!(get(address, target).status, 400, "{target}");
    }
}

#[test]
fn a_stream_sends_its_events_one_by_one() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    let begin = Instant::now();
    connection.send("GET", "/stream?events=3&every=100", "");
    assert_eq!(
        connection.head().unwrap().header("content-type"),
        Some("text/event-stream")
    );

    for id in 1..=3 {
        let event = connection.chunk().unwrap().expect("an event");
        let event = String::from_utf8(event).unwrap();
        assert_eq!(event, format!("id: {id}\ndata: {id} of 3 from v1\n\n"));
        assert!(
            begin.elapsed() >= Duration::from_millis(100 * (id - 1)),
            "event {id} came early"
        );
    }
    assert_eq!(connection.chunk().unwrap(), None);
}

#[test]
fn a_stream_sends_an_event_before_the_next_one_is_due() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    connection.send("GET", "/stream?events=2&every=3600000", "");

    connection.head().unwrap();
    assert!(connection.chunk().unwrap().is_some());
}

#[test]
fn an_upload_is_answered_with_its_digest_and_length() {
    let (_app, address) = start(&[]);

    let answer = request(address, "POST", "/upload", "", b"abc");

    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.text(),
        r#"{"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","length":3}"#
    );
}

#[test]
fn an_upload_may_come_in_chunks() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    connection.send("PUT", "/upload", "Transfer-Encoding: chunked\r\n");
    connection.write_chunk(b"ab");
    connection.write_chunk(b"c");
    connection.write_chunk(b"");

    let answer = connection.answer().unwrap();
    assert!(
        answer.text().contains("sha256:ba7816bf8f01cfea"),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().contains(r#""length":3}"#),
        "{}",
        answer.text()
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_upload_is_not_kept_in_memory() {
    const MIB: usize = 1024 * 1024;
    let (app, address) = start(&[]);
    let peak_kib = || -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak_kib();

    let answer = request(address, "POST", "/upload", "", &vec![0; 32 * MIB]);

    assert!(
        answer.text().contains(r#""length":33554432}"#),
        "{}",
        answer.text()
    );
    let grown = peak_kib() - before;
    assert!(grown < 16 * 1024, "the app's memory grew by {grown} KiB");
}

#[test]
fn echo_gives_any_method_its_body_back() {
    let (_app, address) = start(&[]);

    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let answer = request(
            address,
            method,
            "/echo",
            "Content-Type: a/b; c=d\r\n",
            b"\x00body\xff",
        );
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(answer.body, b"\x00body\xff", "{method}");
        assert_eq!(answer.header("x-echo-method"), Some(method));
        assert_eq!(answer.header("content-type"), Some("a/b; c=d"), "{method}");
        assert_eq!(answer.header("content-length"), Some("6"), "{method}");
    }
    assert_eq!(
        request(address, "POST", "/echo", "", b"").header("content-type"),
        None
    );
}

#[test]
fn echo_answers_head_without_a_body() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    connection.send("HEAD", "/echo", "Connection: close\r\n");

    assert_eq!(
        connection.head().unwrap().header("x-echo-method"),
        Some("HEAD")
    );
    assert_eq!(connection.read_to_end().unwrap(), b"");
}

#[test]
fn echo_sends_back_what_has_arrived_before_the_rest_is_there() {
    let (_app, address) = start(&[]);
    let mut connection = connect(address);

    connection.send("POST", "/echo", "Transfer-Encoding: chunked\r\n");
    for chunk in [&b"first"[..], b"second"] {
        connection.write_chunk(chunk);
        if chunk == b"first" {
            assert_eq!(connection.head().unwrap().status, 200);
        }
        assert_eq!(connection.chunk().unwrap().as_deref(), Some(chunk));
    }
    connection.write_chunk(b"");
    assert_eq!(connection.chunk().unwrap(), None);
}

#[test]
fn an_upload_that_breaks_off_leaves_the_app_unharmed() {
    let (_app, address) = start(&[]);
    for target in ["/upload", "/echo", "/slow"] {
        let mut connection = connect(address);
        connection.send("POST", target, "Content-Length: 100\r\n");
        connection.write(b"not a hundred");
        drop(connection);
    }

    assert_eq!(get(address, "/health").status, 200);
}

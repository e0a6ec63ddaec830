//! The fields about the client (`--forwarded`).

use tests::stage::{OK, Stage, field, fields};

/// Returns the head that the app gets of a request with these fields.
fn at_the_app(mode: &str, request: &str) -> String {
    let stage = Stage::with(&[("--forwarded", mode)]);
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    let head = app.head();
    app.send(OK);
    client.answer_head();
    head
}

#[track_caller]
fn assert_says(head: &str, client: Option<&str>, proto: Option<&str>, host: Option<&str>) {
    assert_eq!(
        fields(head, "x-forwarded-for"),
        Vec::from_iter(client),
        "{head}"
    );
    assert_eq!(
        fields(head, "x-forwarded-proto"),
        Vec::from_iter(proto),
        "{head}"
    );
    assert_eq!(
        fields(head, "x-forwarded-host"),
        Vec::from_iter(host),
        "{head}"
    );
}

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n";
const NAMED: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7:1234\r\n\
                     X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\r\n";
const TWICE: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\
                     X-Forwarded-For: 192.0.2.8, 192.0.2.9\r\n\r\n";

#[test]
fn auto_names_the_client_when_nobody_has() {
    let head = at_the_app("auto", PLAIN);
    assert_says(&head, Some("127.0.0.1"), Some("http"), Some("a:8080"));
    assert_eq!(field(&head, "host"), Some("a:8080"));
}

#[test]
fn auto_leaves_what_a_local_front_end_said() {
    let head = at_the_app("auto", NAMED);
    assert_says(&head, Some("192.0.2.7:1234"), Some("https"), Some("b"));
    let head = at_the_app("auto", TWICE);
    let named = fields(&head, "x-forwarded-for");
    assert_eq!(named, ["192.0.2.7", "192.0.2.8, 192.0.2.9"]);
}

#[test]
fn append_adds_the_client_in_one_field_and_what_is_missing() {
    let head = at_the_app("append", NAMED);
    assert_says(
        &head,
        Some("192.0.2.7:1234, 127.0.0.1"),
        Some("https"),
        Some("b"),
    );
    let head = at_the_app("append", TWICE);
    let all = Some("192.0.2.7, 192.0.2.8, 192.0.2.9, 127.0.0.1");
    assert_says(&head, all, Some("http"), Some("a"));
}

#[test]
fn keep_leaves_everything_as_it_came() {
    assert_says(&at_the_app("keep", PLAIN), None, None, None);
    let head = at_the_app("keep", NAMED);
    assert_says(&head, Some("192.0.2.7:1234"), Some("https"), Some("b"));
}

#[test]
fn replace_believes_nobody() {
    for request in [NAMED, TWICE] {
        let head = at_the_app("replace", request);
        assert_says(&head, Some("127.0.0.1"), Some("http"), Some("a"));
    }
}

#[test]
fn connection_cannot_take_away_what_is_said_of_the_client() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-forwarded-for, x-forwarded-host, \
                   x-forwarded-proto\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    for mode in ["append", "replace"] {
        assert_says(
            &at_the_app(mode, request),
            Some("127.0.0.1"),
            Some("http"),
            Some("a"),
        );
    }
}

#[test]
fn the_host_is_the_absolute_targets_also_as_it_is_forwarded() {
    let request = "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = at_the_app("append", request);
    assert_says(&head, Some("127.0.0.1"), Some("http"), Some("b"));
    assert_eq!(fields(&head, "host"), ["b"]);
}

#[test]
fn other_fields_of_a_front_end_are_left_alone() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\n\
                   X-ARR-SSL: x\r\nVia: 1.1 b\r\n\r\n";
    for mode in ["auto", "append", "keep", "replace"] {
        let head = at_the_app(mode, request);
        assert_eq!(field(&head, "forwarded"), Some("for=192.0.2.7"));
        assert_eq!(field(&head, "x-real-ip"), Some("192.0.2.7"));
        assert_eq!(field(&head, "x-arr-ssl"), Some("x"));
        assert_eq!(field(&head, "via"), Some("1.1 b"));
    }
}

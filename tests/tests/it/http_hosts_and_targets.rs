//! The host and the target of a request, as the app gets them.

use tests::stage::{GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire};

/// Returns what the app gets of a request that may be passed on.
fn passed_on(stage: &Stage, app: &mut Option<Wire>, request: &str) -> String {
    let mut client = stage.client_sends(request);
    let app = app.get_or_insert_with(|| stage.app());
    let head = app.head();
    app.send(OK);
    assert!(client.answer_head().starts_with("HTTP/1.1 200 OK\r\n"));
    head
}

#[track_caller]
fn assert_refused(request: impl AsRef<[u8]>) {
    let stage = Stage::new();
    let mut client = stage.client_sends(&request);
    client.expect_refusal(400);
    drop(client);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_request_of_version_1_1_without_a_host_is_refused() {
    assert_refused("GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_request_with_two_hosts_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
}

#[test]
fn a_request_of_version_1_0_with_two_hosts_is_refused() {
    assert_refused("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
}

#[test]
fn an_invalid_host_is_refused() {
    let stage = Stage::new();
    for host in [
        "a b", "a/b", "user@a", "a?b", "a#b", "a\\b", "a\tb", "a:b", "a:1:2", "[::1", "::1", "a]",
        "[::1]a", "\"a\"", "<a>",
    ] {
        let mut client = stage.client_sends(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.expect_refusal(400);
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn an_absolute_target_without_a_host_is_refused() {
    assert_refused("GET http://a/ HTTP/1.1\r\n\r\n");
}

#[test]
fn an_absolute_target_with_two_hosts_is_refused() {
    assert_refused("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
}

#[test]
fn an_authority_is_a_target_for_connect_only() {
    assert_refused("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_host_arrives_as_it_came() {
    let stage = Stage::new();
    let mut app = None;
    for host in [
        "",
        "a",
        "A.example:8080",
        "[::1]:80",
        "[::1]",
        "a_b",
        "a:",
        "192.0.2.1:1",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        assert_eq!(head, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    }
}

#[test]
fn an_absolute_target_wins_over_the_host() {
    let stage = Stage::new();
    let mut app = None;
    for (target, host, path) in [
        ("http://b/x", "b", "/x"),
        ("http://b:81//x;y?", "b:81", "//x;y?"),
        ("HTTP://user:word@b/", "b", "/"),
        ("http://b?x=1", "b", "/?x=1"),
        ("http://b", "b", "/"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        assert_eq!(head, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    }
}

#[test]
fn a_client_of_version_1_0_needs_no_host_and_the_app_hears_version_1_1() {
    let stage = Stage::new();
    let mut client = stage.client_sends("GET / HTTP/1.0\r\n\r\n");
    let mut app = stage.app();
    app.expect("GET / HTTP/1.1\r\nhost: \r\n\r\n");
    app.send(OK);
    client.expect_answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", "ok");
    client.end();
}

#[test]
fn clients_of_version_1_0_share_one_connection_to_the_app() {
    let stage = Stage::new();
    let mut app = None;
    for _ in 0..3 {
        let mut client = stage.client_sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let app = app.get_or_insert_with(|| stage.app());
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", "ok");
        client.end();
    }
    stage.assert_nothing_more_reaches(app);
}

#[test]
fn a_client_of_version_1_0_that_asks_for_it_keeps_its_connection() {
    let stage = Stage::new();
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    let kept = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n";
    for again in [true, false] {
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(kept, "ok");
        if again {
            client.send(request);
        }
    }
}

#[test]
fn a_target_arrives_as_it_came() {
    let stage = Stage::new();
    let mut app = None;
    for target in [
        "/",
        "//a",
        "///",
        "//evil.example/x",
        "/a/../b/./c",
        "/;",
        "/a;b=c;d",
        "/?",
        "/??",
        "/a?b=c&d=e?f",
        "/%2F%2f%00%zz%",
        "/a%20b+c",
        "/a:b@c",
        "/a,b!$&'()*",
        "/a|b[c]{d}~e\\f\"g",
        "/?a`c^d",
        "/http://a/",
        "/*",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        assert_eq!(head, format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
}

#[test]
fn a_target_in_utf_8_arrives_as_it_came() {
    let stage = Stage::new();
    let mut client = stage.client_sends("GET /bücher HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = stage.app();
    app.expect("GET /bücher HTTP/1.1\r\nhost: a\r\n\r\n");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn every_byte_of_a_target_arrives_as_it_came_but_for_some_that_hyper_does_not_allow() {
    let stage = Stage::new();
    let (mut client, app) = stage.kept();
    std::thread::scope(|scope| {
        let app = scope.spawn(|| app.answer_all());
        let mut passed_on = Vec::new();
        let refused = ["/", "/?"].map(|start| {
            let mut refused = String::new();
            for byte in (0x21..0x7f).map(char::from).filter(|byte| *byte != '#') {
                let line = format!("GET {start}{byte}a HTTP/1.1\r\n");
                client.send(format!("{line}Host: a\r\n\r\n"));
                let head = client.answer_head();
                if head == OK_PASSED_ON {
                    client.expect("ok");
                    passed_on.push(format!("{line}host: a\r\n\r\n"));
                } else {
                    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
                    client.end();
                    client = stage.client();
                    refused.push(byte);
                }
            }
            refused
        });
        assert_eq!(refused, ["<>`", "\"<>"]);
        drop(client);
        stage.assert_nothing_more_reaches([]);
        assert_eq!(app.join().unwrap(), passed_on);
    });
}

#[test]
fn bytes_that_are_no_text_are_refused_in_a_target_which_hyper_does_not_allow() {
    let stage = Stage::new();
    for target in [
        b"/\xfc".as_slice(),
        b"/?\xfc",
        b"/\x01",
        b"/\0",
        b"/?\x1b",
        b"/a\tb",
    ] {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let mut client = stage.client_sends(request);
        client.expect_refusal(400);
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_fragment_is_left_out_which_hyper_does_not_pass_on() {
    let stage = Stage::new();
    let head = passed_on(&stage, &mut None, "GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head, "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn options_may_be_about_the_whole_server() {
    let stage = Stage::new();
    let mut app = None;
    for (target, host, passed) in [
        ("*", "a", "*"),
        ("http://b", "b", "*"),
        ("http://b:81", "b:81", "*"),
        ("http://b/", "b", "/"),
        ("http://b?x", "b", "/?x"),
        ("/", "a", "/"),
    ] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        let expected = format!("OPTIONS {passed} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(head, expected);
    }
}

#[test]
fn odd_methods_arrive_as_they_came() {
    let stage = Stage::new();
    let mut app = None;
    for method in [
        "PROPFIND",
        "MKCOL",
        "PURGE",
        "QUERY",
        "BREW",
        "get",
        "M-SEARCH",
        "a!#$%&'*+-.^_`|~1",
        "TRACE",
        "DELETE",
        "PATCH",
        "LONGERTHANANYMETHODTHATSOMEBODYHASEVERTHOUGHTOF",
    ] {
        let request = format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        assert_eq!(head, format!("{method} /x HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
}

#[test]
fn connect_is_refused() {
    let stage = Stage::new();
    let mut client = stage.client_sends("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    client.expect_refusal(501);
    drop(client);
    stage.assert_nothing_more_reaches([]);
}

/// Returns what the app gets of a request by this method with this `Max-Forwards`: its own, in its
/// words.
fn forwards_left(method: &str, forwards: &str) -> String {
    let stage = Stage::new();
    let mut client = stage.client_sends(format!(
        "{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {forwards}\r\n\r\n"
    ));
    let mut app = stage.app();
    let head = app.head();
    app.send(OK);
    assert!(client.answer_head().starts_with("HTTP/1.1 200 OK\r\n"));
    let start = format!("{method} / HTTP/1.1\r\nhost: a\r\nmax-forwards: ");
    let left = head.strip_prefix(&start).expect(&head);
    left.trim_end().to_owned()
}

#[test]
fn a_request_that_counts_its_forwards_has_one_less_left() {
    assert_eq!(forwards_left("OPTIONS", "10"), "9");
    assert_eq!(forwards_left("TRACE", "1"), "0");
    // More than can be counted is counted as what can be.
    let many = "9".repeat(30);
    assert_eq!(forwards_left("OPTIONS", &many), (u64::MAX - 1).to_string());
}

#[test]
fn only_trace_and_options_count_their_forwards() {
    assert_eq!(forwards_left("GET", "0"), "0");
    assert_eq!(forwards_left("OPTIONS", "a few"), "a few");
}

#[test]
fn a_request_without_forwards_left_is_answered_here() {
    for (method, status) in [
        ("OPTIONS", "204 No Content"),
        ("TRACE", "501 Not Implemented"),
    ] {
        let stage = Stage::new();
        let mut client = stage.client_sends(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
        ));
        let head = client.answer_head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{head}"
        );
        drop(client);
        stage.assert_nothing_more_reaches([]);
    }
}

#[test]
fn what_is_not_http_1_is_refused() {
    let stage = Stage::new();
    for request in [
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.22\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
    ] {
        let mut client = stage.client_sends(request);
        client.expect_refusal(400);
        client.end();
    }
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    let stage = Stage::new();
    let request = "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(passed_on(&stage, &mut None, request), GET_PASSED_ON);
}

#[test]
fn a_request_of_a_later_minor_version_is_one_of_1_1() {
    let stage = Stage::new();
    let mut app = None;
    for version in ["1.2", "1.9"] {
        let request = format!("GET /HTTP/1.0 HTTP/{version}\r\nHost: a\r\n\r\n");
        let head = passed_on(&stage, &mut app, &request);
        assert_eq!(head, "GET /HTTP/1.0 HTTP/1.1\r\nhost: a\r\n\r\n");
    }
}

//! The fields about the client (`--forwarded`).

use std::net::{IpAddr, UdpSocket};

use tests::stage::{OK, Stage, field, fields};
use tests::tools::skip;

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
                   x-forwarded-proto\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    for (mode, client) in [("append", "192.0.2.7, 127.0.0.1"), ("replace", "127.0.0.1")] {
        let head = at_the_app(mode, request);
        assert_says(&head, Some(client), Some("http"), Some("a"));
    }
    // What a front end has said stays as well, else every user would be localhost.
    let head = at_the_app("auto", request);
    assert_says(&head, Some("192.0.2.7"), None, None);
}

#[test]
fn connection_cannot_take_away_the_id_of_a_request() {
    let stage = Stage::with(&[("HANDOFF_REQUEST_ID", "true")]);
    for id in ["", "X-Request-ID: 7f3a\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-request-id\r\n{id}\r\n");
        let mut client = stage.client_sends(request);
        let mut app = stage.app();
        let head = app.head();
        app.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        let answer = client.answer_head();
        let at_app = field(&head, "x-request-id").expect("an id");
        assert_eq!(field(&answer, "x-request-id"), Some(at_app));
        assert!(id.is_empty() || at_app == "7f3a");
    }
}

#[test]
fn names_that_an_app_takes_for_those_of_handoff_are_dropped() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\
                   X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n\
                   X_Forwarded-Host: b\r\nX.Forwarded.Port: 1\r\nX_Real_IP: 6.6.6.6\r\n\
                   X_Request_ID: 6\r\nContent_Length: 6\r\nTransfer_Encoding: chunked\r\n\
                   MS_ASPNETCORE_WinAuthToken: 6\r\nX_IIS-WindowsAuthToken: 6\r\n\
                   Keep_Alive: 6\r\nMax_Forwards: 6\r\napi_key: 1\r\nX_Other: 2\r\n\r\n";
    for mode in ["auto", "append", "keep", "replace"] {
        let head = at_the_app(mode, request);
        let mut odd: Vec<_> = head
            .lines()
            .skip(1)
            .filter(|line| line.split(':').next().unwrap_or("").contains(['_', '.']))
            .collect();
        odd.sort_unstable();
        assert_eq!(odd, ["api_key: 1", "x_other: 2"], "{mode}");
    }
}

#[test]
fn the_host_is_the_absolute_targets_also_as_it_is_forwarded() {
    let request = "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = at_the_app("append", request);
    assert_says(&head, Some("127.0.0.1"), Some("http"), Some("b"));
    assert_eq!(fields(&head, "host"), ["b"]);
}

/// Other fields that describe the client.
const OTHERS: [(&str, &str); 5] = [
    ("forwarded", "for=192.0.2.7"),
    ("x-real-ip", "192.0.2.7"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-prefix", "/b"),
    ("client-ip", "192.0.2.7:1"),
];

/// A request with [`OTHERS`], and with fields that are not about the client.
fn with_others() -> String {
    let others = OTHERS.map(|(name, value)| format!("{name}: {value}\r\n"));
    let others = others.concat();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{others}X-ARR-SSL: x\r\nVia: 1.1 b\r\n\r\n")
}

#[track_caller]
fn assert_has_others(head: &str, has: bool) {
    for (name, value) in OTHERS {
        assert_eq!(field(head, name), has.then_some(value), "{head}");
    }
    assert_eq!(field(head, "x-arr-ssl"), Some("x"), "{head}");
    assert_eq!(field(head, "via"), Some("1.1 b"), "{head}");
}

#[test]
fn other_fields_about_the_client_are_treated_as_these_three() {
    for (mode, has) in [
        ("auto", true),
        ("append", true),
        ("keep", true),
        ("replace", false),
    ] {
        assert_has_others(&at_the_app(mode, &with_others()), has);
    }
    let said = Some("127.0.0.1");
    let head = at_the_app("replace", &with_others());
    assert_says(&head, said, Some("http"), Some("a"));
}

/// Returns what the app gets of a request of another machine: of this one's own other address.
fn from_elsewhere(options: &[(&str, &str)], request: &str) -> Option<(IpAddr, String)> {
    // Sends nothing: the system only looks for the way.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let own = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    let Some(own) = own.ok().filter(|own| !own.ip().is_loopback()) else {
        skip("an address beside 127.0.0.1");
        return None;
    };
    let listen = [("--listen", "0.0.0.0:0"), ("--forwarded", "auto")];
    let stage = Stage::with(&[&listen[..], options].concat());
    let mut client = stage.client_at(own.ip());
    client.send(request);
    let mut app = stage.app();
    let head = app.head();
    app.send(OK);
    client.answer_head();
    Some((own.ip(), head))
}

#[test]
fn auto_believes_no_stranger() {
    for request in [NAMED, TWICE, &with_others()] {
        let Some((own, head)) = from_elsewhere(&[], request) else {
            return;
        };
        assert_says(&head, Some(&own.to_string()), Some("http"), Some("a"));
    }
    if let Some((_, head)) = from_elsewhere(&[], &with_others()) {
        assert_has_others(&head, false);
    }
}

#[test]
fn auto_believes_a_trusted_proxy() {
    let trusted = [("--trusted-proxies", "2001:db8::/32,0.0.0.0/0")];
    if let Some((_, head)) = from_elsewhere(&trusted, NAMED) {
        assert_says(&head, Some("192.0.2.7:1234"), Some("https"), Some("b"));
    }
    if let Some((own, head)) = from_elsewhere(&trusted, &with_others()) {
        assert_says(&head, Some(&own.to_string()), Some("http"), Some("a"));
        assert_has_others(&head, true);
    }
}

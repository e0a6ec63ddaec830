use http::Request;
use proptest::prelude::*;

use super::*;

fn peer(address: &str) -> Peer {
    Peer::new(address.parse().unwrap(), &TrustedProxies::default())
}

fn head(fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().uri("/").header("host", "example.org");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// Returns the fields that the app gets for these, sorted, without Host.
fn forwarded(fields: &[(&str, &str)], peer: &Peer, forwarded: Forwarded) -> Vec<String> {
    let mut head = head(fields);
    let added = rewrite_request(&mut head, peer, forwarded).unwrap().added;
    let text = |value: &[u8]| std::str::from_utf8(value).unwrap().to_owned();
    let added = added.fields(&head.headers).into_iter().flatten();
    let mut shown: Vec<_> = added
        .map(|(name, value)| format!("{name}: {}", text(value)))
        .collect();
    head.headers.remove("host");
    shown.extend(
        head.headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", text(value.as_bytes()))),
    );
    shown.sort();
    shown
}

fn kept(fields: &[(&str, &str)]) -> Vec<String> {
    forwarded(fields, &peer("127.0.0.1"), Forwarded::Keep)
}

#[test]
fn what_names_a_users_token_ends_here() {
    let fields = [
        ("x-iis-windowsauthtoken", "1a4"),
        ("x-iis-windowsauthtoken", "1a8"),
        ("MS-ASPNETCORE-WinAuthToken", "1ac"),
        ("ms-aspnetcore-token", "t"),
    ];
    assert_eq!(kept(&fields), ["ms-aspnetcore-token: t"]);
}

#[test]
fn what_is_meant_for_the_connection_ends_here() {
    let fields = [
        ("connection", "keep-alive, x-secret"),
        ("connection", "X-Other"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x-secret", "1"),
        ("x-other", "2"),
        ("x-kept", "3"),
    ];
    let mut head = head(&fields);
    head.method = Method::POST;
    rewrite_request(&mut head, &peer("127.0.0.1"), Forwarded::Keep).unwrap();
    let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["host", "x-kept"]);
}

#[test]
fn connection_cannot_take_away_what_routes_and_frames() {
    let fields = [
        ("connection", "host, content-length"),
        ("content-length", "3"),
    ];
    assert_eq!(kept(&fields), ["content-length: 3"]);
}

#[test]
fn connection_cannot_take_away_what_is_said_of_the_client() {
    let fields = [
        ("connection", "x-forwarded-for"),
        ("x-forwarded-for", "6.6.6.6"),
    ];
    let said = forwarded(&fields, &peer("192.0.2.1"), Forwarded::Append);
    assert_eq!(said[0], "x-forwarded-for: 6.6.6.6, 192.0.2.1");
    let said = forwarded(&fields, &peer("192.0.2.1"), Forwarded::Replace);
    assert_eq!(said[0], "x-forwarded-for: 192.0.2.1");
    let said = forwarded(&fields, &peer("127.0.0.1"), Forwarded::Auto);
    assert_eq!(said, ["x-forwarded-for: 6.6.6.6"]);
}

#[test]
fn an_alias_of_a_field_of_handoffs_own_ends_here() {
    let fields = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("content_length", "6"),
        ("x_iis-windowsauthtoken", "1a4"),
        ("api_key", "1"),
    ];
    assert_eq!(kept(&fields), ["api_key: 1"]);
}

#[test]
fn a_login_of_a_connection_is_one_only_where_the_app_sees_it() {
    let is_login = |fields: &[(&str, &str)]| {
        let rewritten = rewrite_request(&mut head(fields), &peer("127.0.0.1"), Forwarded::Keep);
        rewritten.unwrap().is_connection_login
    };
    let login = ("authorization", "NTLM TlRM");
    assert!(is_login(&[login]));
    assert!(!is_login(&[login, ("connection", "authorization")]));
    assert!(!is_login(&[("authorization", "Basic YTpi")]));
}

#[test]
fn an_upgrade_is_passed_on_when_the_connection_asks_for_it() {
    let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(
        kept(&websocket),
        ["connection: upgrade", "upgrade: websocket"]
    );
    assert_eq!(kept(&[("upgrade", "websocket")]), [""; 0]);
    let h2c = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
    ];
    assert_eq!(kept(&h2c), [""; 0]);
}

#[test]
fn trailers_are_asked_for_when_the_client_takes_them() {
    let fields = [("te", "gzip;q=0.5, Trailers"), ("connection", "te")];
    assert_eq!(kept(&fields), ["connection: te", "te: trailers"]);
}

#[test]
fn a_chunked_get_stays_chunked() {
    let fields = [("transfer-encoding", "chunked")];
    assert_eq!(kept(&fields), ["transfer-encoding: chunked"]);
}

#[test]
fn the_client_is_named_unless_a_local_front_end_named_it() {
    let named = [("x-forwarded-for", "198.51.100.7:1234")];
    let local = forwarded(&named, &peer("127.0.0.1"), Forwarded::Auto);
    assert_eq!(local, ["x-forwarded-for: 198.51.100.7:1234"]);
    let local = forwarded(&[], &peer("::ffff:127.0.0.1"), Forwarded::Auto);
    assert_eq!(
        local,
        [
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: example.org",
            "x-forwarded-proto: http"
        ]
    );
    let remote = forwarded(&named, &peer("192.0.2.1"), Forwarded::Auto);
    assert_eq!(remote[0], "x-forwarded-for: 192.0.2.1");
    let trusted = TrustedProxies::new(vec!["192.0.2.0/24".parse().unwrap()]);
    for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
        let proxy = Peer::new(address.parse().unwrap(), &trusted);
        let kept = forwarded(&named, &proxy, Forwarded::Auto);
        assert_eq!(kept, ["x-forwarded-for: 198.51.100.7:1234"]);
    }
    let replaced = forwarded(&named, &peer("192.0.2.1"), Forwarded::Replace);
    assert_eq!(replaced[0], "x-forwarded-for: 192.0.2.1");
    let kept = forwarded(&named, &peer("192.0.2.1"), Forwarded::Keep);
    assert_eq!(kept, ["x-forwarded-for: 198.51.100.7:1234"]);
}

#[test]
fn a_request_of_version_1_1_has_exactly_one_good_host() {
    let check = |fields: &[(&str, &str)], version| {
        let mut builder = Request::builder().uri("/").version(version);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let mut head = builder.body(()).unwrap().into_parts().0;
        rewrite_request(&mut head, &peer("127.0.0.1"), Forwarded::Keep)
            .map(|_| head.headers[header::HOST].clone())
    };
    assert_eq!(check(&[], Version::HTTP_11), Err("missing Host"));
    assert_eq!(check(&[], Version::HTTP_10).unwrap(), "");
    let twice = [("host", "a"), ("host", "a")];
    assert_eq!(check(&twice, Version::HTTP_11), Err("more than one Host"));
    for bad in ["a b", "a/b", "user@a", "a?b", "a#b", "a\\b"] {
        assert_eq!(
            check(&[("host", bad)], Version::HTTP_11),
            Err("invalid Host")
        );
    }
    for good in ["", "a", "a:80", "[::1]:80", "xn--bcher-kva.example", "a_b"] {
        assert_eq!(check(&[("host", good)], Version::HTTP_11).unwrap(), good);
    }
}

#[test]
fn an_absolute_target_wins_over_the_host_field() {
    let mut head = head(&[]);
    head.uri = Uri::from_static("http://user@other.example:81//a;b?");
    rewrite_request(&mut head, &peer("127.0.0.1"), Forwarded::Keep).unwrap();
    assert_eq!(head.headers[header::HOST], "other.example:81");
    assert_eq!(head.uri.to_string(), "//a;b?");
}

#[test]
fn a_response_with_two_framings_keeps_one() {
    let mut head = http::Response::builder()
        .header("content-length", "3")
        .header("transfer-encoding", "chunked")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("set-cookie", "a")
        .header("set-cookie", "b")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let flags = HeaderFlags::scan(&head.headers);
    rewrite_response(
        StatusCode::OK,
        &mut head.headers,
        flags,
        UpgradeField::Remove,
    )
    .unwrap();
    let fields: Vec<_> = head
        .headers
        .iter()
        .map(|(_, v)| v.to_str().unwrap())
        .collect();
    assert_eq!(fields, ["a", "b"]);
}

#[test]
fn what_to_upgrade_to_is_passed_on_where_it_is_said() {
    let passed_on = |upgrade| {
        let fields = [("upgrade", "websocket"), ("connection", "Upgrade, x-hop")];
        let mut headers = head(&fields).headers;
        let flags = HeaderFlags::scan(&headers);
        rewrite_response(StatusCode::OK, &mut headers, flags, upgrade).unwrap();
        [header::UPGRADE, header::CONNECTION].map(|name| headers.get(name).cloned())
    };
    assert_eq!(passed_on(UpgradeField::Remove), [None, None]);
    let named = ["websocket", "upgrade"].map(|value| Some(HeaderValue::from_static(value)));
    assert_eq!(passed_on(UpgradeField::Keep), named);
}

#[test]
fn event_streams_are_known_by_their_type() {
    let is = |value: &'static str| {
        let value = HeaderValue::from_static(value);
        is_event_stream(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
    };
    assert!(is("text/event-stream"));
    assert!(is("Text/Event-Stream; charset=utf-8"));
    assert!(!is("text/plain"));
    assert!(!is_event_stream(&HeaderMap::new()));
}

proptest! {
    #[test]
    fn whatever_connection_names_is_gone_and_nothing_else(
        named in proptest::collection::vec("x-[a-z]{1,8}", 0..4),
        kept in proptest::collection::vec("y-[a-z]{1,8}", 0..4),
        junk in "[ -~]{0,20}",
    ) {
        let connection = format!("{},{junk}", named.join(" ,"));
        let mut fields = vec![("connection", connection.as_str())];
        fields.extend(named.iter().chain(&kept).map(|name| (name.as_str(), "1")));
        let mut head = head(&fields);
        rewrite_request(&mut head, &peer("127.0.0.1"), Forwarded::Keep).unwrap();
        for name in &named {
            prop_assert!(!head.headers.contains_key(name.as_str()));
        }
        for name in kept.iter().filter(|name| !junk.contains(name.as_str())) {
            prop_assert!(head.headers.contains_key(name.as_str()));
        }
    }
}

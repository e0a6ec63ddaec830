//! Clients and apps of both protocols in all four combinations, byte by byte and frame by frame.

use tests::http2::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameWire, GOAWAY, HEADERS, PRIORITY, RST_STREAM,
    frame,
};
use tests::http2::heads::encode;

use crate::http2_exchange::Protocol::{self, Http1, Http2};
use crate::http2_exchange::{CANCEL, Exchange, Server};

/// Clients with apps.
const COMBINATIONS: [(Protocol, Protocol); 4] = [
    (Http1, Http1),
    (Http1, Http2),
    (Http2, Http1),
    (Http2, Http2),
];

#[test]
fn bodies_and_trailers_pass_both_ways() {
    for (from, to) in COMBINATIONS {
        let server = Server::new(to, &[]);
        let mut client = server.client(from);
        let te = [("te", "trailers"), ("connection", "te")];
        let te = if from == Http1 { &te[..] } else { &te[..1] };
        let priority = [("priority", "u=1, i"), ("x-a", "1")];
        client.request("POST", &[te, &priority].concat(), false);
        let mut app = server.app();
        app.expect_request(
            (
                "POST /a?b HTTP/1.1\r\nhost: a\r\nx-a: 1\r\npriority: u=1, i\r\nte: trailers\r\n\
                 connection: te\r\ntransfer-encoding: chunked\r\n\r\n",
                ":method POST\n:scheme http\n:authority a\n:path /a?b\npriority: u=1, i\n\
                 te: trailers\nx-a: 1\n",
            ),
            false,
        );
        for part in ["one", "three"] {
            client.send_data(part);
            app.expect_data(part);
        }
        app.respond("201", &[("trailer", "x-end"), ("x-b", "2")], false);
        client.expect_response(
            (
                "HTTP/1.1 201 Created\r\ntrailer: x-end\r\nx-b: 2\r\ntransfer-encoding: chunked\r\n\r\n",
                ":status 201\ntrailer: x-end\nx-b: 2\n",
            ),
            false,
        );
        // Both bodies go on side by side.
        app.send_data("four");
        client.expect_data("four");
        client.send_trailers("x-sum", "1");
        app.expect_trailers("x-sum", "1");
        app.send_trailers("x-end", "3");
        client.expect_trailers("x-end", "3");
    }
}

#[test]
fn the_last_part_of_a_request_ends_it_in_one_frame() {
    // Apps count small frames that are not the last one.
    let server = Server::new(Http2, &[]);
    let mut client = server.client(Http2);
    client.request("POST", &[], false);
    client.send_data("first");
    let mut app = server.app();
    app.receive_request();
    app.expect_data("first");
    client.send_frame(DATA, END_STREAM, b"last");
    app.expect_last_data("last");
}

#[test]
fn a_head_has_a_length_and_no_body() {
    for (from, to) in COMBINATIONS {
        let server = Server::new(to, &[]);
        let mut client = server.client(from);
        client.request("HEAD", &[], true);
        let mut app = server.app();
        app.expect_request(
            (
                "HEAD /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
                ":method HEAD\n:scheme http\n:authority a\n:path /a?b\n",
            ),
            true,
        );
        app.respond("200", &[("content-length", "9")], true);
        client.expect_response(
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
                ":status 200\ncontent-length: 9\n",
            ),
            true,
        );
    }
}

#[test]
fn interim_responses_end_here() {
    for (from, to) in COMBINATIONS {
        let server = Server::new(to, &[]);
        let mut client = server.client(from);
        client.request("GET", &[], true);
        let mut app = server.app();
        for status in ["103", "102"] {
            app.respond(status, &[("link", "</a.css>")], to == Http1);
        }
        app.respond("204", &[], true);
        client.expect_response(("HTTP/1.1 204 No Content\r\n\r\n", ":status 204\n"), true);
    }
}

#[test]
fn a_client_that_expects_100_may_send_its_body_and_the_app_does_not_hear_of_it() {
    for (from, to) in COMBINATIONS {
        let server = Server::new(to, &[]);
        let mut client = server.client(from);
        client.request("PUT", &[("expect", "100-continue")], false);
        if let Exchange::Http1(wire) = &mut client {
            wire.expect("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let mut app = server.app();
        app.expect_request(
            (
                "PUT /a?b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
                ":method PUT\n:scheme http\n:authority a\n:path /a?b\n",
            ),
            false,
        );
        client.send_data("body");
        app.expect_data("body");
    }
}

#[test]
fn a_client_that_cancels_ends_its_request_at_the_app() {
    for (from, to) in COMBINATIONS {
        for is_answered in [false, true] {
            let server = Server::new(to, &[]);
            let mut client = server.client(from);
            client.request("GET", &[], true);
            let mut app = server.app();
            app.expect_request(
                (
                    "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
                    ":method GET\n:scheme http\n:authority a\n:path /a?b\n",
                ),
                true,
            );
            if is_answered {
                app.respond("200", &[], false);
                app.send_data("half");
                client.expect_status(200);
                client.expect_data("half");
            }
            let rest = client.cancel();
            app.expect_cancelled(CANCEL);
            // A connection of HTTP/2 goes on, at both ends.
            if let Some(wire) = rest {
                serve_next(wire, &server, app);
            }
        }
    }
}

/// Serves another request of the connection; on the same one of the app, if that speaks HTTP/2.
#[track_caller]
fn serve_next(mut wire: FrameWire, server: &Server, app: Exchange) {
    let stream = wire.next_stream();
    let mut client = Exchange::Http2 { wire, stream };
    client.request("GET", &[], true);
    let mut app = match app {
        Exchange::Http1(_) => server.app(),
        Exchange::Http2 { wire, stream } => Exchange::Http2 {
            wire,
            stream: stream + 2,
        },
    };
    app.expect_request(
        (
            "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
            ":method GET\n:scheme http\n:authority a\n:path /a?b\n",
        ),
        true,
    );
    app.respond("204", &[], true);
    client.expect_response(("", ":status 204\n"), true);
}

#[test]
fn an_app_that_cancels_fails_its_client() {
    for (from, to) in COMBINATIONS {
        for is_answered in [false, true] {
            let server = Server::new(to, &[]);
            let mut client = server.client(from);
            client.request("POST", &[], false);
            client.send_data("body");
            let mut app = server.app();
            if is_answered {
                app.respond("200", &[], false);
                app.send_data("half");
                client.expect_status(200);
                client.expect_data("half");
                app.cancel();
                // Of the app's own reset the client gets the reason.
                client.expect_cancelled(if to == Http1 { 2 } else { CANCEL });
            } else {
                app.cancel();
                client.expect_status(502);
            }
        }
    }
}

#[test]
fn the_authority_is_the_host() {
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    for to in [Http1, Http2] {
        let server = Server::new(to, &[]);
        for (fields, host) in [
            (&[(":authority", "b:81")][..], "b:81"),
            (&[(":authority", "b:81"), ("host", "other")], "b:81"),
            (&[("host", "c")], "c"),
        ] {
            let mut client = server.client(Http2);
            client.send_fields(&[&first[..], fields].concat(), true);
            let mut app = server.app();
            app.expect_request(
                (
                    &format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
                    &format!(":method GET\n:scheme http\n:authority {host}\n:path /\n"),
                ),
                true,
            );
            app.cancel();
            client.expect_status(502);
        }
    }
}

#[test]
fn a_malformed_stream_of_a_client_is_reset_and_reaches_no_app() {
    const PROTOCOL_ERROR: u32 = 1;
    let first = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/a?b"),
    ];
    for to in [Http1, Http2] {
        for malformed in [
            &[("connection", "close")][..],
            &[("keep-alive", "timeout=5")],
            &[("proxy-connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("upgrade", "websocket")],
            &[("te", "gzip")],
            &[(":path", "/again")],
        ] {
            let server = Server::new(to, &[]);
            let mut client = server.client(Http2);
            client.send_fields(&[&first[..], malformed].concat(), true);
            let Exchange::Http2 { mut wire, stream } = client else {
                unreachable!("it speaks HTTP/2");
            };
            let got = wire.receive_of_stream();
            let got = got.unwrap_or_else(|error| panic!("{malformed:?}: {error}"));
            assert_eq!(
                (got.kind, got.stream),
                (RST_STREAM, stream),
                "{malformed:?}"
            );
            assert_eq!(got.payload, PROTOCOL_ERROR.to_be_bytes(), "{malformed:?}");
            let stream = wire.next_stream();
            let mut next = Exchange::Http2 { wire, stream };
            // Priorities of the old kind are ignored.
            next.send_frame(PRIORITY, 0, &[0, 0, 0, 1, 9]);
            next.request("GET", &[], true);
            server.app().expect_request(
                (
                    "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
                    ":method GET\n:scheme http\n:authority a\n:path /a?b\n",
                ),
                true,
            );
        }
        // What no library would write ends the connection.
        for malformed in [&[("X-Upper", "1")][..], &[("x-a", "1"), (":late", "1")]] {
            let server = Server::new(to, &[]);
            let mut client = server.client(Http2);
            client.send_fields(&[&first[..], malformed].concat(), true);
            let Exchange::Http2 { mut wire, .. } = client else {
                unreachable!("it speaks HTTP/2");
            };
            let ended = wire.receive_until(GOAWAY).expect("a GOAWAY");
            assert_eq!(ended.payload[4..], PROTOCOL_ERROR.to_be_bytes());
        }
    }
}

#[test]
fn a_malformed_response_of_a_stream_is_no_response() {
    for from in [Http1, Http2] {
        for malformed in [("connection", "close"), ("transfer-encoding", "chunked")] {
            let server = Server::new(Http2, &[]);
            let mut client = server.client(from);
            client.request("GET", &[], true);
            server.app().respond("200", &[malformed], true);
            client.expect_status(502);
        }
    }
}

#[test]
fn heads_that_are_too_large_are_refused_in_both_directions() {
    let long = "x".repeat(120);
    let many: Vec<String> = (0..60).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (&**name, &*long)).collect();
    for (from, to) in COMBINATIONS {
        // Too many bytes, and too many fields.
        for options in [("--max-header-size", "4096"), ("--max-headers", "50")] {
            let server = Server::new(to, &[options]);
            let mut client = server.client(from);
            client.request("GET", &many, true);
            client.expect_status(431);
            let mut client = server.client(from);
            client.request("GET", &many[..20], true);
            let mut app = server.app();
            app.respond("204", &[], true);
            client.expect_status(204);
        }
        let server = Server::new(to, &[]);
        let mut client = server.client(from);
        client.request("GET", &[], true);
        let mut app = server.app();
        match &mut app {
            Exchange::Http1(wire) => {
                let field = format!("x-a: {long}\r\n");
                wire.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", field.repeat(700)));
            }
            Exchange::Http2 { wire, stream } => {
                let field = encode(&[("x-a", &long)]);
                let fields = [encode(&[(":status", "200")]), field.repeat(100)].concat();
                wire.send(&frame(HEADERS, END_STREAM, *stream, &fields))
                    .expect("it is sent");
                for last in [0, 0, 0, 0, 0, END_HEADERS] {
                    let more = frame(CONTINUATION, last, *stream, &field.repeat(120));
                    wire.send(&more).expect("it is sent");
                }
            }
        }
        client.expect_status(502);
    }
}

#[test]
fn who_reads_slowly_holds_up_the_other_end() {
    /// More than fits between the two ends.
    const MOST: usize = 64 << 20;
    for (from, to) in COMBINATIONS {
        let server = Server::new(to, &[("--client-timeout", "60s")]);
        let mut client = server.client(from);
        client.request("POST", &[], false);
        let mut app = server.app();
        app.receive_request();
        app.respond("200", &[], false);
        client.expect_status(200);
        for sender in [&mut app, &mut client] {
            let sent = match sender {
                Exchange::Http1(wire) => {
                    wire.send("fffffff\r\n");
                    wire.sends_until_full(MOST)
                }
                Exchange::Http2 { wire, stream } => {
                    wire.send_until_full(*stream, MOST).expect("no more room")
                }
            };
            assert!(sent < MOST, "{from:?} {to:?}: {sent}");
        }
    }
}

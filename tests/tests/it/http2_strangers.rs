//! Clients and apps of either protocol that do what they should not, frame by frame.

use tests::http2::frames::{END_HEADERS, FrameWire, HEADERS, RST_STREAM, frame};
use tests::http2::heads::{NO_TABLE, NO_WINDOW, encode};

use crate::http2_exchange::Protocol::{Http1, Http2};
use crate::http2_exchange::{CANCEL, Exchange, Server};

#[test]
fn a_connection_of_the_app_that_hangs_is_not_used_again() {
    for to in [Http1, Http2] {
        let server = Server::new(to, &[("--response-timeout", "1s"), ("--workers", "1")]);
        let mut client = server.client(Http1);
        client.request("GET", &[], true);
        let mut hung = server.app();
        hung.receive_request();
        client.expect_status(504);
        let mut client = server.client(Http1);
        client.request("GET", &[], true);
        let mut app = server.app();
        app.receive_request();
        app.respond("200", &[("content-length", "0")], true);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        client.expect_response((answer, ""), true);
    }
}

#[test]
fn trailers_about_the_apps_connection_are_its_own() {
    for from in [Http1, Http2] {
        let server = Server::new(Http1, &[]);
        let mut client = server.client(from);
        let te = [("te", "trailers"), ("connection", "te")];
        client.request("GET", if from == Http1 { &te } else { &te[..1] }, true);
        let mut app = server.app();
        app.receive_request();
        app.respond("200", &[("trailer", "x-end")], false);
        app.send_data("all");
        let Exchange::Http1(wire) = &mut app else {
            panic!("an app of HTTP/2");
        };
        wire.send("0\r\nConnection: close\r\nKeep-Alive: 1\r\nx-end: 3\r\nTE: a\r\n\r\n");
        client.expect_response(
            (
                "HTTP/1.1 200 OK\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n",
                ":status 200\ntrailer: x-end\n",
            ),
            false,
        );
        client.expect_data("all");
        client.expect_trailers("x-end", "3");
    }
}

#[test]
fn a_client_that_takes_nothing_of_a_response_loses_that_stream() {
    for to in [Http1, Http2] {
        let server = Server::new(to, &[("--client-timeout", "1s")]);
        let address = server.stage().site().address();
        let wire = FrameWire::connect_with(address, &[NO_TABLE, NO_WINDOW]);
        let mut client = Exchange::Http2 {
            wire: wire.expect("a connection"),
            stream: 1,
        };
        client.request("GET", &[], true);
        let mut app = server.app();
        app.receive_request();
        app.respond("200", &[], false);
        app.send_data("all");
        client.expect_status(200);
        client.expect_cancelled(CANCEL);
        app.expect_cancelled(CANCEL);
    }
}

#[test]
fn a_connect_with_a_length_fails_alone() {
    for fields in [
        &[][..],
        &[
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/"),
        ],
    ] {
        let server = Server::new(Http1, &[]);
        let mut client = server.client(Http2);
        client.request("GET", &[], true);
        let mut app = server.app();
        app.receive_request();
        let Exchange::Http2 { wire, .. } = &mut client else {
            panic!("a client of HTTP/1");
        };
        for stream in [3, 5] {
            let connect = [(":method", "CONNECT"), (":authority", "a:80")];
            let length = [("content-length", "5")];
            let block = encode(&[&connect[..], fields, &length].concat());
            let sent = wire.send(&frame(HEADERS, END_HEADERS, stream, &block));
            sent.expect("it is sent");
        }
        for stream in [3, 5] {
            let got = wire.receive_of_stream().expect("a frame");
            assert_eq!((got.kind, got.stream), (RST_STREAM, stream), "{got:?}");
        }
        app.respond("200", &[("content-length", "0")], true);
        client.expect_status(200);
    }
}

#[test]
fn a_length_that_is_repeated_reaches_the_app_once() {
    for to in [Http1, Http2] {
        let server = Server::new(to, &[]);
        let mut client = server.client(Http2);
        let lengths = [("content-length", "1"), ("content-length", "1")];
        client.request("POST", &lengths, false);
        let mut app = server.app();
        app.expect_request(
            (
                "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n",
                ":method POST\n:scheme http\n:authority a\n:path /a?b\ncontent-length: 1\n",
            ),
            false,
        );
    }
}

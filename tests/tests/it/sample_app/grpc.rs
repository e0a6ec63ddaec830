//! The gRPC service of the app, and its health check.

use std::net::SocketAddr;

use bytes::Bytes;
use sample_app::answers;
use sample_app::grpc::{ECHO, EVENTS, HEALTH, SERVICE, Subscription, VERSION, frame, take, text};

use super::running::start;
use crate::grpc::rest;
use crate::http2::{Client, Sent};

/// Begins a call.
fn begin(client: &mut Client, path: &str) -> Sent {
    let call = client.to("POST", path);
    let call = call.header("content-type", "application/grpc");
    client.send(call.header("te", "trailers"), false)
}

/// Makes a call with one message; the messages of the answer and the status, wherever it is.
fn call(address: SocketAddr, path: &str, message: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut client = Client::connect(address);
    let mut sent = begin(&mut client, path);
    sent.body
        .send_data(frame(message), true)
        .expect("it is sent");
    let response = client.head_of(sent);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["x-release"], "v1");
    if let Some(status) = response.headers().get("grpc-status") {
        assert!(response.body().is_end_stream(), "{response:?}");
        return (Vec::new(), status.to_str().expect("a text").to_owned());
    }
    let (bytes, trailers) = rest(&client, response);
    let status = trailers["grpc-status"].to_str().expect("a text").to_owned();
    (messages(&bytes), status)
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let messages = std::iter::from_fn(|| take(&mut bytes).map(<[u8]>::to_vec)).collect();
    assert!(bytes.is_empty(), "{bytes:?} is no message");
    messages
}

#[test]
fn a_call_is_answered_with_the_version() {
    let (_app, address) = start(&[]);
    let answered = (vec![text(b"v1")], "0".to_owned());
    assert_eq!(call(address, VERSION, b""), answered);
}

#[test]
fn a_stream_has_as_many_events_as_asked_for() {
    let (_app, address) = start(&[]);
    let wish = Subscription {
        events: 3,
        every_ms: 1,
    };
    let events = (1..=3).map(|number| text(answers::event(number, 3, "v1").as_bytes()));
    let answered = (events.collect(), "0".to_owned());
    assert_eq!(call(address, EVENTS, &wish.encode()), answered);
    let (none, status) = call(address, EVENTS, b"\x08");
    assert_eq!((none.len(), status.as_str()), (0, "3"));
}

#[test]
fn each_message_comes_back_before_the_next_is_sent() {
    let (_app, address) = start(&[]);
    let mut client = Client::connect(address);
    let mut sent = begin(&mut client, ECHO);
    client.flush();
    let mut body = client.await_ok(sent.response).into_body();
    for message in [&b"one"[..], b"two"] {
        sent.body.send_data(frame(message), false).unwrap();
        let part = client.await_ok(async { body.data().await.expect("a message") });
        assert_eq!(messages(&part), [message]);
    }
    sent.body.send_data(Bytes::new(), true).unwrap();
    let trailers = client.await_ok(async {
        assert!(body.data().await.is_none());
        body.trailers().await
    });
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
}

#[test]
fn its_health_is_known_by_name_once_it_is_ready() {
    let (_app, address) = start(&[]);
    let serving = (vec![vec![8, 1]], "0".to_owned());
    for service in ["", SERVICE] {
        let health = call(address, HEALTH, &text(service.as_bytes()));
        assert_eq!(health, serving, "{service:?}");
    }
    assert_eq!(call(address, HEALTH, b""), serving);
    let (none, status) = call(address, HEALTH, &text(b"shop.Orders"));
    assert_eq!((none.len(), status.as_str()), (0, "5"));
    let (_app, address) = start(&["--never-ready"]);
    let not_serving = (vec![vec![8, 2]], "0".to_owned());
    assert_eq!(call(address, HEALTH, b""), not_serving);
}

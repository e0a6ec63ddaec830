//! gRPC: calls through handoffs, their statuses by handoff itself, and the health check.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::Value;
use tests::command;
use tests::program::handoff;
use tests::stage::Stage;

use crate::http2::{Client, Sent, all};
use crate::http2_app::{App, AppRequest};
use crate::logs::lines;

/// Two messages, of three bytes and of none.
const MESSAGES: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0";

/// Begins a call.
#[track_caller]
fn call(client: &mut Client) -> Sent {
    let call = client.to("POST", "/shop.Orders/List");
    let call = call
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let mut sent = client.send(call, false);
    let message = Bytes::from_static(MESSAGES);
    sent.body.send_data(message, false).expect("it is sent");
    client.flush();
    sent
}

/// Answers the call with these messages, and leaves the stream open.
#[track_caller]
fn begin_answer(respond: &mut SendResponse<Bytes>, messages: &'static [u8]) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc+proto");
    let head = head.body(()).expect("a head");
    let mut body = respond.send_response(head, false).expect("a head is sent");
    let messages = Bytes::from_static(messages);
    body.send_data(messages, false).expect("messages are sent");
    body
}

/// Reads the rest of a response: its bytes and trailers.
#[track_caller]
pub(crate) fn rest(client: &Client, response: Response<RecvStream>) -> (Vec<u8>, HeaderMap) {
    let mut body = response.into_body();
    let read = async {
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await.transpose()? {
            body.flow_control().release_capacity(part.len())?;
            bytes.extend_from_slice(&part);
        }
        Ok::<_, h2::Error>((bytes, body.trailers().await?))
    };
    let (bytes, trailers) = client.await_ok(read);
    (bytes, trailers.expect("trailers"))
}

#[track_caller]
fn assert_is_whole_answer(response: &Response<RecvStream>, status: &str) {
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["grpc-status"], status, "{headers:?}");
    assert!(headers.contains_key("grpc-message"), "{headers:?}");
    assert!(response.body().is_end_stream(), "{response:?}");
}

#[test]
fn an_error_of_handoff_is_a_status_without_messages() {
    let app = App::with(&[("--response-timeout", "2s")]);
    let mut client = app.client();
    let sent = call(&mut client);
    app.request().respond.send_reset(Reason::INTERNAL_ERROR);
    assert_is_whole_answer(&client.head_of(sent), "14");
    let mut sent = call(&mut client);
    sent.body.send_data(Bytes::new(), true).unwrap();
    client.flush();
    let _unanswered = app.request();
    assert_is_whole_answer(&client.head_of(sent), "4");
    // Also where the app speaks HTTP/1.
    let stage = Stage::new();
    let mut client = Client::connect(stage.site().address());
    let sent = call(&mut client);
    let mut app = stage.app();
    app.head();
    app.reset();
    assert_is_whole_answer(&client.head_of(sent), "14");
}

#[test]
fn a_call_ends_at_the_deadline_of_its_client_and_that_is_no_fault_of_the_app() {
    let app = App::new();
    let mut client = app.client();
    let call = client.to("POST", "/shop.Orders/List");
    let call = call
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "300m");
    let sent = client.send(call, true);
    client.flush();
    let AppRequest {
        request,
        mut respond,
        ..
    } = app.request();
    assert_eq!(request.headers()["grpc-timeout"], "300m");
    assert_is_whole_answer(&client.head_of(sent), "4");
    let reset = app.wait(poll_fn(|cx| respond.poll_reset(cx)));
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    let log = app.stage.site().log();
    assert!(!log.contains("event=\"error_response\""), "{log}");
}

#[test]
fn a_stream_of_messages_ends_between_two_with_a_status_when_its_release_is_replaced() {
    let app = App::with(&[("--tunnel-drain-timeout", "2s")]);
    let mut client = app.client();
    let sent = call(&mut client);
    let AppRequest { mut respond, .. } = app.request();
    let mut open = begin_answer(&mut respond, MESSAGES);
    let response = client.head_of(sent);
    app.stage.swap();
    let (bytes, trailers) = rest(&client, response);
    assert_eq!(bytes, MESSAGES);
    assert_eq!(trailers["grpc-status"], "14");
    let reset = app.wait(poll_fn(|cx| open.poll_reset(cx)));
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    // The client's connection goes on.
    let sent = call(&mut client);
    let mut respond = app.request().respond;
    let mut body = begin_answer(&mut respond, MESSAGES);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let response = client.head_of(sent);
    let (bytes, trailers) = rest(&client, response);
    assert_eq!(
        (&*bytes, &trailers["grpc-status"]),
        (MESSAGES, &"0".parse().unwrap())
    );
}

#[test]
fn a_call_whose_app_dies_within_a_message_ends_with_a_status_and_one_that_it_resets_does_not() {
    let app = App::new();
    let mut client = app.client();
    let sent = call(&mut client);
    let AppRequest {
        mut respond, cut, ..
    } = app.request();
    let _open = begin_answer(&mut respond, &MESSAGES[..6]);
    let response = client.head_of(sent);
    cut.send(()).unwrap();
    let (bytes, trailers) = rest(&client, response);
    assert_eq!(bytes, MESSAGES[..6]);
    assert_eq!(trailers["grpc-status"], "14");
    let sent = call(&mut client);
    let mut respond = app.request().respond;
    let mut open = begin_answer(&mut respond, MESSAGES);
    let mut body = client.head_of(sent).into_body();
    open.send_reset(Reason::CANCEL);
    let read = async {
        while body.data().await.transpose()?.is_some() {}
        Ok::<_, h2::Error>(())
    };
    let ended = client.await_ok(async { Ok::<_, ()>(read.await) });
    assert_eq!(ended.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[test]
fn an_app_is_ready_once_its_health_service_says_so() {
    let options = [
        ("--health-grpc", "shop.Orders"),
        ("--start-timeout", "2s"),
        ("--live-interval", "250ms"),
        ("--health-fall", "1"),
    ];
    let app = App::launching(&options, false);
    let site = app.stage.site();
    site.await_log("of shop.Orders said NOT_SERVING (--health-grpc)");
    app.is_serving.store(true, Ordering::SeqCst);
    app.await_active();
    // It is the live check, too.
    app.is_serving.store(false, Ordering::SeqCst);
    site.await_log("event=\"liveness_lost\"");
}

#[test]
fn the_health_check_of_grpc_needs_http_2() {
    let mut command = handoff();
    command.args(["run", "--artifact", "a", "--health-grpc", "--", "x"]);
    let said = ["--health-grpc", "--app-protocol h2c"];
    command::start(command).end().with(2).saying(&said);
}

#[test]
fn the_access_log_has_the_status_of_each_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.json");
    let app = App::with(&[
        ("--access-log", file.to_str().unwrap()),
        ("--access-log-format", "json"),
    ]);
    let mut client = app.client();
    let trailers = |status: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        trailers
    };
    let begin = |client: &mut Client, target: &str| {
        let call = client.to("POST", target);
        let sent = client.send(call.header("content-type", "application/grpc"), true);
        client.flush();
        (sent, app.request())
    };
    let receive_messages = |client: &Client, sent: Sent| {
        let mut body = client.head_of(sent).into_body();
        client.await_ok(async { body.data().await.expect("messages") });
        body
    };

    let (trailers_only, mut request) = begin(&mut client, "/trailers-only");
    let mut head = Response::new(());
    *head.headers_mut() = trailers("5");
    request.respond.send_response(head, true).unwrap();
    let (with_messages, mut request) = begin(&mut client, "/messages");
    let mut body = begin_answer(&mut request.respond, MESSAGES);
    body.send_trailers(trailers("0")).unwrap();
    let (failed, mut request) = begin(&mut client, "/failed");
    request.respond.send_reset(Reason::INTERNAL_ERROR);
    let (reset, mut request) = begin(&mut client, "/reset");
    let mut reset_body = begin_answer(&mut request.respond, MESSAGES);
    let (mut cancelled, _unanswered) = begin(&mut client, "/cancelled");
    let (cancelled_late, mut request) = begin(&mut client, "/cancelled-late");
    let _open = begin_answer(&mut request.respond, MESSAGES);

    client.head_of(trailers_only);
    for sent in [with_messages, failed] {
        let response = client.head_of(sent);
        client.await_ok(all(response.into_body()));
    }
    let reset = receive_messages(&client, reset);
    reset_body.send_reset(Reason::INTERNAL_ERROR);
    let ended = client.await_ok(async { Ok::<_, ()>(all(reset).await) });
    assert!(ended.is_err());
    let Sent {
        response,
        body: mut late_body,
    } = cancelled_late;
    let mut late = client.await_ok(response).into_body();
    client.await_ok(async { late.data().await.expect("messages") });
    late_body.send_reset(Reason::CANCEL);
    cancelled.body.send_reset(Reason::CANCEL);
    client.flush();
    lines(&file, 6);
    // With its connection, on which the others were.
    let (broken, mut request) = begin(&mut client, "/broken");
    let _body = begin_answer(&mut request.respond, MESSAGES);
    let broken = receive_messages(&client, broken);
    request.cut.send(()).unwrap();
    client.await_ok(all(broken));

    let lines = lines(&file, 7);
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (target, status, grpc_status, is_complete) in [
        ("/trailers-only", 200, Some(5), true),
        ("/messages", 200, Some(0), true),
        ("/failed", 200, Some(14), true),
        ("/broken", 200, Some(14), true),
        // It is passed on.
        ("/reset", 200, None, false),
        // There is nobody to send one to.
        ("/cancelled", 499, None, false),
        ("/cancelled-late", 200, None, false),
    ] {
        let line = lines.iter().find(|line| line["target"] == target);
        let line = line.unwrap_or_else(|| panic!("{target}: {lines:?}"));
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["grpc_status"].as_u64(), grpc_status, "{line}");
        assert_eq!(line["complete"], is_complete, "{line}");
        assert_eq!(line["version"], "HTTP/2.0", "{line}");
    }
}

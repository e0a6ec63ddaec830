//! Apps that speak HTTP/2 without TLS: each request is a stream, whatever its client speaks.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use tests::http2::frames::{GOAWAY, SETTINGS, frame};
use tests::stage::{End, Stage, Wire, field};
use tests::{Site, app};

use crate::http2::Client;
use crate::http2_app::{App, AppRequest, finish, ok};

/// Asserts that an answer comes, and that its body begins with this chunk.
fn assert_answered(client: &mut Wire, chunk: &str) {
    client.answer_head();
    assert_eq!(client.chunk(), chunk);
}

#[test]
fn a_request_that_ends_with_an_empty_frame_is_nothing_that_an_app_counts() {
    let site = Site::watching_a_pointer().with("--app-protocol", "h2c");
    let site = site.start("v1");
    let mut client = Client::connect(site.address());
    // Its library ends a connection after a hundred.
    for number in 0..150 {
        let request = client.to("POST", "/echo");
        let mut sent = client.send(request, false);
        sent.body.send_data("x".into(), false).unwrap();
        sent.body.send_data("".into(), true).unwrap();
        let response = client.head_of(sent);
        assert_eq!(response.status(), 200, "request {number}");
        assert_eq!(client.text_of(response), "x", "request {number}");
    }
}

#[test]
fn clients_of_both_versions_are_served_through_handoffs() {
    let site = Site::watching_a_pointer().with("--app-protocol", "h2c");
    let site = site.with("--live-path", "/health").start("v1");
    let mut client = Client::connect(site.address());
    for version in ["v2", "v3"] {
        assert_eq!(site.get("/protocol").text(), "HTTP/2.0");
        let sent = client.get("/protocol");
        let response = client.head_of(sent);
        assert_eq!(client.text_of(response), "HTTP/2.0");
        let slow = client.to("POST", "/echo");
        let mut upload = client.send(slow, false);
        upload.body.send_data("begun ".into(), false).unwrap();
        client.flush();
        let unfinished = site.begin_upload("/upload");
        let in_flight = |status: &tests::Status| {
            let active = status.active.as_ref();
            active.is_some_and(|active| active.in_flight >= 2)
        };
        site.wait_until("both uploads are in flight", in_flight);
        let before = site.get("/version").text().to_owned();
        site.deploy(version);
        site.await_active(version);
        assert_eq!(client.version(), version);
        site.await_version(version);
        upload.body.send_data("and ended".into(), true).unwrap();
        let response = client.head_of(upload);
        assert_eq!(response.headers()["x-release"], *before);
        assert_eq!(client.text_of(response), "begun and ended");
        let answer = unfinished.finish().unwrap();
        assert_eq!(answer.release(), before);
    }
}

#[test]
fn auto_asks_the_app_and_uses_what_it_speaks() {
    let site = Site::watching_a_pointer().with("--app-protocol", "auto");
    let site = site.start("v1");
    assert_eq!(site.get("/protocol").text(), "HTTP/2.0");
    let stage = Stage::launching(&[("--app-protocol", "auto")]);
    // The question is no request of HTTP/1.
    stage.app().send("HTTP/1.1 400 Bad Request\r\n\r\n");
    stage
        .site()
        .wait_until("the app serves", |status| status.active.is_some());
    stage.kept();
}

#[test]
fn auto_follows_the_app_from_http_1_to_http_2_and_back() {
    let app = App::old_at_first();
    let (mut client, mut old_client) = (app.client(), app.stage.client());
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for is_old in [true, false, true] {
        if app.is_old.swap(is_old, Ordering::SeqCst) != is_old {
            app.stage.swap();
        }
        let sent = client.get("/");
        client.flush();
        old_client.send(get);
        if !is_old {
            finish(app.request().respond, "http2");
            finish(app.request().respond, "http2");
        }
        let expected = if is_old { "http1" } else { "http2" };
        let response = client.head_of(sent);
        assert_eq!(client.text_of(response), expected);
        old_client.answer_head();
        if is_old {
            assert_eq!(old_client.receive(5), expected);
        } else {
            assert_eq!(old_client.chunk(), expected);
            assert_eq!(old_client.receive(5), "0\r\n\r\n");
        }
    }
}

#[test]
fn by_default_the_app_is_asked_in_http_1() {
    let site = Site::watching_a_pointer().start(app("v1"));
    assert_eq!(site.get("/protocol").text(), "HTTP/1.1");
}

#[test]
fn a_request_of_http_1_reaches_the_app_as_a_stream() {
    let app = App::with(&[("--forwarded", "auto")]);
    let mut client = app.stage.client_sends(
        "POST /a?b=c HTTP/1.1\r\nHost: example.org:81\r\nConnection: te, x-gone\r\nTE: trailers\r\n\
         X-Gone: 1\r\nX-Kept: 2\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\n12345\r\n0\r\nx-sum: 15\r\n\r\n",
    );
    let AppRequest {
        request,
        mut respond,
        ..
    } = app.request();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "http://example.org:81/a?b=c");
    let headers = request.headers();
    for (name, value) in [
        ("te", "trailers"),
        ("x-kept", "2"),
        ("x-forwarded-host", "example.org:81"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(headers[name], value, "{headers:?}");
    }
    for name in [
        "host",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "x-gone",
    ] {
        assert!(!headers.contains_key(name), "{headers:?}");
    }
    let mut body = request.into_body();
    let read = async {
        let part = body.data().await.expect("a part").expect("no error");
        while body.data().await.is_some() {}
        (part, body.trailers().await.expect("no error"))
    };
    let (part, trailers) = app.wait(read);
    assert_eq!(part, "12345");
    assert_eq!(trailers.expect("trailers")["x-sum"], "15");
    let head = Response::builder().status(201).header("x-app", "1");
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    body.send_data("abc".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("9"));
    body.send_trailers(trailers).unwrap();
    let head = client.answer_head();
    assert!(head.starts_with("HTTP/1.1 201 Created\r\n"), "{head}");
    assert_eq!(field(&head, "x-app"), Some("1"), "{head}");
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    assert_eq!(client.chunk(), "abc");
}

#[test]
fn trailers_pass_between_two_ends_of_http_2_and_a_head_has_no_body() {
    let app = App::new();
    let mut client = app.client();
    let request = client.to("GET", "/").header("te", "trailers");
    let sent = client.send(request, true);
    client.flush();
    let mut respond = app.request().respond;
    let head = Response::builder().header("content-length", "3");
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    body.send_data("abc".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("9"));
    body.send_trailers(trailers).unwrap();
    let mut body = client.head_of(sent).into_body();
    let read = async {
        while body.data().await.transpose()?.is_some() {}
        body.trailers().await
    };
    let trailers = client.await_ok(read);
    assert_eq!(trailers.expect("trailers")["x-end"], "9");

    let request = client.to("HEAD", "/");
    let sent = client.send(request, true);
    client.flush();
    let head = Response::builder().header("content-length", "3");
    let head = head.body(()).unwrap();
    app.request().respond.send_response(head, true).unwrap();
    let response = client.head_of(sent);
    assert_eq!(response.headers()["content-length"], "3");
    assert_eq!(client.text_of(response), "");
    let mut client = app.stage.client_sends("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = Response::builder().header("content-length", "3");
    let head = head.body(()).unwrap();
    app.request().respond.send_response(head, true).unwrap();
    let head = client.answer_head();
    assert_eq!(field(&head, "content-length"), Some("3"), "{head}");
}

#[test]
fn requests_share_one_connection_and_a_slow_client_stops_none_but_its_own() {
    let app = App::new();
    let mut slow = app
        .stage
        .client_sends("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let AppRequest {
        mut respond,
        connection,
        ..
    } = app.request();
    let mut body = respond.send_response(ok(), false).unwrap();
    let mut sent = 0;
    loop {
        body.reserve_capacity(16 * 1024);
        let more = async {
            let room = poll_fn(|cx| body.poll_capacity(cx));
            tokio::time::timeout(Duration::from_secs(2), room).await
        };
        // The client takes nothing: this ends by itself.
        let Ok(more) = app.runtime.block_on(more) else {
            break;
        };
        let more = more.expect("an open stream").expect("no error");
        body.send_data(vec![b'x'; more].into(), false).unwrap();
        sent += more;
        assert!(sent < 32 << 20, "the app is never stopped");
    }
    let mut quick = app
        .stage
        .client_sends("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    let request = app.request();
    assert_eq!(request.connection, connection);
    finish(request.respond, "quick");
    assert_answered(&mut quick, "quick");
    body.send_data("end".into(), true).unwrap();
    slow.answer_head();
    let mut received = 0;
    while received < sent + 3 {
        received += slow.chunk_bytes().len();
    }
}

#[test]
fn a_client_that_leaves_cancels_its_stream() {
    let app = App::new();
    let reset = |request: AppRequest| {
        let mut respond = request.respond;
        let reset = app.wait(poll_fn(|cx| respond.poll_reset(cx)));
        assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    };
    let client = app.stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let request = app.request();
    drop(client);
    reset(request);
    let mut client = app.client();
    let mut sent = client.get("/");
    client.flush();
    let request = app.request();
    sent.body.send_reset(Reason::CANCEL);
    client.flush();
    reset(request);
    // In the middle of a body.
    let post = client.to("POST", "/");
    let mut sent = client.send(post, false);
    sent.body.send_data("half".into(), false).unwrap();
    client.flush();
    let request = app.request();
    sent.body.send_reset(Reason::CANCEL);
    client.flush();
    reset(request);
}

#[test]
fn a_stream_that_the_app_resets_is_an_error_of_its_client_alone() {
    let app = App::new();
    let mut other = app
        .stage
        .client_sends("GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    let AppRequest {
        respond: other_respond,
        ..
    } = app.request();
    let mut client = app.stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    app.request().respond.send_reset(Reason::INTERNAL_ERROR);
    client.expect_refusal(502);
    let mut client = app.stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut respond = app.request().respond;
    let mut body = respond.send_response(ok(), false).unwrap();
    body.send_data("half".into(), false).unwrap();
    assert_answered(&mut client, "half");
    body.send_reset(Reason::INTERNAL_ERROR);
    assert_eq!(client.end(), End::Reset);
    finish(other_respond, "other");
    assert_answered(&mut other, "other");
}

#[test]
fn a_request_that_the_app_refuses_is_sent_again_with_its_body() {
    let app = App::new();
    let mut client = app.client();
    let post = client.to("POST", "/");
    let mut sent = client.send(post, false);
    sent.body.send_data("first ".into(), false).unwrap();
    client.flush();
    let mut refused = app.request();
    let part = app.wait(refused.request.body_mut().data());
    assert_eq!(part.expect("a part").expect("no error"), "first ");
    refused.respond.send_reset(Reason::REFUSED_STREAM);
    let again = app.request();
    sent.body.send_data("second".into(), true).unwrap();
    client.flush();
    let (body, respond) = app.body_of(again);
    assert_eq!(body, "first second");
    finish(respond, "done");
    let response = client.head_of(sent);
    assert_eq!(client.text_of(response), "done");
}

#[test]
fn a_request_behind_the_last_one_of_a_goaway_is_sent_again() {
    let app = App::new();
    app.is_raw.store(true, Ordering::SeqCst);
    let mut client = app
        .stage
        .client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let mut leaving = Wire::new(app.connection());
    assert_eq!(leaving.receive(24), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    leaving.send(frame(SETTINGS, 0, 0, b""));
    // The head of stream 1 has arrived.
    loop {
        let header = leaving.bytes(9);
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        leaving.bytes(length as usize);
        if header[3] == 1 {
            break;
        }
    }
    app.is_raw.store(false, Ordering::SeqCst);
    leaving.send(frame(GOAWAY, 0, 0, &[0; 8]));
    let (body, respond) = app.body_of(app.request());
    assert_eq!(body, "body");
    finish(respond, "done");
    assert_answered(&mut client, "done");
}

#[test]
fn a_request_whose_connection_ends_is_sent_again_only_if_that_is_safe() {
    let app = App::new();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let serve_one = || {
        let mut client = app.stage.client_sends(get);
        finish(app.request().respond, "one");
        assert_answered(&mut client, "one");
    };
    serve_one();
    let mut client = app.stage.client_sends(get);
    let request = app.request();
    let first = request.connection;
    request.cut.send(()).unwrap();
    let request = app.request();
    assert_ne!(request.connection, first);
    finish(request.respond, "again");
    assert_answered(&mut client, "again");
    let mut client = app.stage.client_sends(post);
    app.request().cut.send(()).unwrap();
    client.expect_refusal(502);
    serve_one();
}

#[test]
fn a_stream_that_outlasts_its_drain_is_cancelled() {
    let app = App::with(&[("--drain-timeout", "1s"), ("--response-timeout", "60s")]);
    let mut client = app.stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut respond = app.request().respond;
    app.stage.swap();
    client.expect_refusal(504);
    let reset = app.wait(poll_fn(|cx| respond.poll_reset(cx)));
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
}

#[test]
fn an_app_that_does_not_answer_in_time_is_cancelled() {
    let app = App::with(&[("--response-timeout", "1s")]);
    let mut client = app.stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut respond = app.request().respond;
    client.expect_refusal(504);
    let reset = app.wait(poll_fn(|cx| respond.poll_reset(cx)));
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
}

#[test]
fn an_app_that_speaks_only_http_1_is_refused_with_a_reason() {
    let stage = Stage::launching(&[("--app-protocol", "h2c"), ("--start-timeout", "5s")]);
    let mut app = stage.app();
    app.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    stage.site().await_log("over HTTP/2");
}

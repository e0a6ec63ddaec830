//! Connections that NTLM and Negotiate authenticate: each belongs to one client.

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire, field};

/// An answer that asks for the next step of a login.
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM VFlQRTI=\r\n\
                         Content-Length: 0\r\n\r\n";

fn with(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")
}

/// A client that has sent this on a new connection to the app, and got this answer.
fn first(stage: &Stage, request: &str, answer: &str) -> (Wire, Wire) {
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    app.head();
    app.send(answer);
    client.answer_head();
    (client, app)
}

/// Sends one more request, which has to arrive at this connection.
#[track_caller]
fn again(client: &mut Wire, app: &mut Wire) {
    client.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

/// Asserts that the client has a connection for itself.
#[track_caller]
fn assert_bound(stage: &Stage, mut client: Wire, mut app: Wire) {
    let mut stranger = stage.client_sends(GET);
    let mut other = stage.app();
    other.expect(GET_PASSED_ON);
    other.send(OK);
    stranger.expect_answer(OK_PASSED_ON, "ok");
    again(&mut client, &mut app);
    again(&mut stranger, &mut other);
    again(&mut client, &mut app);
    drop(client);
    app.end();
    again(&mut stranger, &mut other);
}

#[test]
fn a_request_that_authenticates_its_connection_gets_one_for_its_client() {
    const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    for authorization in [
        "Authorization: NTLM VFlQRTM=",
        "authorization: negotiate YII=",
        "Authorization: Nego2 YII=",
        "Proxy-Authorization: NTLM VFlQRTM=",
    ] {
        let stage = Stage::new();
        let (client, app) = first(&stage, &with(authorization), EMPTY);
        assert_bound(&stage, client, app);
    }
}

#[test]
fn an_answer_that_asks_for_such_a_login_binds_its_connection_to_its_client() {
    for challenge in [
        "WWW-Authenticate: NTLM",
        "www-authenticate: Negotiate",
        "WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: ntlm",
        "WWW-Authenticate: Basic realm=\"a\", Negotiate",
        "Proxy-Authenticate: Negotiate",
    ] {
        let stage = Stage::new();
        let answer =
            format!("HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n");
        let (client, app) = first(&stage, GET, &answer);
        assert_bound(&stage, client, app);
    }
}

#[test]
fn a_request_with_another_login_shares_its_connection() {
    let stage = Stage::new();
    let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"NTLM\"\r\n\
                  Content-Length: 0\r\n\r\n";
    let (_client, mut app) = first(&stage, &with("Authorization: Bearer NTLM"), answer);
    let mut stranger = stage.client();
    again(&mut stranger, &mut app);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_bound_connection_that_the_app_has_ended_is_replaced() {
    let stage = Stage::new();
    let (mut client, app) = first(&stage, &with("Authorization: NTLM VFlQRTM="), OK);
    client.expect("ok");
    drop(app);
    stage.serve_on_new_connection(&mut client);
}

#[test]
fn a_bound_connection_ends_with_its_release() {
    let stage = Stage::new();
    let (mut client, mut app) = first(&stage, &with("Authorization: NTLM VFlQRTM="), OK);
    client.expect("ok");
    stage.swap();
    assert_eq!(app.end(), End::Closed);
    stage.serve_on_new_connection(&mut client);
}

#[test]
fn a_login_goes_on_where_it_began_also_across_a_handoff() {
    let stage = Stage::new();
    let (mut client, mut app) = first(&stage, &with("Authorization: NTLM VFlQRTE="), CHALLENGE);
    stage.swap();
    client.send(with("Authorization: NTLM VFlQRTM="));
    let head = app.head();
    assert_eq!(field(&head, "authorization"), Some("NTLM VFlQRTM="));
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    // The login is complete: the connection ends with its release.
    assert_eq!(app.end(), End::Closed);
    stage.serve_on_new_connection(&mut client);
}

#[test]
fn a_login_that_nobody_goes_on_with_delays_no_drain() {
    let stage = Stage::new();
    let login = with("Authorization: NTLM VFlQRTE=");
    let (_client, mut app) = first(&stage, &login, CHALLENGE);
    stage.swap();
    assert_eq!(app.end(), End::Closed);
    assert!(!stage.site().log().contains("requests_evicted"));
}

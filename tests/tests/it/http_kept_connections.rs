//! Connections to the app that are kept, and those that are not: which request may take one, and who
//! closes it.

use std::time::Duration;

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire};
use tests::wait::sleep_for;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST_PASSED_ON: &str = "POST / HTTP/1.1\r\nhost: a\r\n\r\n";
/// [`GET`] as an app gets it whose connections are not kept.
const GET_ALONE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
/// An app ends its connection after this.
const OK_CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// An exchange on this connection to the app.
#[track_caller]
fn exchange(client: &mut Wire, app: &mut Wire, passed_on: &str, answer: &str) {
    app.expect(passed_on);
    app.send(answer);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn what_cannot_be_sent_again_takes_only_a_connection_that_was_used_just_now() {
    let stage = Stage::new();
    let (mut client, mut kept) = stage.kept();
    client.send(POST);
    exchange(&mut client, &mut kept, POST_PASSED_ON, OK);
    sleep_for(
        Duration::from_millis(1_500),
        "apps close connections after 2 s",
    );
    client.send(POST);
    let mut fresh = stage.app();
    exchange(&mut client, &mut fresh, POST_PASSED_ON, OK);
    // What can be sent again takes the older one too, while the other one is in use.
    client.send(GET);
    fresh.expect(GET_PASSED_ON);
    let mut other = stage.client_sends(GET);
    exchange(&mut other, &mut kept, GET_PASSED_ON, OK);
    fresh.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([kept, fresh]);
}

#[test]
fn without_time_to_be_idle_no_connection_is_kept() {
    let stage = Stage::with(&[("--upstream-idle-timeout", "0s")]);
    let mut client = stage.client();
    for _ in 0..2 {
        client.send(GET);
        let mut app = stage.app();
        exchange(&mut client, &mut app, GET_ALONE, OK);
        // It does not close, as it was told to.
        app.await_end_soon();
    }
    // A tunnel is asked for as ever.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n");
    let mut app = stage.app();
    let head = app.head();
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(!head.contains("close"), "{head}");
    app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\nhello");
    client.answer_head();
    client.expect("hello");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn an_app_with_one_connection_at_a_time_gets_no_second_one_while_one_is_kept() {
    const RECOGNIZED: &str = "app_serves_one_connection";
    let stage = Stage::with(&[("--upstream-idle-timeout", "1h")]);
    let (mut client, mut kept) = stage.kept();
    // Three are enough; an answer that is late on a busy machine shows nothing.
    for _ in 0..20 {
        client.send(GET);
        kept.expect(GET_PASSED_ON);
        let mut other = stage.client_sends(GET);
        let mut next = stage.app();
        kept.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
        // Such an app does not read from another connection before this one has ended.
        kept.await_end_soon();
        exchange(&mut other, &mut next, GET_PASSED_ON, OK);
        (client, kept) = (other, next);
        sleep_for(Duration::from_millis(500), "answers at once are noted soon");
        if stage.site().log().contains(RECOGNIZED) {
            break;
        }
    }
    stage.site().await_log(RECOGNIZED);
    kept.await_end_soon();
    for _ in 0..2 {
        client.send(GET);
        let mut app = stage.app();
        exchange(&mut client, &mut app, GET_ALONE, OK_CLOSE);
    }
    // The next release may be another app.
    stage.swap();
    client.send(GET);
    let mut app = stage.app();
    exchange(&mut client, &mut app, GET_PASSED_ON, OK);
}

#[test]
fn an_app_that_has_answered_beside_a_kept_connection_keeps_them_while_a_request_takes_long() {
    let stage = Stage::with(&[("--upstream-idle-timeout", "1h")]);
    let (mut one, mut first) = stage.kept();
    one.send(GET);
    first.expect(GET_PASSED_ON);
    let mut two = stage.client_sends(GET);
    let mut second = stage.app();
    exchange(&mut two, &mut second, GET_PASSED_ON, OK);
    sleep_for(Duration::from_millis(500), "it is noted soon");
    two.send(GET);
    second.expect(GET_PASSED_ON);
    let mut long = stage.client_sends(GET);
    let mut third = stage.app();
    third.expect(GET_PASSED_ON);
    for (client, app) in [(&mut one, &mut first), (&mut two, &mut second)] {
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
    }
    sleep_for(Duration::from_secs(1), "a request that takes long");
    two.send(GET);
    exchange(&mut two, &mut second, GET_PASSED_ON, OK);
    third.send(OK);
    long.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([first, second, third]);
}

/// The end that closes first keeps the port for a minute (TIME_WAIT), and handoff has few of them.
#[cfg(target_os = "linux")]
#[test]
fn an_app_that_closes_each_connection_leaves_no_port_in_use_at_handoffs_side() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..20 {
        client.send(GET);
        let mut app = stage.app();
        exchange(&mut client, &mut app, GET_PASSED_ON, OK_CLOSE);
    }
    let status = stage.site().status();
    let app = status.active.as_ref().and_then(|active| active.address);
    let app = format!(":{:04X}", app.expect("an address").port());
    tests::eventually(
        || "no connection to the app is open".to_owned(),
        || {
            sockets("01")
                .all(|(_, peer)| !peer.ends_with(&app))
                .then_some(())
        },
    );
    let waiting = sockets("06").filter(|(_, peer)| peer.ends_with(&app));
    assert_eq!(waiting.count(), 0);
}

#[cfg(unix)] // Wine shows a reset as a proper end.
#[test]
fn an_app_that_says_close_and_does_not_is_reset() {
    let stage = Stage::new();
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    exchange(&mut client, &mut app, GET_PASSED_ON, OK_CLOSE);
    assert_eq!(app.end(), tests::stage::End::Reset);
}

/// The own and the peer's address of each socket in this state, as in proc_net_tcp(5).
#[cfg(target_os = "linux")]
fn sockets(state: &str) -> impl Iterator<Item = (String, String)> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let lines: Vec<Vec<String>> = table
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    let state = state.to_owned();
    lines
        .into_iter()
        .filter(move |words| words[3] == state)
        .map(|words| (words[1].clone(), words[2].clone()))
}

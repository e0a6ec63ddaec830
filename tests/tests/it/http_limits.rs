//! Limits of size, time and number, and the answers to what exceeds them.

use std::time::{Duration, Instant};

use tests::stage::{End, GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, field};
use tests::wait::sleep_for;

/// Reason to pass time: a limit has to be seen not to apply.
const NO_LIMIT: &str = "longer than a limit that does not apply";

fn get_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_head_that_is_too_large_is_a_431() {
    let stage = Stage::with(&[("--max-header-size", "2000")]);
    let mut client = stage.client_sends(get_with(&format!("X: {}\r\n", "x".repeat(1_800))));
    let mut app = stage.app();
    app.head();
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    let mut client = stage.client_sends(get_with(&format!("X: {}\r\n", "x".repeat(2_000))));
    client.expect_refusal(431);
    assert_eq!(client.end(), End::Closed);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_head_that_never_ends_is_a_431() {
    let stage = Stage::new();
    let mut client = stage.client_sends(get_with("").trim_end());
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while sender
                .try_send("\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy")
                .is_ok()
            {}
        });
        client.expect_refusal(431);
        client.shut_down();
    });
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn too_many_fields_are_a_431() {
    let stage = Stage::new();
    let fields = |count| get_with(&"X: y\r\n".repeat(count));
    let mut client = stage.client_sends(fields(99));
    let mut app = stage.app();
    app.head();
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    client.send(fields(100));
    client.expect_refusal(431);
    assert_eq!(client.end(), End::Closed);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_target_that_is_too_long_is_a_414() {
    let stage = Stage::with(&[("--max-target", "100")]);
    let get = |length: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "x".repeat(length - 1)
        )
    };
    let mut client = stage.client_sends(get(100));
    let mut app = stage.app();
    app.head();
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    client.send(get(101));
    client.expect_refusal(414);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_head_that_comes_too_slowly_is_a_408() {
    let stage = Stage::with(&[("--header-timeout", "1s")]);
    let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let mut sender = client.sender();
    let slowly = std::thread::spawn(move || {
        while sender.try_send("x").is_ok() {
            sleep_for(Duration::from_millis(50), "a slow client");
        }
    });
    let head = client.answer_head();
    let expected = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(head, expected);
    client.shut_down();
    slowly.join().unwrap();
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_second_head_that_comes_too_slowly_is_a_408() {
    let stage = Stage::with(&[("--header-timeout", "1s")]);
    let (mut client, app) = stage.kept();
    client.send("GET / HTTP/1.1\r\n");
    client.expect_refusal(408);
    client.await_end_soon();
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_client_that_sends_nothing_is_closed_without_a_word() {
    let stage = Stage::with(&[("--header-timeout", "1s")]);
    let mut client = stage.client();
    assert_eq!(client.end(), End::Closed);
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn an_idle_client_is_closed_without_a_word() {
    let stage = Stage::with(&[("--idle-timeout", "1s")]);
    let (mut client, app) = stage.kept();
    assert_eq!(client.end(), End::Closed);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_request_that_lasts_is_neither_idle_nor_slow() {
    let stage = Stage::with(&[("--idle-timeout", "1s"), ("--header-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    sleep_for(Duration::from_secs(3), NO_LIMIT);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    client.answer_head();
    client.expect("ab");
    sleep_for(Duration::from_secs(3), NO_LIMIT);
    app.send("cd");
    client.expect("cd");
}

#[test]
fn an_upload_that_lasts_is_neither_idle_nor_slow() {
    let stage = Stage::with(&[("--idle-timeout", "1s"), ("--header-timeout", "1s")]);
    let mut client =
        stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    let mut app = stage.app();
    app.head();
    app.expect("ab");
    sleep_for(Duration::from_secs(3), NO_LIMIT);
    client.send("cd");
    app.expect("cd");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn an_app_that_does_not_answer_in_time_is_a_504() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    client.expect_refusal(504);
    app.end();
    // Its own connection is still good.
    let app = stage.serve_on_new_connection(&mut client);
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn an_app_that_has_a_whole_body_in_chunks_and_does_not_answer_is_a_504() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let mut client = stage.client_sends(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    );
    let mut app = stage.app();
    app.head();
    assert_eq!((app.chunk(), app.chunk()), ("x".to_owned(), String::new()));
    client.expect_refusal(504);
    app.end();
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn the_time_for_an_answer_begins_with_the_end_of_the_body() {
    let stage = Stage::with(&[("--response-timeout", "3s")]);
    let mut client = stage
        .client_sends("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    let mut app = stage.app();
    app.head();
    assert_eq!(app.chunk(), "x");
    sleep_for(Duration::from_secs(2), "a part of the limit");
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    sleep_for(Duration::from_secs(2), "a part of the limit");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn an_app_that_answers_only_for_the_time_being_is_a_504() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 2");
    client.expect_refusal(504);
    app.end();
}

#[test]
fn a_get_that_timed_out_on_a_kept_connection_is_not_sent_again() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let (mut client, mut app) = stage.kept();
    client.send(GET);
    app.expect(GET_PASSED_ON);
    client.expect_refusal(504);
    app.end();
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_client_that_stops_in_its_body_is_a_408() {
    let stage = Stage::with(&[("HANDOFF_CLIENT_TIMEOUT", "1s")]);
    let mut client = stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx");
    let mut app = stage.app();
    app.head();
    app.expect("x");
    client.expect_refusal(408);
    client.await_end_soon();
    app.end();
    stage.assert_nothing_more_reaches([]);
}

#[test]
fn a_long_upload_does_not_count_as_the_apps_time() {
    let stage = Stage::with(&[("--response-timeout", "2s")]);
    let mut client =
        stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut app = stage.app();
    app.head();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        client.send("1\r\nx\r\n");
        assert_eq!(app.chunk(), "x");
        sleep_for(Duration::from_millis(100), "a slow upload");
    }
    client.send("0\r\n\r\n");
    assert_eq!(app.chunk(), "");
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn the_time_for_an_answer_ends_with_its_head() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    client.answer_head();
    client.expect("o");
    sleep_for(Duration::from_secs(3), NO_LIMIT);
    app.send("k");
    client.expect("k");
}

#[test]
fn the_time_for_an_answer_ends_with_its_head_also_while_the_client_still_sends() {
    let stage = Stage::with(&[("--response-timeout", "1s")]);
    let mut client =
        stage.client_sends("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    client.answer_head();
    client.expect("o");
    client.send("1\r\nx\r\n");
    assert_eq!(app.chunk(), "x");
    sleep_for(Duration::from_secs(3), NO_LIMIT);
    client.send("1\r\ny\r\n");
    assert_eq!(app.chunk(), "y");
    app.send("k");
    client.expect("k");
}

#[test]
fn more_connections_than_allowed_wait_while_all_are_in_use() {
    let stage = Stage::with(&[("--max-connections", "2")]);
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let client = stage.client_sends(GET);
            let mut app = stage.app();
            app.expect(GET_PASSED_ON);
            (client, app)
        })
        .collect();
    let mut third = stage.client_sends(GET);
    sleep_for(Duration::from_secs(2), "nothing may come meanwhile");
    assert!(!third.has_received());
    let [(mut first, mut app), _second] = <[_; 2]>::try_from(busy).expect("two");
    app.send(OK);
    first.expect_answer(OK_PASSED_ON, "ok");
    // Now it is idle, and makes room.
    assert_eq!(first.end(), End::Closed);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    third.expect_answer(OK_PASSED_ON, "ok");
}

#[test]
fn the_connection_that_is_idle_for_longest_makes_room_for_another_one() {
    let stage = Stage::with(&[("--max-connections", "3")]);
    let (mut longest, mut app) = stage.kept();
    let mut silent = stage.client();
    sleep_for(
        Duration::from_secs(1),
        "one is idle for longer than another",
    );
    let mut idle = stage.client_sends(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    idle.expect_answer(OK_PASSED_ON, "ok");
    // The one without a byte is the first.
    let newcomers = [(); 2].map(|()| {
        let mut newcomer = stage.client_sends(GET);
        app.expect(GET_PASSED_ON);
        app.send(OK);
        newcomer.expect_answer(OK_PASSED_ON, "ok");
        newcomer
    });
    assert_eq!(longest.end(), End::Closed);
    assert_eq!(silent.end(), End::Closed);
    idle.send(GET);
    app.expect(GET_PASSED_ON);
    app.send(OK);
    idle.expect_answer(OK_PASSED_ON, "ok");
    drop(newcomers);
}

#[test]
fn refused_clients_that_stay_take_no_others_place() {
    const PLACES: usize = 8;
    let stage = Stage::with(&[("--max-connections", &PLACES.to_string())]);
    let mut refused: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
            client.expect_refusal(400);
            client
        })
        .collect();
    let since = Instant::now();
    let mut newcomer = stage.client_sends(GET);
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    // Their ends are awaited for half a minute, where there is room.
    assert!(since.elapsed() < Duration::from_secs(20));
    app.send(OK);
    newcomer.expect_answer(OK_PASSED_ON, "ok");
    assert!(refused.iter_mut().all(|client| client.end() == End::Closed));
}

#[test]
fn more_requests_than_may_be_held_are_refused_at_once() {
    let stage = Stage::starting_with(&[("--max-held", "1")]);
    let mut held = stage.client_sends(GET);
    stage
        .site()
        .wait_until("one is held", |status| status.held == 1);
    let mut refused = stage.client_sends(GET);
    assert_eq!(
        field(&refused.expect_refusal(503), "retry-after"),
        Some("1")
    );
    stage.make_ready();
    let mut app = stage.app();
    app.expect(GET_PASSED_ON);
    app.send(OK);
    held.expect_answer(OK_PASSED_ON, "ok");
    stage.assert_nothing_more_reaches([app]);
}

#[test]
fn a_request_is_not_held_for_ever() {
    let stage = Stage::starting_with(&[("--first-hold-timeout", "1s")]);
    let mut client = stage.client_sends(GET);
    assert_eq!(field(&client.expect_refusal(503), "retry-after"), Some("1"));
    stage.make_ready();
    stage.assert_nothing_more_reaches([]);
}

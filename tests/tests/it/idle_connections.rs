//! Connections on which nothing happens: they are many, and cost little.

use std::time::Duration;

use tests::stage::{GET, GET_PASSED_ON, OK, OK_PASSED_ON, Stage, Wire};
use tests::wait::sleep_for;

/// A time after which an idle connection is parked.
const PARKED: Duration = Duration::from_millis(3_500);

fn wait_until_parked() {
    sleep_for(PARKED, "a connection is parked after 2 s");
}

/// A request, and its answer by any connection of the app.
#[track_caller]
fn serve(stage: &Stage, client: &mut Wire, kept: &mut Option<Wire>) {
    let mut app = kept.take().unwrap_or_else(|| stage.app());
    app.expect(GET_PASSED_ON);
    app.send(OK);
    client.expect_answer(OK_PASSED_ON, "ok");
    *kept = Some(app);
}

#[test]
fn an_idle_connection_serves_its_next_request_however_that_arrives() {
    let stage = Stage::with(&[("--upstream-idle-timeout", "1h")]);
    let (mut client, app) = stage.kept();
    let mut kept = Some(app);
    wait_until_parked();
    client.send(GET);
    serve(&stage, &mut client, &mut kept);
    // In pieces, the first of which wakes it.
    wait_until_parked();
    for piece in GET.as_bytes().chunks(7) {
        client.send(piece);
        sleep_for(Duration::from_millis(20), "the pieces arrive one by one");
    }
    serve(&stage, &mut client, &mut kept);
    // Two at once.
    wait_until_parked();
    client.send([GET, GET].concat());
    serve(&stage, &mut client, &mut kept);
    serve(&stage, &mut client, &mut kept);
}

#[test]
fn the_start_of_a_request_that_came_with_the_one_before_is_kept() {
    let stage = Stage::with(&[("--upstream-idle-timeout", "1h")]);
    let (mut client, app) = stage.kept();
    let mut kept = Some(app);
    let (start, rest) = GET.split_at(9);
    client.send([GET, start].concat());
    serve(&stage, &mut client, &mut kept);
    wait_until_parked();
    client.send(rest);
    serve(&stage, &mut client, &mut kept);
}

#[test]
fn a_parked_connection_ends_with_its_time_and_with_handoff() {
    let stage = Stage::with(&[("--idle-timeout", "5s")]);
    let (mut client, _app) = stage.kept();
    wait_until_parked();
    assert!(!client.has_received(), "it is not time yet");
    client.await_end_soon();

    let stage = Stage::new();
    let (mut client, app) = stage.kept();
    drop(app);
    wait_until_parked();
    stage.site().ask_to_stop();
    client.await_end_soon();
}

#[test]
fn a_client_that_leaves_a_parked_connection_is_noticed() {
    let stage = Stage::new();
    let (mut client, _app) = stage.kept();
    wait_until_parked();
    client.half_close();
    client.await_end_soon();
}

//! Being asked to stop: no new work, the work at hand to its end, exit 0.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use sample_app::journal;
use tests::Connection;

use super::running::{Release, Running, await_fact, connect, get, start};

/// Sends `target` on a connection of its own and waits until the app has begun to work on it.
///
/// The target is the request's id as well: an id that two requests shared would be found for the
/// second as soon as the first has arrived.
fn in_flight(app: &Running, address: SocketAddr, target: &str) -> Connection {
    let mut connection = connect(address);
    connection.send("GET", target, &format!("X-Request-ID: {target}\r\n"));
    await_fact("the app has the request", || {
        let journal = journal::read(&app.release.beside("journal"));
        journal.is_ok_and(|entries| entries.iter().any(|entry| entry.id == target))
    });
    connection
}

fn start_with_journal() -> (Running, SocketAddr) {
    let release = Release::new("v1", &[]);
    let path = release.beside("journal");
    release.listen(&["--journal", path.to_str().expect("a path in UTF-8")])
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn requests_in_flight_are_finished_and_new_connections_refused() {
    let (mut app, address) = start_with_journal();
    let mut slow = in_flight(&app, address, "/slow?ms=2500&bytes=100000");
    let mut stream = in_flight(&app, address, "/stream?events=6&every=500");

    app.signal(Signal::TERM);
    app.stderr.wait_for("stops on SIGTERM");
    await_fact("new connections are refused", || is_refused(address));

    let answer = slow.answer().unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        stream.answer().unwrap().text().matches("from v1").count(),
        6
    );
    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn idle_connections_are_closed() {
    let (mut app, address) = start(&[]);
    let mut fresh = connect(address);
    let mut used = connect(address);
    used.send("GET", "/", "");
    used.answer().unwrap();

    app.signal(Signal::TERM);

    assert_eq!(app.await_exit().code(), Some(0));
    assert_eq!(used.read_to_end().unwrap(), b"");
    // The app may have stopped before it accepted this one, which is a reset.
    assert_eq!(fresh.read_to_end().unwrap_or_default(), b"");
}

#[test]
fn ctrl_c_does_the_same() {
    let (mut app, address) = start(&[]);
    assert_eq!(get(address, "/health").status, 200);

    app.signal(Signal::INT);

    app.stderr.wait_for("stops on SIGINT");
    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn a_second_signal_changes_nothing() {
    let (mut app, address) = start_with_journal();
    let mut slow = in_flight(&app, address, "/slow?ms=700");

    app.signal(Signal::TERM);
    app.stderr.wait_for("stops on SIGTERM");
    app.signal(Signal::TERM);
    app.signal(Signal::INT);

    assert_eq!(slow.answer().unwrap().status, 200);
    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn an_app_that_never_listens_stops_as_well() {
    let mut app = Release::new("v1", &["--never-bind"]).spawn(&[]);
    app.stdout.wait_for("never listens");

    app.signal(Signal::TERM);

    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn an_app_that_never_gets_ready_stops_as_well() {
    let (mut app, _) = start(&["--never-ready"]);

    app.signal(Signal::TERM);

    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn a_request_to_its_stop_path_does_the_same() {
    let (mut app, address) = start(&["--stop-path", "/admin/stop"]);
    let mut connection = connect(address);
    connection.send("POST", "/admin/stop", "Content-Length: 0\r\n");
    assert_eq!(connection.answer().unwrap().status, 202);
    app.stderr.wait_for("stops on a request");
    assert_eq!(app.await_exit().code(), Some(0));
}

#[test]
fn the_end_of_standard_input_does_the_same_if_it_was_told_so() {
    // Its standard input is empty.
    let mut app = Release::new("v1", &["--never-bind"]).spawn(&["--stop-at-stdin-end"]);
    app.stderr.wait_for("stops on the end of standard input");
    assert_eq!(app.await_exit().code(), Some(0));
}

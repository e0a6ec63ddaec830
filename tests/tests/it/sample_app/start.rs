//! The sources of the app's port and flags.

use std::net::TcpListener;

use super::running::{Release, get};

#[test]
fn the_overlay_gives_version_and_flags() {
    let (_app, address) = Release::new("v3", &["--never-ready"]).listen(&[]);

    assert_eq!(get(address, "/version").text(), "v3");
    assert_eq!(get(address, "/health").status, 503);
}

#[test]
fn the_command_line_wins_over_the_overlay() {
    let overlay = ["-port", "1", "--ready-after", "1h"];
    let app = Release::new("v3", &overlay).spawn(&["-port=0", "--ready-after", "0s"]);

    assert_eq!(get(app.address(), "/health").status, 200);
}

#[test]
fn the_port_may_come_from_the_environment() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();

    let app = Release::new("v1", &[])
        .env("PORT", &address.port().to_string())
        .spawn(&[]);

    app.stderr.wait_for(&format!("cannot listen on {address}"));
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let (_app, address) = Release::new("v1", &[]).env("PORT", "1").listen(&[]);

    assert_eq!(get(address, "/health").status, 200);
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();

    let mut app = Release::new("v1", &[]).spawn(&["--port", &address.port().to_string()]);

    app.stderr.wait_for(&format!("cannot listen on {address}"));
    assert_eq!(app.await_exit().code(), Some(1));
}

#[test]
fn a_flag_that_does_not_exist_is_an_error_that_names_it() {
    let mut app = Release::new("v1", &["--be-nice"]).spawn(&["--port", "0"]);

    app.stderr.wait_for("--be-nice");
    assert_eq!(app.await_exit().code(), Some(2));
}

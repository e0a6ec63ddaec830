//! Apps that cannot run twice.
#![cfg(unix)]

use tests::{Running, Site, Status, app, command, program};

/// Fails unless it is the only one.
const ALONE: &str = r#"
    exec 9> "$2/lock"
    flock -n 9 || { echo "another one runs" >&2; exit 9; }
    exec "$0" -port "$1""#;
const COMMAND: [&str; 6] = ["sh", "-c", ALONE, "{artifact}", "{port}", "{shared}"];

fn alone() -> Site {
    Site::watching_a_pointer()
        .with("--overlap", "no")
        .running(&COMMAND)
}

fn never_ran_twice(site: &Running) {
    assert!(!site.log().contains("another one runs"), "{}", site.log());
}

#[test]
fn requests_wait_while_the_old_one_ends_and_the_new_one_starts() {
    let site = alone().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.wait_until("v1 makes room", |status| status.is_draining("v1"));
    let mut held = site.begin("/version");
    site.wait_until("one is held", |status| status.held == 1);
    assert!(site.status().candidate.is_none(), "v1 still runs");

    assert_eq!(upload.finish().unwrap().release(), "v1");

    let answer = held.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "v2"));
    site.await_launches(2);
    never_ran_twice(&site);
}

#[test]
fn when_the_new_one_fails_the_old_one_starts_again() {
    let site = alone().start("v1");
    site.deploy(app("v2").that("--exit-code=3"));
    let status = site.wait_until("v1 is back", |status: &Status| {
        status.refusal("v2").is_some() && status.is_active("v1")
    });
    assert_eq!(status.generation(), Some(3));
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert!(reason.contains("exit status: 3"), "{reason}");
    site.await_version("v1");
    site.deploy("v3");
    site.await_version("v3");
    never_ran_twice(&site);
}

#[test]
fn one_that_is_not_wanted_any_more_before_the_old_one_has_ended_is_not_started() {
    let site = alone().start("v1");
    let upload = site.begin_upload("/upload");
    let v1 = site.upload("v1");
    site.deploy("v2");
    site.wait_until("v1 makes room", |status| status.is_draining("v1"));
    site.point(v1.display().to_string());
    let status = site.wait_until("v1 serves on", |status| status.is_active("v1"));
    assert_eq!(status.generation(), Some(1));
    assert_eq!(upload.finish().unwrap().release(), "v1");
    site.await_version("v1");
    site.await_launches(1);
    never_ran_twice(&site);
}

#[test]
fn a_restart_and_a_rollback_make_room_too() {
    let site = alone().start("v1");
    site.ask(r#"{"serial":1,"restart":1}"#);
    site.wait_until("a new instance serves", |status| {
        status.is_active("v1") && status.generation() == Some(2)
    });
    site.deploy("v2");
    site.await_version("v2");
    site.ask(r#"{"serial":2,"restart":1,"rollback":{"to":null,"serial":1}}"#);
    site.await_version("v1");
    site.await_launches(4);
    never_ran_twice(&site);
}

#[test]
fn a_rollback_during_a_deploy_goes_to_what_made_room_for_it() {
    let site = alone().start("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.await_launches(2);
    site.deploy(app("v3").that("--ready-after=10m"));
    site.wait_until("v3 starts", |status| status.is_candidate("v3"));

    let mut rollback = program::handoff();
    rollback.arg("rollback").args(site.deployment().place());
    command::start(rollback)
        .end()
        .with(0)
        .saying(&["v2-", "serves again"]);

    site.await_version("v2");
    let status = site.status();
    assert!(status.refusal("v3").is_some(), "{status:#?}");
    assert!(status.refusal("v2").is_none(), "{status:#?}");
    never_ran_twice(&site);
}

//! The process that answers on an app's port has to be the app.
#![cfg(unix)]

use rustix::process::Signal;
use tests::processes::signal;
use tests::{Running, Site, app};

/// A program whose listener is not in the tree of what was started.
const ANOTHER: &str = r#"
    setsid "$0" -port "$1" > /dev/null 2>&1 &
    echo $! > "$2/pid"
    while :; do sleep 1; done"#;
const COMMAND: [&str; 6] = ["sh", "-c", ANOTHER, "{artifact}", "{port}", "{shared}"];

fn end_the_other(site: &Running) {
    let pid = std::fs::read_to_string(site.shared().join("pid")).expect("the other program");
    signal(pid.trim().parse().expect("a process"), Signal::KILL);
}

#[test]
fn another_program_on_its_port_is_warned_about() {
    let site = Site::watching_a_pointer().running(&COMMAND).start("v1");
    let status = site.await_active("v1");
    let warning = status.active.clone().expect("an active one").warning;
    end_the_other(&site);
    let warning = warning.expect("a warning");
    assert!(warning.contains("which it has not started"), "{warning}");
}

#[test]
fn where_that_is_required_it_is_not_ready() {
    let site = Site::watching_a_pointer()
        .running(&COMMAND)
        .with("--health-identity", "require")
        .with("--start-timeout", "2s");
    let site = site.launch("v1");
    let status = site.wait_until("it has failed", |status| status.last_failure.is_some());
    end_the_other(&site);
    let failure = status.last_failure.clone().expect("a failure");
    assert!(
        failure.reason.contains("which it has not started"),
        "{failure:#?}"
    );
    assert!(status.active.is_none());
}

#[test]
fn where_nobody_asks_nothing_is_said() {
    let site = Site::watching_a_pointer()
        .running(&COMMAND)
        .with("--health-identity", "off");
    let site = site.start("v1");
    let status = site.await_active("v1");
    end_the_other(&site);
    assert_eq!(status.active.clone().expect("an active one").warning, None);
}

#[test]
fn a_listener_that_others_may_reach_is_noted_and_not_warned_about() {
    let site = Site::watching_a_pointer().with("--health-identity", "require");
    let site = site.start(app("v1").that("--host=0.0.0.0"));
    let active = || site.status().active.clone().expect("an active one");
    site.await_active("v1");
    let note = active().note.expect("a note");
    assert!(note.contains("0.0.0.0"), "{note}");
    assert_eq!(active().warning, None);
    assert!(!site.log().contains("WARN"), "{}", site.log());
    site.deploy("v2");
    site.await_active("v2");
    assert_eq!((active().warning, active().note), (None, None));
}

#[test]
fn a_further_port_is_told_by_argument_and_by_environment() {
    let script = r#"echo "$2 $PORT_ADMIN" > "$3/seen"; exec "$0" -port "$1""#;
    let command = [
        "sh",
        "-c",
        script,
        "{artifact}",
        "{port}",
        "{port:admin}",
        "{shared}",
    ];
    let site = Site::watching_a_pointer()
        .running(&command)
        .with("--port-name", "admin")
        .start("v1");
    let seen = std::fs::read_to_string(site.shared().join("seen")).expect("what it was told");
    let (argument, variable) = seen.trim().split_once(' ').expect("two");
    assert_eq!(argument, variable);
    assert!(argument.parse::<u16>().is_ok_and(|port| port > 0), "{seen}");
}

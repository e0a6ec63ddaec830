//! Processes that escape their instance end with it; those that a killed handoff leaves, with the
//! next.
#![cfg(unix)] // Windows' part is in windows.rs: only a refused job leaves anything there.

use std::fs;

use tests::processes::is_alive;
use tests::{Running, Site, eventually};

/// Serves, and has a daemon that left its group, its session and its parent, and says its number.
const DAEMON: &str = r#"
(setsid sh -c 'echo $$ > "$1/daemon.new"; mv "$1/daemon.new" "$1/daemon"; exec sleep 600' sh "$1" &)
exec "$0" -port "$2"
"#;

fn with_a_daemon() -> Site {
    let command = ["sh", "-c", DAEMON, "{artifact}", "{shared}", "{port}"];
    Site::watching_a_pointer().running(&command)
}

fn daemon(site: &Running) -> u32 {
    let file = site.shared().join("daemon");
    let said = eventually(
        || "the daemon runs".to_owned(),
        || fs::read_to_string(&file).ok(),
    );
    fs::remove_file(file).expect("the daemon's number");
    said.trim().parse().expect("a number")
}

#[track_caller]
fn await_end(daemon: u32) {
    eventually(
        || format!("the daemon {daemon} ends"),
        || (!is_alive(daemon)).then_some(()),
    );
}

#[test]
fn a_daemon_ends_with_the_next_handoff_when_its_own_was_killed() {
    let mut site = with_a_daemon().start("v1");
    let orphan = daemon(&site);
    site.kill();
    assert!(is_alive(orphan), "nothing else ends it");
    site.start_again();
    await_end(orphan);
    site.await_log("a dead sidecar left behind");
    site.await_version("v1");
    assert!(is_alive(daemon(&site)));
}

#[test]
fn a_daemon_ends_with_its_superseded_release() {
    let site = with_a_daemon().start("v1");
    let first = daemon(&site);
    site.deploy("v2");
    site.await_version("v2");
    site.wait_until("v1 is stopped", |status| status.is_at_rest());
    await_end(first);
    assert!(is_alive(daemon(&site)));
}

#[test]
fn a_siblings_daemon_is_left_alone() {
    let site = with_a_daemon().start("v1");
    let first = daemon(&site);
    let cache = site.cache();
    let sibling = with_a_daemon().with("--cache", cache.to_str().expect("a path"));
    let sibling = sibling.start("v1");
    sibling.await_version("v1");
    assert!(is_alive(first));
}

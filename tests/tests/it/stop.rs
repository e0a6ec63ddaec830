//! The ways to ask an app to stop (`--stop`).

use tests::program::handoff;
use tests::{Release, Running, Site, Status, app};

/// A deployment that asks so, and would wait for ever.
fn asking(way: &str) -> Site {
    Site::watching_a_pointer()
        .with("--stop", way)
        .with("--stop-timeout", "1h")
        // What does not listen to this way is not waited for at the end.
        .with("--shutdown-timeout", "2s")
}

/// Supersedes `v1` and waits until it is gone.
#[track_caller]
fn supersede(site: &Running) -> Status {
    site.deploy("v2");
    site.await_version("v2");
    let status = site.wait_until("v1 is gone", |status| {
        let v2 = status.handoff("v2");
        status.is_at_rest() && v2.is_some_and(|v2| v2.stopped_ms.is_some())
    });
    let failure = &status.last_failure;
    assert!(failure.is_none(), "a stop is no crash: {failure:#?}");
    status
}

#[track_caller]
fn stops_by(way: &str, release: impl Into<Release>, on: &str) {
    let site = asking(way).start(release);
    supersede(&site);
    site.await_log(&format!("sample-app stops on {on}"));
    assert!(!site.log().contains("killed"), "{}", site.log());
}

#[cfg(unix)]
#[test]
fn term_is_sigterm() {
    stops_by("term", "v1", "SIGTERM");
}

#[cfg(unix)]
#[test]
fn ctrl_c_is_sigint() {
    stops_by("ctrl-c", "v1", "SIGINT");
}

#[cfg(windows)]
#[test]
fn ctrl_c_reaches_the_app_and_not_handoff() {
    stops_by("ctrl-c", "v1", "Ctrl-C");
}

#[test]
fn a_request_goes_to_the_instance_itself() {
    let release = app("v1").that("--stop-path=/admin/stop");
    stops_by("http:POST:/admin/stop", release, "a request");
}

#[test]
fn standard_input_ends() {
    let release = app("v1").that("--stop-at-stdin-end");
    stops_by("stdin", release, "the end of standard input");
}

#[test]
fn standard_input_is_empty_where_its_end_is_not_the_way_to_stop() {
    let site = asking("kill").with("--rapid-fails", "1000");
    let site = site.launch(app("v1").that("--stop-at-stdin-end").that("--never-ready"));
    site.await_log("sample-app stops on the end of standard input");
}

#[test]
fn a_kill_asks_nobody() {
    let site = asking("kill").start("v1");
    supersede(&site);
    assert!(
        !site.log().contains("sample-app stops on"),
        "{}",
        site.log()
    );
}

#[test]
fn an_app_that_says_no_is_killed_at_once_and_the_log_says_why() {
    let site = asking("http:POST:/nothing/here").start("v1");
    supersede(&site);
    site.await_log("POST /nothing/here answered 40");
    site.await_log("cannot be asked to stop (--stop), so it is killed");
}

#[test]
fn an_app_that_does_not_care_is_killed_after_the_stop_timeout() {
    for (way, told) in [
        ("stdin", "--stop-at-stdin-end"),
        ("http:POST:/stop", "--stop-path=/stop"),
    ] {
        let site = asking(way).with("--stop-timeout", "500ms");
        let site = site.start(app("v1").that(told).that("--ignore-stop"));
        let status = supersede(&site);
        site.await_log("sample-app ignores");
        let v2 = status.handoff("v2").unwrap();
        let took = v2.stopped_ms.unwrap().0 - v2.drained_ms.unwrap().0;
        assert!(took >= 500, "{way}: killed after {took} ms");
    }
}

#[cfg(unix)]
#[test]
fn a_shutdown_asks_in_the_same_way_and_what_is_left_behind_is_asked_next() {
    let release = app("v1").that("--stop-path=/stop").that("--leak-child");
    let site = asking("http:POST:/stop").start(release);
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
    site.await_log("sample-app stops on a request");
    site.await_log("sample-app stops on SIGTERM");
    site.await_no_processes();
}

#[test]
fn what_is_no_way_to_stop_here_is_refused_with_what_is() {
    let said = |way: &str| {
        let run = handoff()
            .args(["run", "--artifact", "x", "--stop", way])
            .output();
        let run = run.expect("handoff can be started");
        assert_eq!(run.status.code(), Some(2), "{way}");
        String::from_utf8_lossy(&run.stderr).into_owned()
    };
    let (elsewhere, instead) = if cfg!(windows) {
        ("term", "Windows has no SIGTERM: use ctrl-break")
    } else {
        ("ctrl-break", "Windows only: use term (SIGTERM)")
    };
    let error = said(elsewhere);
    assert!(
        error.contains("--stop") && error.contains(instead),
        "{error}"
    );
    let error = said("http:shutdown");
    assert!(error.contains("such as http:POST:/shutdown"), "{error}");
}

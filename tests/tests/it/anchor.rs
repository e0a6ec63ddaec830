//! `--anchor on`: the port and the app survive a crash of handoff.
#![cfg(unix)] // There is no anchor on Windows yet.

use std::net::TcpListener;

use handoff::deployment::status::AnchoredStatus;
use rustix::process::Signal;
use tests::load::Load;
use tests::processes::{is_alive, is_reaped, signal};
use tests::{Connection, Running, Site, Status, app, eventually, file};

fn anchored() -> Site {
    Site::watching_a_pointer().with("--anchor", "on")
}

/// Returns the process id of the active instance's app.
fn app_pid(status: &Status) -> u32 {
    let active = status.active.as_ref().expect("an active one");
    active.pid.expect("its process")
}

fn anchored_status(status: &Status) -> AnchoredStatus {
    status.anchored.clone().expect("an anchor")
}

fn proxy_pid(site: &Running) -> u32 {
    anchored_status(&site.status()).pid
}

fn has_crashed(status: &Status, times: u32) -> bool {
    let anchored = status.anchored.as_ref();
    anchored.is_some_and(|anchored| anchored.crashes == times)
}

/// Kills the process that does the work, and waits until the next one shows an active instance.
#[track_caller]
fn crash(site: &Running) -> Status {
    let crashes = anchored_status(&site.status()).crashes + 1;
    signal(proxy_pid(site), Signal::KILL);
    site.wait_until("the next process serves", |status| {
        has_crashed(status, crashes) && status.active.is_some()
    })
}

#[test]
fn a_killed_proxy_process_leaves_the_port_and_the_app() {
    let site = anchored().start("v1");
    let before = site.status();
    assert_eq!(before.pid, site.pid(), "the process that was started");
    let mut idle = site.connect();
    assert_eq!(idle.get("/version").unwrap().text(), "v1");
    let mut in_flight = site.begin("/slow?ms=600000");
    site.wait_until("it is in flight", |status| status.in_flight() == 1);

    let after = crash(&site);

    assert!(in_flight.answer().is_err(), "it is lost");
    let app = app_pid(&before);
    assert_eq!(app_pid(&after), app, "the app runs on");
    assert_eq!((&after.sidecar, after.pid), (&before.sidecar, before.pid));
    let active = after.active.as_ref().unwrap();
    assert_eq!(active.generation.0, 1);
    assert_eq!(active.since_ms, before.active.as_ref().unwrap().since_ms);
    let end = anchored_status(&after).last_crash.unwrap();
    assert!(end.contains("9"), "{end}");
    site.await_log("proxy_restarted");
    site.await_log("instance_adopted");
    assert_eq!(site.get("/version").text(), "v1");
    assert_eq!(after.handoffs.len(), 1, "it is no new launch");
    site.deploy("v2");
    site.await_version("v2");
    let deployed = site.await_active("v2");
    assert_eq!(deployed.active.as_ref().unwrap().generation.0, 2);
    eventually(
        || "v1 has ended".to_owned(),
        || is_reaped(app).then_some(()),
    );
}

#[test]
fn nobody_is_refused_while_proxy_processes_crash() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let load = Load::offer(site.address(), 200);
    for _ in 0..4 {
        let after = crash(&site);
        assert_eq!(app_pid(&after), app);
        // Behind all that have waited.
        assert_eq!(site.get("/version").text(), "v1");
    }
    let tally = load.end();
    // What was in flight is lost: its connection ends.
    let is_lost = |kind: &String| kind.starts_with("reset") || kind.starts_with("truncated");
    assert!(tally.failed.keys().all(is_lost), "{tally}");
    let load = Load::offer(site.address(), 200);
    site.deploy("v2");
    site.await_active("v2");
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn a_killed_anchor_takes_everything_with_it() {
    let site = anchored().start("v1");
    let status = site.status();
    let (proxy, app) = (proxy_pid(&site), app_pid(&status));
    signal(site.pid(), Signal::KILL);
    site.await_exit();
    eventually(
        || "both have ended".to_owned(),
        || (!is_alive(proxy) && !is_alive(app)).then_some(()),
    );
    eventually(
        || "the port is free".to_owned(),
        || TcpListener::bind(status.listen).ok(),
    );
}

#[test]
fn after_too_many_crashes_all_ends() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    for _ in 0..5 {
        crash(&site);
    }
    signal(proxy_pid(&site), Signal::KILL);
    assert_eq!(site.await_exit().code(), Some(1));
    eventually(
        || "the app has ended".to_owned(),
        || (!is_alive(app)).then_some(()),
    );
    site.await_log("has crashed 6 times within 60 seconds");
}

#[test]
fn a_release_that_was_starting_starts_anew() {
    let site = anchored().start("v1");
    site.deploy(app("v2").that("--ready-after=3s"));
    let starting = site.wait_until("v2 starts", |status| {
        let candidate = status.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    let first = starting.candidate.clone().unwrap();
    let after = crash(&site);
    assert!(after.is_active("v1"), "{after:#?}");
    let after = site.await_active("v2");
    assert!(after.active.as_ref().unwrap().generation > first.generation);
    assert!(is_reaped(first.pid.unwrap()), "the first one has ended");
    site.await_version("v2");
}

#[test]
fn an_app_that_cannot_run_twice_does_not() {
    let site = anchored().with("--overlap", "no");
    let site = site.launch(app("v1").that("--ready-after=2s"));
    let starting = site.wait_until("it starts", |status| status.candidate.is_some());
    let first = starting.candidate.as_ref().unwrap().pid.unwrap();
    signal(proxy_pid(&site), Signal::KILL);
    let again = site.wait_until("it starts again", |status| {
        let candidate = status.candidate.as_ref();
        has_crashed(status, 1) && candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    assert!(is_reaped(first));
    assert!(again.candidate.as_ref().unwrap().generation.0 > 1);
    site.await_version("v1");
}

#[test]
fn an_app_that_ends_meanwhile_is_launched_again() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    signal(proxy_pid(&site), Signal::STOP);
    signal(app, Signal::KILL);
    signal(proxy_pid(&site), Signal::KILL);
    site.wait_until("another app serves", |status| {
        let active = status.active.as_ref();
        active.is_some_and(|active| active.pid.is_some_and(|pid| pid != app))
    });
    site.await_version("v1");
    assert!(is_reaped(app));
}

#[test]
fn a_pause_outlives_a_crash() {
    let site = anchored().start("v1");
    site.deployment()
        .run_command("pause", &["--max", "10m"])
        .with(0);
    crash(&site);
    let mut held = site.begin("/version");
    site.wait_until("it is held", |status| status.held == 1);
    site.deployment().run_command("resume", &[]).with(0);
    assert_eq!(held.answer().unwrap().text(), "v1");
}

#[test]
fn signals_to_the_anchor_reach_the_process_that_does_the_work() {
    let site = anchored().start("v1");
    signal(site.pid(), Signal::HUP);
    site.await_log("reload_requested");
    let mut in_flight = site.begin("/slow?ms=5000");
    site.wait_until("it is in flight", |status| status.in_flight() == 1);
    site.ask_to_stop();
    assert_eq!(in_flight.answer().unwrap().status, 200);
    assert!(site.await_exit().success());
    assert!(
        Connection::open(site.address()).is_err(),
        "the port is closed"
    );
}

#[test]
fn an_adopted_app_is_asked_to_stop_as_any_other() {
    let site = anchored()
        .with("--stop", "stdin")
        .start(app("v1").that("--stop-at-stdin-end"));
    crash(&site);
    site.ask_to_stop();
    assert!(site.await_exit().success());
    site.await_log("exit status: 0");
}

#[test]
fn what_is_wrong_at_the_start_ends_the_anchor_too() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let common = ["run", "--anchor", "on", "--artifact", "/none/app"];
    let bad = [&common[..], &["--poll", "0s"]].concat();
    let ended = tests::command::run(&bad);
    ended.with(2).saying(&["--poll"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (state, cache) = (path("state"), path("cache"));
    let places = ["--listen", &listen, "--state", &state, "--cache", &cache];
    let ended = tests::command::run(&[&common[..], &places].concat());
    ended.with(1).saying(&["cannot listen on"]);
}

#[test]
fn the_app_inherits_nothing_of_the_anchor() {
    let script = "#!/bin/sh\nls -l /proc/$$/fd\nenv\nexit 3\n";
    let site = anchored().launch(file("fds", script.as_bytes()));
    site.await_log("PORT=");
    site.wait_until("it has ended", |status| status.last_failure.is_some());
    let log = site.log();
    assert!(log.contains("0 -> "), "{log}");
    assert!(!log.contains("-> socket:"), "{log}");
    assert!(!log.contains("HANDOFF_ANCHOR"), "{log}");
}

#[test]
fn a_program_that_cannot_be_started_is_reported_as_without_an_anchor() {
    let site = anchored().launch(file("app", b"no program"));
    let status = site.wait_until("it fails", |status| status.last_failure.is_some());
    let reason = &status.last_failure.as_ref().unwrap().reason;
    assert!(reason.contains("cannot start"), "{reason}");
}

#[test]
fn the_event_hook_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let hook = format!("tee -a {}", events.display());
    let site = anchored().with("--on-event", &hook).start("v1");
    let reported = || std::fs::read_to_string(&events).unwrap_or_default();
    eventually(
        || "v1 is reported".to_owned(),
        || reported().contains("v1-").then_some(()),
    );
    crash(&site);
    site.deploy("v2");
    eventually(
        || format!("v2 is reported: {}", reported()),
        || reported().contains(r#""release":"v2-"#).then_some(()),
    );
    let promoted = reported();
    let promoted = promoted.matches(r#""event":"promoted""#).count();
    assert_eq!(promoted, 2, "{}", reported());
}

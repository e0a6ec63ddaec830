//! `handoff upgrade`: handoff replaces itself, and the app and all connections go on.
#![cfg(unix)] // There is no anchor on Windows yet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use handoff::deployment::status::AnchoredStatus;
use rustix::process::Signal;
use tests::load::Load;
use tests::processes::{is_alive, signal};
use tests::websocket::WebSocket;
use tests::{Running, Site, Status, app, binaries, command, eventually, tools};

pub(crate) fn anchored() -> Site {
    Site::watching_a_pointer().with("--anchor", "on")
}

pub(crate) fn anchored_status(site: &Running) -> AnchoredStatus {
    site.status().anchored.clone().expect("an anchor")
}

/// Returns the process id of the active instance's app.
pub(crate) fn app_pid(status: &Status) -> u32 {
    let active = status.active.as_ref().expect("an active one");
    active.pid.expect("its process")
}

/// Upgrades to the program that runs already, and returns the status after that.
#[track_caller]
pub(crate) fn upgrade(site: &Running) -> Status {
    let before = anchored_status(site);
    site.deployment().run_command("upgrade", &[]).with(0);
    let status = site.status();
    let after = status.anchored.as_ref().expect("an anchor");
    assert_eq!(after.upgrades, before.upgrades + 1);
    assert_ne!(after.pid, before.pid);
    status
}

/// Returns a program that the shell runs, in place of another version of handoff.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("handoff.sh");
    {
        let _alone = binaries::write_or_spawn();
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its rights");
    }
    path
}

/// Returns the text of a script that tells the anchor that it has read its configuration.
fn hello(protocol: u32) -> String {
    let json = format!(r#"{{"Hello":{{"protocol":{protocol},"version":"9.9.9"}}}}"#);
    let length = json.len();
    format!("printf '\\x{length:02x}\\0\\0\\0%s' '{json}' >&$HANDOFF_ANCHOR_LINK")
}

/// Upgrades to a script, which is refused with this reason, and nothing else happens.
#[track_caller]
fn assert_refused(text: &str, reason: &str) {
    if !tools::has("bash") {
        return tools::skip("bash");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = script(folder.path(), text);
    let site = anchored().start("v1");
    let before = site.status();
    let load = Load::offer(site.address(), 100);
    let program = program.to_str().expect("a path in UTF-8");
    let ended = site.deployment().run_command("upgrade", &[program]);
    ended.with(1).saying(&[reason]);
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
    let after = site.status();
    let anchored = anchored_status(&site);
    assert_eq!((anchored.upgrades, anchored.crashes), (0, 0));
    assert_eq!(
        Some(anchored.pid),
        before.anchored.as_ref().map(|it| it.pid)
    );
    assert_eq!(app_pid(&after), app_pid(&before));
    site.deploy("v2");
    site.await_version("v2");
    site.await_active("v2");
    upgrade(&site);
}

#[test]
fn handoff_is_replaced_while_the_app_and_all_connections_go_on() {
    let site = anchored().start("v1");
    let before = site.status();
    let mut idle = site.connect();
    assert_eq!(idle.get("/version").unwrap().text(), "v1");
    let (mut socket, _) = WebSocket::open(site.connect());
    let upload = site.begin_upload("/upload");
    let mut slow = site.begin("/slow?ms=10000");
    let mut stream = site.begin("/stream?events=100&every=100");
    assert_eq!(stream.head().unwrap().status, 200);
    site.wait_until("all are in flight", |status| status.in_flight() == 4);

    let after = upgrade(&site);

    assert_eq!(app_pid(&after), app_pid(&before), "the app goes on");
    assert_eq!((&after.sidecar, after.pid), (&before.sidecar, before.pid));
    let active = (
        before.active.as_ref().unwrap(),
        after.active.as_ref().unwrap(),
    );
    assert_eq!(active.0.generation, active.1.generation);
    assert_eq!(active.0.since_ms, active.1.since_ms);
    site.await_log("handoff_upgraded");
    assert_eq!(site.get("/version").text(), "v1");
    assert_eq!(socket.echo("still here").unwrap(), "still here");
    let last = idle.get("/version").unwrap();
    assert_eq!(last.text(), "v1");
    assert_eq!(last.header("connection"), Some("close"));
    assert!(upload.finish().unwrap().text().contains('8'));
    while stream.chunk().unwrap().is_some() {}
    assert_eq!(slow.answer().unwrap().status, 200);
    let old = before.anchored.as_ref().unwrap().pid;
    assert!(is_alive(old), "it has the WebSocket");
    drop(socket);
    eventually(
        || "the process before has ended".to_owned(),
        || (!is_alive(old)).then_some(()),
    );
    site.await_log("leaving_ended");
    site.deploy("v2");
    site.await_version("v2");
    site.await_active("v2");
}

#[test]
fn nobody_is_lost_over_several_upgrades() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let load = Load::offer(site.address(), 200);
    for _ in 0..5 {
        let after = upgrade(&site);
        assert_eq!(app_pid(&after), app);
        let upload = site.begin_upload("/upload");
        let (mut socket, _) = WebSocket::open(site.connect());
        let last = upgrade(&site);
        assert_eq!(app_pid(&last), app);
        assert!(upload.finish().is_ok());
        assert_eq!(socket.echo("still here").unwrap(), "still here");
    }
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert_eq!(tally.answered.len(), 1, "{tally}");
    assert_eq!(anchored_status(&site).crashes, 0);
}

#[test]
fn a_release_outlives_its_handoff_as_long_as_the_process_before_serves() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let upload = site.begin_upload("/upload");
    upgrade(&site);
    site.deploy("v2");
    site.await_version("v2");
    site.wait_until("v1 drains", |status| status.is_draining("v1"));
    assert_eq!(upload.finish().unwrap().release(), "v1");
    eventually(
        || "v1 has ended".to_owned(),
        || (!is_alive(app)).then_some(()),
    );
}

#[test]
fn a_shutdown_ends_what_the_process_before_serves_too() {
    let site = anchored().start("v1");
    let old = anchored_status(&site).pid;
    let mut slow = site.begin("/slow?ms=4000");
    site.wait_until("it is in flight", |status| status.in_flight() == 1);
    upgrade(&site);
    site.ask_to_stop();
    assert_eq!(slow.answer().unwrap().status, 200);
    assert!(site.await_exit().success());
    assert!(!is_alive(old));
}

#[test]
fn after_an_upgrade_a_crash_is_survived_by_the_program_that_served() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("handoff");
    {
        let _alone = binaries::write_or_spawn();
        fs::copy(binaries::handoff(), &program).unwrap();
    }
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let options = [program.to_str().unwrap()];
    site.deployment().run_command("upgrade", &options).with(0);
    fs::remove_file(&program).unwrap();
    let proxy = anchored_status(&site).pid;
    let runs = fs::read_link(format!("/proc/{proxy}/exe")).unwrap();
    assert!(runs.starts_with(folder.path()), "{runs:?}");
    signal(proxy, Signal::KILL);
    let after = site.wait_until("the next one serves", |status| {
        let anchored = status.anchored.as_ref();
        anchored.is_some_and(|it| it.crashes == 1) && status.active.is_some()
    });
    assert_eq!(app_pid(&after), app);
    let again = fs::read_link(format!("/proc/{}/exe", anchored_status(&site).pid)).unwrap();
    assert!(again.starts_with(folder.path()), "{again:?}");
    assert_eq!(site.get("/version").text(), "v1");
}

#[test]
fn the_admin_port_goes_on() {
    let site = anchored().with("--admin", "127.0.0.1:0").start("v1");
    let admin = site.admin();
    let after = upgrade(&site);
    assert_eq!(after.admin, Some(admin));
    assert_eq!(site.look("/readyz").status, 200);
}

#[test]
fn an_upgrade_waits_for_the_end_of_a_deploy() {
    let site = anchored().start("v1");
    site.deploy(app("v2").that("--ready-after=3s"));
    site.wait_until("v2 starts", |status| status.candidate.is_some());
    let after = upgrade(&site);
    assert!(after.is_active("v2"), "{after:#?}");
    site.deploy(app("v3").that("--ready-after=1h"));
    site.wait_until("v3 starts", |status| status.candidate.is_some());
    let ended = site
        .deployment()
        .run_command("upgrade", &["--timeout", "1s"]);
    ended
        .with(1)
        .saying(&["the time to wait is over", "is starting"]);
}

#[test]
fn a_program_that_fails_is_refused() {
    assert_refused("exit 3", "exit status: 3");
}

#[test]
fn a_version_that_does_not_understand_an_option_is_refused() {
    let handoff = binaries::handoff().display();
    let script = format!("exec {handoff} \"$@\" --of-yesterday");
    assert_refused(&script, "exit status: 2");
}

#[test]
fn a_version_that_finds_its_configuration_wrong_says_why() {
    let handoff = binaries::handoff().display();
    let script = format!("HANDOFF_ADMIN=192.0.2.1:80 exec {handoff} \"$@\"");
    assert_refused(&script, "HANDOFF_ADMIN is");
}

#[test]
fn a_version_with_another_protocol_is_refused() {
    assert_refused(&format!("{}\nsleep 1000", hello(99)), "speaks protocol 99");
}

#[test]
fn a_version_that_hangs_before_it_has_read_its_configuration_is_refused() {
    assert_refused("exec sleep 1000", "not read its configuration in time");
}

#[test]
fn a_version_that_hangs_before_it_serves_is_refused() {
    let script = format!("{}\nexec sleep 1000", hello(3));
    assert_refused(&script, "not served in time");
}

#[test]
fn a_version_that_is_killed_before_it_serves_is_refused() {
    let script = format!(
        "{}\nhead -c 4 <&$HANDOFF_ANCHOR_LINK >/dev/null\nkill -9 $$",
        hello(3)
    );
    assert_refused(&script, "signal: 9");
}

#[test]
fn a_program_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "exit 3");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o757)).unwrap();
    let site = anchored().start("v1");
    let program = program.to_str().unwrap();
    let ended = site.deployment().run_command("upgrade", &[program]);
    ended.with(1).saying(&["chmod go-w"]);
}

#[test]
fn a_crash_during_an_upgrade_ends_it() {
    if !tools::has("bash") {
        return tools::skip("bash");
    }
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("started");
    for step in [String::new(), hello(3)] {
        let _ = fs::remove_file(&marker);
        let text = format!("{step}\ntouch {}\nexec sleep 1000", marker.display());
        let program = script(folder.path(), &text);
        let site = anchored().start("v1");
        let before = site.status();
        let mut command = tests::program::handoff();
        command.arg("upgrade").arg(&program);
        command
            .args(site.deployment().place())
            .args(["--timeout", "1h"]);
        let running = command::start(command);
        eventually(
            || "the new one runs".to_owned(),
            || marker.exists().then_some(()),
        );
        signal(before.anchored.as_ref().unwrap().pid, Signal::KILL);
        let after = site.wait_until("the next one serves", |status| {
            let anchored = status.anchored.as_ref();
            anchored.is_some_and(|it| it.crashes == 1) && status.active.is_some()
        });
        assert_eq!(app_pid(&after), app_pid(&before));
        running.end().with(1).saying(&["crashed (signal: 9"]);
        assert_eq!(site.get("/version").text(), "v1");
        upgrade(&site);
    }
}

#[test]
fn without_an_anchor_the_command_says_what_is_needed() {
    let site = Site::watching_a_pointer().start("v1");
    let ended = site.deployment().run_command("upgrade", &[]);
    ended.with(1).saying(&["--anchor on"]);
    let ended = site.deployment().run_command("upgrade", &["/none/handoff"]);
    ended.with(2).saying(&["/none/handoff"]);
}

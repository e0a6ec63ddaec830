//! `handoff upgrade` as people and programs see it, and the other ways to ask for it.
#![cfg(unix)] // There is no anchor on Windows yet.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tests::processes::signal;
use tests::{Running, Site, binaries, eventually};

use crate::self_upgrade::{anchored, anchored_status, upgrade};

/// Makes a program of its own, which can be replaced.
fn own_program(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("handoff");
    replace(&program);
    program
}

/// Replaces the file of a program, as `install` does.
fn replace(program: &Path) {
    let _alone = binaries::write_or_spawn();
    let next = program.with_extension("next");
    fs::copy(binaries::handoff(), &next).expect("a copy");
    fs::rename(&next, program).expect("another file");
}

#[track_caller]
fn await_upgrades(site: &Running, upgrades: u32) {
    site.wait_until("another process serves", |status| {
        let anchored = status.anchored.as_ref();
        anchored.is_some_and(|anchored| anchored.upgrades == upgrades)
    });
    site.await_log_times(upgrades as usize, "event=\"handoff_upgraded\"");
    assert_eq!(site.get("/version").text(), "v1");
}

#[test]
fn an_upgrade_is_shown_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    let site = anchored()
        .with("--admin", "127.0.0.1:0")
        .with("--on-event", &format!("tee -a {}", events.display()))
        .start("v1");
    let mut slow = [site.begin("/slow?ms=3000"), site.begin("/slow?ms=3000")];
    site.wait_until("they are in flight", |status| status.in_flight() == 2);
    upgrade(&site);
    for slow in &mut slow {
        assert_eq!(slow.answer().unwrap().status, 200);
    }
    let version = env!("CARGO_PKG_VERSION");
    let last = anchored_status(&site).last_upgrade.expect("an upgrade");
    assert_eq!((&*last.from, &*last.to), (version, version));
    assert_eq!(last.in_flight, 2, "{last:?}");
    assert!(last.took_ms < 60_000, "{last:?}");
    let line = format!("handoff {version} was upgraded to {version}");
    for command in ["status", "history"] {
        let ended = site.deployment().run_command(command, &[]).with(0);
        ended.saying(&[&line, "with 2 requests in flight"]);
    }
    let ended = site.deployment().run_command("history", &["--json"]);
    let history: Value = serde_json::from_str(&ended.with(0).stdout).unwrap();
    assert_eq!(history["upgrades"][0]["upgrade"]["in_flight"], 2);
    site.await_metric("handoff_upgrades_total", &[], 1.0);
    site.await_metric("handoff_crashes_total", &[], 0.0);
    let event = eventually(
        || site.log(),
        || {
            let events = fs::read_to_string(&events).unwrap_or_default();
            let events = events.lines().map(serde_json::from_str::<Value>);
            let mut events = events.filter_map(Result::ok);
            events.find(|event| event["event"] == "upgraded")
        },
    );
    let active = site.status().active.clone().expect("an active one");
    assert_eq!(event["release"], active.release.as_str());
    assert!(event["took_ms"].is_u64(), "{event}");
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("2 in flight"), "{reason}");
    let told = fs::read_to_string(&events).unwrap();
    assert_eq!(told.matches("\"promoted\"").count(), 1, "{told}");
    let before = anchored_status(&site).last_upgrade;
    upgrade(&site);
    let history = anchored_status(&site).upgrade_history;
    assert_eq!((history.len(), history.first()), (2, before.as_ref()));
}

#[test]
fn a_signal_upgrades_to_what_is_in_the_file_of_the_program_now() {
    let folder = tempfile::tempdir().unwrap();
    let program = own_program(folder.path());
    let site = anchored().with_program(program.clone()).start("v1");
    for upgrades in 1..=2 {
        replace(&program);
        signal(site.pid(), Signal::USR2);
        await_upgrades(&site, upgrades);
        let runs = fs::canonicalize(format!("/proc/{}/exe", anchored_status(&site).pid));
        assert_eq!(runs.unwrap(), program, "the new file");
    }
    fs::write(folder.path().join("next"), "no program").unwrap();
    fs::rename(folder.path().join("next"), &program).unwrap();
    signal(site.pid(), Signal::USR2);
    site.await_log("it is not executable");
    assert_eq!(anchored_status(&site).upgrades, 2);
    // A command is no victim of that.
    let other = binaries::handoff().to_str().unwrap();
    site.deployment().run_command("upgrade", &[other]).with(0);
    assert_eq!(anchored_status(&site).upgrades, 3);
}

#[test]
fn a_changed_program_is_an_upgrade_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let program = own_program(folder.path());
    let site = anchored()
        .with("--upgrade-on-change", "on")
        .with_program(program.clone())
        .start("v1");
    replace(&program);
    await_upgrades(&site, 1);
    replace(&program);
    await_upgrades(&site, 2);
    fs::remove_file(&program).unwrap();
    site.deploy("v2");
    site.await_version("v2");
    assert_eq!(anchored_status(&site).upgrades, 2);
}

#[test]
fn without_an_anchor_the_signal_changes_nothing() {
    let site = Site::watching_a_pointer().start("v1");
    signal(site.pid(), Signal::USR2);
    site.await_log("without --anchor on");
    assert_eq!(site.get("/version").text(), "v1");
    let args = ["run", "--artifact", "/none", "--upgrade-on-change", "on"];
    let ended = tests::command::run(&args);
    ended
        .with(2)
        .saying(&["--upgrade-on-change", "without --anchor on"]);
}

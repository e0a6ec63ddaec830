//! `handoff upgrade` in each phase of a deploy, which ends as it would have.
#![cfg(unix)] // There is no anchor on Windows yet.

use std::path::Path;

use handoff::deployment::status::{CommandEnd, Outcome};
use tests::command::Command;
use tests::processes::is_alive;
use tests::{Running, Status, app, binaries, command, eventually, file};

use crate::self_upgrade::{anchored, anchored_status, app_pid, upgrade};

/// Begins an upgrade to a program.
fn begin(site: &Running, program: &Path) -> Command {
    let mut command = tests::program::handoff();
    command.arg("upgrade").arg(program);
    command.args(site.deployment().place());
    command::start(command)
}

/// Begins an upgrade, and returns it when the sidecar waits with it, for this reason.
#[track_caller]
fn begin_to_wait(site: &Running, reason: &str) -> Command {
    let command = begin(site, binaries::handoff());
    let status = site.wait_until("it has read the command", |status| {
        status.commands.find("upgrade", 0).is_some()
    });
    let received = status.commands.find("upgrade", 0).expect("a command");
    assert_eq!(received.outcome, CommandEnd::Received, "{received:?}");
    let busy = status.busy_with().unwrap_or_default();
    assert!(busy.contains(reason), "{busy}");
    command
}

/// Waits for the end of an upgrade, and checks that the next deploy goes as ever.
#[track_caller]
fn assert_upgraded(site: &Running, command: Command, serves: &str) -> Status {
    command.end().with(0);
    assert_eq!(anchored_status(site).upgrades, 1);
    let after = site.await_active(serves);
    assert_eq!(site.get("/version").text(), serves);
    site.deploy("next");
    site.await_version("next");
    after
}

#[test]
fn what_settles_or_is_copied_is_deployed_by_the_next_process() {
    let site = anchored().with("--settle", "4s").start("v1");
    let app = app_pid(&site.status());
    site.deploy("v2");
    site.wait_until("v2 settles", |status| status.settling.is_some());
    let after = upgrade(&site);
    assert_eq!(app_pid(&after), app, "it has not been deployed yet");
    let after = site.await_active("v2");
    assert_eq!(after.handoffs.len(), 2, "{:#?}", after.handoffs);
    site.await_version("v2");
}

#[test]
fn a_release_that_is_copied_is_deployed_once() {
    let site = anchored().start("v1");
    // The upgrade meets the copy, or the start of the release.
    let content = vec![7; 64 * 1024 * 1024];
    site.deploy(file("blob", &content));
    upgrade(&site);
    let after = site.wait_until("it is refused", |status| !status.refused.is_empty());
    let launches = after.handoffs.iter();
    let launches = launches.filter(|it| it.outcome == Outcome::Refused).count();
    assert!(launches <= 1, "{:#?}", after.handoffs);
    assert!(after.is_active("v1"), "{after:#?}");
    upgrade(&site);
    assert!(site.status().is_active("v1"));
}

#[test]
fn a_release_that_starts_serves_first() {
    let site = anchored().start("v1");
    site.deploy(app("v2").that("--ready-after=3s"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    let command = begin_to_wait(&site, "is starting");
    assert_upgraded(&site, command, "v2");
}

#[test]
fn a_release_that_fails_its_health_check_is_refused_first() {
    let site = anchored().with("--deploy-timeout", "8s").start("v1");
    site.deploy(app("v2").that("--ready-after=1h"));
    site.wait_until("v2 is probed", |status| {
        let candidate = status.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.probe.is_some())
    });
    let command = begin_to_wait(&site, "is starting");
    let after = assert_upgraded(&site, command, "v1");
    assert!(after.refusal("v2").is_some(), "{after:#?}");
}

#[test]
fn requests_to_a_superseded_release_end_first() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.wait_until("v1 drains", |status| status.is_draining("v1"));
    let command = begin_to_wait(&site, "is draining");
    assert_eq!(upload.finish().expect("an answer").release(), "v1");
    eventually(
        || "v1 has ended".to_owned(),
        || (!is_alive(app)).then_some(()),
    );
    assert_upgraded(&site, command, "v2");
}

#[test]
fn a_trial_ends_first() {
    let site = anchored().with("--bake", "10s").start("v1");
    site.deploy("v2");
    site.wait_until("v2 is on trial", |status| status.bakes_until_ms.is_some());
    let command = begin_to_wait(&site, "is on standby");
    let after = assert_upgraded(&site, command, "v2");
    assert!(after.standby.is_none() && after.bakes_until_ms.is_none());
}

#[test]
fn a_pause_ends_first() {
    let site = anchored().start("v1");
    let pause = ["--max", "10m"];
    site.deployment().run_command("pause", &pause).with(0);
    let mut held = site.begin("/version");
    site.wait_until("it is held", |status| status.held == 1);
    let command = begin_to_wait(&site, "requests are paused");
    site.deployment().run_command("resume", &[]).with(0);
    assert_eq!(held.answer().expect("an answer").text(), "v1");
    assert_upgraded(&site, command, "v1");
}

#[test]
fn while_nothing_serves_a_release_is_tried_again_first() {
    let site = anchored().launch(file("v0", b"#!/bin/sh\nexit 3\n"));
    site.wait_until("it has failed", |status| status.last_failure.is_some());
    let command = begin(&site, binaries::handoff());
    site.wait_until("it has read the command", |status| {
        status.commands.find("upgrade", 0).is_some()
    });
    site.deploy("v1");
    assert_upgraded(&site, command, "v1");
}

#[test]
fn a_release_that_has_given_way_rests_on_in_the_next_process() {
    let site = anchored().with("--rapid-fails", "2").start("v1");
    site.deploy(app("v2").that("--crash-after=300ms").that("--exit-code=7"));
    let before = site.wait_until("v1 serves again", |status| {
        status.gave_way.is_some() && status.is_active("v1")
    });
    let launches = before.handoffs.len();
    let after = upgrade(&site);
    let (before, after_gave) = (
        before.gave_way.clone().unwrap(),
        after.gave_way.clone().unwrap(),
    );
    assert_eq!(
        (before.from, before.at_ms),
        (after_gave.from, after_gave.at_ms)
    );
    site.await_log("\"handoff_upgraded\"");
    // It is detected anew, which is no deploy.
    site.await_log_times(3, "\"artifact_detected\"");
    let status = site.status();
    assert_eq!(status.handoffs.len(), launches, "{:#?}", status.handoffs);
    assert!(status.is_active("v1"));
}

#[test]
fn an_upgrade_that_waits_gives_way_to_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, "#!/bin/sh\nexit 3\n").unwrap();
    let site = anchored().start("v1");
    site.deploy(app("v2").that("--ready-after=3s"));
    site.wait_until("v2 starts", |status| status.candidate.is_some());
    let first = begin(&site, &other);
    site.wait_until("it has read the first", |status| {
        status.commands.find("upgrade", 0).is_some()
    });
    let second = begin(&site, binaries::handoff());
    let ended = first.end();
    ended.with(1).saying(&["has taken its place", "upgrade to"]);
    assert_upgraded(&site, second, "v2");
}

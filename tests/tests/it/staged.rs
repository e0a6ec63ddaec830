//! A release that waits, ready, for somebody to look at it: `handoff deploy --stage`.

use tests::command::Ended;
use tests::load::Load;
use tests::status::Outcome;
#[cfg(unix)]
use tests::tools::has;
use tests::{Connection, Running, Site, Status, app};

#[cfg(unix)]
use crate::gate::answering;

/// Returns the answer of the public port to a request with this token.
fn get_with(site: &Running, target: &str, token: &str) -> String {
    let mut connection = Connection::open(site.address()).expect("a connection");
    connection.send("GET", target, &format!("X-Handoff-Preview: {token}\r\n"));
    connection.answer().expect("an answer").text().to_owned()
}

fn version_with(site: &Running, token: &str) -> String {
    get_with(site, "/version", token)
}

/// Stages a release, and returns its token.
#[track_caller]
fn stage(site: &Running, release: &str, options: &[&str]) -> String {
    let options = [&["--stage", "--json"], options].concat();
    let report = site.deployment().run_deploy(release, &options).with(0);
    let report = report.json();
    assert_eq!(report["outcome"], "staged", "{report}");
    let token = report["token"].as_str().expect("a token").to_owned();
    assert_eq!(token.len(), 32, "128 bits");
    assert!(is_staged(&site.status(), release));
    token
}

fn is_staged(status: &Status, release: &str) -> bool {
    let staged = status.staged.as_ref();
    staged.is_some_and(|staged| staged.release.as_str().starts_with(release))
}

#[track_caller]
fn command(site: &Running, name: &str) -> Ended {
    site.deployment().run_command(name, &["--timeout", "50s"])
}

#[test]
fn it_is_reached_with_its_token_only_until_it_is_promoted() {
    let site = Site::watching_a_pointer().start("v1");
    let load = Load::offer(site.address(), 100);
    let token = stage(&site, "v2", &[]);
    assert_eq!(version_with(&site, &token), "v2");
    assert_eq!(version_with(&site, &token.to_uppercase()), "v1");
    assert_eq!(version_with(&site, ""), "v1");
    site.await_version("v1");
    assert!(site.status().is_active("v1"));
    command(&site, "promote")
        .with(0)
        .saying(&["v2", "serves in 1 sidecar"]);
    site.await_version("v2");
    assert!(!is_staged(&site.status(), "v2"));
    assert_eq!(version_with(&site, &token), "v2");
    command(&site, "promote")
        .with(1)
        .saying(&["no release is staged"]);
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[cfg(unix)] // The app is in Python, which Wine has not.
#[test]
fn its_token_is_not_forwarded() {
    if !has("python3") {
        return;
    }
    let echo = |version| answering(version, "return status(200, VERSION + request.decode())");
    let command = ["python3", "{artifact}", "{port}"];
    let site = Site::watching_a_pointer()
        .running(&command)
        .start(echo("v1"));
    let report = site
        .deployment()
        .run_deploy(echo("v2"), &["--stage", "--json"]);
    let report = report.with(0).json();
    let token = report["token"].as_str().expect("a token");
    for (token, version) in [(token, "v2"), ("wrong", "v1")] {
        let seen = get_with(&site, "/", token);
        assert!(seen.starts_with(version), "{seen}");
        assert!(!seen.to_lowercase().contains("x-handoff-preview"), "{seen}");
    }
}

#[test]
fn one_that_is_aborted_is_refused_until_it_is_deployed_again() {
    let site = Site::watching_a_pointer().start("v1");
    let load = Load::offer(site.address(), 100);
    let token = stage(&site, "v2", &[]);
    command(&site, "abort").with(0).saying(&["v1", "serves on"]);
    assert_eq!(version_with(&site, &token), "v1");
    let status = site.status();
    assert!(status.has_outcome("v2", Outcome::Refused), "{status:#?}");
    assert!(status.is_active("v1"));
    site.deployment().run_deploy("v2", &[]).with(0);
    site.await_version("v2");
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn one_that_nobody_promotes_in_time_is_given_up() {
    let site = Site::watching_a_pointer().start("v1");
    let load = Load::offer(site.address(), 100);
    stage(&site, "v2", &["--stage-timeout", "2s"]);
    let status = site.wait_until("v2 is given up", |status| {
        status.has_outcome("v2", Outcome::Refused) && status.is_at_rest()
    });
    assert!(status.is_active("v1") && status.staged.is_none());
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn its_time_begins_when_it_is_ready() {
    let site = Site::watching_a_pointer().start("v1");
    let slow = app("v2").that("--ready-after=6s");
    let options = ["--stage", "--stage-timeout", "5s", "--json"];
    let report = site.deployment().run_deploy(slow, &options).with(0);
    assert_eq!(report.json()["outcome"], "staged");
    let status = site.wait_until("v2 is given up", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    let reason = status.handoff("v2").and_then(|last| last.reason.as_deref());
    let expected = "it was staged, and not promoted within --stage-timeout";
    assert_eq!(reason, Some(expected));
}

#[test]
fn a_deploy_of_it_promotes_it_and_one_of_another_gives_it_up() {
    let site = Site::watching_a_pointer().start("v1");
    let token = stage(&site, "v2", &[]);
    site.deployment().run_deploy("v2", &[]).with(0);
    site.await_active("v2");
    stage(&site, "v3", &[]);
    site.deployment().run_deploy("v4", &[]).with(0);
    let status = site.await_active("v4");
    assert!(status.has_outcome("v3", Outcome::Abandoned), "{status:#?}");
    assert_eq!(version_with(&site, &token), "v4");
}

#[test]
fn a_rollback_gives_it_up() {
    let site = Site::watching_a_pointer().start("v1");
    stage(&site, "v2", &[]);
    command(&site, "rollback").with(0);
    let status = site.wait_until("v2 has gone", |status| {
        status.is_at_rest() && !is_staged(status, "v2")
    });
    assert!(status.is_active("v1"));
}

#[test]
fn it_waits_also_when_handoff_is_started_again() {
    let mut site = Site::watching_a_pointer().start("v1");
    let token = stage(&site, "v2", &[]);
    site.kill();
    site.start_again();
    site.wait_until("v2 is staged again", |status| {
        status.is_active("v1") && is_staged(status, "v2")
    });
    assert_eq!(version_with(&site, &token), "v2");
    site.await_version("v1");
    command(&site, "promote").with(0);
    site.await_version("v2");
}

#[test]
fn what_serves_comes_back_after_a_crash_and_the_staged_one_waits_on() {
    let site = Site::watching_a_pointer().start(app("v1").that("--crash-after=3s"));
    let token = stage(&site, "v2", &[]);
    let generation = site.status().generation();
    let status = site.wait_until("v1 serves again", |status| {
        status.is_active("v1") && status.generation() != generation
    });
    assert!(is_staged(&status, "v2"));
    assert_eq!(version_with(&site, &token), "v2");
    command(&site, "promote").with(0);
    site.await_version("v2");
}

#[test]
fn the_first_release_of_all_serves_at_once() {
    let site = Site::watching_a_pointer().launch_empty();
    let report = site.deployment().run_deploy("v1", &["--stage", "--json"]);
    assert_eq!(report.with(0).json()["outcome"], "promoted");
    site.await_version("v1");
}

#[test]
fn an_app_that_cannot_run_twice_is_not_staged() {
    let site = Site::watching_a_pointer()
        .with("--overlap", "no")
        .start("v1");
    let refused = site.deployment().run_deploy("v2", &["--stage"]).with(1);
    refused.saying(&["cannot stage a release"]);
    site.await_version("v1");
}

//! Events in the middle of something else.
#![cfg(unix)]

use rustix::process::Signal;
use tests::processes::{is_reaped, signal};
use tests::status::{Outcome, Phase};
use tests::{Running, Site, Status, app, eventually};

fn candidate_pid(status: &Status, name: &str) -> Option<u32> {
    let candidate = status
        .candidate
        .as_ref()
        .filter(|_| status.is_candidate(name))?;
    candidate.pid
}

/// Deploys what does not become ready by itself, and waits until its process runs.
fn starts_without_end(site: &Running, name: &str) -> u32 {
    site.deploy(app(name).that("--never-ready"));
    let status = site.wait_until(&format!("{name} starts"), |status| {
        candidate_pid(status, name).is_some()
    });
    candidate_pid(&status, name).expect("its process")
}

fn active_pid(site: &Running) -> u32 {
    let active = site.status().active.clone().expect("an active one");
    active.pid.expect("its process")
}

fn await_gone(pid: u32) {
    eventually(|| format!("{pid} is gone"), || is_reaped(pid).then_some(()));
}

#[test]
fn a_third_artifact_while_the_second_starts_takes_its_place() {
    let site = Site::watching_a_pointer().start("v1");
    let second = starts_without_end(&site, "v2");
    site.deploy("v3");
    site.await_version("v3");
    await_gone(second);
    let status = site.await_active("v3");
    assert!(status.has_outcome("v2", Outcome::Abandoned), "{status:#?}");
    assert!(
        status.refused.is_empty(),
        "it was not given the time to fail"
    );
    site.await_launches(3);
}

#[test]
fn a_deploy_while_what_crashed_starts_again_waits_until_that_serves() {
    let site = Site::watching_a_pointer().start(app("v1").that("--ready-after=1s"));
    let first = active_pid(&site);
    signal(first, Signal::KILL);
    await_gone(first);
    site.wait_until("v1 starts again", |status| status.is_candidate("v1"));
    starts_without_end(&site, "v2");
    // Were it the only one, requests would wait for as long as a start may take.
    site.await_version("v1");
    let status = site.await_active("v1");
    assert!(status.is_candidate("v2"), "{status:#?}");
    site.deploy("v3");
    site.await_version("v3");
}

#[test]
fn a_rollback_while_a_candidate_starts_takes_that_back() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy("v2");
    site.await_version("v2");
    let third = starts_without_end(&site, "v3");
    site.ask(r#"{"serial":1,"rollback":{"to":null,"serial":1}}"#);
    await_gone(third);
    let status = site.wait_until("v3 is refused", |status| status.refusal("v3").is_some());
    assert!(status.is_active("v2"), "{status:#?}");
    site.await_version("v2");
    site.await_launches(3);
}

#[test]
fn a_crash_of_the_active_one_during_a_handoff_is_outlived_by_the_candidate() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--ready-after=2s"));
    site.wait_until("v2 starts", |status| candidate_pid(status, "v2").is_some());
    let first = active_pid(&site);
    signal(first, Signal::KILL);
    await_gone(first);
    let mut held: Vec<_> = (0..5).map(|_| site.begin("/version")).collect();
    for request in &mut held {
        let answer = request.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v2"));
    }
    site.await_launches(2);
}

#[test]
fn a_crash_of_the_active_one_and_then_of_the_candidate_brings_the_last_good_one_back() {
    let site = Site::watching_a_pointer().start("v1");
    let second = starts_without_end(&site, "v2");
    let first = active_pid(&site);
    signal(first, Signal::KILL);
    await_gone(first);
    let mut held = site.begin("/version");
    signal(second, Signal::KILL);
    let answer = held.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "v1"));
}

#[test]
fn a_flapping_pointer_ends_where_it_stays() {
    let site = Site::watching_a_pointer().start("v1");
    let [one, two] = ["v1", "v2"].map(|version| site.upload(version).display().to_string());
    for _ in 0..25 {
        site.point(&two);
        site.get("/version");
        site.point(&one);
        site.get("/version");
    }
    site.point(&two);
    site.await_version("v2");
    let status = site.wait_until("nothing else moves", |status| status.is_at_rest());
    assert!(
        status.is_active("v2") && status.refused.is_empty(),
        "{status:#?}"
    );
}

#[test]
fn a_deploy_of_the_release_that_runs_moves_nothing() {
    let site = Site::overwritten_in_place().start("v1");
    let before = active_pid(&site);
    for again in 2..=4 {
        site.deploy("v1");
        site.await_log_times(again, "artifact detected");
    }
    assert_eq!(active_pid(&site), before);
    site.await_launches(1);
}

mod a_shutdown_ends_it {
    use super::*;

    fn assert_ends(site: &Running) {
        site.ask_to_stop();
        assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
        site.await_no_processes();
    }

    #[test]
    fn with_a_standby() {
        let site = Site::watching_a_pointer().with("--bake", "10m").start("v1");
        site.deploy("v2");
        site.wait_until("v1 is on standby", |status| status.is_on_standby("v1"));
        assert_ends(&site);
    }

    #[test]
    fn while_it_is_paused_and_what_is_held_gets_an_answer() {
        let site = Site::watching_a_pointer().start("v1");
        site.ask(r#"{"serial":1,"pause":{"until_ms":99999999999999,"max_ms":600000}}"#);
        site.wait_until("it is paused", |status| status.paused.is_some());
        let mut held = site.begin("/version");
        site.wait_until("one is held", |status| status.held == 1);
        site.ask_to_stop();
        let answer = held.answer().unwrap();
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        ends_by_itself(&site);
    }

    #[test]
    fn while_the_old_one_makes_room() {
        let site = Site::watching_a_pointer().with("--overlap", "no");
        let site = site.start("v1");
        let upload = site.begin_upload("/upload");
        site.deploy("v2");
        site.wait_until("v1 makes room", |status| status.is_draining("v1"));
        site.ask_to_stop();
        site.wait_until("it stops", |status| status.phase == Phase::Stopping);
        assert_eq!(upload.finish().unwrap().status, 200);
        ends_by_itself(&site);
    }

    #[test]
    fn while_a_crashed_one_waits_for_its_next_start() {
        let site = Site::watching_a_pointer().launch(app("v1").that("--exit-code=3"));
        site.wait_until("it has failed twice", |status| status.handoffs.len() >= 2);
        assert_ends(&site);
    }

    #[test]
    fn while_a_rescue_and_a_drain_go_on() {
        let site = Site::watching_a_pointer()
            .with("--live-path", "/alive")
            .with("--live-interval", "100ms")
            .start("v1");
        site.wait_until("a second one starts", |status| status.candidate.is_some());
        let upload = site.begin_upload("/upload");
        site.deploy("v2");
        site.wait_until("v1 drains", |status| status.is_draining("v1"));
        site.ask_to_stop();
        assert_eq!(upload.finish().unwrap().status, 200);
        ends_by_itself(&site);
    }

    fn ends_by_itself(site: &Running) {
        assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
        site.await_no_processes();
    }
}

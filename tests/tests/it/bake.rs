//! The bake: the release before a new one stays at hand.
#![cfg(unix)]

use rustix::process::Signal;
use tests::processes::{is_reaped, signal};
use tests::status::Outcome;
use tests::{Running, Site, Status, app, eventually};

fn pid(status: &Status) -> u32 {
    let active = status.active.as_ref().expect("an active one");
    active.pid.expect("its process")
}

fn kill_and_wait(pid: u32) {
    signal(pid, Signal::KILL);
    eventually(|| format!("{pid} is gone"), || is_reaped(pid).then_some(()));
}

fn deploys_and_keeps_the_old_one(site: &Running) -> Status {
    site.deploy("v2");
    site.wait_until("v1 is on standby", |status| {
        status.is_active("v2") && status.is_on_standby("v1")
    })
}

#[test]
fn when_the_new_one_crashes_requests_go_back_at_once_and_it_is_not_tried_again() {
    let mut site = Site::watching_a_pointer().with("--bake", "10m").start("v1");
    let status = deploys_and_keeps_the_old_one(&site);
    let mut kept = site.connect();
    assert_eq!(kept.get("/version").unwrap().text(), "v2");

    kill_and_wait(pid(&status));

    site.await_version("v1");
    assert_eq!(kept.get("/version").unwrap().text(), "v1");
    let status = site.await_active("v1");
    assert_eq!(status.generation(), Some(1), "it was there all the time");
    let back = status.last_rollback.clone().expect("a rollback");
    eprintln!("from the verdict to the traffic: {} µs", back.took_us);
    // Looked at on machines that are busy with other tests; it is well below one.
    assert!(back.took_us < 50_000, "{back:?}");
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert!(reason.contains("while it was active"), "{reason}");
    site.await_launches(2);
    site.kill();
    site.start_again();
    site.await_version("v1");
}

#[test]
fn when_its_live_check_falls_they_go_back_too() {
    let site = Site::watching_a_pointer()
        .with("--bake", "10m")
        .with("--live-path", "/alive")
        .with("--live-interval", "100ms");
    let alive = |site: &Running| site.site().join("uploads").join("alive");
    let site = site.start("v1");
    std::fs::write(alive(&site), "yes").unwrap();
    deploys_and_keeps_the_old_one(&site);
    site.wait_until("v2 is well", |status| status.alarm.is_none());

    std::fs::remove_file(alive(&site)).unwrap();

    let status = site.await_active("v1");
    std::fs::write(alive(&site), "yes").unwrap();
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert!(reason.contains("GET /alive answered 404"), "{reason}");
    assert!(status.has_outcome("v2", Outcome::Refused), "{status:#?}");
}

#[test]
fn when_it_answers_with_more_errors_they_go_back_too() {
    let site = Site::watching_a_pointer()
        .with("--bake", "10m")
        .with("--bake-max-errors", "5%")
        .with("--health-path", "/version");
    let site = site.start("v1");
    assert_eq!(site.get("/").status, 200);
    // Its home page answers 503 for ever.
    site.deploy(app("v2").that("--never-ready"));
    site.wait_until("v2 bakes", |status| status.is_active("v2"));
    let mut connection = site.connect();
    for _ in 0..40 {
        connection.get("/").unwrap();
    }
    let status = site.await_active("v1");
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert!(reason.contains("errors"), "{reason}");
    assert_eq!(site.get("/").status, 200);
}

#[test]
fn when_it_does_not_answer_in_time_they_go_back_too() {
    let site = Site::watching_a_pointer()
        .with("--bake", "10m")
        .with("--bake-max-errors", "5%")
        .with("--response-timeout", "1s");
    let site = site.start("v1");
    assert_eq!(site.get("/version").status, 200);
    deploys_and_keeps_the_old_one(&site);
    let waiting: Vec<_> = (0..40).map(|_| site.begin("/slow?ms=3600000")).collect();
    for mut client in waiting {
        assert_eq!(client.answer().unwrap().status, 504);
    }
    let status = site.await_active("v1");
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert!(reason.contains("errors"), "{reason}");
}

#[test]
fn the_standby_ends_with_the_bake() {
    let site = Site::watching_a_pointer().with("--bake", "2s").start("v1");
    deploys_and_keeps_the_old_one(&site);
    let status = site.wait_until("v1 is gone", |status| {
        status.standby.is_none() && status.is_at_rest()
    });
    assert!(status.is_active("v2"));
    site.await_launches(2);
}

#[test]
fn the_standby_ends_before_the_next_candidate_starts() {
    let site = Site::watching_a_pointer().with("--bake", "10m").start("v1");
    let status = deploys_and_keeps_the_old_one(&site);
    let v1 = status
        .standby
        .clone()
        .expect("a standby")
        .pid
        .expect("its process");
    site.deploy(app("v3").that("--never-ready"));
    site.wait_until("v3 starts", |status| {
        let candidate = status.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    assert!(is_reaped(v1), "v1 still runs");
}

#[test]
fn a_rollback_that_is_asked_for_goes_to_the_standby_at_once() {
    let site = Site::watching_a_pointer().with("--bake", "10m").start("v1");
    deploys_and_keeps_the_old_one(&site);
    let upload = site.begin_upload("/upload");
    site.ask(r#"{"serial":1,"rollback":{"to":null,"serial":1}}"#);
    let status = site.await_active("v1");
    assert_eq!(status.generation(), Some(1));
    let back = status.last_rollback.clone().expect("a rollback");
    assert!(back.took_us < 50_000, "{back:?}");
    assert_eq!(upload.finish().unwrap().release(), "v2");
    site.await_launches(2);
}

#[test]
fn for_those_who_migrate_nothing_goes_back_by_itself() {
    let site = Site::watching_a_pointer()
        .with("--bake", "10m")
        .with("--auto-rollback", "never")
        .with("--rapid-fails", "2")
        .start("v1");
    let mut status = deploys_and_keeps_the_old_one(&site);
    for launch in 3..6 {
        kill_and_wait(pid(&status));
        status = site.wait_until("v2 is active again", |status| {
            assert!(!status.is_active("v1"), "went back");
            status.generation() == Some(launch)
        });
        assert!(status.is_active("v2"));
    }
    assert!(status.refused.is_empty(), "{status:#?}");
}

//! Processes that die without being asked to.
#![cfg(unix)]

use rustix::process::Signal;
use tests::processes::{is_reaped, signal};
use tests::status::Outcome;
use tests::{Running, Site, Status, app, eventually};

fn active_pid(site: &Running) -> u32 {
    site.status()
        .active
        .clone()
        .expect("an active one")
        .pid
        .expect("its process")
}

fn kill_and_wait(pid: u32) {
    signal(pid, Signal::KILL);
    eventually(|| format!("{pid} is gone"), || is_reaped(pid).then_some(()));
}

#[test]
fn an_app_killed_with_9_is_served_again_and_requests_meanwhile_are_held() {
    let site = Site::watching_a_pointer().start(app("v1").that("--ready-after=1s"));
    // A connection that has worked, so that there is an idle one to the app.
    let mut kept = site.connect();
    assert_eq!(kept.get("/version").unwrap().text(), "v1");
    kill_and_wait(active_pid(&site));

    let mut meanwhile: Vec<_> = (0..10).map(|_| site.begin("/version")).collect();
    assert_eq!(kept.get("/version").unwrap().status, 200);
    for request in &mut meanwhile {
        let answer = request.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v1"), "{answer:?}");
    }
    let status = site.wait_until("the second launch is active", |status| {
        let active = status.active.as_ref();
        active.is_some_and(|active| active.generation.0 == 2)
    });
    let failure = status.last_failure.clone().unwrap();
    let exit = failure.exit.unwrap();
    assert!(exit.contains("signal: 9"), "{exit}");
    assert!(
        failure.reason.contains("while it was active"),
        "{}",
        failure.reason
    );
}

#[test]
fn an_app_whose_folder_is_away_waits_for_it_and_says_so() {
    let site = Site::watching_a_pointer().start("v1");
    let away = site.site().with_extension("away");
    std::fs::rename(site.site(), &away).unwrap();
    kill_and_wait(active_pid(&site));
    site.await_log("this working directory does not exist");
    std::fs::rename(&away, site.site()).unwrap();
    site.await_version("v1");
}

#[test]
fn a_post_while_the_app_is_gone_is_held_too() {
    let site = Site::watching_a_pointer().start(app("v1").that("--ready-after=1s"));
    kill_and_wait(active_pid(&site));
    let mut post = site.connect();
    post.send("POST", "/upload", "Content-Length: 8\r\n");
    post.write(b"handoff!");
    let answer = post.answer().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("\"length\":8"), "{answer:?}");
}

#[test]
fn a_request_in_flight_to_a_killed_app_fails_visibly() {
    let site = Site::watching_a_pointer().start("v1");
    let mut unanswered = site.begin("/slow?ms=600000");
    let mut stream = site.begin("/stream?events=1000000&every=50");
    assert_eq!(stream.head().unwrap().status, 200);
    site.wait_until("both are in flight", |status| status.in_flight() == 2);

    signal(active_pid(&site), Signal::KILL);

    assert_eq!(unanswered.answer().unwrap().status, 502);
    stream.assert_cut();
    site.await_version("v1");
}

#[test]
fn a_release_that_crashes_again_and_again_gives_way_and_is_tried_again() {
    let site = Site::watching_a_pointer()
        .with("--rapid-fails", "2")
        .start("v1");
    site.deploy(app("v2").that("--crash-after=1s"));
    let status = site.wait_until("v1 is back", |status| {
        status.gave_way.is_some() && status.is_active("v1")
    });
    assert!(
        status.handoff("v1").unwrap().generation.0 > 2,
        "{status:#?}"
    );
    let given = status.gave_way.clone().expect("it gave way");
    assert!(given.retry_ms > given.at_ms, "{given:?}");
    site.await_log("release_gave_way");
    site.await_version("v1");
    // Requests of any client may have made it crash: that is no reason to refuse it for good.
    assert_eq!(status.refused.len(), 0, "{status:#?}");
    let back = given.generation;
    site.wait_until(
        "it is tried again, and gives way at its first crash",
        |status| {
            let again = status.gave_way.as_ref();
            again.is_some_and(|again| again.generation > back)
        },
    );
    site.await_version("v1");
}

#[test]
fn a_crash_with_a_request_in_flight_is_told_apart() {
    let site = Site::watching_a_pointer().start("v1");
    let reason = |generation: u64| {
        let has_crashed = |status: &Status| {
            let failure = status.last_failure.as_ref();
            failure.is_some_and(|failure| failure.generation.0 == generation)
        };
        let status = site.wait_until("the crash is seen", has_crashed);
        let failure = status.last_failure.clone().expect("a failure");
        (failure.reason, failure.in_flight)
    };
    signal(active_pid(&site), Signal::KILL);
    let (quiet, in_flight) = reason(1);
    assert!(!quiet.contains("in flight"), "{quiet}");
    assert_eq!(in_flight, 0);
    site.wait_until("it serves again", |status| status.is_active("v1"));
    let mut unanswered = site.begin("/slow?ms=600000");
    site.wait_until("it is in flight", |status| status.in_flight() == 1);
    signal(active_pid(&site), Signal::KILL);
    let (reason, in_flight) = reason(2);
    assert!(reason.contains("with 1 request in flight"), "{reason}");
    assert_eq!(in_flight, 1);
    assert_eq!(unanswered.answer().unwrap().status, 502);
}

#[test]
fn a_candidate_killed_with_9_is_refused() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--never-ready"));
    let status = site.wait_until("v2 starts", |status| {
        let candidate = status.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    signal(
        status.candidate.clone().unwrap().pid.expect("its process"),
        Signal::KILL,
    );
    let status = site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    let exit = status.last_failure.clone().unwrap().exit.unwrap();
    assert!(exit.contains("signal: 9"), "{exit}");
    site.await_version("v1");
}

#[test]
fn the_apps_end_when_handoff_itself_is_killed_with_9() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.await_active("v2");
    site.deploy(app("v3").that("--never-ready").that("--ignore-stop"));
    site.wait_until("all states are there", |status| {
        let candidate = status.candidate.as_ref();
        status.is_draining("v1") && candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    site.kill();
    site.await_no_processes();
    drop(upload);
}

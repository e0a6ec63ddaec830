//! Requests that are held while nothing is active: their number and their time.

use std::time::{Duration, Instant};

use tests::{Answer, Site, app};

fn assert_turned_away(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let retry_after = answer.header("retry-after").map(str::parse::<u32>);
    assert!(matches!(retry_after, Some(Ok(1..))), "{answer:?}");
}

#[test]
fn requests_before_the_first_release_is_ready_are_held_and_then_answered() {
    let site = Site::watching_a_pointer().launch(app("v1").that("--ready-after=2s"));
    let mut early: Vec<_> = (0..5).map(|_| site.begin("/version")).collect();
    let mut upload = site.connect();
    upload.send("POST", "/upload", "Content-Length: 8\r\n");
    upload.write(b"handoff!");
    for request in &mut early {
        let answer = request.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v1"));
    }
    let answer = upload.answer().unwrap();
    assert!(answer.text().contains("\"length\":8"), "{answer:?}");
    site.await_launches(1);
}

#[test]
fn a_request_held_for_too_long_before_the_first_release_gets_503_and_when_to_come_back() {
    let site = Site::watching_a_pointer().with("--first-hold-timeout", "1s");
    let site = site.launch(app("v1").that("--never-ready"));
    let start = Instant::now();
    let answer = site.get("/version");
    let waited = start.elapsed();
    assert_turned_away(&answer);
    assert!(waited >= Duration::from_secs(1), "only {waited:?}");
}

#[test]
fn more_requests_than_may_wait_get_503_at_once_and_the_others_are_answered() {
    let site = Site::watching_a_pointer().with("--max-held", "2");
    let site = site.launch(app("v1").that("--never-ready"));
    let mut held = [site.begin("/version"), site.begin("/version")];
    site.wait_until("two are held", |status| status.held == 2);

    assert_turned_away(&site.get("/version"));

    site.deploy("v2");
    for request in &mut held {
        let answer = request.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v2"));
    }
    await_none_held(&site);
}

fn await_none_held(site: &tests::Running) {
    site.wait_until("none is held", |status| status.held == 0);
}

#[test]
fn a_held_request_whose_client_goes_away_makes_room() {
    let site = Site::watching_a_pointer().with("--max-held", "1");
    let site = site.launch(app("v1").that("--never-ready"));
    let gone = site.begin("/version");
    site.wait_until("it is held", |status| status.held == 1);
    drop(gone);
    await_none_held(&site);
}

#[cfg(unix)]
mod with_a_shell {
    use rustix::process::Signal;
    use tests::processes::signal;

    use super::*;

    /// Exits with 3 and a word unless the file `ready` is among the shared ones.
    const UNLESS_READY: &str = r#"
        test -e "$1/ready" || { echo "not yet"; exit 3; }
        exec "$0" -port "$2""#;
    const COMMAND: [&str; 6] = ["sh", "-c", UNLESS_READY, "{artifact}", "{shared}", "{port}"];

    #[test]
    fn the_only_release_failing_at_first_start_is_tried_again_until_it_works() {
        let site = Site::watching_a_pointer().running(&COMMAND).launch("v1");
        let mut held = site.begin("/version");
        let failures = |status: &tests::Status| {
            let failed = |handoff: &&tests::status::Handoff| {
                handoff.outcome == tests::status::Outcome::Failed
            };
            status.handoffs.iter().filter(failed).count()
        };
        let status = site.wait_until("it has failed twice", |status| failures(status) >= 2);
        let failure = status.last_failure.clone().unwrap();
        assert_eq!(failure.exit.as_deref(), Some("exit status: 3"));
        assert_eq!(failure.output, ["not yet"]);

        std::fs::write(site.shared().join("ready"), "").unwrap();

        let answer = held.answer().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v1"));
        let status = site.await_active("v1");
        assert!(
            status.has_outcome("v1", tests::status::Outcome::Promoted),
            "{status:#?}"
        );
    }

    #[test]
    fn a_request_held_for_too_long_after_a_crash_gets_503_and_when_to_come_back() {
        let site = Site::watching_a_pointer().with("--hold-timeout", "1s");
        let site = site.running(&COMMAND).launch("v1");
        let ready = site.shared().join("ready");
        std::fs::write(&ready, "").unwrap();
        site.await_version("v1");
        let v1 = site.await_active("v1");

        std::fs::remove_file(&ready).unwrap();
        let pid = v1
            .active
            .clone()
            .expect("an active one")
            .pid
            .expect("its process");
        signal(pid, Signal::KILL);
        site.wait_until("nothing is active", |status| status.active.is_none());
        assert_turned_away(&site.get("/version"));

        std::fs::write(&ready, "").unwrap();
        site.await_active("v1");
        site.await_version("v1");
    }
}

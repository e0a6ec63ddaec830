//! Commands through `desired.json`.

use std::time::{SystemTime, UNIX_EPOCH};

use tests::{Running, Site, Status, app};

fn acknowledged(site: &Running, serial: u64) -> Status {
    site.wait_until(&format!("wish {serial} is acknowledged"), |status| {
        status.desired_serial == Some(serial)
    })
}

fn in_an_hour() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() + 3_600_000
}

#[test]
fn a_restart_is_a_handoff_to_a_new_instance_of_the_same_release() {
    let mut site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.ask(r#"{"schema":1,"serial":1,"restart":1}"#);
    let status = site.wait_until("the second instance serves", |status| {
        status.generation() == Some(2)
    });
    assert!(status.is_active("v1") && status.is_draining("v1"));
    assert_eq!(upload.finish().unwrap().release(), "v1");
    acknowledged(&site, 1);
    site.ask(r#"{"schema":1,"serial":2,"restart":1}"#);
    acknowledged(&site, 2);
    site.await_launches(2);

    // What is found at the start was fulfilled by it.
    site.kill();
    site.start_again();
    acknowledged(&site, 2);
    site.await_active("v1");
    site.await_launches(1);
}

#[test]
fn a_restart_that_meets_a_deploy_which_is_refused_is_done_after_it() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "4s");
    let site = site.start("v1");
    site.deploy(app("v2").that("--ready-after=1h"));
    site.wait_until("v2 starts", |status| status.handoff("v2").is_some());

    let restart = site.deployment().run_command("restart", &[]).with(0);

    restart.saying(&["v1-", "a new instance"]);
    let status = site.status();
    assert!(status.refusal("v2").is_some(), "{}", site.log());
    assert_eq!(status.generation(), Some(3));
}

#[test]
fn a_pause_holds_new_requests_and_lets_those_in_flight_end() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    let until = in_an_hour();
    let pause = format!(r#"{{"serial":1,"pause":{{"until_ms":{until},"max_ms":600000}}}}"#);
    site.ask(&pause);
    acknowledged(&site, 1);
    let mut held = site.begin("/version");
    let status = site.wait_until("one is held", |status| status.held == 1);
    assert_eq!(
        status.paused.clone().expect("a pause").in_flight,
        1,
        "the upload"
    );
    assert_eq!(upload.finish().unwrap().release(), "v1");
    site.wait_until("nothing is in flight", |status| {
        status
            .paused
            .as_ref()
            .is_some_and(|paused| paused.in_flight == 0)
    });
    // A release that comes meanwhile gets what is held.
    site.deploy("v2");
    site.await_active("v2");
    assert_eq!(site.status().held, 1);

    site.ask(r#"{"serial":2,"pause":null}"#);

    let answer = held.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "v2"));
    assert!(acknowledged(&site, 2).paused.is_none());
}

#[test]
fn a_pause_ends_by_the_sidecars_own_clock() {
    let site = Site::watching_a_pointer().start("v1");
    let until = in_an_hour();
    site.ask(&format!(
        r#"{{"serial":1,"pause":{{"until_ms":{until},"max_ms":1500}}}}"#
    ));
    site.wait_until("it is paused", |status| status.paused.is_some());
    site.await_version("v1");
    site.wait_until("it is not paused", |status| status.paused.is_none());
}

#[test]
fn a_pause_outlasts_a_restart_of_the_sidecar() {
    let mut site = Site::watching_a_pointer().start("v1");
    let until = in_an_hour();
    site.ask(&format!(
        r#"{{"serial":1,"pause":{{"until_ms":{until},"max_ms":600000}}}}"#
    ));
    site.wait_until("it is paused", |status| status.paused.is_some());
    site.kill();
    site.start_again();
    site.wait_until("it is paused again", |status| status.paused.is_some());
    let mut held = site.begin("/version");
    site.wait_until("one is held", |status| {
        status.held == 1 && status.is_active("v1")
    });
    site.ask(r#"{"serial":2}"#);
    assert_eq!(held.answer().unwrap().status, 200);
}

#[test]
fn a_broken_file_is_a_problem_in_the_status_and_nothing_else() {
    let site = Site::watching_a_pointer().start("v1");
    site.ask(r#"{"serial": 1, "restart""#);
    let status = site.wait_until("it is a problem", |status| status.desired_problem.is_some());
    let problem = status.desired_problem.clone().expect("a problem");
    assert!(problem.contains("desired.json"), "{problem}");
    site.await_version("v1");
    site.ask(r#"{"serial":2,"of_tomorrow":{"x":1},"restart":null,"retry":null}"#);
    let status = acknowledged(&site, 2);
    assert_eq!(status.desired_problem, None);
    site.await_launches(1);
}

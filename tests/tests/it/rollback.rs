//! The way back, when somebody asks for it.

use tests::{Running, Site, app};

fn ask_back(site: &Running, serial: u64, to: &str) {
    let rollback = format!(r#"{{"to":{to},"serial":{serial}}}"#);
    site.ask(&format!(
        r#"{{"schema":1,"serial":{serial},"rollback":{rollback}}}"#
    ));
    site.wait_until("it is acknowledged", |status| {
        status.desired_serial == Some(serial)
    });
}

#[test]
fn the_release_before_takes_over_as_a_candidate_and_what_was_left_stays_away() {
    let mut site = Site::watching_a_pointer().start("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.await_launches(2);

    ask_back(&site, 1, "null");

    site.await_version("v1");
    site.await_launches(3);
    let status = site.status();
    let reason = &status.refusal("v2").expect("v2 is refused").reason;
    assert_eq!(reason, "a rollback was requested");
    assert!(!site.log().contains(" ERROR "), "{}", site.log());
    // The pointer still names v2: also after a restart.
    site.kill();
    site.start_again();
    site.await_version("v1");
    site.await_launches(1);
    site.deploy("v3");
    site.await_version("v3");
}

#[test]
fn one_that_still_drains_takes_over_at_once() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.await_active("v2");

    ask_back(&site, 1, "null");

    let status = site.await_active("v1");
    assert_eq!(status.generation(), Some(1), "no new instance");
    let back = status.last_rollback.clone().expect("a rollback");
    assert_eq!((back.from.0, back.to.0), (2, 1));
    assert_eq!(upload.finish().unwrap().release(), "v1");
    site.await_version("v1");
    site.await_launches(2);
}

#[test]
fn any_release_that_is_kept_can_be_named() {
    let site = Site::watching_a_pointer().start("v1");
    for version in ["v2", "v3"] {
        site.deploy(version);
        site.await_version(version);
    }
    ask_back(&site, 1, r#""v1""#);
    site.await_version("v1");
    let full = site.status().handoff("v2").expect("v2").release.clone();
    ask_back(&site, 2, &format!("\"{full}\""));
    site.await_version("v2");
}

#[test]
fn a_name_that_no_rollback_can_go_to_is_answered_with_those_that_can() {
    let site = Site::watching_a_pointer().start("v1");
    for version in ["v2", "v3", "v4"] {
        site.deploy(version);
        site.await_version(version);
    }
    // Its copy is still there, and it is not among the last that served.
    ask_back(&site, 1, r#""v1""#);
    let problem = site.status().desired_problem.clone().expect("a problem");
    let (v2, v3) = (
        site.status().handoff("v2").cloned(),
        site.status().handoff("v3").cloned(),
    );
    let both = [v2.expect("v2").release, v3.expect("v3").release].map(|it| it.to_string());
    let named = format!("these can be named: {}", both.join(", "));
    assert!(problem.contains(&named), "{problem}");
    assert!(problem.contains("deployed again"), "{problem}");
}

#[test]
fn without_a_release_to_go_back_to_the_status_says_so_and_nothing_moves() {
    let site = Site::watching_a_pointer().start("v1");
    ask_back(&site, 1, "null");
    let problem = site.status().desired_problem.clone().expect("a problem");
    assert!(problem.contains("no release to go back to"), "{problem}");
    ask_back(&site, 2, r#""v7""#);
    let problem = site.status().desired_problem.clone().expect("a problem");
    assert!(problem.contains("\"v7\""), "{problem}");
    assert!(problem.contains("none of the last releases"), "{problem}");
    site.await_launches(1);
}

#[test]
fn a_release_to_go_back_to_that_does_not_start_changes_nothing() {
    let site = Site::watching_a_pointer();
    let site = site.start(app("v1").that("--ready-after=0s"));
    site.deploy("v2");
    site.await_version("v2");
    site.await_launches(2);
    let copies = site.copies_folder();
    let v1 = site.status().handoff("v1").expect("v1").release.clone();
    let program = format!("v1{}", std::env::consts::EXE_SUFFIX);
    // One that is gone would be copied again.
    std::fs::write(copies.join(v1.as_str()).join(program), "no program").unwrap();

    ask_back(&site, 1, "null");

    site.wait_until("v1 has failed", |status| {
        status
            .last_failure
            .as_ref()
            .is_some_and(|failure| failure.generation.0 == 3)
    });
    site.await_version("v2");
}

#[test]
fn what_a_rollback_left_can_be_named_also_after_a_restart() {
    let mut site = Site::watching_a_pointer().start("v1");
    for version in ["v2", "v3"] {
        site.deployment().run_deploy(version, &[]).with(0);
    }
    let back = |site: &Running, to: &str| {
        let rollback = site.deployment().run_command("rollback", &[to]);
        rollback.with(0).saying(&[to, "serves again"]);
    };
    for to in ["v1", "v2", "v1", "v3"] {
        back(&site, to);
    }
    back(&site, "v2");
    site.kill();
    site.start_again();
    site.await_version("v2");
    // Not unasked: the one that names nothing goes to none of them.
    let nothing = site.deployment().run_command("rollback", &[]).with(1);
    nothing.saying(&[
        "no release to go back to",
        "these can be named",
        "v1-",
        "v3-",
    ]);
    back(&site, "v3");
}

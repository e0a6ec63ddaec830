//! The active release is watched. A fallen check never kills first.

use tests::status::Outcome;
use tests::{Running, Site};

/// Returns the path of the file without which the live check of each instance fails.
fn alive(site: &Running) -> std::path::PathBuf {
    site.site().join("uploads").join("alive")
}

fn watched() -> Site {
    Site::watching_a_pointer()
        .with("--live-path", "/alive")
        .with("--live-interval", "100ms")
        .with("--deploy-timeout", "2s")
}

fn start(site: Site) -> Running {
    let site = site.launch("v1");
    std::fs::write(alive(&site), "yes").expect("a file");
    site.wait_until("v1 is well", |status| {
        status.is_active("v1") && status.is_at_rest() && status.alarm.is_none()
    });
    site
}

#[test]
fn an_instance_that_is_not_well_serves_on_when_a_second_one_is_no_better() {
    let site = start(watched());
    let before = site.status();
    std::fs::remove_file(alive(&site)).unwrap();

    let status = site.wait_until("the second one was no better", |status| {
        let second = status.handoffs.back().expect("a launch");
        status.alarm.is_some() && second.outcome == Outcome::Failed && status.is_at_rest()
    });

    assert_eq!(status.generation(), before.generation(), "nothing moves");
    let alarm = status.alarm.clone().expect("an alarm");
    assert!(
        alarm.reason.contains("GET /alive answered 404"),
        "{alarm:?}"
    );
    assert!(status.refused.is_empty(), "{:#?}", status.refused);
    site.await_version("v1");
    let launches = site.status().handoffs.len();

    std::fs::write(alive(&site), "yes").unwrap();
    site.wait_until("the alarm is over", |status| status.alarm.is_none());
    assert_eq!(site.status().handoffs.len(), launches);
}

#[cfg(unix)]
#[test]
fn a_second_instance_that_is_well_takes_over() {
    // Each instance has a file of its own to be well by.
    let script = r#"mkdir -p "$2/$1" && cd "$2/$1" && echo yes > alive && exec "$0" -port "$1""#;
    let command = ["sh", "-c", script, "{artifact}", "{port}", "{shared}"];
    let site = watched().running(&command).start("v1");
    let upload = site.begin_upload("/upload");
    let first = site.status().active.clone().expect("an active one");
    let port = first.address.expect("its address").port();
    let own = site.shared().join(port.to_string()).join("alive");

    std::fs::remove_file(own).unwrap();

    let status = site.wait_until("the second one serves", |status| {
        status.generation() == Some(2)
    });
    assert!(status.is_active("v1") && status.is_draining("v1"));
    assert!(status.alarm.is_none(), "{status:#?}");
    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v1"));
    site.await_launches(2);
}

#[test]
fn without_a_path_its_answers_do_not_count() {
    let site = Site::watching_a_pointer()
        .with("--live-interval", "50ms")
        .with("--health-path", "/version");
    let site = site.start(tests::app("v1").that("--never-ready"));
    for _ in 0..20 {
        assert_eq!(site.get("/health").status, 503);
    }
    assert!(site.status().alarm.is_none());
    site.await_launches(1);
}

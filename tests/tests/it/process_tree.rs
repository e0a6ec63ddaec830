//! The processes that an app starts end with it, and so does an app that ignores the request.
#![cfg(unix)]

use tests::processes::{group, is_alive};
use tests::{Running, Site, app, eventually};

/// The processes of the active release, once there is more than the root.
fn tree(site: &Running) -> Vec<u32> {
    let root = site
        .status()
        .active
        .clone()
        .expect("an active one")
        .pid
        .expect("its process");
    eventually(
        || format!("{root} has a child: {:?}", group(root)),
        || Some(group(root)).filter(|tree| tree.len() > 1),
    )
}

fn await_end(tree: &[u32]) {
    let left = || {
        tree.iter()
            .filter(|&&pid| is_alive(pid))
            .collect::<Vec<_>>()
    };
    eventually(
        || format!("the whole tree is gone, not {:?}", left()),
        || left().is_empty().then_some(()),
    );
}

#[test]
fn a_child_that_outlives_its_app_is_ended_with_a_superseded_release() {
    let site = Site::watching_a_pointer().start(app("v1").that("--leak-child"));
    let tree = tree(&site);
    site.deploy("v2");
    site.await_version("v2");
    site.wait_until("v1 is stopped", |status| {
        let handoff = status.handoff("v2");
        handoff.is_some_and(|v2| v2.stopped_ms.is_some()) && status.is_at_rest()
    });
    await_end(&tree);
}

#[test]
fn a_child_that_ignores_being_asked_is_ended_too() {
    let leaking = app("v1").that("--leak-child").that("--ignore-stop");
    let site = Site::watching_a_pointer().with("--stop-timeout", "500ms");
    let site = site.start(leaking);
    let tree = tree(&site);
    site.deploy("v2");
    site.await_version("v2");
    await_end(&tree);
}

#[test]
fn a_child_is_ended_when_its_app_crashes() {
    let leaking = app("v1").that("--leak-child").that("--crash-after=2s");
    let site = Site::watching_a_pointer().start(leaking);
    await_end(&tree(&site));
}

#[test]
fn a_child_is_ended_when_handoff_shuts_down() {
    let site = Site::watching_a_pointer().start(app("v1").that("--leak-child"));
    let tree = tree(&site);
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0));
    await_end(&tree);
}

#[test]
fn an_app_that_ignores_being_asked_to_stop_is_killed_after_the_stop_timeout() {
    let site = Site::watching_a_pointer().with("--stop-timeout", "500ms");
    let site = site.start(app("v1").that("--ignore-stop"));
    site.deploy("v2");
    site.await_active("v2");
    let status = site.wait_until("v1 is gone", |status| status.is_at_rest());
    site.await_log("sample-app ignores SIGTERM");
    site.await_log("signal: 9");
    let v2 = status.handoff("v2").unwrap();
    let took = v2.stopped_ms.unwrap().0 - v2.drained_ms.unwrap().0;
    assert!(took >= 500, "killed after {took} ms");
    assert!(status.last_failure.is_none(), "no crash: {status:#?}");
}

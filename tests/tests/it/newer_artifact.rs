//! Artifacts that arrive while another one starts.

use tests::status::Outcome;
use tests::{Site, app};

#[test]
fn a_second_artifact_wins_over_a_candidate_that_still_starts() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--never-ready"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    site.deploy("v3");
    site.await_version("v3");
    let status = site.wait_until("v2 is gone", |status| status.is_at_rest());
    assert!(status.has_outcome("v2", Outcome::Abandoned), "{status:#?}");
    assert!(status.handoff("v2").unwrap().promoted_ms.is_none());
    assert!(status.last_failure.is_none(), "{status:#?}");
    let superseded = status.handoff("v3").unwrap().superseded_generation;
    assert_eq!(superseded.map(|generation| generation.0), Some(1));
}

#[test]
fn going_back_to_the_active_release_abandons_the_candidate() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--never-ready"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    site.deploy("v1");
    let status = site.wait_until("v2 is abandoned and gone", |status| {
        status.has_outcome("v2", Outcome::Abandoned) && status.is_at_rest()
    });
    assert_eq!(status.generation(), Some(1), "v1 was not restarted");
    site.await_version("v1");
}

#[test]
fn a_second_artifact_wins_over_a_first_that_never_served() {
    let site = Site::watching_a_pointer().launch(app("v1").that("--never-ready"));
    site.wait_until("v1 starts", |status| status.is_candidate("v1"));
    let mut held = site.begin("/version");
    site.deploy("v2");
    let answer = held.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "v2"));
}

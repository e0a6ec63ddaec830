//! Conditions for the first request to a release, beside one good answer.

use std::fs;

use tests::{Running, Site, app};

const WITH_JOURNAL: [&str; 4] = ["-port", "{port}", "--journal", "{shared}/journal"];

/// Returns the journal of the one app. On Windows its process is in the file's name.
fn journal(site: &Running) -> String {
    let entries = fs::read_dir(site.shared()).expect("a folder").flatten();
    let journal = entries.map(|entry| entry.path()).next().expect("a journal");
    fs::read_to_string(journal).expect("a journal")
}

#[test]
fn pages_are_asked_for_in_order_before_the_release_gets_requests() {
    let site = Site::watching_a_pointer()
        .running(&WITH_JOURNAL)
        .with("--health-path", "/health")
        .with("--warmup", "/slow?ms=1,/no/such/page,/version");
    let site = site.start("v1");
    let journal = journal(&site);
    let asked: Vec<_> = journal
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let good = asked
        .iter()
        .position(|path| *path == "/health")
        .expect("a check");
    let then: Vec<_> = asked[good + 1..]
        .iter()
        .filter(|p| **p != "/health")
        .collect();
    assert_eq!(then.len(), 3, "{journal}");
    assert!(then[0].starts_with("/slow") && *then[1] == "/no/such/page" && *then[2] == "/version");
}

#[test]
fn a_page_that_is_not_answered_in_time_keeps_the_release_from_its_requests() {
    let site = Site::watching_a_pointer()
        .with("--start-timeout", "2s")
        .with("--warmup", "/slow?ms=3600000");
    let site = site.launch("v1");
    let status = site.wait_until("it has failed", |status| status.last_failure.is_some());
    let reason = status.last_failure.clone().expect("a failure").reason;
    assert!(reason.contains("warm-up GET /slow?ms=3600000"), "{reason}");
}

#[test]
fn so_many_good_answers_in_a_row_are_needed() {
    let site = Site::watching_a_pointer()
        .running(&WITH_JOURNAL)
        .with("--health-path", "/health")
        .with("--health-rise", "3");
    let site = site.start("v1");
    let journal = journal(&site);
    let checks = journal.matches(" /health ").count();
    assert_eq!(checks, 3, "{journal}");
}

#[test]
fn other_status_codes_may_be_good() {
    let site = Site::watching_a_pointer()
        .with("--health-path", "/health")
        .with("--health-status", "503");
    let site = site.start(app("v1").that("--never-ready"));
    site.await_version("v1");
}

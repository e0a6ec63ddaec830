//! A check of the check: each fault of a proxy is found by `loadtest run`, which joins what clients
//! saw with the journal, and called by its name.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tests::binaries;
use tests::faulty::{Fault, Faulty};
use tests::loadtest::loadtest;

/// The part of loadtest's report that matters here.
#[derive(Debug, Deserialize)]
struct Found {
    /// Number of requests that really suffered.
    #[serde(skip)]
    suffered: u64,
    passed: bool,
    sent: u64,
    failed: BTreeMap<String, u64>,
    classes: BTreeMap<String, Class>,
    latency_ms: Latency,
}

#[derive(Debug, Deserialize)]
struct Class {
    sent: u64,
    latency_ms: Latency,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p90: Option<f64>,
}

/// An app that ends with this value.
struct App(Child);

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, and waits until it listens.
fn app(version: &str, journal: &Path) -> (App, SocketAddr) {
    let mut command = Command::new(binaries::sample_app());
    command
        .args(["--version-name", version, "--port", "0", "--journal"])
        .arg(journal)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = binaries::spawn(&mut command).expect("an app");
    let mut said = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    let address = line.trim().rsplit(' ').next().expect("an address");
    let address = address.parse().expect("an address");
    (App(child), address)
}

/// Runs loadtest behind a proxy with this fault.
fn found(fault: Fault) -> Found {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let (_old, old) = app("v1", &journal);
    let (_new, new) = app("v2", &journal);
    let proxy = Faulty::start(fault, new, old);
    let url = format!("http://{}", proxy.address());
    let journal = journal.to_str().expect("a path in UTF-8");
    let arguments =
        format!("run --rate 100 --for 5s --connections 8 --timeout 10s --url {url} --journal");
    let ran = loadtest(arguments.split(' ').chain([journal]));
    let mut found: Found = serde_json::from_value(ran.json).expect("a result");
    let code = if found.passed { 0 } else { 1 };
    assert_eq!(ran.code, Some(code), "{}", ran.said);
    found.suffered = proxy.suffered();
    found
}

#[track_caller]
fn only(kind: &str, fault: Fault) {
    let found = found(fault);
    assert!(!found.passed);
    let suffered = if fault == Fault::Refuse {
        // A proxy does not see whom it refuses.
        found.failed[kind]
    } else {
        found.suffered
    };
    assert!(suffered > 0);
    let expected = |other: &str| if other == kind { suffered } else { 0 };
    for (kind, count) in &found.failed {
        assert_eq!(*count, expected(kind), "{kind}");
    }
}

#[test]
fn a_proxy_without_a_fault_has_none() {
    let found = found(Fault::None);
    assert!(found.passed, "{:?}", found.failed);
    assert!(found.sent >= 500);
    assert_eq!(found.failed.len(), 13);
    assert_eq!(found.classes.len(), 8);
    assert!(found.classes.values().all(|class| class.sent > 5));
}

#[test]
fn nobody_who_listens_is_refused() {
    only("refused", Fault::Refuse);
}

#[test]
fn a_connection_that_breaks_off_before_its_answer_is_reset() {
    only("reset", Fault::Reset);
}

#[test]
fn an_answer_without_its_end_is_truncated() {
    only("truncated", Fault::Truncate);
}

#[test]
fn a_post_that_is_sent_twice_is_repeated() {
    only("repeated", Fault::RepeatPost);
}

#[test]
fn the_old_release_after_the_new_one_is_a_wrong_release() {
    only("wrong_release", Fault::OldRelease);
}

#[test]
fn a_stall_is_no_failure_and_shows_in_latency() {
    // A third of all requests.
    let found = found(Fault::Stall);
    assert!(found.passed, "{:?}", found.failed);
    assert!(
        found.latency_ms.p90 >= Some(300.0),
        "{:?}",
        found.latency_ms
    );
}

#[test]
fn a_stream_that_stops_on_the_way_and_catches_up_shows_in_its_latency() {
    let found = found(Fault::Freeze);
    assert!(found.passed, "{:?}", found.failed);
    // The second event is due a tenth of a second after the first, the last at least two later: the
    // end of a stream alone would be late by 200 ms at most.
    let events = &found.classes["events"].latency_ms;
    assert!(events.p90 >= Some(300.0), "{events:?}");
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_timeout() {
    only("timeout", Fault::Silent);
}

#[test]
fn two_bodies_that_are_swapped_are_mixed_up() {
    only("mixed_up", Fault::SwapBodies);
}

#[test]
fn an_answer_to_what_no_app_has_heard_is_a_request_that_was_lost() {
    only("lost", Fault::MakeUp);
}

#[test]
fn a_message_that_is_left_out_is_lost() {
    only("lost", Fault::LoseMessage);
}

#[test]
fn messages_that_are_left_out_before_a_close_are_lost() {
    only("lost", Fault::LoseMessagesAndClose);
}

#[test]
fn an_answer_that_says_no_is_of_a_bad_status() {
    only("status", Fault::BadGateway);
}

#[test]
fn what_is_no_http_is_wrong() {
    only("wrong", Fault::Garble);
}

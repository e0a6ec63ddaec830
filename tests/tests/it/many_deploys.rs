//! Deploys in a row, every third of them bad, under load.
#![cfg(unix)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::status::Outcome;
use tests::{Release, Running, Site, file};

/// A release is a few words: what it costs is starting it.
fn release(number: usize) -> Release {
    let app = tests::binaries::sample_app().display().to_string();
    let misbehaves = if is_bad(number) {
        "--never-ready --crash-after 300ms --exit-code 3"
    } else {
        ""
    };
    let version = version(number);
    let script = format!("#!/bin/sh\nexec {app} --version-name {version} {misbehaves} \"$@\"\n");
    file(&version, script.as_bytes())
}

fn version(number: usize) -> String {
    format!("v{number}")
}

fn is_bad(number: usize) -> bool {
    number.is_multiple_of(3)
}

/// Asks without a pause; how many answers there were, and what was not 200 and a release's.
fn load(site: &Running, over: &AtomicBool, answers: &AtomicUsize) -> Vec<String> {
    let mut failed = Vec::new();
    let mut kept = site.connect();
    while !over.load(Ordering::Relaxed) {
        for connection in [&mut kept, &mut site.connect()] {
            match connection.get("/version") {
                Ok(answer) if answer.status == 200 => {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => failed.push(format!("{}: {}", answer.status, answer.text())),
                Err(error) => failed.push(error.to_string()),
            }
        }
    }
    failed
}

fn deploy(site: &Running, number: usize) {
    let version = version(number);
    let path = site.upload(release(number));
    let digest = tests::release::sha256(&path);
    site.point(format!("{}\nsha256={digest}\n", path.display()));
    if !is_bad(number) {
        site.await_active(&version);
        return;
    }
    let status = site.wait_until(&format!("{version} is refused"), |status| {
        status.refusal(&version).is_some()
    });
    let refusal = status.refusal(&version).expect("a refusal");
    assert_eq!(
        refusal.exit.as_deref(),
        Some("exit status: 3"),
        "{refusal:#?}"
    );
    let words = format!("{version} crashes with 3");
    let said = refusal.output.iter().any(|line| line.contains(&words));
    assert!(said, "{refusal:#?}");
    let probe = refusal.probe.as_deref().expect("a probe");
    // What the last one met depends on when it came: before the app listened, or as it crashed.
    let says = [
        "GET / answered 503",
        "nothing listens on port",
        "no HTTP answer",
    ];
    assert!(
        says.iter().any(|words| probe.contains(words)),
        "{refusal:#?}"
    );
    assert!(refusal.reason.contains("exit status: 3"), "{refusal:#?}");
}

fn no_request_fails(deploys: usize) {
    let site = Site::watching_a_pointer()
        .running(&["{artifact}", "-port", "{port}"])
        .start(release(1));
    let over = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    let failed = std::thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| load(&site, &over, &answers)));
        // Also when a deploy panics: the clients would go on for ever.
        let ended = End(&over);
        (2..=deploys).for_each(|number| deploy(&site, number));
        drop(ended);
        clients
            .map(|client| client.join().expect("a client"))
            .concat()
    });
    let answers = answers.into_inner();
    eprintln!(
        "{deploys} deploys, {answers} answers, {} failed",
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new());
    assert!(answers > deploys, "only {answers} answers");
    let status = site.wait_until("nothing else moves", |status| status.is_at_rest());
    assert!(
        status.handoffs.iter().all(|h| h.outcome != Outcome::Failed),
        "{status:#?}"
    );
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn thirty_deploys_of_which_every_third_is_bad_cost_no_request() {
    no_request_fails(30);
}

#[test]
#[ignore = "takes some minutes: cargo test -p tests --test it many_deploys:: -- --ignored"]
fn two_hundred_deploys_of_which_every_third_is_bad_cost_no_request() {
    no_request_fails(200);
}

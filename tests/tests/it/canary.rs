//! A canary: a release that gets a share of new clients before it serves everybody (`--canary`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tests::status::Outcome;
use tests::wait::sleep_for;
use tests::{Connection, Running, Site, app, command, eventually};

use crate::http2::Client;
use crate::sessions::{Browser, shown, sticky};

/// Numbers of answers, by their release and status.
type Answers = BTreeMap<(String, u16), u32>;

/// New clients, one after the other, until they are told to end.
struct Newcomers {
    is_over: Arc<AtomicBool>,
    asking: Vec<JoinHandle<Answers>>,
}

impl Newcomers {
    fn come_to(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ask = move |is_over: Arc<AtomicBool>| {
            let mut answers = Answers::new();
            while !is_over.load(Ordering::Relaxed) {
                let mut connection = Connection::open(address).expect("a connection");
                connection.send("GET", "/version", "");
                let answer = connection.answer().expect("an answer");
                let release = answer.header("x-release").unwrap_or_default().to_owned();
                *answers.entry((release, answer.status)).or_default() += 1;
                sleep_for(Duration::from_millis(3), "clients come one by one");
            }
            answers
        };
        let asking = (0..2).map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || ask(is_over))
        });
        Self {
            asking: asking.collect(),
            is_over,
        }
    }

    fn end(self) -> Answers {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Answers::new();
        for asking in self.asking {
            for (key, count) in asking.join().expect("its answers") {
                *all.entry(key).or_default() += count;
            }
        }
        all
    }
}

/// Waits for new clients until one is dealt to this release, and returns it.
fn newcomer_at(site: &Running, version: &str) -> Browser {
    eventually(
        || format!("a new client gets {version}; the log:\n{}", site.log()),
        || {
            let mut browser = Browser::default();
            (browser.session(site) == shown(1, version)).then_some(browser)
        },
    )
}

/// `v1` serves, and `v2` is a canary; each has a client.
fn with_clients_of_both() -> (Running, [Browser; 2]) {
    let site = sticky().with("--admin", "127.0.0.1:0");
    let site = site.with("--canary", "50%:10m").start("v1");
    let old = newcomer_at(&site, "v1");
    site.deploy(app("v2"));
    site.wait_until("it is a canary", |status| status.canary.is_some());
    let new = newcomer_at(&site, "v2");
    (site, [old, new])
}

#[test]
fn one_with_added_errors_is_refused_at_the_first_stage_and_one_without_serves() {
    let site = sticky().start("v1");
    let newcomers = Newcomers::come_to(site.address());
    let refused = site.deployment().run_deploy(
        app("v2").that("--fail-every=50"),
        &["--canary", "50%:10m,100%:1s"],
    );
    refused.with(1).saying(&[
        "canary: 50% of new clients, stage 1 of 2",
        "as a canary were errors",
    ]);
    let status = site.status();
    assert!(status.has_outcome("v2", Outcome::Refused), "{status:#?}");
    assert!(status.is_active("v1"));

    let stages = ["--canary", "50%:1s,90%:1s"];
    site.deployment().run_deploy("v3", &stages).with(0);
    site.await_active("v3");
    let answers = newcomers.end();
    for ((release, status), count) in &answers {
        let is_candidates_own = release == "v2" && *status == 500;
        assert!(*status == 200 || is_candidates_own, "{count}: {answers:?}");
    }
    for good in ["v1", "v2", "v3"] {
        assert!(answers.contains_key(&(good.to_owned(), 200)), "{answers:?}");
    }
}

#[test]
fn everybody_keeps_their_side_until_it_serves_and_after_it() {
    let (site, [mut old, mut new]) = with_clients_of_both();
    for count in 2..5 {
        assert_eq!(old.session(&site), shown(count, "v1"));
        assert_eq!(new.session(&site), shown(count, "v2"));
    }
    let shows = site.deployment().run_command("status", &[]).with(0);
    shows.saying(&["gets 50% of new clients for ", "stage 1 of 1: 0 errors in "]);
    site.await_metric("handoff_canary_share", &[], 0.5);
    site.await_metric("handoff_canary_stage", &[], 1.0);
    site.await_metric("handoff_canary_errors", &[("side", "canary")], 0.0);
    let promoted = site
        .deployment()
        .run_command("promote", &["--timeout", "50s"]);
    promoted.with(0);
    assert_eq!(new.session(&site), shown(5, "v2"));
    assert_eq!(old.session(&site), shown(5, "v1"), "pinned");
    assert_eq!(Browser::default().session(&site), shown(1, "v2"));
    let status = site.wait_until("it is no canary", |status| status.canary.is_none());
    assert!(status.staged.is_none());
    site.await_metric("handoff_canary_share", &[], 0.0);
}

#[test]
fn the_clients_of_one_that_is_aborted_return() {
    let (site, [mut old, mut new]) = with_clients_of_both();
    let aborted = site
        .deployment()
        .run_command("abort", &["--timeout", "50s"]);
    aborted.with(0);
    assert_eq!(new.session(&site), shown(1, "v1"));
    assert_eq!(old.session(&site), shown(2, "v1"));
    assert_eq!(new.session(&site), shown(2, "v1"));
    site.wait_until("v2 has gone", |status| {
        status.is_at_rest() && status.canary.is_none()
    });
}

#[test]
fn a_sidecar_without_the_cookie_has_none() {
    let site = Site::watching_a_pointer().start("v1");
    let refused = site.deployment().run_deploy("v2", &["--canary", "5%:1m"]);
    refused.with(1).saying(&["without --sticky cookie"]);
    assert!(site.status().is_active("v1"));
}

/// The field of testers, as a request has it.
const TESTER: &str = "X-Canary: team-a\r\n";

/// `v1` serves, and `v2` is a canary for one of a hundred new clients, and for testers.
fn with_testers(canary: impl Into<tests::Release>) -> Running {
    let site = sticky().with("--admin", "127.0.0.1:0");
    let site = site.with("--canary-header", "X-Canary=team-a");
    let site = site.with("--canary", "1%:10m").start("v1");
    assert_eq!(release_for(&site, TESTER), "v1", "there is no canary");
    site.deploy(canary);
    site.wait_until("it is a canary", |status| status.canary.is_some());
    site
}

/// Returns the release that answers a new client.
fn release_for(site: &Running, fields: &str) -> String {
    let answer = Browser::default().ask(site, "/version", fields);
    answer.header("x-release").expect("a release").to_owned()
}

#[test]
fn a_tester_reaches_it_whatever_its_share_and_returns_when_it_is_aborted() {
    let site = with_testers(app("v2"));
    for _ in 0..50 {
        assert_eq!(release_for(&site, TESTER), "v2");
    }
    for fields in [
        "",
        "X-Canary: team-b\r\n",
        "X-Canary: Team-a\r\n",
        "X-Canary: team-a, b\r\n",
        "X-Canary: team-a\r\nX-Canary: b\r\n",
        "X-Canary: team-a\r\nConnection: X-Canary\r\n",
        "X-Canary: \r\n",
        "X-Canarys: team-a\r\n",
    ] {
        let dealt = (0..30).filter(|_| release_for(&site, fields) == "v2");
        assert!(dealt.count() < 10, "{fields:?}");
    }
    let responses = "handoff_canary_responses";
    site.await_metric(responses, &[("side", "testers")], 50.0);
    let command = |name| site.deployment().run_command(name, &[]).with(0);
    command("status").saying(&["gets 1% of new clients", "0 in 50 to testers"]);
    command("abort");
    for _ in 0..50 {
        assert_eq!(release_for(&site, TESTER), "v1");
    }
    site.wait_until("v2 has gone", |status| {
        status.is_at_rest() && status.canary.is_none()
    });
}

#[test]
fn a_tester_over_http2_reaches_it() {
    let site = with_testers(app("v2"));
    let mut client = Client::connect(site.address());
    let mut ask = |value: &str| {
        let request = client.to("GET", "/version").header("x-canary", value);
        let sent = client.send(request, true);
        let response = client.head_of(sent);
        client.text_of(response)
    };
    for _ in 0..50 {
        assert_eq!(ask("team-a"), "v2");
    }
    assert!((0..30).filter(|_| ask("team-b") == "v2").count() < 10);
    site.deployment().run_command("abort", &[]).with(0);
    assert_eq!(ask("team-a"), "v1");
}

#[test]
fn the_errors_that_testers_see_do_not_count_for_its_comparison() {
    let site = with_testers(app("v2").that("--fail-every=1"));
    let mut tester = Browser::default();
    for _ in 0..60 {
        assert_eq!(tester.ask(&site, "/version", TESTER).status, 500);
    }
    for (side, errors) in [("testers", 60.0), ("canary", 0.0), ("active", 0.0)] {
        site.await_metric("handoff_canary_errors", &[("side", side)], errors);
    }
    site.await_metric("handoff_canary_responses", &[("side", "canary")], 0.0);
    // Without the field, one with the cookie is a client of it like any other.
    eventually(
        || format!("it is refused; the log:\n{}", site.log()),
        || {
            tester.ask(&site, "/version", "");
            let status = site.status();
            status.has_outcome("v2", Outcome::Refused).then_some(())
        },
    );
    assert_eq!(tester.ask(&site, "/version", TESTER).status, 200);
}

#[test]
fn a_testers_session_stays_at_it_with_and_without_the_field() {
    let site = with_testers(app("v2"));
    let mut tester = Browser::default();
    let mut session = |fields: &str| {
        let answer = tester.ask(&site, "/session", fields);
        answer.text().trim_end().to_owned()
    };
    // From the side where it was.
    let began = eventually(
        || "a session at v1".to_owned(),
        || Some(session("")).filter(|it| it == &shown(1, "v1")),
    );
    assert_eq!(began, shown(1, "v1"));
    assert_eq!(session(TESTER), shown(1, "v2"));
    assert_eq!(session(""), shown(2, "v2"));
    assert_eq!(session(TESTER), shown(3, "v2"));
    site.deployment().run_command("promote", &[]).with(0);
    assert_eq!(session(TESTER), shown(4, "v2"));
    assert_eq!(session(""), shown(5, "v2"));
}

#[test]
fn a_field_that_cannot_be_that_of_testers_is_refused() {
    for (field, says) in [
        ("X-Canary", "expected NAME=VALUE"),
        ("X-Canary=", "expected NAME=VALUE"),
        ("Connection=close", "expected a field of your own"),
        ("Cookie=a", "expected a field of your own"),
    ] {
        let args = ["run", "--sticky", "cookie", "--canary-header", field];
        let refused = command::run(&args).with(2);
        refused.saying(&["--canary-header", says]);
    }
    let args = ["run", "--artifact", "a", "--canary-header", "X-Canary=a"];
    let args = [&args[..], &["--", "./a"]].concat();
    command::run(&args).with(2).saying(&["--sticky cookie"]);
}

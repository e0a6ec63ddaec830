//! `handoff maintenance on` and `off`.

use tests::command::{self, Ended};
use tests::{Answer, Deployment, Running, Site};

pub(crate) fn asks(deployment: &Deployment, wish: &[&str]) -> Ended {
    let place = deployment.place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    command::run(&[&["maintenance"], wish, &place].concat())
}

fn get(site: &Running, fields: &str) -> Answer {
    let mut connection = site.connect();
    connection.send("GET", "/version", fields);
    connection.answer().expect("an answer")
}

fn assert_refused(answer: &Answer, part: &str) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("60"), "{answer:?}");
    assert!(answer.text().contains(part), "{answer:?}");
}

#[test]
fn requests_get_503_at_once_and_deploys_go_on_behind_it() {
    let site = Site::watching_a_pointer()
        .with("--admin", "127.0.0.1:0")
        .with("--public-health", "/up")
        .start("v1");
    let other = Site::watching_a_pointer().launch_in(site.deployment());
    other.await_active("v1");
    let mut kept = site.connect();
    assert_eq!(kept.get("/version").unwrap().status, 200);
    let upload = site.begin_upload("/upload");
    asks(site.deployment(), &["on", "--message", "Back at noon"])
        .with(0)
        .saying(&[
            "2 sidecars in maintenance",
            "until `handoff maintenance off`",
        ]);
    for sidecar in [&site, &other] {
        assert_refused(&get(sidecar, ""), "Back at noon");
    }
    assert_refused(&kept.get("/version").unwrap(), "Back at noon");
    assert_eq!(
        upload.finish().unwrap().release(),
        "v1",
        "what was in flight ends"
    );
    assert_eq!(
        site.get("/up").status,
        200,
        "a balancer does not show its own page"
    );
    site.await_metric("handoff_maintenance", &[], 1.0);
    site.await_log("the maintenance has begun");
    let place = site.deployment().place();
    let mut status = vec!["status"];
    status.extend(place.iter().map(String::as_str));
    command::run(&status)
        .with(0)
        .saying(&["in maintenance", "Back at noon"]);

    site.deployment().run_deploy("v2", &[]).with(0);
    assert_refused(&get(&site, ""), "Back at noon");
    asks(site.deployment(), &["on"]).with(0);
    assert_refused(&get(&site, ""), "not available");
    asks(site.deployment(), &["off"])
        .with(0)
        .saying(&["2 sidecars not in maintenance"]);
    for sidecar in [&site, &other] {
        sidecar.await_version("v2");
        assert!(sidecar.status().maintenance.is_none());
    }
    site.await_metric("handoff_maintenance", &[], 0.0);
    asks(site.deployment(), &["off"]).with(0);
}

#[test]
fn it_survives_a_restart_of_handoff() {
    let site = Site::watching_a_pointer().start("v1");
    asks(site.deployment(), &["on", "--message", "soon"]).with(0);
    let next = Site::watching_a_pointer().launch_in(site.deployment());
    site.kill();
    // Also a request that comes before the file has been read.
    assert_refused(&get(&next, ""), "soon");
    next.await_active("v1");
    assert_refused(&get(&next, ""), "soon");
    asks(next.deployment(), &["off"]).with(0);
    next.await_version("v1");
    // It may begin before handoff does.
    let deployment = next.deployment().clone();
    next.kill();
    asks(&deployment, &["on"])
        .with(4)
        .saying(&["one that starts begins with"]);
    let last = Site::watching_a_pointer().launch_in(&deployment);
    last.await_active("v1");
    assert_refused(&get(&last, ""), "not available");
}

#[test]
fn a_request_that_waits_is_refused_when_it_begins() {
    let site = Site::watching_a_pointer().launch(tests::app("v1").that("--never-ready"));
    let mut held = site.begin("/version");
    site.wait_until("it is held", |status| status.held == 1);
    asks(site.deployment(), &["on", "--message", "soon"]).with(0);
    assert_refused(&held.answer().unwrap(), "soon");
}

#[test]
fn allowed_clients_come_through_by_the_address_behind_trusted_proxies() {
    let site = Site::watching_a_pointer().start("v1");
    asks(
        site.deployment(),
        &["on", "--allow", "192.0.2.0/24,2001:db8::7"],
    )
    .with(0);
    for (forwarded_for, is_allowed) in [
        ("", false),
        ("X-Forwarded-For: 192.0.2.9\r\n", true),
        ("X-Forwarded-For: 192.0.2.9:4711\r\n", true),
        ("X-Forwarded-For: [2001:db8::7]:80, 127.0.0.1\r\n", true),
        // The client wrote the first one itself.
        ("X-Forwarded-For: 192.0.2.9, 198.51.100.1\r\n", false),
        (
            "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.9\r\n",
            true,
        ),
        ("X-Forwarded-For: unknown\r\n", false),
    ] {
        let answer = get(&site, forwarded_for);
        let expected = if is_allowed { 200 } else { 503 };
        assert_eq!(answer.status, expected, "{forwarded_for:?}: {answer:?}");
    }
    // Here, nobody is in front.
    asks(site.deployment(), &["on", "--allow", "127.0.0.1"]).with(0);
    assert_eq!(get(&site, "").text(), "v1");
    assert_eq!(get(&site, "X-Forwarded-For: 192.0.2.9\r\n").status, 503);
    site.deployment().run_deploy("v2", &[]).with(0);
    assert_eq!(get(&site, "").text(), "v2");
}

#[test]
fn what_is_wrong_with_a_command_is_said() {
    let site = Site::watching_a_pointer().start("v1");
    asks(site.deployment(), &["on", "--allow", "the office"])
        .with(2)
        .saying(&["expected a network or an address"]);
    asks(site.deployment(), &["off", "--message", "x"])
        .with(2)
        .saying(&["belong to `handoff maintenance on`"]);
    asks(site.deployment(), &[]).with(2);
    assert_eq!(get(&site, "").status, 200);
    // By hand, a mistake in the networks does not leave the users without their message.
    site.ask(r#"{"serial": 9, "maintenance": {"message": "soon", "allow": ["x"]}}"#);
    site.wait_until("it says so", |status| {
        let problem = status.desired_problem.as_deref();
        problem.is_some_and(|problem| problem.contains("expected networks such as"))
    });
    assert_refused(&get(&site, ""), "soon");
}

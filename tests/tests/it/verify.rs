//! An operator's check of a release that is ready, before its users see it: `--verify`.

use tests::status::Outcome;
use tests::{Running, Site};

/// Starts a deployment whose releases are checked by this line of a shell.
#[cfg(unix)]
fn checked_by(line: &str) -> Running {
    let verify = format!("sh -c '{line}'");
    Site::watching_a_pointer()
        .with("--verify", &verify)
        .start("v1")
}

/// Returns what the check has written into `{shared}`.
#[cfg(unix)]
fn seen(site: &Running) -> String {
    std::fs::read_to_string(site.shared().join("seen")).unwrap_or_default()
}

#[cfg(unix)]
#[test]
fn it_finds_both_instances_and_refuses_with_its_output() {
    let site = checked_by(
        r#"echo "$RELEASE $HANDOFF_URL $HANDOFF_PREVIOUS_URL ." >> {shared}/seen
           case $RELEASE in v2*) echo "no price on the page"; exit 3;; esac"#,
    );
    let active = site.status().active.clone().expect("an active one");
    let url = format!("http://{}", active.address.expect("an address"));
    site.deploy("v2");
    let status = site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    assert!(status.is_active("v1"));
    let failure = status.last_failure.clone().expect("a failure");
    assert_eq!(
        failure.reason,
        "--verify failed (exit status: 3): no price on the page"
    );
    assert_eq!(failure.output, ["no price on the page"]);
    let seen = seen(&site);
    let lines: Vec<Vec<&str>> = seen.lines().map(|line| line.split(' ').collect()).collect();
    // Nothing served before the first one.
    let [first, second] = &lines[..] else {
        panic!("checked twice: {seen}");
    };
    assert_eq!(first[1..], [&url, "", "."]);
    assert_eq!(second[2], url);
    assert!(second[1].starts_with("http://127.0.0.1:") && second[1] != url);
    site.deploy("v3");
    site.await_version("v3");
}

#[test]
fn a_release_that_fails_its_check_serves_nobody() {
    let site = Site::watching_a_pointer()
        .with("--verify", "{artifact} --exit-code 3")
        .launch("v1");
    let status = site.wait_until("it has failed", |status| status.last_failure.is_some());
    let reason = status.last_failure.clone().expect("a failure").reason;
    assert!(reason.starts_with("--verify failed (exit"), "{reason}");
    assert!(status.active.is_none());
}

#[test]
fn a_check_that_cannot_be_started_refuses_the_release() {
    let site = Site::watching_a_pointer()
        .with("--verify", "./no-such-check")
        .launch("v1");
    let status = site.wait_until("it has failed", |status| status.last_failure.is_some());
    let reason = status.last_failure.clone().expect("a failure").reason;
    assert!(
        reason.starts_with("--verify: ") && reason.contains("no-such-check"),
        "{reason}"
    );
}

#[cfg(unix)]
#[test]
fn a_check_that_takes_too_long_is_killed_with_all_its_processes() {
    let site = Site::watching_a_pointer()
        .with(
            "--verify",
            "sh -c 'case $RELEASE in v2*) echo waiting; sleep 3600 & wait;; esac'",
        )
        .with("--verify-timeout", "1s")
        .start("v1");
    site.deploy("v2");
    let status = site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    let reason = status.last_failure.clone().expect("a failure").reason;
    assert_eq!(
        reason,
        "--verify was killed: it took longer than 1s: waiting"
    );
    site.await_version("v1");
}

#[cfg(unix)]
#[test]
fn requests_go_to_the_active_release_until_the_check_has_succeeded() {
    let site =
        checked_by("case $RELEASE in v2*) until [ -e {shared}/go ]; do sleep 0.05; done;; esac");
    let load = tests::load::Load::offer(site.address(), 100);
    site.deploy("v2");
    site.wait_until("v2 is checked", |status| {
        let candidate = status.candidate.as_ref();
        let probe = candidate.and_then(|candidate| candidate.probe.as_deref());
        probe == Some("--verify has not ended yet")
    });
    site.await_version("v1");
    std::fs::write(site.shared().join("go"), "").expect("a file");
    site.await_version("v2");
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[cfg(unix)]
#[test]
fn what_has_served_before_comes_back_without_a_check() {
    let site = checked_by(r#"echo "$RELEASE" >> {shared}/seen"#);
    site.deploy("v2");
    site.await_active("v2");
    let checks = |release| seen(&site).matches(release).count();
    assert_eq!((checks("v1"), checks("v2")), (1, 1));
    // A crash while nothing else serves.
    let app = site.status().active.clone().expect("an active one").pid;
    tests::processes::signal(app.expect("its process"), rustix::process::Signal::KILL);
    site.wait_until("v2 serves again", |status| {
        let active = status.active.as_ref();
        active.is_some_and(|active| active.pid != app) && status.is_active("v2")
    });
    site.deployment().run_command("rollback", &[]).with(0);
    site.await_active("v1");
    assert_eq!((checks("v1"), checks("v2")), (1, 1), "{}", seen(&site));
    // A restart beside what serves is checked.
    site.deployment().run_command("restart", &[]).with(0);
    assert_eq!(checks("v1"), 2);
}

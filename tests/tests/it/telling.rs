//! The account of an app that crashes, hangs, or is superseded: to people, programs and the app
//! itself.

use tests::status::LaunchCause;
#[cfg(unix)]
use tests::tools::has;
use tests::{Running, Site, app, command, eventually};

#[cfg(unix)]
use crate::gate::answering;

fn site() -> Site {
    Site::watching_a_pointer().with("--admin", "127.0.0.1:0")
}

/// Returns what a command about the deployment prints.
#[track_caller]
fn ask(site: &Running, name: &str) -> String {
    let place = site.deployment().place();
    let place = place.each_ref().map(String::as_str);
    command::run(&[&[name], &place[..]].concat()).with(0).stdout
}

#[test]
fn an_app_that_leaves_requests_unanswered_is_reported_once_and_serves_on() {
    let site = site().with("--unresponsive-after", "1s").start("v1");
    assert_eq!(site.get("/version").status, 200);
    site.await_metric("handoff_unresponsive", &[], 0.0);
    let mut waiting = [site.begin("/slow?ms=12000"), site.begin("/slow?ms=12000")];
    let status = site.wait_until("it is unresponsive", |status| {
        let found = status.unanswered.as_ref();
        found.is_some_and(|found| found.unresponsive_ms.is_some())
    });
    let found = status.unanswered.clone().unwrap();
    assert!(found.last_answer_ms.is_some(), "{found:?}");
    site.await_log("app_unresponsive");
    let metrics = site.metrics();
    let value = |name| metrics.value(name, &[]).unwrap();
    assert_eq!(value("handoff_unresponsive"), 1.0);
    assert!(value("handoff_oldest_unanswered_request_seconds") >= 1.0);
    assert!(value("handoff_time_since_last_answer_seconds") >= 1.0);
    let shown = ask(&site, "status");
    assert!(shown.contains("it does not respond"), "{shown}");

    for request in &mut waiting {
        assert_eq!(request.answer().unwrap().status, 200);
    }
    site.wait_until("nothing waits", |status| status.unanswered.is_none());
    site.await_log("app_responsive");
    site.await_metric("handoff_oldest_unanswered_request_seconds", &[], 0.0);
    assert_eq!(site.log().matches("event=\"app_unresponsive\"").count(), 1);
    let status = site.status();
    assert_eq!((status.handoffs.len(), status.generation()), (1, Some(1)));
}

#[test]
fn one_slow_request_beside_others_that_are_answered_is_no_reason_for_a_report() {
    let site = site().with("--unresponsive-after", "6s").start("v1");
    let slow = site.begin("/slow?ms=600000");
    let found = eventually(
        || site.log(),
        || {
            assert_eq!(site.get("/version").status, 200);
            let status = site.status();
            let unanswered = status.unanswered.clone()?;
            let waited = status.heartbeat_ms.0.checked_sub(unanswered.oldest_ms.0)?;
            (waited > 7_000).then_some(unanswered)
        },
    );
    assert_eq!(found.unresponsive_ms, None, "{found:?}");
    assert!(found.last_answer_ms > Some(found.oldest_ms), "{found:?}");
    assert!(!site.log().contains("app_unresponsive"), "{}", site.log());
    drop(slow);
    site.wait_until("nothing waits", |status| status.unanswered.is_none());
}

#[test]
fn each_launch_says_why_it_was_made_and_how_it_ended() {
    let site = site()
        .with("--rapid-fails", "9")
        .start(app("v1").that("--crash-after=300ms").that("--exit-code=7"));
    let status = site.wait_until("it has crashed twice", |status| {
        status.handoffs.iter().any(|handoff| handoff.crashes == 2)
    });
    let [first, second, ..] = &status.handoffs.iter().collect::<Vec<_>>()[..] else {
        panic!("{status:#?}");
    };
    assert_eq!(first.cause, LaunchCause::Start);
    assert_eq!(second.cause, LaunchCause::Crash);
    let end = first.end.clone().unwrap();
    assert!(end.starts_with("crashed after "), "{end}");
    assert!(
        end.contains("exit status: 7") || end.contains("exit code: 7"),
        "{end}"
    );
    let end = second.end.clone().unwrap();
    assert!(end.ends_with(", crash 2 in a row"), "{end}");
    site.await_log("launch_planned");
    let unready = eventually(
        || site.log(),
        || Some(site.look("/readyz")).filter(|answer| answer.status == 503),
    );
    assert!(unready.text().contains("in a row"), "{unready:?}");
    let history = ask(&site, "history");
    for part in ["start of handoff", "crashed", "crash 2 in a row"] {
        assert!(history.contains(part), "{history}");
    }

    site.deploy("v2");
    let status = site.await_active("v2");
    let last = status.handoffs.back().unwrap();
    assert_eq!(last.cause, LaunchCause::Artifact);
    ask(&site, "restart");
    let status = site.status();
    let last = status.handoffs.back().unwrap();
    assert_eq!(last.cause, LaunchCause::Restart);
    let before = status.handoffs[status.handoffs.len() - 2].clone();
    site.wait_until("the one before has stopped", |status| {
        let mut handoffs = status.handoffs.iter();
        let before = handoffs.find(|handoff| handoff.generation == before.generation);
        let end = before.and_then(|handoff| handoff.end.as_deref());
        end.is_some_and(|end| end.starts_with("stopped after "))
    });
}

#[cfg(unix)]
#[test]
fn a_refusal_names_the_error_although_its_message_is_far_above_the_end() {
    let frame = "\tfrom /usr/lib/ruby/gems/3.1.0/rack.rb:1:in `call'";
    let message = "/site/config.ru:5:in `block': undefined method `no' for nil (NoMethodError)";
    let script = format!(
        "#!/bin/sh\n>&2 echo \"{}\"\nfor n in $(seq 99); do >&2 echo \"{}\"; done\nexit 1\n",
        message.replace('`', "\\`"),
        frame.replace('`', "\\`"),
    );
    let site = site().start("v1");
    let refused = tests::file("rails", script.as_bytes());
    let said = site.deployment().run_deploy(refused, &[]).with(1).stderr;
    assert!(said.contains(&format!("error: {message}")), "{said}");
    assert!(said.matches("rack.rb").count() >= 40, "{said}");
    let shown = ask(&site, "status");
    assert!(shown.contains(&format!("error: {message}")), "{shown}");
    let status = site.status();
    let refusal = status.refusal("rails").unwrap();
    assert_eq!(refusal.error.as_deref(), Some(message));
    assert!(refusal.output.len() >= 40, "{refusal:?}");
}

#[test]
fn an_app_can_read_its_own_state() {
    let site = site().with("--bake", "1h").start("v1");
    let file = |generation: u64| {
        let status = site.status();
        let one = [&status.active, &status.standby, &status.candidate];
        let all = one.into_iter().flatten().chain(&status.draining);
        let mut all = all.filter(|one| one.generation.0 == generation);
        all.next().and_then(|one| one.state_file.clone()).unwrap()
    };
    let await_state = |file: &std::path::Path, state: &str| {
        let expected = format!("\"state\":\"{state}\"");
        eventually(
            || format!("{state} in {file:?}: {:?}", std::fs::read_to_string(file)),
            || {
                let text = std::fs::read_to_string(file).ok()?;
                text.contains(&expected).then_some(())
            },
        );
    };
    let first = file(1);
    await_state(&first, "active");
    site.deploy(app("v2").that("--ready-after=2s"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    let second = file(2);
    await_state(&second, "candidate");
    site.await_active("v2");
    await_state(&second, "active");
    await_state(&first, "standby");
    ask(&site, "rollback");
    await_state(&first, "active");
    eventually(
        || "its file goes with it".to_owned(),
        || (!second.exists()).then_some(()),
    );
    let folder = first.parent().unwrap().to_owned();
    drop(site);
    #[cfg(unix)]
    assert!(!folder.exists(), "{folder:?}");
    #[cfg(windows)]
    drop(folder);
}

#[cfg(unix)] // The app is in Python, which Wine has not.
#[test]
fn an_app_is_told_its_state() {
    if !has("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let append = format!(
        "if path == '/state':\n        \
         open({told:?}, 'a').write(VERSION + ' ' + request.decode().split('\\r\\n\\r\\n')[1] + '\\n')\n    \
         return status(200)"
    );
    let site = site()
        .with("--notify", "http:POST:/state")
        .with("--bake", "1h")
        // It goes on listening.
        .with("--stop", "http:POST:/quit")
        .with("--stop-timeout", "2s")
        .running(&["python3", "{artifact}", "{port}"])
        .start(answering("v1", &append));
    let await_told = |version: &str, state: &str| {
        let read = || std::fs::read_to_string(&told).unwrap_or_default();
        eventually(
            || format!("{version} is told {state}: {}", read()),
            || {
                let begin = format!("{version} {{");
                let state = format!("\"state\":\"{state}\"");
                let is_it = |line: &str| line.starts_with(&begin) && line.contains(&state);
                read().lines().any(is_it).then_some(())
            },
        );
    };
    await_told("v1", "active");
    site.deploy(answering("v2", &append));
    await_told("v2", "active");
    await_told("v1", "superseded");
    await_told("v1", "standby");
    // Nobody waits for one that does not listen to it.
    let deaf = "return status(500) if path == '/state' else status(200)";
    site.deployment()
        .run_deploy(answering("v3", deaf), &[])
        .with(0);
    site.await_log("event=\"notify_failed\"");
    await_told("v2", "superseded");
    await_told("v1", "stopping");
}

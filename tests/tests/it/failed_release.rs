//! A candidate that fails changes nothing for clients, and is refused with its reason.

use tests::status::Failure;
use tests::status::Outcome;
use tests::{Release, Running, Site, app, file, folder};

/// Deploys what has to fail while v1 serves, and gives the reason.
fn refused(site: &Running, bad: impl Into<Release>, name: &str) -> Failure {
    site.await_version("v1");
    let before = site.status().active.clone().expect("an active one");
    site.deploy(bad);
    let what = format!("{name} is refused, its processes are gone, and clients get v1");
    let status = site.wait_until(&what, |status| {
        let answer = site.get("/version");
        assert_eq!((answer.status, answer.text()), (200, "v1"));
        status.has_outcome(name, Outcome::Refused) && status.is_at_rest()
    });
    let after = status.active.clone().expect("an active one");
    assert_eq!(
        (after.generation, after.pid),
        (before.generation, before.pid),
        "v1 never noticed"
    );
    let failure = status.last_failure.clone().expect("a failure");
    assert_eq!(failure.generation.0, 2, "{status:#?}");
    assert_eq!(
        status.handoff(name).expect("its launch").reason.as_deref(),
        Some(failure.reason.as_str())
    );
    failure
}

/// Refused once, it stays so; what comes next is not affected.
fn the_next_one_takes_over(site: &Running) {
    site.deploy("v3");
    site.await_version("v3");
    let status = site.await_active("v3");
    let generation = status.active.clone().expect("an active one").generation;
    assert_eq!(generation.0, 3, "v2 was not tried again");
}

#[test]
fn one_that_exits_at_once_is_refused_with_its_exit_status_and_last_words() {
    let site = Site::watching_a_pointer().start("v1");
    let failure = refused(&site, app("v2").that("--exit-code=3"), "v2");
    let exit = failure.exit.as_deref().unwrap();
    assert!(exit.ends_with('3'), "{failure:#?}");
    assert!(failure.reason.contains(exit), "{failure:#?}");
    assert!(
        failure.reason.contains("before it was ready"),
        "{failure:#?}"
    );
    let last_words = "v2 exits at once with 3, as told by --exit-code";
    let has_last_words = failure.output.iter().any(|line| line.contains(last_words));
    assert!(has_last_words, "{failure:#?}");
    site.await_log(last_words);
    the_next_one_takes_over(&site);
}

#[test]
fn one_that_crashes_while_it_is_checked_is_refused_with_what_the_check_said() {
    let site = Site::watching_a_pointer().start("v1");
    let bad = app("v2").that("--never-ready").that("--crash-after=2s");
    let failure = refused(&site, bad, "v2");
    assert!(
        failure.exit.as_deref().unwrap().ends_with('1'),
        "{failure:#?}"
    );
    let probe = failure.probe.as_deref().unwrap();
    assert!(probe.contains("503"), "{failure:#?}");
    the_next_one_takes_over(&site);
}

#[test]
fn one_that_never_becomes_ready_is_refused_with_the_last_probe() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "2s");
    let site = site.start("v1");
    let failure = refused(&site, app("v2").that("--never-ready"), "v2");
    let probe = failure.probe.as_deref().unwrap();
    assert!(probe.contains("GET / answered 503"), "{failure:#?}");
    assert!(
        failure.reason.contains("not ready within 2s"),
        "{failure:#?}"
    );
    assert!(failure.reason.contains(probe), "{failure:#?}");
    assert_eq!(failure.exit, None);
    the_next_one_takes_over(&site);
}

#[test]
fn one_that_never_listens_is_refused_as_such() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "2s");
    let site = site.start("v1");
    let failure = refused(&site, app("v2").that("--never-bind"), "v2");
    let probe = failure.probe.as_deref().unwrap();
    assert!(probe.contains("nothing listens on port"), "{failure:#?}");
    assert!(!failure.reason.contains("it listens on"), "{failure:#?}");
    the_next_one_takes_over(&site);
}

#[test]
#[cfg_attr(windows, ignore = "Wine: does not say which process listens where")]
fn one_that_listens_elsewhere_is_refused_with_where() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "2s");
    let site = site.start("v1");
    // It wins over PORT in the environment: an app with its port written down.
    let failure = refused(&site, app("v2").that("--port=0"), "v2");
    let said = Vec::from(failure.output.clone()).join("\n");
    let (_, address) = said.rsplit_once("listening on ").expect("its address");
    let hint = format!("it listens on {}, not on its port", address.trim());
    assert!(failure.reason.contains(&hint), "{failure:#?}");
    the_next_one_takes_over(&site);
}

/// The address is that of a container, as in `HOSTNAME`.
#[cfg(target_os = "linux")]
#[test]
fn one_that_listens_on_another_address_is_refused_with_where() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "2s");
    let site = site.start("v1");
    let failure = refused(&site, app("v2").that("--host=127.0.0.5"), "v2");
    let reason = &failure.reason;
    assert!(reason.contains("it listens on 127.0.0.5:"), "{failure:#?}");
    assert!(reason.contains("not on 127.0.0.1"), "{failure:#?}");
    the_next_one_takes_over(&site);
}

#[test]
fn one_that_is_no_program_is_refused() {
    let site = Site::watching_a_pointer().start("v1");
    let failure = refused(&site, file("v2", b"\x7fELF and no more"), "v2");
    assert_eq!(failure.exit, None);
    assert!(failure.reason.contains("cannot start"), "{failure:#?}");
    the_next_one_takes_over(&site);
}

#[test]
fn a_folder_without_a_command_is_refused_with_what_to_do() {
    let site = Site::watching_a_pointer().start("v1");
    let v2 = folder("v2", &[("index.html", "hello")]);
    let reason = refused(&site, v2, "v2").reason;
    assert!(reason.contains("is a folder"), "{reason}");
    assert!(reason.contains("-- node server.js"), "{reason}");
    the_next_one_takes_over(&site);
}

#[test]
fn one_that_was_refused_is_not_tried_again_but_mended_it_is() {
    let site = Site::overwritten_in_place().start("v1");
    site.deploy(app("v2").that("--exit-code=3"));
    let refused = |status: &tests::Status| {
        let last = status.handoffs.back();
        last.is_some_and(|last| last.generation.0 == 2 && last.outcome == Outcome::Refused)
    };
    site.wait_until("v2 is refused", refused);
    site.deploy(app("v2").that("--exit-code=3"));
    site.await_log_times(3, "artifact detected");
    site.deploy(app("v2"));
    site.await_version("v2");
    site.await_launches(3);
}

#[cfg(unix)]
#[test]
fn one_that_cannot_run_is_refused_with_its_kind_and_no_shell_runs_it() {
    let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
    foreign.resize(64, 0);
    foreign[18] = if cfg!(target_arch = "s390x") { 8 } else { 22 };
    let sample = std::fs::read(tests::binaries::sample_app()).expect("a program");
    for (content, part) in [
        (&foreign[..], "for another machine"),
        (b"MZ\x90", "for Windows"),
        (b"echo run by a shell; exit 3", "names no interpreter"),
        (b"#!/bin/sh\r\nexit 3\r\n", "CR LF"),
        (b"#!/usr/bin/env sh\r\nexit 3\r\n", "CR LF"),
        (b"#!/no/such/interpreter\n", "/no/such/interpreter"),
        (
            b"#!/tmp\n",
            "interpreter /tmp, which its first line (#!) names, is a folder",
        ),
        (&sample[..20_000], "it is incomplete"),
    ] {
        let site = Site::watching_a_pointer().start("v1");
        let failure = refused(&site, file("v2", content), "v2");
        assert!(failure.reason.contains(part), "{failure:#?}");
        assert_eq!((failure.exit, failure.output.len()), (None, 0));
    }
}

#[cfg(unix)]
#[test]
fn one_that_goes_into_the_background_is_refused_as_a_daemon() {
    let site = Site::watching_a_pointer().start("v1");
    let daemon = file("v2", b"#!/bin/sh\nsleep 60 &\n");
    let failure = refused(&site, daemon, "v2");
    assert!(
        failure.reason.contains("looks like a daemon"),
        "{failure:#?}"
    );
}

#[test]
#[cfg_attr(windows, ignore = "Wine: does not say which process listens where")]
fn one_that_listens_elsewhere_is_shown_while_it_is_awaited() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--port=0"));
    site.wait_until("its other port is named", |status| {
        let probe = status.candidate.as_ref().and_then(|it| it.probe.as_deref());
        probe.is_some_and(|probe| probe.contains("it listens on 127.0.0.1:"))
    });
    site.await_log("listens_elsewhere");
}

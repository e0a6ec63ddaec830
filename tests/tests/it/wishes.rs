//! `handoff rollback`, `restart`, `pause` and `resume`: what they do, say and end with.

use tests::command::{self, Ended};
use tests::websocket::WebSocket;
use tests::{Deployment, Running, Site};

fn asks(deployment: &Deployment, wish: &[&str]) -> Ended {
    let place = deployment.place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    command::run(&[wish, &place].concat())
}

fn serving_v2_after_v1() -> Running {
    let site = Site::watching_a_pointer().start("v1");
    site.deployment().run_deploy("v2", &[]).with(0);
    site
}

/// Another one on the same folder, which dies.
fn leaves_a_dead_one(site: &Running) {
    let dead = Site::watching_a_pointer().launch_in(site.deployment());
    dead.wait_until("it serves", |status| status.active.is_some());
    dead.kill();
}

#[test]
fn a_rollback_ends_with_0_when_the_release_before_serves() {
    let site = serving_v2_after_v1();
    asks(site.deployment(), &["rollback"])
        .with(0)
        .saying(&["v1-", "serves again in 1 sidecar"]);
    site.await_version("v1");
    // By name, and the other way round.
    let forth = asks(site.deployment(), &["rollback", "v2", "--json"]).with(0);
    let report = forth.json();
    assert_eq!(report["outcome"], "done", "{report:#}");
    assert!(
        report["releases"][0].as_str().unwrap().starts_with("v2-"),
        "{report:#}"
    );
    site.await_version("v2");
    asks(site.deployment(), &["rollback", "v2"]).with(0);
    site.await_launches(4);
}

#[test]
fn a_rollback_to_nothing_ends_with_1_and_the_reason() {
    let site = Site::watching_a_pointer().start("v1");
    asks(site.deployment(), &["rollback"])
        .with(1)
        .saying(&["there is no release to go back to"]);
    asks(site.deployment(), &["rollback", "v0"])
        .with(1)
        .saying(&["cannot go back to \"v0\"", "no other is remembered"]);
    site.await_launches(1);
}

#[test]
fn when_one_of_two_cannot_go_back_it_is_told_and_the_other_does() {
    let site = serving_v2_after_v1();
    // It has never run anything else.
    let new = Site::watching_a_pointer().launch_in(site.deployment());
    new.await_active("v2");
    leaves_a_dead_one(&site);
    let ended = asks(site.deployment(), &["rollback", "--json"]).with(1);
    let report = ended.json();
    let sidecars = report["sidecars"].as_array().unwrap();
    assert_eq!(sidecars.len(), 2, "{report:#}");
    let steps = |step: &str| sidecars.iter().filter(|s| s["step"] == step).count();
    // The superseded instance may still drain.
    let done = steps("done") + steps("promoted");
    assert_eq!((done, steps("refused")), (1, 1), "{report:#}");
    let message = report["message"].as_str().unwrap();
    assert!(message.contains("no release to go back to"), "{report:#}");
    site.await_version("v1");
    new.await_version("v2");
}

#[test]
fn a_restart_ends_with_0_when_all_serve_from_a_new_instance() {
    let site = Site::watching_a_pointer().start("v1");
    let other = Site::watching_a_pointer().launch_in(site.deployment());
    other.await_active("v1");
    leaves_a_dead_one(&site);
    let upload = site.begin_upload("/upload");
    asks(site.deployment(), &["restart"])
        .with(0)
        .saying(&["v1-", "serves from a new instance in 2 sidecars"]);
    for sidecar in [&site, &other] {
        assert_eq!(sidecar.status().generation(), Some(2));
    }
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[cfg(unix)]
#[test]
fn a_restart_that_fails_in_one_of_two_ends_with_1_and_the_reason() {
    let site = Site::watching_a_pointer().start("v1");
    let started = site.deployment().site().join("started");
    let started = started.display();
    let once =
        format!("test -e {started} && exit 7; touch {started}; exec {{artifact}} -port {{port}}");
    let once = Site::watching_a_pointer().running(&["sh", "-c", &once]);
    let once = once.launch_in(site.deployment());
    once.await_active("v1");
    asks(site.deployment(), &["restart"]).with(1).saying(&[
        "not all have done it",
        "exit status: 7",
        "promoted",
    ]);
    assert_eq!(site.status().generation(), Some(2));
    assert_eq!(once.status().generation(), Some(1));
    once.await_version("v1");
}

#[test]
fn a_pause_ends_with_0_when_no_request_is_in_flight_and_tunnels_go_on() {
    let site = Site::watching_a_pointer().start("v1");
    let other = Site::watching_a_pointer().launch_in(site.deployment());
    other.await_active("v1");
    leaves_a_dead_one(&site);
    let (mut tunnel, _) = WebSocket::open(site.connect());
    asks(site.deployment(), &["pause", "--max", "10m"])
        .with(0)
        .saying(&["2 sidecars paused", "the pause ends in 9m"]);
    let mut held = site.begin("/version");
    site.wait_until("one is held", |status| status.held == 1);
    assert!(other.status().paused.is_some());
    assert_eq!(tunnel.echo("still there").unwrap(), "still there");
    asks(site.deployment(), &["resume"])
        .with(0)
        .saying(&["2 sidecars not paused"]);
    assert_eq!(held.answer().unwrap().status, 200);
    // Once more is the same.
    asks(site.deployment(), &["resume"]).with(0);
}

#[test]
fn a_pause_ends_with_3_and_all_resumed_while_a_request_goes_on_in_one_of_two() {
    let site = Site::watching_a_pointer().start("v1");
    let other = Site::watching_a_pointer().launch_in(site.deployment());
    other.await_active("v1");
    let upload = site.begin_upload("/upload");
    let wish = ["pause", "--max", "10m", "--timeout", "2s"];
    asks(site.deployment(), &wish)
        .with(3)
        .saying(&["paused, 1 request in flight", "all is resumed"]);
    for sidecar in [&site, &other] {
        assert!(sidecar.status().paused.is_none());
        sidecar.await_version("v1");
    }
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[test]
fn a_pause_that_nobody_ends_is_ended_by_the_sidecar() {
    let site = Site::watching_a_pointer().start("v1");
    asks(site.deployment(), &["pause", "--max", "2s"]).with(0);
    site.await_version("v1");
    site.wait_until("it is over", |status| status.paused.is_none());
}

#[test]
fn somebody_elses_end_of_a_pause_is_told() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    let mut command = tests::program::handoff();
    command.args(["pause", "--max", "10m"]);
    command.args(site.deployment().place());
    let pausing = command::start(command);
    pausing.await_stderr("1 request in flight");
    asks(site.deployment(), &["resume"]).with(0);
    pausing
        .end()
        .with(1)
        .saying(&["`resume` has taken its place"]);
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[test]
fn where_no_sidecar_runs_each_ends_with_4() {
    let site = serving_v2_after_v1();
    site.kill();
    for wish in ["rollback", "restart", "pause", "resume"] {
        asks(site.deployment(), &[wish])
            .with(4)
            .saying(&["no sidecar runs"]);
        asks(&Deployment::default(), &[wish]).with(4);
    }
}

#[test]
fn too_slow_a_restart_ends_with_3() {
    let site = Site::watching_a_pointer().start(tests::app("v1").that("--ready-after=4s"));
    asks(site.deployment(), &["restart", "--timeout", "1s"])
        .with(3)
        .saying(&["not all have done it after 1s"]);
    site.wait_until("it comes all the same", |status| {
        status.generation() == Some(2)
    });
}

#[test]
fn too_slow_a_rollback_ends_with_3() {
    let site = Site::watching_a_pointer().start(tests::app("v1").that("--ready-after=4s"));
    site.deployment()
        .run_deploy("v2", &["--wait", "drained"])
        .with(0);
    site.await_launches(2);
    let ended = asks(
        site.deployment(),
        &["rollback", "--timeout", "1s", "--json"],
    )
    .with(3);
    let report = ended.json();
    assert_eq!(report["outcome"], "timeout", "{report:#}");
    assert_eq!(report["exit"], 3);
    site.await_version("v1");
}

#[cfg(unix)]
#[test]
fn a_sidecar_that_does_not_answer_ends_each_with_3() {
    use rustix::process::Signal;
    let site = Site::watching_a_pointer().start("v1");
    let pid = site.status().pid;
    for wish in ["pause", "resume", "restart", "rollback"] {
        // Its heartbeat is young for long enough.
        tests::processes::signal(pid, Signal::STOP);
        let asked = asks(site.deployment(), &[wish, "--timeout", "1s", "--json"]);
        tests::processes::signal(pid, Signal::CONT);
        let report = asked.with(3).json();
        assert_eq!(report["sidecars"][0]["step"], "waiting", "{report:#}");
        let serial = site.status().desired_serial;
        asks(site.deployment(), &["resume"]).with(0);
        site.wait_until("it has acted on all of it", |status| {
            status.desired_serial > serial && status.is_at_rest()
        });
    }
}

#[test]
fn each_tells_its_outcome_as_json_too() {
    let site = Site::watching_a_pointer().start("v1");
    for (wish, step) in [
        ("restart", "done"),
        ("pause", "paused"),
        ("resume", "resumed"),
    ] {
        let report = asks(site.deployment(), &[wish, "--json"]).with(0).json();
        assert_eq!((&report["schema"], &report["exit"]), (&1.into(), &0.into()));
        assert_eq!(report["outcome"], "done", "{report:#}");
        assert_eq!(report["sidecars"][0]["step"], step, "{report:#}");
    }
    drop(site);
    for wish in ["restart", "pause", "resume", "rollback"] {
        let report = asks(&Deployment::default(), &[wish, "--json"])
            .with(4)
            .json();
        assert_eq!(
            (&report["outcome"], &report["exit"]),
            (&"idle".into(), &4.into())
        );
    }
}

#[test]
fn what_makes_no_sense_ends_with_2() {
    let nothing = tempfile::tempdir().unwrap();
    for wish in [
        &["pause", "--max", "soon"][..],
        &["rollback", "v1", "v2"],
        &["restart", "--timeout", "5"],
        &["resume", "now"],
        &["restart"],
    ] {
        let mut command = tests::program::handoff();
        command.args(wish).current_dir(nothing.path());
        command::start(command).end().with(2);
    }
}

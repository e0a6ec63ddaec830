//! `handoff deploy`: what it does, says and ends with.

use std::fs;

use tests::release::sha256;
use tests::websocket::WebSocket;
use tests::{Deployment, Running, Site, app, command, folder};

fn serving_v1() -> Running {
    Site::watching_a_pointer().start("v1")
}

#[test]
fn a_good_release_is_deployed_when_the_command_ends_with_0() {
    let site = serving_v1();
    let deployed = site.deployment().run_deploy("v2", &[]).with(0);
    let status = site.status();
    assert!(
        status
            .active
            .clone()
            .is_some_and(|active| active.release.as_str().starts_with("v2-"))
    );
    let digest = sha256(&site.deployment().build("v2"));
    let name = format!("v2-{}", &digest[..8]);
    deployed.saying(&["copying", &format!("{name} is active in 1 sidecar")]);
    // On Windows the program's name ends in .exe.
    let pointer = site.deployment().pointer();
    let lines: Vec<_> = pointer.lines().collect();
    assert!(
        lines[0]
            .replace('\\', "/")
            .starts_with(&format!("releases/{name}")),
        "{pointer}"
    );
    assert_eq!(
        lines[1..],
        [format!("sha256={digest}"), format!("id={name}")]
    );
    site.await_version("v2");
}

#[test]
fn a_bad_release_ends_with_1_and_all_that_is_known_of_why_and_the_old_pointer_is_back() {
    let site = serving_v1();
    let before = site.deployment().pointer();
    let bad = app("v2").that("--exit-code=3");
    site.deployment().run_deploy(bad, &[]).with(1).saying(&[
        "was refused by sidecar",
        "before it was ready",
        "v2 exits at once with 3, as told by --exit-code",
        "names",
        "again",
    ]);
    assert_eq!(site.deployment().pointer(), before);
    site.await_version("v1");
    site.deployment().run_deploy("v3", &[]).with(0);
    site.await_version("v3");
}

#[test]
fn one_that_is_never_ready_shows_what_the_health_check_says_all_the_time() {
    let site = Site::watching_a_pointer()
        .with("--deploy-timeout", "3s")
        .start("v1");
    let bad = app("v2").that("--never-ready");
    let deploy = site.deployment().begin_deploy(bad, &[]);
    deploy.await_stderr("probing: GET / answered 503");
    deploy
        .end()
        .with(1)
        .saying(&["was not ready within 3s: GET / answered 503"]);
}

#[test]
fn one_that_crashes_while_it_is_checked_shows_the_last_health_check() {
    let site = serving_v1();
    let bad = app("v2").that("--never-ready").that("--crash-after=2s");
    let ended = site.deployment().run_deploy(bad, &[]).with(1);
    // The last one may have met the crash.
    ended.saying(&["before it was ready", "last health check: "]);
}

#[test]
fn the_same_content_again_is_no_deploy() {
    let site = serving_v1();
    site.deployment().run_deploy("v2", &[]).with(0);
    site.deployment()
        .run_deploy("v2", &[])
        .with(0)
        .saying(&["already active"]);
    site.await_launches(2);
    let uploads = fs::read_dir(site.site().join("releases")).unwrap().count();
    assert_eq!(uploads, 2, "the artifact and its digest");
}

/// Its v2 starts only once there is what it needs.
#[cfg(unix)]
fn serving_v1_before_a_v2_that_needs_a_database() -> Running {
    let command =
        "case {release} in v2*) test -e database || exit 9;; esac; exec {artifact} -port {port}";
    let site = Site::watching_a_pointer().running(&["sh", "-c", command]);
    site.start("v1")
}

#[cfg(unix)]
#[test]
fn one_that_was_refused_and_is_deployed_again_is_tried_again() {
    let site = serving_v1_before_a_v2_that_needs_a_database();
    let deploys_v2 = || site.deployment().run_deploy("v2", &["--timeout", "30s"]);
    for turn in 1..=2 {
        // By the pointer that names v1 again, and v2 again.
        deploys_v2().with(1).saying(&["exit status: 9"]);
        // Until that is followed, a retry starts what the pointer named before, and takes it back.
        site.await_log_times(1 + turn, "event=\"artifact_detected\" release=\"v1");
    }
    // `{dir}` is the folder that the artifact was deployed in.
    fs::write(site.site().join("releases/database"), "").unwrap();
    deploys_v2().with(0);
    site.await_version("v2");
    let status = site.wait_until("it is at rest", tests::Status::is_at_rest);
    use tests::status::Outcome;

    let outcomes = |outcome| {
        let handoffs = status.handoffs.iter();
        handoffs
            .filter(|handoff| handoff.outcome == outcome)
            .count()
    };
    assert_eq!(
        (outcomes(Outcome::Refused), outcomes(Outcome::Promoted)),
        (2, 2)
    );
}

/// The digest does not tell the two builds apart.
#[cfg(unix)]
#[test]
fn one_that_was_refused_is_tried_again_also_after_another_deploy() {
    let site = serving_v1_before_a_v2_that_needs_a_database();
    let deploys = |release| site.deployment().run_deploy(release, &["--timeout", "30s"]);
    deploys("v2").with(1);
    deploys("v3").with(0);
    deploys("v2").with(1).saying(&["exit status: 9"]);
    deploys("v4").with(0);
    fs::write(site.site().join("releases/database"), "").unwrap();
    deploys("v2").with(0);
    site.await_version("v2");
    // Also what somebody went back from.
    let mut rollback = tests::program::handoff();
    rollback.arg("rollback").args(site.deployment().place());
    command::start(rollback).end().with(0);
    site.await_version("v4");
    deploys("v5").with(0);
    deploys("v2").with(0);
    site.await_version("v2");
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn a_folder_is_deployed_too() {
    let site = Site::watching_a_pointer();
    let command = [
        "python3",
        "-m",
        "http.server",
        "{port}",
        "--bind",
        "127.0.0.1",
    ];
    if !tests::tools::has("python3") {
        return;
    }
    let page = |text| folder("pages", &[("index.html", text)]);
    let site = site.running(&command).start(page("one"));
    site.await_shown("/index.html", "one");
    site.deployment().run_deploy(page("two"), &[]).with(0);
    site.await_shown("/index.html", "two");
}

#[test]
fn what_drains_is_shown_and_waited_for_only_if_asked_to() {
    let site = serving_v1();
    let upload = site.begin_upload("/upload");
    let (mut tunnel, _) = WebSocket::open(site.connect());
    site.wait_until("both are in flight", |status| status.in_flight() == 2);
    let mut waits = site.deployment().begin_deploy("v2", &["--wait", "drained"]);
    waits.await_stderr("drains: 1 request and 1 tunnel left");
    site.deployment().run_deploy("v2", &[]).with(0);
    waits.assert_running();
    assert_eq!(tunnel.echo("still there").unwrap(), "still there");
    drop(tunnel);
    assert_eq!(upload.finish().unwrap().status, 200);
    waits
        .end()
        .with(0)
        .saying(&["promoted, and nothing drains"]);
}

#[test]
fn too_slow_a_release_ends_with_3_and_stays_deployed() {
    let site = serving_v1();
    let slow = app("v2").that("--ready-after=10s");
    site.deployment()
        .run_deploy(slow, &["--timeout", "5s"])
        .with(3)
        .saying(&[
            "is not active everywhere after 5s; it stays deployed",
            "probing: GET / answered 503",
        ]);
    site.await_version("v2");
}

#[test]
fn where_no_sidecar_runs_it_ends_with_4_and_takes_effect_at_the_next_start() {
    let deployment = Deployment::default();
    deployment
        .run_deploy("v1", &[])
        .with(4)
        .saying(&["no sidecar runs"]);
    deployment
        .run_deploy("v2", &["--if-idle", "accept"])
        .with(0);
    let site = Site::watching_a_pointer().launch_in(&deployment);
    site.await_version("v2");
}

#[test]
fn a_dead_sidecar_is_neither_waited_for_nor_obeyed() {
    let site = serving_v1();
    let dead = Site::watching_a_pointer().launch_in(site.deployment());
    dead.await_active("v1");
    dead.kill();
    // Another machine's, of which only the heartbeat tells.
    let sidecars = site.deployment().state().join("sidecars");
    let elsewhere = r#"{"schema":1,"sidecar":"dead","version":"0","pid":1,"listen":"127.0.0.1:1",
        "started_ms":1,"heartbeat_ms":1,"phase":"running"}"#;
    fs::write(sidecars.join("dead.json"), elsewhere).unwrap();
    site.deployment()
        .run_deploy("v2", &[])
        .with(0)
        .saying(&["active in 1 sidecar"]);
}

#[cfg(unix)]
#[test]
fn when_one_of_two_refuses_both_serve_what_they_did_before() {
    let site = serving_v1();
    let picky = "case {release} in v2*) sleep 2; exit 7;; esac; exec {artifact} -port {port}";
    let picky = Site::watching_a_pointer().running(&["sh", "-c", picky]);
    let picky = picky.launch_in(site.deployment());
    picky.await_active("v1");
    let before = site.deployment().pointer();
    let ended = site.deployment().run_deploy("v2", &["--json"]).with(1);
    let ended = ended.saying(&["1 that had promoted it go back", "they are back"]);
    let report = ended.json();
    assert_eq!(report["outcome"], "refused", "{report:#}");
    assert_eq!(report["exit"], 1);
    assert_eq!(report["refusal"]["exit"], "exit status: 7", "{report:#}");
    assert_eq!(
        report["sidecars"].as_array().unwrap().len(),
        2,
        "{report:#}"
    );
    assert_eq!(site.deployment().pointer(), before);
    for sidecar in [&site, &picky] {
        assert!(sidecar.status().is_active("v1"));
        sidecar.await_version("v1");
    }
}

#[test]
fn when_one_of_two_finds_it_too_slow_both_serve_what_they_did_before() {
    let site = serving_v1();
    let strict = Site::watching_a_pointer().with("--deploy-timeout", "2s");
    let strict = strict.launch_in(site.deployment());
    strict.await_active("v1");
    let slow = app("v2").that("--ready-after=4s");
    site.deployment()
        .run_deploy(slow, &[])
        .with(1)
        .saying(&["was not ready within 2s: GET / answered 503", "names"]);
    for sidecar in [&site, &strict] {
        sidecar.await_version("v1");
    }
}

#[test]
fn an_archive_that_no_sidecar_accepts_is_refused_and_not_waited_for() {
    let site = Site::watching_a_pointer()
        .with("--max-unpacked", "10")
        .start("v1");
    let before = site.deployment().pointer();
    let content = tests::archive::zip(&[("app", vec![b'x'; 100], true)]);
    let archive = tests::file("evil.zip", &content);
    for _ in 0..2 {
        site.deployment()
            .run_deploy(&archive, &[])
            .with(1)
            .saying(&["was refused by sidecar", "is refused: ", "names", "again"]);
        assert_eq!(site.deployment().pointer(), before);
    }
    site.await_version("v1");
    site.deployment().run_deploy("v3", &[]).with(0);
    site.await_launches(2);
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no curl")]
fn a_site_that_cannot_be_woken_ends_with_4_and_the_reason() {
    if !tests::tools::has("curl") {
        return;
    }
    let wake = ["--wake", "http://127.0.0.1:9/", "--timeout", "5s"];
    let ended = Deployment::default().run_deploy("v1", &wake).with(4);
    ended.saying(&[
        "no sidecar runs: requesting",
        "it takes effect",
        "woke none: curl:",
    ]);
}

/// (Windows has it where programs are looked for in any case.)
#[cfg(unix)]
#[test]
fn without_curl_nobody_is_woken_and_nobody_waits_for_it() {
    let deployment = Deployment::default();
    let url = "http://127.0.0.1:9/";
    let mut without = tests::program::handoff();
    without.arg("deploy").arg(deployment.build("v1"));
    without.args(deployment.place()).args(["--wake", url]);
    without.env("PATH", deployment.elsewhere());
    // Not after --timeout: that is five minutes.
    command::start(without)
        .end()
        .with(4)
        .saying(&["it takes effect", "curl cannot be run"]);
}

#[test]
fn each_outcome_is_told_as_json() {
    let site = serving_v1();
    let deploys = |release, options: &[&str], code| {
        let options = [&["--json"], options].concat();
        let report = site.deployment().run_deploy(release, &options).with(code);
        let report = report.json();
        assert_eq!(
            (&report["schema"], &report["exit"]),
            (&1.into(), &code.into())
        );
        report
    };
    let promoted = deploys(app("v2"), &[], 0);
    assert_eq!(promoted["outcome"], "promoted", "{promoted:#}");
    assert!(promoted["release"].as_str().unwrap().starts_with("v2-"));
    assert!(promoted["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(deploys(app("v2"), &[], 0)["outcome"], "unchanged");
    let slow = app("v3").that("--never-ready");
    let late = deploys(slow, &["--timeout", "8s"], 3);
    assert_eq!(late["outcome"], "timeout", "{late:#}");
    let step = late["sidecars"][0]["step"].as_str();
    // On a busy machine it does not listen yet.
    let steps = [Some("probing"), Some("starting")];
    assert!(steps.contains(&step), "{late:#}");
    let idle = Deployment::default().run_deploy("v1", &["--json"]).with(4);
    assert_eq!(idle.json()["outcome"], "idle");
    let failed = command::run(&["deploy", "no-such-app", "--to", "x", "--json"]).with(1);
    assert_eq!(failed.json()["outcome"], "failed");
}

#[test]
fn a_pointer_that_somebody_else_has_written_meanwhile_is_theirs() {
    let site = serving_v1();
    let slow = app("v2").that("--never-ready");
    let deploy = site.deployment().begin_deploy(slow, &[]);
    deploy.await_stderr("probing");
    let v3 = site.upload("v3");
    site.point(format!("{}\n", v3.display()));
    deploy
        .end()
        .with(1)
        .saying(&["another deploy came in between"]);
    site.await_version("v3");
    assert!(site.deployment().pointer().contains("v3"));
}

#[test]
fn what_makes_no_sense_ends_with_2() {
    let deployment = Deployment::default();
    let artifact = deployment.build("v1");
    let artifact = artifact.to_str().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let nothing = nothing.path().to_str().unwrap();
    let pointer = deployment.place();
    let pointer: Vec<_> = pointer.iter().map(String::as_str).collect();
    for (args, named) in [
        (vec!["deploy"], "ARTIFACT"),
        (vec!["deploy", artifact, "--wait", "long"], "--wait"),
        (vec!["deploy", artifact, "--wake", "ftp://x/"], "--wake"),
        (vec!["deploy", artifact, "--timeout", "soon"], "--timeout"),
        (vec!["deploy", artifact, "--state", nothing], "--pointer"),
        (
            [&["deploy", artifact, "--id", ".tmp"], &pointer[..]].concat(),
            "--id",
        ),
    ] {
        command::run(&args).with(2).saying(&[named]);
    }
}

#[test]
fn an_artifact_that_is_not_there_ends_with_1() {
    let deployment = Deployment::default();
    let place = deployment.place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    let args = [&["deploy", "no-such-app"], &place[..]].concat();
    command::run(&args).with(1).saying(&["no-such-app"]);
    assert!(!deployment.site().join("_artifact.txt").exists());
}

//! `handoff deploy` to an artifact that sidecars run in place, and commands in its folder.

use std::fs;
use std::path::Path;

use tests::command::{Ended, start};
use tests::program::handoff;
use tests::{Running, Site, app};

fn command_in(folder: &Path, args: &[&str]) -> Ended {
    let mut command = handoff();
    command.current_dir(folder).args(args);
    start(command).end()
}

fn artifact(site: &Running) -> String {
    let name = format!("app{}", std::env::consts::EXE_SUFFIX);
    site.site().join(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_artifact_is_replaced_and_a_refused_one_is_put_back() {
    let site = Site::overwritten_in_place().start("v1");
    let state = site.deployment().state();
    let place = [
        "--artifact",
        &artifact(&site),
        "--state",
        state.to_str().expect("UTF-8"),
    ];
    let deploy = |build: &Path| {
        let build = build.to_str().expect("UTF-8");
        command_in(&site.site(), &[&["deploy", build], &place[..]].concat())
    };
    let v1 = fs::read(artifact(&site)).unwrap();
    let bad = site.deployment().build(app("v2").that("--exit-code=3"));
    deploy(&bad)
        .with(1)
        .saying(&["was refused by sidecar", "is what it was before"]);
    assert_eq!(fs::read(artifact(&site)).unwrap(), v1);
    site.await_version("v1");
    let good = site.deployment().build("v3");
    deploy(&good).with(0).saying(&["is active in 1 sidecar"]);
    site.await_version("v3");
    deploy(&good).with(0).saying(&["already active"]);
    let left = fs::read_dir(site.site()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "nothing else stays: {left:?}");
}

#[cfg(unix)]
#[test]
fn two_apps_in_a_folder_share_nothing_and_commands_find_each_in_its_own_place() {
    let deployment = tests::Deployment::default();
    let site = deployment.site();
    let run = |name: &str| {
        tests::Release::from(name).write_to(&site.join(name));
        let mut command = handoff();
        command.current_dir(&site);
        command.args(["run", "--listen", "127.0.0.1:0", "--settle", "200ms"]);
        command.args(["--cache", "../cache", "--artifact", name]);
        let sidecar = start(command);
        let place = format!("--artifact={name}");
        tests::eventually(
            || sidecar.printed(),
            || {
                let status = command_in(&site, &["status", &place]);
                status.stdout.contains("active").then_some(())
            },
        );
        sidecar
    };
    let _shop = run("shop");
    // The only one is meant, and it has a log.
    command_in(&site, &["status"]).with(0);
    let log = command_in(&site, &["logs"]).with(0);
    assert!(log.stdout.contains("listening"), "{}", log.stdout);

    let _blog = run("blog");
    command_in(&site, &["status"])
        .with(2)
        .saying(&["which deployment", "shop", "blog"]);
    let status = command_in(&site, &["status", "--artifact", "blog"]).with(0);
    assert!(!status.stdout.contains("shop"), "{}", status.stdout);
    let refused = command_in(&site, &["rollback", "--artifact", "blog"]).with(1);
    refused.saying(&["no release to go back to"]);
    let restarted = command_in(&site, &["restart", "--artifact", "blog"]).with(0);
    restarted.saying(&["blog-", "1 sidecar"]);
}

#[test]
fn two_commands_on_one_artifact_are_warned_of() {
    let deployment = tests::Deployment::default();
    let site = deployment.site();
    tests::Release::from("shop").write_to(&site.join("shop"));
    let run = |option: &str| {
        let mut command = handoff();
        command.current_dir(&site);
        command.args(["run", "--listen", "127.0.0.1:0", "--settle", "200ms"]);
        command.args(["--cache", "../cache", "--artifact", "shop", "--"]);
        command.args(["{artifact}", "--port={port}", option]);
        start(command)
    };
    let await_active = |sidecars: usize| {
        tests::eventually(
            || format!("{sidecars} sidecars"),
            || {
                let status = command_in(&site, &["status"]).stdout;
                (status.matches("active").count() >= sidecars).then_some(())
            },
        );
    };
    let _web = run("--ready-after=0s");
    await_active(1);
    let alone = command_in(&site, &["restart"]).with(0);
    assert!(!alone.stderr.contains("several COMMANDs"), "{alone:#?}");

    let _worker = run("--ready-after=1ms");
    await_active(2);
    command_in(&site, &["logs", "--lines", "1000"])
        .with(0)
        .saying(&["state_shared"]);
    let both = command_in(&site, &["restart"]).with(0);
    both.saying(&["several COMMANDs", "--state"]);
}

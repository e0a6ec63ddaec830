//! A folder that was refused, and whose files are mended where they were deployed.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tests::{Release, Site, command, folder};

/// The script of `v2` has to be executable.
const STARTS_V2_ITSELF: &str =
    "case {release} in v2*) exec ./start {port};; esac; exec sh start {port}";

/// A folder with a script that starts the app, which is not executable.
fn with_a_start_script(version: &str) -> Release {
    let app = tests::binaries::sample_app().display();
    let script = format!("#!/bin/sh\nexec '{app}' -port $1 --version-name $(cat version)\n");
    folder(version, &[("start", &script), ("version", version)])
}

/// Its digest says that the folder is the same, so that nothing else makes handoff look at it again.
#[test]
fn a_retry_launches_what_is_deployed_by_then() {
    let site = Site::watching_a_pointer().running(&["sh", "-c", STARTS_V2_ITSELF]);
    let site = site.start(with_a_start_script("v1"));
    let artifact = site.deployment().build(with_a_start_script("v2"));
    let digest = command::run(&["digest", artifact.to_str().unwrap()]).with(0);
    let digest = digest
        .stdout
        .split_whitespace()
        .next()
        .expect("a digest")
        .to_owned();
    site.point(format!("{}\nsha256={digest}\n", artifact.display()));
    site.wait_until("v2 is refused", |status| status.refusal("v2").is_some());
    site.await_log("Permission denied");
    let start = artifact.join("start");
    fs::set_permissions(start, fs::Permissions::from_mode(0o755)).unwrap();
    let retry = format!(r#"{{"schema":1,"serial":1,"retry":"{digest}"}}"#);
    site.ask(&retry);
    site.await_version("v2");
}

#[test]
fn a_refused_folder_that_can_be_run_now_is_copied_and_tried_again() {
    let site = Site::watching_a_pointer().running(&["sh", "-c", STARTS_V2_ITSELF]);
    let site = site.start(with_a_start_script("v1"));
    let deploy = |artifact: &std::path::Path| {
        let artifact = artifact.to_str().unwrap();
        let place = site.deployment().place();
        let place: Vec<_> = place.iter().map(String::as_str).collect();
        command::run(&[&["deploy", artifact], &place[..]].concat())
    };
    let artifact = site.deployment().build(with_a_start_script("v2"));
    deploy(&artifact).with(1).saying(&["Permission denied"]);
    let start = artifact.join("start");
    fs::set_permissions(start, fs::Permissions::from_mode(0o755)).unwrap();
    deploy(&artifact).with(0);
    site.await_version("v2");
}

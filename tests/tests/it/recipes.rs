//! The recipes of the manual for tools that deploy to many machines, with these tools.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::binaries::{handoff, spawn};
use tests::{Running, Site, app, manual, tools};

/// The content of a file that the page `fleet` shows.
fn recipe(name: &str) -> String {
    let page = fs::read_to_string(manual::root().join("proxy/docs/fleet.md")).expect("a page");
    let shown = page.split_once(&format!("<!-- file: {name} -->\n```yaml\n"));
    let (_, rest) = shown.expect("the recipe");
    rest.split_once("```").expect("its end").0.to_owned()
}

/// Runs a recipe over these sites, as if each were a machine. Returns its exit code and output.
fn play(name: &str, sites: &[Running], variables: &[(&str, &Path)]) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path(name), recipe(name)).expect("a play");
    let hosts = sites.iter().enumerate().map(|(number, site)| {
        let site = site.site().display().to_string();
        format!("machine-{number} ansible_connection=local site={site}\n")
    });
    let inventory = format!("[web]\n{}", hosts.collect::<String>());
    fs::write(path("inventory"), inventory).expect("an inventory");
    let programs = handoff().parent().expect("a folder").display();
    let inherited = std::env::var("PATH").expect("PATH");
    let mut command = Command::new("ansible-playbook");
    command
        .arg("-i")
        .arg(path("inventory"))
        .arg(path(name))
        .env("PATH", format!("{programs}:{inherited}"))
        .env("ANSIBLE_LOCAL_TEMP", path("temporary"))
        .env("ANSIBLE_PYTHON_INTERPRETER", "auto_silent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (variable, value) in variables {
        command
            .arg("-e")
            .arg(format!("{variable}={}", value.display()));
    }
    let ended = spawn(&mut command).and_then(|child| child.wait_with_output());
    let ended = ended.expect("ansible-playbook");
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output).into_owned();
    (ended.status.code().expect("an exit code"), output)
}

#[test]
fn ansible_deploys_to_one_machine_first_and_stops_at_a_refusal() {
    if !tools::has("ansible-playbook") {
        return;
    }
    let sites: Vec<_> = (0..3)
        .map(|_| Site::watching_a_pointer().start("v1"))
        .collect();
    for site in &sites {
        // Where commands look for it without --state.
        let state = site.site().join("_artifact.txt.handoff");
        symlink(site.deployment().state(), state).expect("a link");
    }
    let good = sites[0].deployment().build("v2");
    let (code, output) = play("deploy.yml", &sites, &[("build", &good)]);
    assert_eq!(code, 0, "{output}");
    for site in &sites {
        site.await_version("v2");
    }
    let bad = sites[0].deployment().build(app("v3").that("--exit-code=3"));
    let (code, output) = play("deploy.yml", &sites, &[("build", &bad)]);
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("v3 exits at once with 3"), "{output}");
    let launched = |site: &&Running| {
        let status = site.status();
        let mut releases = status
            .handoffs
            .iter()
            .map(|handoff| handoff.release.as_str());
        releases.any(|release| release.starts_with("v3-"))
    };
    assert_eq!(sites.iter().filter(launched).count(), 1, "{output}");

    let (code, output) = play("back.yml", &sites, &[("release", Path::new("v1"))]);
    assert_eq!(code, 0, "{output}");
    for site in &sites {
        site.await_version("v1");
    }
}

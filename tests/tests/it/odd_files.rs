//! Files that are no files, files that are huge, and text that a terminal would obey.

use std::fs;

use serde_json::json;
use tests::{Deployment, Site, command};

/// Makes a pipe, which nobody ever writes to.
#[cfg(unix)]
fn make_pipe(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let mut site = Site::watching_a_pointer().start("v1");
    let (pointer, state) = (site.site().join("_artifact.txt"), site.deployment().state());
    fs::remove_file(&pointer).unwrap();
    make_pipe(&pointer);
    site.await_problem("a pipe, a socket or a device");
    let desired = state.join("desired.json");
    make_pipe(&desired);
    fs::remove_file(&pointer).unwrap();
    site.deploy("v2");
    site.await_version("v2");
    site.ask_to_stop();
    site.await_exit();
    site.start_again();
    site.await_version("v2");
    fs::remove_file(desired).unwrap();
}

#[cfg(unix)]
#[test]
fn a_status_that_is_a_pipe_keeps_no_command_waiting() {
    let deployment = Deployment::default();
    let sidecars = deployment.state().join("sidecars");
    fs::create_dir_all(&sidecars).unwrap();
    make_pipe(&sidecars.join("0.json"));
    let state = deployment.state();
    let state = state.to_str().unwrap();
    command::run(&["status", "--state", state]).with(4);
    make_pipe(&deployment.site().join("handoff.toml"));
    let pointer = deployment.site().join("_artifact.txt");
    let pointer = pointer.to_str().unwrap();
    let status = ["status", "--pointer", pointer];
    command::run(&status)
        .with(4)
        .saying(&["handoff.toml", "a pipe, a socket or a device"]);
}

#[test]
fn a_huge_pointer_file_is_refused_and_the_next_one_counts() {
    let site = Site::watching_a_pointer().start("v1");
    let mut options = fs::File::options();
    let pointer = options.write(true).open(site.site().join("_artifact.txt"));
    let pointer = pointer.unwrap();
    pointer.set_len(1 << 30).unwrap();
    site.await_problem("it is longer than 1048576 bytes");
    drop(pointer);
    site.deploy("v2");
    site.await_version("v2");
}

#[test]
fn commands_show_control_characters_instead_of_sending_them() {
    const ODD: &str = "\u{1b}]0;title\u{7}\r\0\u{7f}\u{9b}2J";
    let deployment = Deployment::default();
    let state = deployment.state();
    fs::create_dir_all(state.join("sidecars")).unwrap();
    let log = deployment.site().join("log");
    fs::write(&log, format!("a line {ODD}\n")).unwrap();
    let handoff = json!({"release": format!("v1{ODD}"), "digest": "d", "generation": 1,
        "outcome": "refused", "launched_ms": 1, "reason": ODD});
    let failure = json!({"release": "v1", "digest": "d", "generation": 1, "at_ms": 1,
        "reason": ODD, "probe": ODD, "output": ["first", ODD]});
    let status = json!({"schema": 1, "sidecar": format!("a{ODD}"), "version": ODD, "pid": 1,
        "phase": "running", "listen": "127.0.0.1:1", "started_ms": 1, "heartbeat_ms": 1,
        "log_file": log, "handoffs": [handoff], "last_failure": failure,
        "artifact_problem": ODD, "configuration_problem": ODD, "desired_problem": ODD});
    let file = state.join("sidecars/a.json");
    fs::write(&file, status.to_string()).unwrap();
    let state = state.to_str().unwrap();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["history"],
        &["history", "--json"],
        &["logs"],
        &["logs", "--json"],
    ] {
        let ended = command::run(&[words, &["--state", state]].concat());
        let shown = ended.stdout.clone() + &ended.stderr;
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(obeyed), "{words:?}: {shown:?}");
        assert!(shown.contains("2J"), "{words:?}: {shown:?}");
        if words.contains(&"--json") && words[0] != "logs" {
            let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            assert!(json.to_string().contains("title"));
        }
    }
}

#[cfg(unix)]
#[test]
fn the_digest_of_a_pipe_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let ended = command::run(&["digest", pipe.to_str().unwrap()]);
    ended.with(1).saying(&["neither a file nor a folder"]);
}

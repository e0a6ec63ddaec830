//! The command line, from the outside.

use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tests::binaries::{sample_app, spawn};
use tests::command::{self, Command};
use tests::program::handoff;
use tests::release::sha256;

fn run(args: &[&str]) -> Output {
    let mut command = handoff();
    command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = spawn(&mut command).expect("handoff can be started");
    child.wait_with_output().expect("its end")
}

/// The exit code and what it said.
fn failed(args: &[&str]) -> (Option<i32>, String) {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_files_digest_is_its_sha_256() {
    let app = sample_app().to_str().unwrap();
    let output = run(&["digest", app]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.trim_end(), sha256(sample_app()));
    let json = command::run(&["digest", "--json", app]).with(0).json();
    assert_eq!(json["sha256"], sha256(sample_app()));
}

#[test]
fn a_digest_of_nothing_exits_with_1_and_names_it() {
    let (code, said) = failed(&["digest", "no-such-file"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no-such-file"), "{said}");
}

#[test]
fn what_cannot_be_understood_exits_with_2_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let app = folder.path().join("site").join("app");
    let app = app.to_str().unwrap();
    for (args, key) in [
        (&["--no-such-option"][..], "--no-such-option"),
        (&["--drain-timeout", "soon"], "--drain-timeout"),
        (&["--max-held", "many"], "--max-held"),
        (&["--listen", "example.org:80"], "--listen"),
        (&["--poll", "0s"], "--poll"),
        (&["--health-path", "health"], "--health-path"),
        (&["--watch", "somewhere"], "--watch"),
    ] {
        let (code, said) = failed(&[&["run", "--artifact", app, "--cache", cache], args].concat());
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(key), "{args:?}: {said}");
    }
}

#[test]
fn nothing_to_run_exits_with_2_and_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = handoff();
    command.args(["run"]).current_dir(folder.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(&mut command).unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for option in ["--artifact", "--pointer", "--watch"] {
        assert!(said.contains(option), "{said}");
    }
}

/// Runs handoff on this port, in folders of its own.
fn on(address: SocketAddr) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = handoff();
    command.arg("run").arg("--listen").arg(address.to_string());
    for (option, path) in [
        ("--artifact", "site/app"),
        ("--state", "state"),
        ("--cache", "cache"),
    ] {
        command.arg(option).arg(folder.path().join(path));
    }
    (command::start(command), folder)
}

#[test]
fn a_port_that_is_let_go_of_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (handoff, _folder) = on(address);
    handoff.await_stderr("in use");
    drop(taken);
    handoff.await_stderr("listening");
}

#[test]
fn a_taken_port_exits_with_1_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (handoff, _folder) = on(address);
    handoff
        .end()
        .with(1)
        .saying(&[&format!("cannot listen on {address}")]);
    if cfg!(unix) {
        let (handoff, _folder) = on(address);
        let this = format!("process {} (", std::process::id());
        handoff.end().with(1).saying(&[&this, "listens there"]);
    }
}

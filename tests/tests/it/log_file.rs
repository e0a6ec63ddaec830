//! A log file of handoff's own (`--log-file`).

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::{Running, Site, eventually};

/// A deployment that logs to a file in a folder of its own.
fn logging(folder: &Path, name: &str) -> Site {
    let file = folder.join(name);
    Site::watching_a_pointer().with("--log-file", file.to_str().expect("a path"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[track_caller]
fn await_line(file: &Path, part: &str) {
    let text = || fs::read_to_string(file).unwrap_or_default();
    eventually(
        || format!("{file:?} says {part:?}:\n{}", text()),
        || text().contains(part).then_some(()),
    );
}

fn stderr_lines(site: &Running) -> usize {
    site.log().lines().count()
}

#[test]
fn the_whole_log_is_in_the_file_and_stderr_says_where() {
    let folder = TempDir::new().unwrap();
    let logs = folder.path().join("made/when/needed");
    let site = logging(&logs, "handoff-{sidecar}.log").start("v1");
    let sidecars = fs::read_dir(site.shared().with_file_name("sidecars")).unwrap();
    let status = sidecars.flatten().next().unwrap().path();
    let sidecar = status.file_stem().unwrap().to_str().unwrap().to_owned();

    let file = logs.join(format!("handoff-{sidecar}.log"));

    assert_eq!(files(&logs), std::slice::from_ref(&file));
    for part in ["INFO listening", "sample-app v1 listening on", "promoted"] {
        await_line(&file, part);
    }
    assert!(
        !fs::read_to_string(&file).unwrap().contains('\u{1b}'),
        "no colours"
    );
    site.await_log("the log is in");
    assert_eq!(stderr_lines(&site), 1, "{}", site.log());
}

#[test]
fn files_are_full_at_the_size_that_was_said() {
    let folder = TempDir::new().unwrap();
    let site = logging(folder.path(), "handoff.log")
        .with("--log-file-size", "1000")
        .with("--log-file-keep", "2");
    let site = site.start("v1");
    for version in ["v2", "v3", "v4"] {
        site.deploy(version);
        site.await_version(version);
    }
    // While it runs, a listing may meet the renames of a rotation.
    site.ask_to_stop();
    site.await_exit();
    let named = |name: &str| folder.path().join(name);
    let expected = ["handoff.1.log", "handoff.2.log", "handoff.log"].map(named);
    assert_eq!(files(folder.path()), expected);
    for file in &expected[..2] {
        let length = fs::metadata(file).unwrap().len();
        assert!((1..=1000).contains(&length), "{file:?} has {length} bytes");
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_nothing() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("in-the-way"), "").unwrap();
    let site = logging(folder.path(), "in-the-way/handoff.log").start("v1");
    site.await_log("cannot write the log file");
    site.await_log("promoted");
    site.await_version("v1");
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let folder = TempDir::new().unwrap();
    let site = logging(folder.path(), "handoff.log").start("v1");
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0));
    let text = fs::read_to_string(folder.path().join("handoff.log")).unwrap();
    assert!(
        text.trim_end().ends_with("event=\"shutdown_completed\""),
        "{text}"
    );
}

/// A named pipe that nobody reads is a share that hangs: opening it blocks for ever.
#[cfg(unix)]
#[test]
fn a_file_that_hangs_holds_up_nobody() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("handoff.log");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let site = logging(folder.path(), "handoff.log").start("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0));
}

/// Each write beyond the limit of a file's size causes a signal, and a line about that one more write.
#[cfg(unix)]
#[test]
fn a_file_at_the_limit_of_its_size_causes_no_further_lines() {
    use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

    let folder = TempDir::new().unwrap();
    let site = logging(folder.path(), "handoff.log").start("v1");
    let file = folder.path().join("handoff.log");
    await_line(&file, "instance_promoted");
    // All other files stay far below the limit.
    let mut filled = fs::read(&file).unwrap();
    filled.resize(64 * 1024, b'\n');
    fs::write(&file, filled).unwrap();
    let pid = Pid::from_raw(site.pid().try_into().unwrap()).unwrap();
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = |current| prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum }).unwrap();
    limit(Some(64 * 1024));
    tests::processes::signal(site.pid(), Signal::USR2);
    site.await_log("cannot write the log file");
    site.await_version("v1");
    limit(maximum);
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0));
    let lines = fs::read_to_string(&file).unwrap() + &site.log();
    assert!(lines.contains("shutdown_completed"), "{lines}");
    assert!(!lines.contains("SIGXFSZ"), "{lines}");
}

//! The cost of a sidecar at rest: processor time, wake-ups and file operations are other programs',
//! and on a share each file operation is a round trip.
#![cfg(target_os = "linux")] // Only Linux counts the wake-ups of threads, and has strace.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tests::deployment::Running;
use tests::processes::signal;
use tests::tools;
use tests::wait::sleep_for;
use tests::{Site, eventually};

/// Time for which a sidecar is watched.
const WATCHED: Duration = Duration::from_secs(12);
/// Maximum number of file operations on shared folders in that time: thirty a minute, and a look of
/// its own that comes once a minute.
const MAX_OPERATIONS: usize = 6 + 24;
/// Maximum number of wake-ups in that time: two a second, and those of the look at the processes.
const MAX_WAKE_UPS: u64 = 2 * 12 + 12;

/// Waits until what follows a start is over.
fn rest(site: &Running) {
    site.wait_until("the first release serves", |status| status.is_at_rest());
    sleep_for(
        Duration::from_secs(7),
        "a look follows the last change, and the connections of the kit end",
    );
}

/// Returns how often the threads of a process have been woken, by their names.
fn wake_ups(pid: u32) -> Vec<(String, u64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let threads = threads.flatten().filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let value = |key: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
        };
        let count = value("voluntary_ctxt_switches:")?.parse().ok()?;
        Some((value("Name:")?, count))
    });
    threads.collect()
}

/// Returns how often the threads whose name begins so are woken while `during` runs.
fn woken(pid: u32, name: &str, during: impl FnOnce()) -> u64 {
    let count = || {
        let all = wake_ups(pid).into_iter();
        all.filter(|(thread, _)| thread.starts_with(name))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    let before = count();
    during();
    count() - before
}

/// Returns the system calls of a process that name a file below one of the folders.
fn file_operations(pid: u32, folders: [PathBuf; 2]) -> Vec<String> {
    let kept = tempfile::tempdir().expect("a folder");
    let trace = kept.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-e", "trace=%file,%desc", "-o"]);
    strace.arg(&trace).args(["-p", &pid.to_string()]);
    let mut strace = strace.stderr(Stdio::null()).spawn().expect("strace");
    sleep_for(WATCHED, "what happens in this time is counted");
    signal(strace.id(), Signal::INT);
    strace.wait().expect("its end");
    let trace = fs::read_to_string(&trace).expect("its output");
    assert!(!trace.is_empty(), "it has seen nothing at all");
    let below = folders.map(|folder| folder.to_str().expect("a text").to_owned());
    let is_below = |line: &&str| below.iter().any(|folder| line.contains(folder));
    let calls = trace.lines().filter(is_below);
    calls.map(str::to_owned).collect()
}

fn assert_leaves_files_alone(site: &Running) {
    rest(site);
    // The private copies are on a local disk.
    let folders = [site.site(), site.deployment().state()];
    let shared = file_operations(site.pid(), folders);
    assert!(
        shared.iter().any(|call| call.contains("sidecars")),
        "no heartbeat is seen: {shared:#?}"
    );
    assert!(shared.len() <= MAX_OPERATIONS, "{shared:#?}");
}

/// Makes a folder with two thousand files below the artifact.
fn fill(folder: &Path) {
    for number in 0..50 {
        let inner = folder.join(format!("lib/{number}/more"));
        fs::create_dir_all(&inner).expect("a folder");
        for number in 0..40 {
            fs::write(inner.join(format!("{number}.js")), "x").expect("a file");
        }
    }
}

#[test]
fn a_sidecar_at_rest_leaves_the_files_of_its_deployment_alone() {
    if !tools::runs("strace", "-V") {
        return tools::skip("strace");
    }
    for site in [
        Site::overwritten_in_place(),
        Site::watching_a_pointer(),
        Site::watching_a_folder(),
    ] {
        assert_leaves_files_alone(&site.start("v1"));
    }
}

#[test]
fn a_folder_of_two_thousand_files_is_left_alone_too() {
    if !tools::runs("strace", "-V") {
        return tools::skip("strace");
    }
    let site = Site::watching_a_folder()
        .with("--settle-folder", "1s")
        .running(&["./app", "-port", "{port}"]);
    let site = site.launch_empty();
    let folder = site.site().join("releases/one");
    fill(&folder);
    tests::app("v1").write_to(&folder.join("app"));
    site.await_version("v1");
    assert_leaves_files_alone(&site);
}

#[test]
fn a_sidecar_without_connections_sleeps() {
    let site = Site::watching_a_pointer().start("v1");
    rest(&site);
    let woken = woken(site.pid(), "", || {
        sleep_for(WATCHED, "what happens in this time is counted");
    });
    assert!(woken <= MAX_WAKE_UPS, "{woken}: {:?}", wake_ups(site.pid()));
}

#[test]
fn what_is_written_beside_the_pointer_wakes_no_watcher() {
    let site = Site::watching_a_pointer().start("v1");
    rest(&site);
    let log = site.site().join("app.log");
    let woken = woken(site.pid(), "watcher", || {
        for number in 0..200 {
            fs::write(&log, number.to_string()).unwrap();
            sleep_for(Duration::from_millis(10), "a log is written all the time");
        }
    });
    assert!(woken <= 5, "{woken}");
    // It is awake for what matters.
    site.deploy("v2");
    site.await_version("v2");
}

#[test]
fn a_heartbeat_is_written_in_place() {
    let site = Site::watching_a_pointer().start("v1");
    rest(&site);
    let first = site.status();
    let name = format!("sidecars/{}.json", first.sidecar);
    let path = site.deployment().state().join(name);
    let inode = fs::metadata(&path).unwrap().ino();
    let mut last = first.heartbeat_ms;
    for _ in 0..2 {
        last = eventually(
            || "the heartbeat moves".to_owned(),
            || Some(site.status().heartbeat_ms).filter(|now| *now != last),
        );
    }
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the same file");
}

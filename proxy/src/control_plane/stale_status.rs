//! Removes status files of sidecars that were killed long ago.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::os::files;
use crate::os::machine::{is_gone, shared_pid_namespace};

/// Number of stale files that stay.
const KEPT: usize = 10;
/// Minimum age of a stale file. A live sidecar writes every few seconds; the clocks of machines may
/// differ.
const LATELY: Duration = Duration::from_secs(24 * 60 * 60);
/// Minimum age of a stale file of this machine, whose process is gone.
const LATELY_HERE: Duration = Duration::from_secs(60);

/// The part of a status that names the process.
#[derive(Deserialize)]
struct SidecarProcess {
    pid: u32,
    machine: Option<String>,
}

/// Removes the oldest status files in `folder`. Each killed sidecar leaves one, and every command
/// reads all of them.
pub(super) fn remove_old(folder: &Path, now: SystemTime) {
    files::remove_leftovers(folder, now);
    let here = shared_pid_namespace();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut dead: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".json") && !name.starts_with('.')
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(written, file)| {
            let age = now.duration_since(*written).unwrap_or_default();
            age > LATELY || age > LATELY_HERE && has_gone(file, here.as_deref())
        })
        .collect();
    dead.sort();
    let excess = dead.len().saturating_sub(KEPT);
    for (_, file) in dead.into_iter().take(excess) {
        // Another sidecar may have removed it.
        let _ = fs::remove_file(file);
    }
}

/// Returns true if the status is that of a process of the machine `here` that has ended.
fn has_gone(file: &Path, here: Option<&str>) -> bool {
    let status = files::read_large(file).unwrap_or_default();
    serde_json::from_slice(&status).is_ok_and(|SidecarProcess { pid, machine }| {
        here.is_some() && machine.as_deref() == here && is_gone(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_and_whoever_may_live_stay() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let write = |name: &str, hours: u64| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            let age = Duration::from_secs(hours * 60 * 60);
            file.set_modified(now - age).unwrap();
        };
        for number in 0..KEPT as u64 + 5 {
            write(&format!("dead-{number}.json"), 100 + number);
        }
        for number in 0..KEPT as u64 + 5 {
            write(&format!("live-{number}.json"), 23);
        }
        write("notes.txt", 1000);
        write(".Abc123.tmp", 25);
        write(".Abc124.tmp", 23);
        write(".my-notes.tmp", 1000);
        remove_old(folder.path(), now);
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("dead-0.json") && is_there(&format!("dead-{}.json", KEPT - 1)));
        assert!(!is_there(&format!("dead-{KEPT}.json")));
        assert!(is_there("notes.txt"));
        assert!(!is_there(".Abc123.tmp") && is_there(".Abc124.tmp"));
        fs::remove_file(folder.path().join(".Abc124.tmp")).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, KEPT + KEPT + 5 + 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_killed_sidecar_of_this_machine_is_seen_by_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        for number in 0..KEPT as u64 + 5 {
            for (name, pid) in [("gone", child.id()), ("live", std::process::id())] {
                let file = folder.path().join(format!("{name}-{number}.json"));
                let machine = shared_pid_namespace();
                let status = serde_json::json!({"pid": pid, "machine": machine}).to_string();
                fs::write(&file, status).unwrap();
                let file = fs::File::options().append(true).open(file).unwrap();
                file.set_modified(now - Duration::from_secs(90)).unwrap();
            }
        }
        remove_old(folder.path(), now);
        let names = fs::read_dir(folder.path()).unwrap().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        let count = |start: &str| {
            let all = names.iter();
            all.filter(|name| name.to_string_lossy().starts_with(start))
                .count()
        };
        let of_us = count("live");
        assert_eq!((count("gone"), of_us), (KEPT, KEPT + 5));
    }
}

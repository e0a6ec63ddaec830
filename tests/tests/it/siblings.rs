//! Several sidecars on one deployment and one machine: an overlapped recycle, or
//! `processesPerApplication` above one. Neither may disturb the other.
#![cfg(unix)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::Signal;
use tests::binaries::spawn;
use tests::processes::{is_alive, signal};
use tests::program::handoff;
use tests::{Connection, Running, Site, Status, eventually};

/// A second sidecar of a deployment, with all its folders.
#[derive(Debug)]
struct Sibling {
    child: Child,
    state: PathBuf,
    log: PathBuf,
}

impl Sibling {
    /// Keeps no copy that nobody needs.
    fn of(site: &Running) -> Self {
        let root = site.site().with_file_name("");
        let path = |name: &str| root.join(name);
        let log = path("sibling.log");
        let mut command = handoff();
        command
            .args(["run", "--listen", "127.0.0.1:0", "--keep", "0"])
            .args(["--poll", "500ms", "--settle", "200ms"])
            .args(["--shutdown-delay", "10ms", "--pointer"])
            .arg(path("site/_artifact.txt"))
            .arg("--state")
            .arg(path("state"))
            .arg("--cache")
            .arg(path("cache"))
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"));
        Self {
            child: spawn(&mut command).expect("handoff can be started"),
            state: path("state"),
            log,
        }
    }

    /// Its status file, and what is in it.
    fn published(&self) -> Option<(PathBuf, Status)> {
        let files = fs::read_dir(self.state.join("sidecars")).ok()?.flatten();
        let statuses = files.filter_map(|file| {
            let status = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
            Some((file.path(), status))
        });
        let mut ours = statuses.filter(|(_, status): &(_, Status)| status.pid == self.child.id());
        ours.next()
    }

    #[track_caller]
    fn await_active(&self, release: &str) -> Status {
        eventually(
            || {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                format!(
                    "the sibling activates {release}: {:#?}\n{log}",
                    self.published()
                )
            },
            || {
                let (_, status) = self.published()?;
                status.is_active(release).then_some(status)
            },
        )
    }

    fn version(&self) -> String {
        let (_, status) = self.published().expect("a status");
        let mut connection = Connection::open(status.listen).expect("a connection");
        connection
            .get("/version")
            .expect("an answer")
            .text()
            .to_owned()
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The deployment, and the sidecar that goes first.
fn first() -> Running {
    Site::watching_a_pointer().with("--keep", "0").start("v1")
}

/// The private copy that this process runs.
fn copy_of(pid: u32) -> PathBuf {
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("a running program");
    assert!(program.is_file(), "it is there: {program:?}");
    program
}

fn app_of(status: &Status) -> u32 {
    let active = status.active.as_ref().expect("an active one");
    active.pid.expect("its process")
}

/// Asserts that the second one goes on as if it had been alone.
#[track_caller]
fn assert_undisturbed(second: &Sibling, before: &Status, deploy: impl Fn(&str)) {
    let app = app_of(before);
    assert!(is_alive(app), "its app runs");
    assert!(copy_of(app).starts_with(second.state.with_file_name("cache")));
    let (_, status) = second.published().expect("its status is there");
    assert_eq!(app_of(&status), app, "its app was not restarted");
    assert_eq!(second.version(), "v2");
    deploy("v3");
    second.await_active("v3");
    assert_eq!(second.version(), "v3");
}

#[test]
fn both_promote_what_is_deployed_each_with_an_app_of_its_own() {
    let one = first();
    let two = Sibling::of(&one);
    let apps = [app_of(&one.status()), app_of(&two.await_active("v1"))];
    assert_ne!(apps[0], apps[1]);
    one.deploy("v2");
    one.await_version("v2");
    two.await_active("v2");
    assert_eq!(two.version(), "v2");
}

#[test]
fn one_that_is_killed_leaves_the_other_undisturbed() {
    let one = first();
    let two = Sibling::of(&one);
    one.deploy("v2");
    one.await_active("v2");
    let before = two.await_active("v2");
    let killed = app_of(&one.status());
    one.kill();
    eventually(
        || "the killed one's app is gone".to_owned(),
        || (!is_alive(killed)).then_some(()),
    );
    assert_undisturbed(&two, &before, |version| one.deploy(version));
}

#[test]
fn one_that_ends_leaves_the_other_undisturbed() {
    let one = first();
    let two = Sibling::of(&one);
    one.deploy("v2");
    one.await_active("v2");
    let before = two.await_active("v2");
    one.ask_to_stop();
    assert_eq!(one.await_exit().code(), Some(0), "{}", one.log());
    assert_undisturbed(&two, &before, |version| one.deploy(version));
}

#[test]
fn one_that_starts_after_another_was_killed_disturbs_nobody_either() {
    let one = first();
    let two = Sibling::of(&one);
    one.deploy("v2");
    let before = two.await_active("v2");
    one.kill();
    let three = Sibling::of(&one);
    three.await_active("v2");
    assert_undisturbed(&two, &before, |version| one.deploy(version));
    three.await_active("v3");
}

fn copies(cache: &Path) -> Vec<String> {
    let deployments = fs::read_dir(cache.join("releases")).expect("the cache");
    let copies = deployments
        .flatten()
        .flat_map(|entry| fs::read_dir(entry.path()).expect("copies").flatten());
    let folders = copies.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_that_one_still_runs_is_not_the_others_to_prune() {
    let one = first();
    let two = Sibling::of(&one);
    two.await_active("v1");
    let cache = one.site().with_file_name("cache");
    let has = |version: &str| {
        let prefix = format!("{version}-");
        copies(&cache).iter().any(|copy| copy.starts_with(&prefix))
    };
    // The first one's v1 drains for as long as this lasts; nothing else of it is left.
    let upload = one.begin_upload("/upload");
    // Some of the last good ones stay, to fall back to.
    for version in 2..=7 {
        let version = &format!("v{version}");
        one.deploy(version.as_str());
        one.await_active(version);
        two.await_active(version);
    }
    eventually(
        || format!("what nobody runs is pruned: {:?}", copies(&cache)),
        || (!has("v2")).then_some(()),
    );
    assert!(has("v1") && has("v7"), "{:?}", copies(&cache));
    assert_eq!(upload.finish().unwrap().release(), "v1");
    eventually(
        || format!("and then that: {:?}", copies(&cache)),
        || (!has("v1")).then_some(()),
    );
    assert_eq!(two.version(), "v7");
    one.await_version("v7");
}

//! Processes that may outlive their instance, or even this process, and their end.
//!
//! The end of the process group (Unix) or of the job (Windows) misses some: a process that has left
//! the group, the whole tree where a job is refused, and on Unix all but the root when this process
//! is killed. So the processes of each instance are recorded while it runs:
//! ```text
//! <cache>/processes/<sidecar>.json   {machine, processes: [{pid, started, executable}, …]}
//! <cache>/processes/<sidecar>.lock   held while the sidecar lives
//! <cache>/processes/<sidecar>.states/<generation>.json   the state of an instance, for its app
//! ```
//! What is left of an instance is killed with it. What is left of a sidecar is killed by the next one
//! that starts with the same cache, or that launches a step from it: never a process of a living sibling, of another
//! machine or boot, nor another process that has got the same id since.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::{self, JoinHandle as ThreadHandle};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use self::identity::ProcessIdentity;
use super::ProcessRole;
use super::anchor::Anchor;
use super::announcement::{AnnouncedState, Announcement, StateFile};
use crate::os::files::{self, Access};
use crate::os::machine::pid_namespace;
use crate::release::{Generation, ReleaseId};

mod identity;
#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub(super) use identity::MARK;

/// The records of this sidecar.
#[derive(Debug)]
pub(super) struct ProcessRecords {
    file: PathBuf,
    mark: String,
    lock: Option<File>,
    /// Known processes by the root that they descend from.
    known: RefCell<BTreeMap<ProcessIdentity, BTreeSet<ProcessIdentity>>>,
    /// Searches for what ended instances have left: each looks at all processes of the machine.
    sweeps: RefCell<Vec<ThreadHandle<()>>>,
}

/// The processes of one instance. Dropping it kills those that are left.
#[derive(Debug)]
pub(super) struct ProcessFamily {
    records: Rc<ProcessRecords>,
    root: ProcessIdentity,
    mark: String,
    polling: JoinHandle<()>,
}

/// Content of a sidecar's file.
#[derive(Debug, Serialize, Deserialize)]
struct RecordFile {
    machine: String,
    processes: BTreeSet<ProcessIdentity>,
}

// === impl ProcessRecords ===

impl ProcessRecords {
    /// Kills the processes that dead sidecars have left, and begins a record in the same folder.
    /// With an anchor, the instances live as long as that, and so does the record.
    pub(super) fn open(folder: &Path, anchor: Option<&Anchor>) -> io::Result<Rc<Self>> {
        files::make_own_folder(folder, Access::None)?;
        kill_orphans(folder);
        let pid = anchor.map_or_else(std::process::id, Anchor::pid);
        let started = os::identify(pid).map_or(0, |process| process.started);
        let mark = format!("{pid}-{started}");
        let lock = files::try_lock(&folder.join(&mark).with_extension("lock"));
        if let Some(anchor) = anchor {
            // Without a lock, the anchor has had it since an earlier process.
            lock.as_ref()
                .map_or(Ok(()), |lock| anchor.keep("records", lock))?;
        } else if lock.is_none() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Rc::new(Self {
            file: folder.join(&mark).with_extension("json"),
            lock,
            mark,
            known: RefCell::default(),
            sweeps: RefCell::default(),
        }))
    }

    /// Kills the processes that sidecars have left that have died since.
    pub(super) fn end_orphans(&self) {
        if let Some(folder) = self.file.parent() {
            kill_orphans(folder);
        }
    }

    /// Returns the value of [`MARK`] for an instance, or for a step beside it: what ends the step
    /// spares the instance.
    pub(super) fn mark(&self, generation: Generation, role: ProcessRole) -> String {
        match role {
            ProcessRole::Instance => format!("{}/{generation}", self.mark),
            ProcessRole::Step => format!("{}/{generation}/step", self.mark),
        }
    }

    /// Kills what an earlier process of this sidecar has started, except for instances with these
    /// marks.
    pub(super) fn end_strays<'a>(&self, adopted: impl Iterator<Item = &'a str>) {
        let mut strays = os::find_marked(&self.mark);
        for mark in adopted {
            strays = &strays - &os::find_marked(mark);
        }
        for stray in &strays {
            os::kill(stray);
        }
    }

    /// Writes the file in which an instance that is about to start reads its own state.
    pub(super) fn new_state_file(
        &self,
        generation: Generation,
        release: ReleaseId,
    ) -> Option<StateFile> {
        let announcement = Announcement {
            state: AnnouncedState::Candidate,
            release,
        };
        let folder = self.file.with_extension("states");
        let file = folder.join(format!("{generation}.json"));
        let written = files::make_own_folder(&folder, Access::None);
        let written = written.and_then(|()| announcement.write_to(&file));
        let reported = written.inspect_err(|error| {
            tracing::warn!(
                event = "state_file_not_written",
                file = %file.display(),
                %error,
                "an instance has no file with its state (HANDOFF_STATE_FILE)"
            );
        });
        reported.ok().map(|()| StateFile::new(file))
    }

    /// Records, from now on, the processes that descend from `root`; `None` if it has ended already.
    /// Those that have the `mark` are killed with them.
    pub(super) fn follow(self: &Rc<Self>, root: u32, mark: String) -> Option<ProcessFamily> {
        let root = os::identify(root)?;
        self.update(&root);
        let (records, parent) = (Rc::downgrade(self), root.clone());
        let poll = async move {
            loop {
                tokio::time::sleep(os::POLL_INTERVAL).await;
                match records.upgrade() {
                    Some(records) => records.update(&parent),
                    None => return,
                }
            }
        };
        Some(ProcessFamily {
            records: Rc::clone(self),
            root,
            mark,
            polling: tokio::task::spawn_local(poll),
        })
    }

    fn update(&self, root: &ProcessIdentity) {
        let mut known = self.known.borrow_mut();
        let family = known.entry(root.clone()).or_default();
        let now = os::find_family(root, family);
        if *family != now {
            *family = now;
            self.save(&known);
        }
    }

    fn forget(&self, root: &ProcessIdentity) -> BTreeSet<ProcessIdentity> {
        let mut known = self.known.borrow_mut();
        let family = known.remove(root).unwrap_or_default();
        self.save(&known);
        family
    }

    /// Kills what is left of an instance, on a thread of its own.
    fn sweep(&self, root: ProcessIdentity, family: BTreeSet<ProcessIdentity>, mark: String) {
        let mut sweeps = self.sweeps.borrow_mut();
        sweeps.retain(|sweep| !sweep.is_finished());
        let sweep = move || kill_left(&root, family, &mark);
        let thread = thread::Builder::new().name("sweep".to_owned());
        match thread.spawn(sweep) {
            Ok(thread) => sweeps.push(thread),
            Err(error) => tracing::warn!(
                event = "processes_not_swept",
                %error,
                "cannot search for processes that have outlived their instance: some may stay"
            ),
        }
    }

    fn save(&self, known: &BTreeMap<ProcessIdentity, BTreeSet<ProcessIdentity>>) {
        let content = RecordFile {
            machine: pid_namespace().unwrap_or_default(),
            processes: known.values().flatten().cloned().collect(),
        };
        let json = serde_json::to_vec(&content).map_err(io::Error::from);
        let written = json.and_then(|json| files::write_atomically(&self.file, &json));
        if let Err(error) = written {
            tracing::warn!(
                event = "process_records_not_written",
                file = %self.file.display(),
                %error,
                "cannot record the processes of the app: if this sidecar is killed, some may stay"
            );
        }
    }
}

impl Drop for ProcessRecords {
    fn drop(&mut self) {
        for sweep in self.sweeps.take() {
            // The panic hook has reported a panic.
            let _ = sweep.join();
        }
        // All processes were killed with their instances.
        let _ = fs::remove_file(&self.file);
        let _ = fs::remove_dir_all(self.file.with_extension("states"));
        drop(self.lock.take());
        let _ = fs::remove_file(self.file.with_extension("lock"));
    }
}

// === impl ProcessFamily ===

impl Drop for ProcessFamily {
    fn drop(&mut self) {
        self.polling.abort();
        self.records.update(&self.root);
        let family = self.records.forget(&self.root);
        let mark = std::mem::take(&mut self.mark);
        self.records.sweep(self.root.clone(), family, mark);
    }
}

/// Kills the processes of `family`, and those with the `mark`, but for the root: that may not have
/// been reaped yet.
fn kill_left(root: &ProcessIdentity, mut family: BTreeSet<ProcessIdentity>, mark: &str) {
    family.extend(os::find_marked(mark));
    for process in &family {
        if process != root && os::kill(process) {
            tracing::debug!(
                event = "orphan_killed",
                pid = process.pid,
                executable = %process.executable.display(),
                "killed a process that outlived its instance"
            );
        }
    }
}

/// Kills the processes that dead sidecars have left, and removes the records of these sidecars.
fn kill_orphans(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_lock = path.extension().is_some_and(|suffix| suffix == "lock");
        // A living sidecar holds its lock.
        let Some(lock) = is_lock.then(|| files::try_lock(&path)).flatten() else {
            continue;
        };
        let file = path.with_extension("json");
        for process in left_by(&file) {
            if os::kill(&process) {
                tracing::info!(
                    event = "orphan_killed",
                    pid = process.pid,
                    executable = %process.executable.display(),
                    "killed a process that a dead sidecar left behind"
                );
            }
        }
        let _ = fs::remove_file(&file);
        let _ = fs::remove_dir_all(file.with_extension("states"));
        let _ = files::remove_lock(&path, lock);
    }
}

/// Returns the processes that the sidecar with this record has left.
fn left_by(file: &Path) -> BTreeSet<ProcessIdentity> {
    let mark = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut left = os::find_marked(&mark);
    let json = files::read_small(file).ok();
    match json.map(|json| serde_json::from_slice::<RecordFile>(&json)) {
        Some(Ok(content)) if content.machine == pid_namespace().unwrap_or_default() => {
            left.extend(content.processes);
        }
        Some(Ok(_)) | None => {}
        Some(Err(error)) => tracing::warn!(
            event = "process_records_unreadable",
            file = %file.display(),
            %error,
            "cannot read which processes a dead sidecar left behind"
        ),
    }
    left
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a process that waits for its standard input to end.
    fn idle(mark: Option<&str>) -> Child {
        let mut command = Command::new(if cfg!(windows) { "cmd" } else { "cat" });
        if let Some(mark) = mark {
            command.env(MARK, mark);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    fn is_running(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_none()
    }

    fn record(folder: &Path, name: &str, machine: &str, processes: &[&ProcessIdentity]) {
        let content = RecordFile {
            machine: machine.to_owned(),
            processes: processes.iter().copied().cloned().collect(),
        };
        let json = serde_json::to_vec(&content).unwrap();
        fs::write(folder.join(name).with_extension("json"), json).unwrap();
        fs::write(folder.join(name).with_extension("lock"), "").unwrap();
    }

    #[test]
    fn a_dead_sidecars_processes_are_ended_and_its_records_removed() {
        let folder = tempfile::tempdir().unwrap();
        let machine = pid_namespace().unwrap();
        let mut child = idle(None);
        let process = os::identify(child.id()).unwrap();
        record(folder.path(), "1-1", &machine, &[&process]);
        kill_orphans(folder.path());
        assert!(!child.wait().unwrap().success());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_else_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let machine = pid_namespace().unwrap();
        let mut child = idle(Some("5-5/7"));
        let process = os::identify(child.id()).unwrap();
        let later = ProcessIdentity {
            started: process.started + 1,
            ..process.clone()
        };
        let other = ProcessIdentity {
            executable: "/another/program".into(),
            ..process
        };
        record(folder.path(), "2-2", &machine, &[&later, &other]);
        record(folder.path(), "3-3", "another", &[&process]);
        record(folder.path(), "4-4", &machine, &[&process]);
        record(folder.path(), "5-5", &machine, &[]);
        let living = files::try_lock(&folder.path().join("4-4.lock")).unwrap();
        let also = files::try_lock(&folder.path().join("5-5.lock")).unwrap();
        kill_orphans(folder.path());
        assert!(is_running(&mut child));
        drop((living, also));
        // A process that another test has just forked keeps the locks for a moment.
        let since = Instant::now();
        while is_running(&mut child) && since.elapsed() < Duration::from_secs(60) {
            kill_orphans(folder.path());
        }
        assert!(!child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn what_a_process_has_started_is_noted_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let local = tokio::task::LocalSet::new();
        let noted = |records: &ProcessRecords| {
            let json = fs::read(&records.file).unwrap();
            let content: RecordFile = serde_json::from_slice(&json).unwrap();
            content.processes
        };
        let follow = async {
            let records = ProcessRecords::open(folder.path(), None).unwrap();
            let (shell, script) = if cfg!(windows) {
                ("cmd", ["/c", "cmd"])
            } else {
                ("sh", ["-c", "cat; true"])
            };
            let mut command = Command::new(shell);
            command.args(script);
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut root = command.spawn().unwrap();
            let family = records.follow(root.id(), "a/1".to_owned()).unwrap();
            while noted(&records).len() < 2 {
                tokio::task::yield_now().await;
                records.update(&family.root);
            }
            let mut tree = noted(&records);
            assert!(tree.remove(&family.root), "{tree:?}");
            root.kill().unwrap();
            root.wait().unwrap();
            drop(family);
            for process in tree {
                while os::identify(process.pid).as_ref() == Some(&process) {
                    tokio::task::yield_now().await;
                }
            }
            assert!(noted(&records).is_empty());
        };
        local.run_until(follow).await;
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

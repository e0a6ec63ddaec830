//! What may outlive its instance, or even this process, and its end.
//!
//! The group's end (Unix) and the job's (Windows) miss some: a process that has left the group, the
//! whole tree where a job is refused, and on Unix all but the root when this process is killed. So
//! the processes of each instance are noted as long as it runs:
//! ```text
//! <cache>/processes/<sidecar>.json   {machine, processes: [{pid, started, executable}, …]}
//! <cache>/processes/<sidecar>.lock   held as long as the sidecar lives
//! ```
//! What is left of an instance is ended with it. What is left of a sidecar is ended by the next one
//! that launches something from the same cache: never a living sibling's, nothing of another machine
//! or boot, and no other process that has got the same number since.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::os::files;
use crate::release::Generation;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

/// Set for each instance to `<sidecar>/<generation>`: whoever has it comes from there. It finds those
/// that have come and left between two looks, where the system shows a process's variables.
pub(super) const MARK: &str = "HANDOFF_SIDECAR";

/// The records of this sidecar.
#[derive(Debug)]
pub(super) struct Records {
    file: PathBuf,
    mark: String,
    lock: Option<File>,
    /// By the root that they come from.
    known: RefCell<BTreeMap<Seen, BTreeSet<Seen>>>,
}

/// The processes of one instance. Dropping it ends those that are left.
#[derive(Debug)]
pub(super) struct Kin {
    records: Rc<Records>,
    root: Seen,
    mark: String,
    looking: JoinHandle<()>,
}

/// One process, told from all others that ever had or will have its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seen {
    pid: u32,
    /// In the system's own unit.
    started: u64,
    executable: PathBuf,
}

/// What the file of a sidecar says.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    machine: String,
    processes: BTreeSet<Seen>,
}

// === impl Records ===

impl Records {
    /// Ends what dead sidecars have left, and begins records of its own in the same folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn open(folder: &Path) -> io::Result<Rc<Self>> {
        fs::create_dir_all(folder)?;
        sweep(folder);
        let pid = std::process::id();
        let started = os::see(pid).map_or(0, |seen| seen.started);
        let mark = format!("{pid}-{started}");
        let lock = files::try_lock(&folder.join(&mark).with_extension("lock"));
        Ok(Rc::new(Self {
            file: folder.join(&mark).with_extension("json"),
            lock: Some(lock.ok_or(io::ErrorKind::WouldBlock)?),
            mark,
            known: RefCell::default(),
        }))
    }

    /// The value of [`MARK`] for an instance.
    pub(super) fn mark(&self, generation: Generation) -> String {
        format!("{}/{generation}", self.mark)
    }

    /// Notes, from now on, the processes that come from `root` or have its `mark`, unless it has
    /// ended already.
    pub(super) fn follow(self: &Rc<Self>, root: u32, mark: String) -> Option<Kin> {
        let root = os::see(root)?;
        self.look(&root, &mark);
        let (records, parent, name) = (Rc::downgrade(self), root.clone(), mark.clone());
        let look_again = async move {
            loop {
                tokio::time::sleep(os::LOOK_AGAIN).await;
                match records.upgrade() {
                    Some(records) => records.look(&parent, &name),
                    None => return,
                }
            }
        };
        Some(Kin {
            records: Rc::clone(self),
            root,
            mark,
            looking: tokio::task::spawn_local(look_again),
        })
    }

    fn look(&self, root: &Seen, mark: &str) {
        let mut known = self.known.borrow_mut();
        let seen = known.entry(root.clone()).or_default();
        let now = os::family(root, seen, mark);
        if *seen != now {
            *seen = now;
            self.note(&known);
        }
    }

    fn forget(&self, root: &Seen) -> BTreeSet<Seen> {
        let mut known = self.known.borrow_mut();
        let seen = known.remove(root).unwrap_or_default();
        self.note(&known);
        seen
    }

    fn note(&self, known: &BTreeMap<Seen, BTreeSet<Seen>>) {
        let noted = Noted {
            machine: os::machine(),
            processes: known.values().flatten().cloned().collect(),
        };
        let json = serde_json::to_vec(&noted).map_err(io::Error::from);
        let written = json.and_then(|json| files::write_atomically(&self.file, &json));
        if let Err(error) = written {
            tracing::warn!(file = ?self.file, %error, "the processes cannot be recorded");
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Everything was ended with its instance: nothing is left to say.
        let _ = fs::remove_file(&self.file);
        drop(self.lock.take());
        let _ = fs::remove_file(self.file.with_extension("lock"));
    }
}

// === impl Kin ===

impl Drop for Kin {
    fn drop(&mut self) {
        self.looking.abort();
        self.records.look(&self.root, &self.mark);
        for seen in self.records.forget(&self.root) {
            if seen != self.root && os::end(&seen) {
                tracing::debug!(?seen, "ended: it has outlived its instance");
            }
        }
    }
}

/// Ends what dead sidecars have left.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_lock = path.extension().is_some_and(|suffix| suffix == "lock");
        // Who lives holds it.
        let Some(alone) = is_lock.then(|| files::try_lock(&path)).flatten() else {
            continue;
        };
        let file = path.with_extension("json");
        for seen in left_by(&file) {
            if os::end(&seen) {
                tracing::info!(pid = seen.pid, executable = ?seen.executable,
                    "ended: a sidecar that is no more had left it");
            }
        }
        let _ = fs::remove_file(&file);
        let _ = files::remove_lock(&path, alone);
    }
}

fn left_by(file: &Path) -> BTreeSet<Seen> {
    let mark = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut left = os::marked(&mark);
    let noted = fs::read(file).ok();
    match noted.map(|json| serde_json::from_slice::<Noted>(&json)) {
        Some(Ok(noted)) if noted.machine == os::machine() => left.extend(noted.processes),
        Some(Ok(_)) | None => {}
        Some(Err(error)) => tracing::warn!(?file, %error, "records of processes are unreadable"),
    }
    left
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// A process that waits for its standard input to end.
    fn idle(mark: Option<&str>) -> Child {
        let mut command = match cfg!(windows) {
            true => Command::new("cmd"),
            false => Command::new("cat"),
        };
        if let Some(mark) = mark {
            command.env(MARK, mark);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    fn runs(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_none()
    }

    fn note(folder: &Path, name: &str, machine: &str, processes: &[&Seen]) {
        let noted = Noted {
            machine: machine.to_owned(),
            processes: processes.iter().copied().cloned().collect(),
        };
        let json = serde_json::to_vec(&noted).unwrap();
        fs::write(folder.join(name).with_extension("json"), json).unwrap();
        fs::write(folder.join(name).with_extension("lock"), "").unwrap();
    }

    #[test]
    fn a_dead_sidecars_processes_are_ended_and_its_records_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = idle(None);
        let seen = os::see(child.id()).unwrap();
        note(folder.path(), "1-1", &os::machine(), &[&seen]);
        sweep(folder.path());
        assert!(!child.wait().unwrap().success());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_else_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = idle(Some("5-5/7"));
        let seen = os::see(child.id()).unwrap();
        let later = Seen {
            started: seen.started + 1,
            ..seen.clone()
        };
        let other = Seen {
            executable: "/another/program".into(),
            ..seen
        };
        note(folder.path(), "2-2", &os::machine(), &[&later, &other]);
        note(folder.path(), "3-3", "another", &[&seen]);
        note(folder.path(), "4-4", &os::machine(), &[&seen]);
        note(folder.path(), "5-5", &os::machine(), &[]);
        let living = files::try_lock(&folder.path().join("4-4.lock")).unwrap();
        let also = files::try_lock(&folder.path().join("5-5.lock")).unwrap();
        sweep(folder.path());
        assert!(runs(&mut child));
        drop((living, also));
        // A process that another test has just forked keeps the locks for a moment.
        let since = Instant::now();
        while runs(&mut child) && since.elapsed() < Duration::from_secs(60) {
            sweep(folder.path());
        }
        assert!(!child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn what_a_process_has_started_is_noted_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let local = tokio::task::LocalSet::new();
        let noted = |records: &Records| {
            let json = fs::read(&records.file).unwrap();
            let noted: Noted = serde_json::from_slice(&json).unwrap();
            noted.processes
        };
        let follow = async {
            let records = Records::open(folder.path()).unwrap();
            let mut command = match cfg!(windows) {
                true => Command::new("cmd"),
                false => Command::new("sh"),
            };
            match cfg!(windows) {
                true => command.args(["/c", "cmd"]),
                false => command.args(["-c", "cat; true"]),
            };
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut root = command.spawn().unwrap();
            let kin = records.follow(root.id(), "a/1".to_owned()).unwrap();
            while noted(&records).len() < 2 {
                tokio::task::yield_now().await;
                records.look(&kin.root, &kin.mark);
            }
            let mut tree = noted(&records);
            assert!(tree.remove(&kin.root), "{tree:?}");
            root.kill().unwrap();
            root.wait().unwrap();
            drop(kin);
            for seen in tree {
                while os::see(seen.pid).as_ref() == Some(&seen) {
                    tokio::task::yield_now().await;
                }
            }
            assert!(noted(&records).is_empty());
        };
        local.run_until(follow).await;
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

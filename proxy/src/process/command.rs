//! The launcher of processes: what Unix and Windows share.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::anchor::{Anchor, Inheritance, Input, KeptChild, Root};
use super::announcement::{STATE_FILE, StateFile};
use super::orphans::{MARK, ProcessFamily, ProcessRecords};
use super::output::{AppLog, Output, OutputStream};
use super::program::SearchPath;
use super::stop::Stop;
use super::tree::ProcessTree;
use super::{
    AdoptedProcess, Adoption, Exit, Launch, LaunchError, LaunchSpec, Process, ProcessRole,
    StopFuture, app_request, os, program,
};
use crate::os::descriptors;
use crate::os::signal;
use crate::release::{Generation, ReleaseId};

/// Variables of systemd that are meant for this process and would mislead the app.
const OWN_VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];
/// Prefix of the variables that are options of handoff.
const OWN_PREFIX: &str = "HANDOFF_";

/// A launcher of processes on this machine. Their trees end with this process, also if it is killed.
#[derive(Debug)]
pub struct OsLauncher {
    folder: PathBuf,
    records: OnceCell<Option<Rc<ProcessRecords>>>,
    roots: Roots,
    app_log: Option<AppLog>,
    anchor: Option<Anchor>,
    inherited: RefCell<Inheritance>,
}

/// Facts about an instance, which the anchor keeps with it.
#[derive(Debug, Serialize, Deserialize)]
struct LaunchNote {
    generation: Generation,
    release: ReleaseId,
    port: u16,
    /// Value of [`MARK`] in its environment; empty if it has none.
    mark: String,
    state_file: Option<PathBuf>,
}

/// The root process of each running instance.
#[derive(Clone, Debug, Default)]
pub struct Roots(Arc<Mutex<BTreeMap<Generation, u32>>>);

/// The entry of one instance among the roots, until it is dropped.
#[derive(Debug)]
struct RootEntry(Roots, Generation);

/// A process tree on this machine.
#[derive(Debug)]
pub struct OsProcess {
    pid: u32,
    /// Value of [`MARK`] in its environment; empty if it has none.
    mark: String,
    state_file: Option<StateFile>,
    /// Processes that killing the tree may miss; `None` where it misses none.
    family: Option<ProcessFamily>,
    root: Root,
    tree: os::Tree,
    output: Output,
    /// Its entry among the roots; a step has none.
    _root: Option<RootEntry>,
    stop: Stop,
    port: u16,
}

// === impl OsLauncher ===

impl OsLauncher {
    /// Returns a launcher that records in `<cache>/processes` the processes that could outlive this
    /// one. Those that a dead sidecar left are killed before the first launch.
    pub fn new(cache: &Path) -> Self {
        Self {
            folder: cache.join("processes"),
            records: OnceCell::new(),
            roots: Roots::default(),
            app_log: None,
            anchor: None,
            inherited: RefCell::default(),
        }
    }

    /// Sends the output of apps there instead of to the log.
    pub fn set_app_log(&mut self, app_log: AppLog) {
        self.app_log = Some(app_log);
    }

    fn records(&self) -> Option<&Rc<ProcessRecords>> {
        let open = || {
            let opened = ProcessRecords::open(&self.folder, self.anchor.as_ref());
            let opened = opened.inspect_err(|error| {
                tracing::warn!(
                    event = "process_records_not_opened",
                    folder = %self.folder.display(),
                    %error,
                    "cannot record the processes of apps: if this sidecar is killed, some may stay"
                );
            });
            opened.ok()
        };
        self.records.get_or_init(open).as_ref()
    }

    /// Returns the root processes of its running instances, kept up to date.
    pub fn roots(&self) -> Roots {
        self.roots.clone()
    }

    /// Lets the anchor start instances, so that they survive this process, and takes over what it
    /// keeps.
    pub fn set_anchor(&mut self, anchor: Anchor, inherited: Inheritance) {
        self.anchor = Some(anchor);
        self.inherited = RefCell::new(inherited);
    }

    /// Takes charge of an instance that an earlier process of this sidecar launched.
    fn adopt_one(&self, kept: KeptChild, stop: &Stop) -> Option<AdoptedProcess<OsProcess>> {
        let root = Root::Anchored(kept.child);
        let pid = root.id();
        let adopt = || -> io::Result<AdoptedProcess<OsProcess>> {
            let note: LaunchNote = serde_json::from_str(&kept.note)?;
            let (generation, release) = (note.generation, note.release.clone());
            let state_file = note.state_file.clone().map(StateFile::new);
            let role = ProcessRole::Instance;
            let process = self.follow(root, note, state_file, stop.clone(), role)?;
            Ok(AdoptedProcess {
                generation,
                release,
                process,
            })
        };
        let adopted = adopt().inspect_err(|error| {
            tracing::warn!(
                event = "instance_not_adopted",
                pid,
                %error,
                "an instance that runs cannot be taken over: it ends with handoff"
            );
        });
        adopted.ok()
    }

    /// Follows the process tree of a root that runs.
    fn follow(
        &self,
        mut root: Root,
        note: LaunchNote,
        state_file: Option<StateFile>,
        stop: Stop,
        role: ProcessRole,
    ) -> io::Result<OsProcess> {
        let pid = root.id().unwrap_or_default();
        let tree = os::Tree::adopt(&root)?;
        let records = self.records();
        let records = records.filter(|_| !tree.is_killed_with_sidecar());
        let mut output = Output::new(note.generation, note.release, self.app_log.clone());
        let (stdout, stderr) = root.take_output()?;
        if let Some(stdout) = stdout {
            output.follow(stdout, OutputStream::Stdout);
        }
        if let Some(stderr) = stderr {
            output.follow(stderr, OutputStream::Stderr);
        }
        let is_instance = role == ProcessRole::Instance;
        Ok(OsProcess {
            family: records.and_then(|records| records.follow(pid, note.mark.clone())),
            _root: is_instance.then(|| self.roots.enter(note.generation, pid)),
            stop,
            port: note.port,
            pid,
            mark: note.mark,
            state_file,
            root,
            tree,
            output,
        })
    }
}

impl Launch for OsLauncher {
    type Process = OsProcess;

    fn launch(&self, spec: LaunchSpec) -> Result<OsProcess, LaunchError> {
        let start = || -> io::Result<OsProcess> {
            // Otherwise the system may report that a program does not exist which is there, or run
            // any file as a shell script.
            if cfg!(unix)
                && let Some(fault) = fault(&spec)
            {
                return Err(io::Error::new(io::ErrorKind::Unsupported, fault));
            }
            let records = self.records();
            if spec.role == ProcessRole::Step
                && let Some(records) = records
            {
                // A step of a sidecar that was killed may still change what all share.
                records.end_orphans();
            }
            let mut command = command(&spec);
            let mark = records.map(|records| records.mark(spec.generation, spec.role));
            if let Some(mark) = &mark {
                command.env(MARK, mark);
            }
            let is_instance = spec.role == ProcessRole::Instance;
            let state_file = records
                .filter(|_| is_instance)
                .and_then(|records| records.new_state_file(spec.generation, spec.release.clone()));
            if let Some(file) = &state_file {
                command.env(STATE_FILE, file.path());
            }
            let note = LaunchNote {
                generation: spec.generation,
                release: spec.release.clone(),
                port: spec.port,
                mark: mark.unwrap_or_default(),
                state_file: state_file.as_ref().map(|file| file.path().to_owned()),
            };
            let root = match &self.anchor {
                Some(anchor) if is_instance => {
                    let input = input(&spec);
                    let note = serde_json::to_string(&note)?;
                    Root::Anchored(anchor.spawn(&command, input, &note)?)
                }
                _ => Root::spawn(command)?,
            };
            self.follow(root, note, state_file, spec.stop.clone(), spec.role)
        };
        start().map_err(|source| LaunchError {
            // A share may be away for a while.
            is_releases_fault: spec.workdir.is_dir()
                && (source.kind() == io::ErrorKind::Unsupported || os::is_releases_fault(&source)),
            program: spec.program.clone(),
            source: explain_error(source, &spec),
            workdir: spec.workdir.clone(),
        })
    }

    fn adopt(&self, stop: &Stop) -> Adoption<OsProcess> {
        let Inheritance {
            record, children, ..
        } = self.inherited.take();
        let mut processes: Vec<_> = children
            .into_iter()
            .filter_map(|kept| self.adopt_one(kept, stop))
            .collect();
        processes.sort_by_key(|adopted| adopted.generation);
        if self.anchor.is_some()
            && let Some(records) = self.records()
        {
            let marks = processes.iter().map(|adopted| &adopted.process.mark);
            records.end_strays(marks.map(String::as_str));
        }
        Adoption { record, processes }
    }

    fn keep_record(&self, record: &str) {
        if let Some(anchor) = &self.anchor {
            // Without its anchor, this process is about to end.
            let _ = anchor.keep_record(record);
        }
    }
}

/// Returns the reason for which the program of a launch cannot be run, if it can be known.
fn fault(spec: &LaunchSpec) -> Option<String> {
    let search_path = SearchPath {
        folders: &program::path_variable(&spec.env),
        workdir: &spec.workdir,
    };
    match program::find(&spec.program, search_path) {
        Ok(file) => program::fault(&file, search_path),
        Err(missing) => Some(missing),
    }
}

/// Adds to an error of the system what it leaves out.
fn explain_error(error: io::Error, spec: &LaunchSpec) -> io::Error {
    if !spec.workdir.is_dir() {
        let message = format!("{error} (this working directory does not exist)");
        return io::Error::new(error.kind(), message);
    }
    match fault(spec).filter(|_| cfg!(windows) && os::is_releases_fault(&error)) {
        Some(fault) => io::Error::new(error.kind(), format!("{error} ({fault})")),
        None => os::explain_error(error, &spec.workdir),
    }
}

/// Keeps from a child what is meant for this process: variables, its limit of
/// descriptors, and the signals that it blocks.
pub fn keep_own_settings(command: &mut Command) {
    descriptors::restore_limit(command);
    signal::unblock_in(command);
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| OWN_VARIABLES.contains(&name) || name.starts_with(OWN_PREFIX));
        if is_ours {
            command.env_remove(name);
        }
    }
}

/// Returns the standard input of a program: its end asks the app to stop (`--stop stdin`).
fn input(spec: &LaunchSpec) -> Input {
    if spec.stop == Stop::Stdin {
        Input::Open
    } else {
        Input::Null
    }
}

fn command(spec: &LaunchSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.workdir)
        .stdin(match input(spec) {
            Input::Open => Stdio::piped(),
            Input::Null => Stdio::null(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    keep_own_settings(&mut command);
    command.envs(spec.env.iter());
    os::prepare(&mut command, &spec.stop);
    command
}

// === impl Roots ===

impl Roots {
    /// Returns the process id of an instance while it runs.
    pub fn of(&self, generation: Generation) -> Option<u32> {
        self.0.lock().get(&generation).copied()
    }

    fn enter(&self, generation: Generation, pid: u32) -> RootEntry {
        self.0.lock().insert(generation, pid);
        RootEntry(self.clone(), generation)
    }
}

impl Drop for RootEntry {
    fn drop(&mut self) {
        // From now on another process may have its id.
        self.0.0.lock().remove(&self.1);
    }
}

// === impl OsProcess ===

impl Process for OsProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    async fn exited(&mut self) -> Exit {
        let ended = self.tree.wait(&mut self.root).await;
        let is_success = ended.as_ref().is_ok_and(ExitStatus::success);
        let status = match ended {
            Ok(status) => status.to_string(),
            Err(error) => format!("exit status unknown: {error}"),
        };
        Exit {
            status,
            is_success,
            output: self.output.last_lines().await,
        }
    }

    fn ask_to_stop(&mut self) -> StopFuture {
        // First: the root may end at once, and its exit has to be taken for a stop.
        self.tree.begin_stop(&self.stop);
        match &self.stop {
            Stop::Http { method, path } => {
                let (method, path) = (method.clone(), path.clone());
                Box::pin(app_request::stop(self.port, method, path))
            }
            Stop::Stdin => {
                let closed = self.root.close_input();
                Box::pin(ready(closed))
            }
            Stop::Kill => {
                self.kill();
                Box::pin(ready(Ok(())))
            }
            Stop::Term | Stop::CtrlBreak | Stop::CtrlC => self.tree.signal(&self.stop),
        }
    }

    fn kill(&mut self) {
        self.tree.kill();
        // At least the root, where a job was refused.
        let _ = self.root.start_kill();
    }

    fn output(&self) -> VecDeque<String> {
        self.output.lines_so_far()
    }

    fn tree(&self) -> ProcessTree {
        ProcessTree::new(self.pid, self.tree.pids(), self.mark.clone())
    }

    fn state_file(&self) -> Option<PathBuf> {
        self.state_file.as_ref().map(|file| file.path().to_owned())
    }
}

impl Drop for OsProcess {
    fn drop(&mut self) {
        self.kill();
        drop(self.family.take());
    }
}

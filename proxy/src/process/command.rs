//! Launching a real process: what Unix and Windows share.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, ChildStdin, Command};

use super::orphans::{self, Kin, Records};
use super::output::{AppLog, Output};
use super::stop::Stop;
use super::{Asking, Exit, Launch, LaunchError, LaunchSpec, Owner, Process, os, stop_request};
use crate::os::inherit;
use crate::os::listening;
use crate::release::Generation;

/// Variables that are meant for this process and would mislead the app: systemd's, and our own
/// settings.
const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];
const OUR_PREFIX: &str = "HANDOFF_";

/// Launches processes of this machine. Their tree ends with this process, also when it is killed.
#[derive(Debug)]
pub struct OsLauncher {
    folder: PathBuf,
    records: OnceCell<Option<Rc<Records>>>,
    roots: Roots,
    app_log: Option<AppLog>,
}

/// The root process of each instance that runs.
#[derive(Clone, Debug, Default)]
pub struct Roots(Arc<Mutex<BTreeMap<Generation, u32>>>);

/// One of them.
#[derive(Debug)]
pub struct OsProcess {
    pid: u32,
    /// What the tree's own end may miss.
    kin: Option<Kin>,
    child: Child,
    tree: os::Tree,
    output: Output,
    generation: Generation,
    roots: Roots,
    stop: Stop,
    port: u16,
    /// Held where its end is how the app is asked to stop.
    stdin: Option<ChildStdin>,
}

// === impl OsLauncher ===

impl OsLauncher {
    /// One that records in `<cache>/processes` what could outlive this process. What another one
    /// that is no more has left there is ended before the first launch.
    pub fn new(cache: &Path) -> Self {
        Self {
            folder: cache.join("processes"),
            records: OnceCell::new(),
            roots: Roots::default(),
            app_log: None,
        }
    }

    /// Has what apps write go there instead of the log.
    pub fn set_app_log(&mut self, app_log: AppLog) {
        self.app_log = Some(app_log);
    }

    fn records(&self) -> Option<&Rc<Records>> {
        let open = || {
            let opened = Records::open(&self.folder);
            let opened = opened.inspect_err(|error| {
                tracing::warn!(folder = ?self.folder, %error, "processes are not recorded");
            });
            opened.ok()
        };
        self.records.get_or_init(open).as_ref()
    }

    /// The roots of what it launches, as they come and go.
    pub fn roots(&self) -> Roots {
        self.roots.clone()
    }
}

impl Launch for OsLauncher {
    type Process = OsProcess;

    fn launch(&self, spec: LaunchSpec) -> Result<OsProcess, LaunchError> {
        let start = || -> io::Result<OsProcess> {
            let records = self.records();
            let mut command = command(&spec);
            if let Some(records) = records {
                command.env(orphans::MARK, records.mark(spec.generation));
            }
            let mut child = inherit::alone(|| command.spawn())?;
            let pid = child.id().unwrap_or_default();
            let tree = os::Tree::adopt(&child)?;
            let follows = records.filter(|_| !tree.ends_with_us());
            let mut output =
                Output::new(spec.generation, spec.release.clone(), self.app_log.clone());
            if let Some(stdout) = child.stdout.take() {
                output.follow(stdout);
            }
            if let Some(stderr) = child.stderr.take() {
                output.follow(stderr);
            }
            self.roots.all().insert(spec.generation, pid);
            Ok(OsProcess {
                kin: follows.and_then(|records| records.follow(pid, records.mark(spec.generation))),
                generation: spec.generation,
                roots: self.roots.clone(),
                // Taken: waiting for a child closes what is not.
                stdin: child.stdin.take(),
                stop: spec.stop.clone(),
                port: spec.port,
                pid,
                child,
                tree,
                output,
            })
        };
        start().map_err(|source| LaunchError {
            is_releases_fault: os::is_releases_fault(&source),
            program: spec.program.clone(),
            source: os::explained(source, &spec.workdir),
            workdir: spec.workdir.clone(),
        })
    }
}

/// Takes out of its environment what is meant for this process.
pub fn without_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| OURS.contains(&name) || name.starts_with(OUR_PREFIX));
        if is_ours {
            command.env_remove(name);
        }
    }
}

fn command(spec: &LaunchSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.workdir)
        .stdin(match spec.stop == Stop::Stdin {
            true => Stdio::piped(),
            false => Stdio::null(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    without_ours(&mut command);
    command.envs(spec.env.iter());
    os::prepare(&mut command, &spec.stop);
    command
}

// === impl Roots ===

impl Roots {
    /// An instance's, while it runs.
    pub fn of(&self, generation: Generation) -> Option<u32> {
        self.all().get(&generation).copied()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Generation, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OsProcess ===

impl Process for OsProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    async fn exited(&mut self) -> Exit {
        let status = match self.tree.wait(&mut self.child).await {
            Ok(status) => status.to_string(),
            Err(error) => format!("exit status unknown: {error}"),
        };
        Exit {
            status,
            output: self.output.last_lines().await,
        }
    }

    fn ask_to_stop(&mut self) -> Asking {
        // The first thing, so that the exit that may follow at once is known for what it is.
        self.tree.will_stop(&self.stop);
        match &self.stop {
            Stop::Http { method, path } => {
                let (method, path) = (method.clone(), path.clone());
                Box::pin(stop_request::ask(self.port, method, path))
            }
            Stop::Stdin => {
                drop(self.stdin.take());
                Box::pin(ready(Ok(())))
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
        // Where no job could be had, at least the root.
        let _ = self.child.start_kill();
    }

    fn output(&self) -> VecDeque<String> {
        self.output.so_far()
    }

    fn listeners(&self) -> Vec<SocketAddr> {
        let pids = self.tree.pids();
        let all = listening::all().into_iter();
        all.filter(|listening| listening.pid.is_some_and(|pid| pids.contains(&pid)))
            .map(|listening| listening.address)
            .collect()
    }

    fn owner(&self, port: u16) -> Owner {
        let pids = self.tree.pids();
        let (mut ours, mut another) = (Vec::new(), None);
        for listening in listening::all() {
            match listening.pid {
                _ if listening.address.port() != port => {}
                Some(pid) if pids.contains(&pid) => ours.push(listening.address),
                Some(pid) => {
                    let name = listening.name.as_deref().unwrap_or("another program");
                    another = Some(format!("{name} (process {pid})"));
                }
                None => {}
            }
        }
        match (ours.is_empty(), another) {
            (false, _) => Owner::Tree(ours),
            (true, Some(other)) => Owner::Another(other),
            (true, None) => Owner::Unknown,
        }
    }
}

impl Drop for OsProcess {
    fn drop(&mut self) {
        // Its number may be another process's from now on.
        self.roots.all().remove(&self.generation);
        self.kill();
        drop(self.kin.take());
    }
}

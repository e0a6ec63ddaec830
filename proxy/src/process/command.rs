//! Launching a real process: what Unix and Windows share.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::output::Output;
use super::{Exit, Launch, LaunchError, LaunchSpec, Process, os};

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
#[derive(Debug, Default)]
pub struct OsLauncher;

/// One of them.
#[derive(Debug)]
pub struct OsProcess {
    pid: u32,
    child: Child,
    tree: os::Tree,
    output: Output,
}

// === impl OsLauncher ===

impl Launch for OsLauncher {
    type Process = OsProcess;

    fn launch(&self, spec: LaunchSpec) -> Result<OsProcess, LaunchError> {
        let start = || -> io::Result<OsProcess> {
            let mut child = command(&spec).spawn()?;
            let pid = child.id().unwrap_or_default();
            let tree = os::Tree::adopt(&child)?;
            let mut output = Output::new(spec.generation, spec.release.clone());
            if let Some(stdout) = child.stdout.take() {
                output.follow(stdout);
            }
            if let Some(stderr) = child.stderr.take() {
                output.follow(stderr);
            }
            Ok(OsProcess {
                pid,
                child,
                tree,
                output,
            })
        };
        start().map_err(|source| LaunchError {
            is_releases_fault: os::is_releases_fault(&source),
            program: spec.program.clone(),
            workdir: spec.workdir.clone(),
            source,
        })
    }
}

fn command(spec: &LaunchSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.workdir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| OURS.contains(&name) || name.starts_with(OUR_PREFIX));
        if is_ours {
            command.env_remove(name);
        }
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    os::prepare(&mut command);
    command
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

    fn ask_to_stop(&mut self) -> io::Result<()> {
        self.tree.ask_to_stop()
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
        listeners::get_all()
            .unwrap_or_default()
            .into_iter()
            .filter(|listener| pids.contains(&listener.process.pid))
            .filter(|listener| listener.state == listeners::SocketState::Listen)
            .map(|listener| listener.socket)
            .collect()
    }
}

impl Drop for OsProcess {
    fn drop(&mut self) {
        self.tree.kill();
    }
}

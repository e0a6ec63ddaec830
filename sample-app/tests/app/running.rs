//! A release made from the real binary, and its process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sample_app::overlay::{self, Overlay};
use tempfile::TempDir;

use crate::client::DEADLINE;

/// A child forked while another thread writes an executable inherits it open for writing, and
/// until that child has become another program nobody may run the new executable.
static WRITE_OR_SPAWN: Mutex<()> = Mutex::new(());

/// An executable with an overlay in a folder of its own, and a working directory beside it.
#[derive(Debug)]
pub(crate) struct Release {
    dir: TempDir,
    env: Vec<(&'static str, String)>,
}

/// Its process, ended at the latest with this value.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) release: Release,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    child: Child,
}

/// What a process prints, line by line.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

/// Starts release `v1` on a free port and waits until it listens.
pub(crate) fn start(args: &[&str]) -> (Running, SocketAddr) {
    Release::new("v1", &[]).listen(args)
}

/// Waits for a fact that no event tells.
pub(crate) fn eventually(fact: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {fact}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Release {
    pub(crate) fn new(version: &str, args: &[&str]) -> Self {
        let dir = TempDir::new().expect("a folder");
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let overlay = Overlay {
            version: version.to_owned(),
            args,
        };
        let release = Self {
            dir,
            env: Vec::new(),
        };
        fs::create_dir(release.site()).expect("a working directory");
        let _guard = WRITE_OR_SPAWN
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        overlay::write(
            env!("CARGO_BIN_EXE_sample-app").as_ref(),
            &release.executable(),
            &overlay,
        )
        .expect("a release");
        release
    }

    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// The working directory.
    pub(crate) fn site(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    /// A path outside the working directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it on a free port and waits until it listens.
    pub(crate) fn listen(self, args: &[&str]) -> (Running, SocketAddr) {
        let running = self.spawn(&[&["--port", "0"], args].concat());
        let address = running.address();
        (running, address)
    }

    pub(crate) fn spawn(self, args: &[&str]) -> Running {
        let mut command = Command::new(self.executable());
        command
            .args(args)
            .current_dir(self.site())
            .env_remove("PORT")
            .envs(self.env.clone());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let guard = WRITE_OR_SPAWN
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut child = command.spawn().expect("start the release");
        drop(guard);
        let stdout = Lines::of(child.stdout.take().expect("a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("a pipe"));
        Running {
            release: self,
            stdout,
            stderr,
            child,
        }
    }

    fn executable(&self) -> PathBuf {
        self.dir
            .path()
            .join(format!("app{}", std::env::consts::EXE_SUFFIX))
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address that the app announces.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.stdout.wait_for(" listening on ");
        let (_, address) = line.rsplit_once(' ').expect("an address");
        address.parse().expect("an address")
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("send a signal");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        eventually("the app has exited", || !self.is_running());
        self.child.wait().expect("its status")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        Self(receiver)
    }

    /// The next line that has `part` in it.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut others = Vec::new();
        loop {
            match self
                .0
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => others.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line has {part:?} in it: {others:#?}")
                }
            }
        }
    }
}

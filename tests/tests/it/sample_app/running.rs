//! A release made from the real binary, and its process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;
use tests::binaries::spawn;
use tests::wait::{DEADLINE, eventually};
use tests::{Answer, Connection, app};

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

/// The output of a process, line by line.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

/// Starts release `v1` on a free port and waits until it listens.
pub(crate) fn start(args: &[&str]) -> (Running, SocketAddr) {
    Release::new("v1", &[]).listen(args)
}

/// Waits until a fact holds.
#[track_caller]
pub(crate) fn await_fact(fact: &str, mut holds: impl FnMut() -> bool) {
    eventually(|| fact.to_owned(), || holds().then_some(()));
}

/// Opens a connection.
pub(crate) fn connect(address: SocketAddr) -> Connection {
    Connection::open(address).expect("a connection")
}

/// Sends a GET on a connection of its own.
pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, "", b"")
}

/// Sends a request on a connection of its own; `headers` are whole lines.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let mut connection = connect(address);
    let length = format!("Content-Length: {}\r\n{headers}", body.len());
    connection.send(method, target, &length);
    connection.write(body);
    let answer = connection.answer();
    answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

impl Release {
    pub(crate) fn new(version: &str, args: &[&str]) -> Self {
        let dir = TempDir::new().expect("a folder");
        let release = Self {
            dir,
            env: Vec::new(),
        };
        fs::create_dir(release.site()).expect("a working directory");
        let args = args.iter();
        let app = args.fold(app(version), |app, argument| app.that(argument));
        app.write_to(&release.executable());
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
        let mut child = spawn(&mut command).expect("start the release");
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

    /// Asserts that it still runs.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("its state");
        assert!(ended.is_none(), "{ended:?}");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        let exited = || "the app has exited".to_owned();
        eventually(exited, || self.child.try_wait().expect("its state"))
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

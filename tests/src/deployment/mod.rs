//! One deployment: a handoff of its own, with its folders, and its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::binaries;
use crate::program::run;
use crate::release::Release;
use crate::shared::{self, Deployment};
use crate::source::{self, Source};
use crate::status::Status;
use crate::wait::eventually;

mod paths;
mod restart;

/// Number of lines of the log that a failure shows.
const LOG_TAIL: usize = 80;

/// A deployment that has not been started.
#[derive(Debug)]
pub struct Site {
    source: Source,
    options: BTreeMap<String, OsString>,
    command: Vec<String>,
    variables: Vec<(String, String)>,
    place: fn(PathBuf) -> PathBuf,
    program: PathBuf,
}

/// Its handoff runs. Ends with this value, and nothing may be left of it then.
#[derive(Debug)]
pub struct Running {
    source: Source,
    deployment: Deployment,
    /// A later sidecar's own; the first one's is the deployment's.
    _folder: Option<TempDir>,
    root: PathBuf,
    program: PathBuf,
    args: Vec<OsString>,
    variables: Vec<(String, String)>,
    child: Mutex<Child>,
    pid: u32,
    address: SocketAddr,
}

// === impl Site ===

impl Site {
    /// A text file names what to run.
    pub fn watching_a_pointer() -> Self {
        Self::new(Source::Pointer)
    }

    /// The newest artifact in a folder is run.
    pub fn watching_a_folder() -> Self {
        Self::new(Source::Folder)
    }

    /// One artifact is overwritten.
    pub fn overwritten_in_place() -> Self {
        Self::new(Source::InPlace)
    }

    fn new(source: Source) -> Self {
        // Short where a test is not about it; a test that is says so itself.
        let options = [
            ("--listen", "127.0.0.1:0"),
            ("--poll", "500ms"),
            ("--settle", "200ms"),
            ("--settle-folder", "300ms"),
            ("--shutdown-delay", "10ms"),
        ];
        let options = options.map(|(option, value)| (option.to_owned(), value.into()));
        let mut options: BTreeMap<String, OsString> = options.into();
        if cfg!(windows) {
            // Wine never delivers Ctrl-Break: every instance that is asked to stop is killed then.
            options.insert("--stop-timeout".to_owned(), "1s".into());
        }
        Self {
            source,
            options,
            command: Vec::new(),
            variables: Vec::new(),
            place: |folder| folder,
            program: binaries::handoff().to_owned(),
        }
    }

    /// Sets where all its files are, in a folder of its own: deeper in it, or by another name.
    #[must_use]
    pub fn at(mut self, place: fn(PathBuf) -> PathBuf) -> Self {
        self.place = place;
        self
    }

    /// Sets an option of `handoff run`.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.options.insert(option.to_owned(), value.into());
        self
    }

    /// Starts this copy of handoff.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Sets COMMAND.
    #[must_use]
    pub fn running(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets an environment variable of handoff.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts with `release` and waits until that serves.
    #[track_caller]
    pub fn start(self, release: impl Into<Release>) -> Running {
        let running = self.launch(release);
        running.wait_until("the first release serves", |status| status.active.is_some());
        running
    }

    /// Starts with `release` and waits for handoff only.
    #[track_caller]
    pub fn launch(self, release: impl Into<Release>) -> Running {
        let deployment = Deployment::new(self.place);
        self.source.deploy(&deployment.site(), &release.into());
        let root = deployment.root().to_owned();
        self.run(&deployment, None, root)
    }

    /// Starts with nothing deployed, and waits for handoff only.
    #[track_caller]
    pub fn launch_empty(self) -> Running {
        let deployment = Deployment::new(self.place);
        let root = deployment.root().to_owned();
        self.run(&deployment, None, root)
    }

    /// Starts another sidecar on a deployment, and waits for that only. Its cache is its own, as on
    /// another machine.
    #[track_caller]
    pub fn launch_in(self, deployment: &Deployment) -> Running {
        let folder = TempDir::new().expect("a folder");
        let root = shared::known(folder.path());
        self.run(deployment, Some(folder), root)
    }

    #[track_caller]
    fn run(mut self, deployment: &Deployment, folder: Option<TempDir>, root: PathBuf) -> Running {
        let (option, path) = self.source.option(&deployment.site());
        self.options.insert(option.to_owned(), path.into());
        for (option, path) in [
            ("--state", deployment.state()),
            ("--cache", root.join("cache")),
        ] {
            self.options
                .entry(option.to_owned())
                .or_insert_with(|| path.into());
        }
        let mut args: Vec<OsString> = vec!["run".into()];
        for (option, value) in self.options {
            args.extend([option.into(), value]);
        }
        if !self.command.is_empty() {
            args.push("--".into());
            args.extend(self.command.into_iter().map(OsString::from));
        }
        let child = run(&self.program, &root, &args, &self.variables);
        let mut running = Running {
            source: self.source,
            deployment: deployment.clone(),
            _folder: folder,
            root,
            program: self.program,
            args,
            variables: self.variables,
            pid: child.id(),
            child: Mutex::new(child),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        running.address = running.wait_until("handoff listens", |_| true).listen;
        running
    }
}

// === impl Running ===

impl Running {
    /// Makes `release` the one that should run.
    pub fn deploy(&self, release: impl Into<Release>) {
        self.source.deploy(&self.site(), &release.into());
    }

    /// Puts an artifact where a pointer can name it, and says where.
    pub fn upload(&self, release: impl Into<Release>) -> PathBuf {
        source::upload(&self.site(), &release.into())
    }

    /// Writes the pointer file.
    pub fn point(&self, content: impl AsRef<[u8]>) {
        source::point(&self.site(), content.as_ref());
    }

    /// Waits until the published status is so, and gives it.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Status) -> bool) -> Status {
        eventually(
            || self.failure(what),
            || {
                let status = self.published().filter(|status| is_so(status));
                if status.is_none() && self.has_ended() {
                    panic!("handoff has ended before: {}", self.failure(what));
                }
                status
            },
        )
    }

    /// Waits until this release gets the requests.
    #[track_caller]
    pub fn await_active(&self, release: &str) -> Status {
        let what = format!("{release} is active");
        self.wait_until(&what, |status| status.is_active(release))
    }

    /// Waits until so many launches have been made and only one instance is left; there were no
    /// more.
    #[track_caller]
    pub fn await_launches(&self, launches: usize) {
        let status = self.wait_until(&format!("{launches} launches"), |status| {
            status.handoffs.len() >= launches && status.is_at_rest()
        });
        assert_eq!(status.handoffs.len(), launches, "{status:#?}");
    }

    /// Waits until the log says this.
    #[track_caller]
    pub fn await_log(&self, part: &str) {
        self.await_log_times(1, part);
    }

    /// Waits until the log says this so often.
    #[track_caller]
    pub fn await_log_times(&self, times: usize, part: &str) {
        eventually(
            || self.failure(&format!("the log has {part:?} in it {times} times")),
            || (self.log().matches(part).count() >= times).then_some(()),
        );
    }

    /// Waits until handoff has ended.
    #[track_caller]
    pub fn await_exit(&self) -> ExitStatus {
        eventually(
            || self.failure("handoff has ended"),
            || self.child.lock().try_wait().expect("its state"),
        )
    }

    /// The status as it is now.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.wait_until("a status is published", |_| true)
    }

    /// Everything that handoff and its apps have said.
    pub fn log(&self) -> String {
        let log = fs::read(self.root().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns the path of handoff's stdout.
    pub fn output(&self) -> PathBuf {
        self.root().join("output")
    }

    /// The public address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the reason why no artifact is accepted has this in it.
    #[track_caller]
    pub fn await_problem(&self, part: &str) -> Status {
        self.wait_until(&format!("a problem with {part:?}"), |status| {
            let problem = status.artifact_problem.as_deref();
            problem.is_some_and(|problem| problem.contains(part))
        })
    }

    /// Returns the part that it shares with other sidecars.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Describes a fact that did not come, with all that may explain it.
    pub(crate) fn failure(&self, what: &str) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        let status = self.published();
        format!("{what}\nlast status: {status:#?}\nlog:\n{tail}\n")
    }

    pub(crate) fn published(&self) -> Option<Status> {
        Status::read(&self.deployment.state(), self.pid)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.child.lock().try_wait().expect("its state").is_some()
    }

    /// Handoff's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its own folder: the cache and the log.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Politely where that can be done.
    fn end(&self) {
        #[cfg(unix)]
        self.ask_to_stop();
        #[cfg(windows)]
        self.kill();
        self.await_exit();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One failure is enough to tell of.
            let mut child = self.child.lock();
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        if !self.has_ended() {
            self.end();
        }
        #[cfg(unix)]
        self.await_no_processes();
        let panicked = self.log().contains("panicked at");
        assert!(!panicked, "{}", self.failure("nothing panics"));
    }
}

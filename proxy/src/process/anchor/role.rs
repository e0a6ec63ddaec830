//! The anchor itself: it starts proxy processes, one after the other, and keeps things for them.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use rustix::process::{PidfdFlags, Signal, pidfd_open};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::UpgradeRecord;
use super::kept::{Beginning, Kept};
use super::protocol::{ROLE, Request};
use super::proxy::{Proxy, ProxyEvent};
use super::upgrade::{Progress, Upgrade};
use crate::os::signal::reset;

/// The very file that this process runs, also if it has been replaced: proc_pid_exe(5).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Maximum number of crashes of proxy processes within [`CRASH_PERIOD`]. Beyond it the anchor ends,
/// and whatever supervises handoff takes over.
const MAX_CRASHES: usize = 5;
const CRASH_PERIOD: Duration = Duration::from_secs(60);
/// Pause before the next proxy process for each crash within that period but the first.
const CRASH_PAUSE: Duration = Duration::from_millis(250);

/// Signals that the proxy process receives in the place of the anchor.
const FORWARDED: [Signal; 6] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
];
/// Those of them that ask for the end.
const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// The crashes of proxy processes within [`CRASH_PERIOD`].
#[derive(Default)]
struct RecentCrashes(Vec<Instant>);

/// The anchor, with the proxy process that serves.
struct AnchorRole {
    kept: Kept,
    proxy: Proxy,
    upgrade: Option<Upgrade>,
    crashes: RecentCrashes,
    is_ending: bool,
    has_served: bool,
}

/// Returns true if this process is the anchor, and has nothing else in its memory.
#[must_use]
pub fn is_anchor() -> bool {
    let pid = std::env::var(ROLE).ok().and_then(|pid| pid.parse().ok());
    pid == Some(std::process::id())
}

/// Starts the program of this process anew as the anchor, with the same process id and arguments: what the
/// command line has taken of memory stays behind. Returns only if that fails.
pub fn become_anchor() {
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(OWN_PROGRAM);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    command
        .args(words)
        .env(ROLE, std::process::id().to_string());
    // Without it the anchor is larger, and does the same.
    drop(command.exec());
}

/// Runs the anchor to its end, and returns the exit code.
///
/// # Errors
/// The proxy process cannot be started, or crashes again and again.
pub fn run() -> io::Result<u8> {
    reset();
    // The kernel has named it after the link of its program: `exe`. Without it, people wonder.
    let _ = std::fs::write("/proc/self/comm", "handoff");
    // Children are watched by it (Linux 5.3).
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    // One thread, which lives as long as the process: children end with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(keep())
}

async fn keep() -> io::Result<u8> {
    let mut signals = listen()?;
    let mut anchor = AnchorRole {
        kept: Kept::passed()?,
        proxy: Proxy::start(Path::new(OWN_PROGRAM))?,
        upgrade: None,
        crashes: RecentCrashes::default(),
        is_ending: false,
        has_served: false,
    };
    loop {
        let AnchorRole {
            kept,
            proxy,
            upgrade,
            ..
        } = &mut anchor;
        tokio::select! {
            // What the old process has asked to keep is kept before it stands still.
            biased;
            Some(signal) = signals.recv() => anchor.forward(signal).await,
            event = proxy.next() => match event? {
                ProxyEvent::Asks(request, descriptors) => anchor.handle(request, descriptors),
                ProxyEvent::Ended(status) => {
                    if let Some(code) = anchor.go_on_after(status, &mut signals).await? {
                        anchor.kept.end_all();
                        return Ok(code);
                    }
                }
            },
            progress = advance(upgrade, kept) => match progress {
                Progress::None => {}
                Progress::Served(program) => anchor.finish_upgrade(program),
                Progress::Failed(reason) => anchor.give_up(reason).await,
            },
        }
    }
}

/// Waits for the end of the next proxy process that has been replaced, or advances the upgrade, if
/// there is one. Cancel safe.
async fn advance(upgrade: &mut Option<Upgrade>, kept: &mut Kept) -> Progress {
    match upgrade {
        Some(upgrade) => upgrade.advance(kept).await,
        None => {
            kept.reap_leaving().await;
            Progress::None
        }
    }
}

// === impl AnchorRole ===

impl AnchorRole {
    /// Sends the proxy process a signal in the place of this one.
    async fn forward(&mut self, signal: Signal) {
        if ENDING.contains(&signal) {
            self.is_ending = true;
            self.give_up("handoff is asked to end".to_owned()).await;
            self.kept.signal_leaving(signal);
        }
        self.proxy.signal(signal);
    }

    fn handle(&mut self, request: Request, mut descriptors: Vec<OwnedFd>) {
        match request {
            Request::Hello { protocol, version } => {
                if self.proxy.greet(protocol, version).is_ok() {
                    self.proxy.welcome(&self.kept, Beginning::Alone);
                }
            }
            Request::Serving { .. } => self.begin_service(descriptors.pop()),
            Request::Upgrade { program, serial } => {
                if let (Some(socket), None) = (descriptors.pop(), &self.upgrade) {
                    let record = self.record_of(serial);
                    let program = PathBuf::from(program);
                    self.upgrade = Upgrade::start(socket, &self.proxy, &program, record);
                }
            }
            request @ (Request::Spawn(_)
            | Request::Reap { .. }
            | Request::CloseInput { .. }
            | Request::Keep { .. }
            | Request::Release { .. }
            | Request::Note { .. }
            | Request::Unable { .. }) => {
                self.proxy.handle(request, descriptors, &mut self.kept);
            }
        }
    }

    /// Notes that the proxy process serves: its program is the one that follows a crash.
    fn begin_service(&mut self, program: Option<OwnedFd>) {
        self.has_served = true;
        self.proxy.confirm();
        self.kept.program = program.or_else(|| self.kept.program.take());
    }

    /// Returns the record of an upgrade that begins.
    fn record_of(&self, serial: u64) -> UpgradeRecord {
        UpgradeRecord {
            count: self.kept.upgrades.last().map_or(0, |last| last.count) + 1,
            from: self.proxy.version.clone().unwrap_or_default(),
            serial,
            at_ms: now_ms(),
            ..UpgradeRecord::default()
        }
    }

    fn finish_upgrade(&mut self, program: Option<OwnedFd>) {
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.finish(&mut self.proxy, &mut self.kept);
            self.begin_service(program);
        }
    }

    async fn give_up(&mut self, reason: String) {
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.give_up(reason, &mut self.kept).await;
        }
    }

    /// Starts the next proxy process after the end of one, or returns the exit code of the anchor.
    async fn go_on_after(
        &mut self,
        status: ExitStatus,
        signals: &mut UnboundedReceiver<Signal>,
    ) -> io::Result<Option<u8>> {
        // What has served before goes on.
        self.give_up("handoff has ended meanwhile".to_owned()).await;
        if status.success() || self.is_ending || !self.has_served {
            return Ok(Some(exit_code(status)));
        }
        let Some(earlier) = self.crashes.add() else {
            self.kept.end_all();
            return Err(io::Error::other(format!(
                "the proxy process has crashed {} times within {} seconds, the last time with \
                 {status}: its log says more, and the anchor ends with the app",
                MAX_CRASHES + 1,
                CRASH_PERIOD.as_secs(),
            )));
        };
        self.kept.crash = Some(status.to_string());
        self.kept.crashes += 1;
        tokio::select! {
            () = sleep(CRASH_PAUSE.saturating_mul(earlier)) => {}
            () = end_requested(signals) => return Ok(Some(0)),
        }
        self.proxy = Proxy::start(&self.program())?;
        Ok(None)
    }

    /// Returns the program that served last.
    fn program(&self) -> PathBuf {
        match &self.kept.program {
            Some(program) => format!("/proc/self/fd/{}", program.as_raw_fd()).into(),
            None => OWN_PROGRAM.into(),
        }
    }
}

// === impl RecentCrashes ===

impl RecentCrashes {
    /// Adds a crash, and returns the number of those before it, or none if there are too many.
    fn add(&mut self) -> Option<u32> {
        let Self(crashes) = self;
        crashes.retain(|crash| crash.elapsed() < CRASH_PERIOD);
        let before = crashes.len();
        crashes.push(Instant::now());
        u32::try_from(before).ok().filter(|_| before < MAX_CRASHES)
    }
}

/// Returns the time in milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default()
}

/// Waits for a signal that asks for the end.
async fn end_requested(signals: &mut UnboundedReceiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if ENDING.contains(&signal) {
            return;
        }
    }
}

/// Registers for the signals that are forwarded.
fn listen() -> io::Result<UnboundedReceiver<Signal>> {
    let (sender, signals) = unbounded_channel();
    for number in FORWARDED {
        let mut received = signal(SignalKind::from_raw(number.as_raw()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                // The receiver ends only with the process.
                let _ = sender.send(number);
            }
        });
    }
    Ok(signals)
}

/// Returns the exit code that a shell reports for such an end.
fn exit_code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(127);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1)
}

//! An upgrade: another proxy process takes the place of the one that runs.
//!
//! ```text
//!  old                     anchor                    new
//!   │ ── Upgrade ────────────▶ │ ─── starts ───────────▶ │ reads its configuration
//!   │                          │ ◀───────────── Hello ── │
//!   │ ◀──────── StandStill ─── │                         │
//!   │ ── Still ──────────────▶ │ ─── Welcome ──────────▶ │ goes on with the app
//!   │                          │ ◀─────────── Serving ── │ accepts
//!   │ ◀───────────── Leave ─── │                         │
//! ```
//! Until the new one serves, the old one accepts and forwards: whatever goes wrong, nothing is lost,
//! and the old one gets [`Order::GoOn`] with the reason.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until, timeout};

use super::kept::{Before, Beginning, Kept};
use super::protocol::{Answer, Channel, Request};
use super::proxy::{Proxy, ProxyEvent, receive, watch};
use super::{ReplacementOrder as Order, UpgradeRecord};

/// Maximum time from the start of the new process to the end of its configuration.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for the old process to stand still, and again for the new one to serve. Signs of life
/// for a watchdog of the service manager pause meanwhile.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for a killed process to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// An upgrade that is under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    old: AsyncFd<Channel>,
    /// True while the old process can be talked to.
    is_linked: bool,
    old_process: Pid,
    new: Proxy,
    /// The record of the upgrade, if it succeeds.
    record: UpgradeRecord,
    step: Step,
    deadline: Instant,
    /// The reason that the new process has given for its end.
    reason: Option<String>,
}

/// The event that an upgrade awaits.
#[derive(Debug)]
enum Step {
    /// The new process has read its configuration.
    Starting,
    /// The old process stands still.
    StandingStill,
    /// The new process serves.
    Switching(Before),
}

/// The end of an upgrade, or a step of it.
pub(super) enum Progress {
    /// It goes on.
    None,
    /// The new process serves, with the program of this descriptor.
    Served(Option<OwnedFd>),
    /// The new process is of no use.
    Failed(String),
}

// === impl Upgrade ===

impl Upgrade {
    /// Starts a program that is to take the place of the proxy process `old`, which has passed a
    /// socket, and is told there if that cannot be done.
    pub(super) fn start(
        socket: OwnedFd,
        old: &Proxy,
        program: &Path,
        record: UpgradeRecord,
    ) -> Option<Self> {
        let socket = Channel::from_inherited(socket).and_then(watch).ok()?;
        let started = Proxy::start(program);
        let (new, old_process) = match started.and_then(|new| Ok((new, old.pid()?))) {
            Ok(started) => started,
            Err(error) => {
                let reason = format!("cannot start {}: {error}", program.display());
                // If it does not receive it, it has ended.
                let _ = socket.get_ref().send(&Order::GoOn { reason }, &[]);
                return None;
            }
        };
        Some(Self {
            old: socket,
            is_linked: true,
            old_process,
            new,
            record,
            step: Step::Starting,
            deadline: Instant::now() + START_TIMEOUT,
            reason: None,
        })
    }

    /// Does the next thing that can be done. Cancel safe.
    pub(super) async fn advance(&mut self, kept: &mut Kept) -> Progress {
        tokio::select! {
            event = self.new.next() => match event {
                Ok(ProxyEvent::Asks(request, descriptors)) => {
                    self.handle(request, descriptors, kept)
                }
                Ok(ProxyEvent::Ended(status)) => {
                    let ended = || format!("the new process has ended with {status}");
                    Progress::Failed(self.reason.take().unwrap_or_else(ended))
                }
                Err(error) => Progress::Failed(format!("the new process is lost: {error}")),
            },
            answer = receive(&self.old), if self.is_linked => {
                match (answer.map(|(answer, _)| answer), &self.step) {
                    (Ok(Answer::Still { in_flight }), Step::StandingStill) => {
                        self.record.in_flight = in_flight;
                        self.welcome(kept);
                    }
                    (Ok(Answer::Busy), Step::StandingStill) => {
                        return Progress::Failed("something else is under way".to_owned());
                    }
                    // It is about to end, or is not understood: there will be no answer in time.
                    (Ok(_) | Err(_), _) => self.is_linked = false,
                }
                Progress::None
            }
            () = sleep_until(self.deadline) => Progress::Failed(match self.step {
                Step::Starting => "the new process has not read its configuration in time",
                Step::StandingStill => "the old process does not respond",
                Step::Switching(_) => "the new process has not served in time",
            }.to_owned()),
        }
    }

    fn handle(
        &mut self,
        request: Request,
        mut descriptors: Vec<OwnedFd>,
        kept: &mut Kept,
    ) -> Progress {
        match (request, &self.step) {
            (Request::Hello { protocol, version }, Step::Starting) => {
                self.record.to.clone_from(&version);
                if let Err(reason) = self.new.greet(protocol, version) {
                    return Progress::Failed(reason);
                }
                self.enter(Step::StandingStill);
                self.order(&Order::StandStill);
            }
            // With its end, which follows.
            (Request::Unable { reason }, _) => self.reason = Some(reason),
            (Request::Serving { took_ms }, Step::Switching(_)) => {
                self.record.took_ms = took_ms;
                return Progress::Served(descriptors.pop());
            }
            (request, Step::Switching(_)) => self.new.handle(request, descriptors, kept),
            (_, Step::Starting | Step::StandingStill) => {
                return Progress::Failed("the new process does not await its turn".to_owned());
            }
        }
        Progress::None
    }

    /// Lets the new process begin.
    fn welcome(&mut self, kept: &Kept) {
        self.enter(Step::Switching(kept.before()));
        let beginning = Beginning::InPlaceOf(self.old_process, self.record.clone());
        self.new.welcome(kept, beginning);
    }

    fn enter(&mut self, step: Step) {
        self.step = step;
        self.deadline = Instant::now() + SWITCH_TIMEOUT;
    }

    fn order(&mut self, order: &Order) {
        // Without an answer the time is over some time.
        self.is_linked &= self.old.get_ref().send(order, &[]).is_ok();
    }

    /// Lets the new process take the place of the one in `proxy`, which serves its connections to their end.
    pub(super) fn finish(mut self, proxy: &mut Proxy, kept: &mut Kept) {
        self.order(&Order::Leave);
        kept.add_upgrade(self.record);
        let old = std::mem::replace(proxy, self.new);
        kept.keep_leaving(old.into_child());
    }

    /// Ends the new process, and lets the old one go on.
    pub(super) async fn give_up(self, reason: String, kept: &mut Kept) {
        let mut new = self.new.into_child();
        let _ = new.start_kill();
        // Both would read the app's output.
        let _ = timeout(KILL_TIMEOUT, new.wait()).await;
        if let Step::Switching(before) = self.step {
            kept.restore(before);
        }
        // If it does not receive it, it has ended.
        let _ = self.old.get_ref().send(&Order::GoOn { reason }, &[]);
    }
}

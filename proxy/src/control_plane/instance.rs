//! The life of one process tree, from its launch to its end, as events for the supervisor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::elsewhere::{describe_elsewhere, look_elsewhere};
use super::liveness::Liveness;
use super::probe::{AskedAs, Found};
use super::readiness::{OwnerCheck, Readiness, ReadinessTimeout};
use super::step::{StepFailure, Verification};
use crate::os::{listening, ports};
use crate::process::tree::{PortOwner, ProcessTree, Stranger};
use crate::process::{Exit, Process};
use crate::router::AppProtocol;

/// An event in the life of an instance, in this order.
#[derive(Debug)]
pub(super) enum InstanceEvent {
    /// The instance is ready for requests.
    Ready {
        /// Address at which the instance listens.
        address: SocketAddr,
        /// User who listens there, if that is looked at.
        user: Option<u32>,
        /// Protocol that it speaks.
        protocol: AppProtocol,
        /// Facts about it that are no problems, or none that keeps it from serving.
        notes: Vec<Note>,
    },
    /// The process that listens on the port of the ready instance has been found.
    PortSuspect(String),
    /// The instance was not ready in time, or the operator's check has failed.
    NeverReady {
        /// Reason in one line.
        reason: String,
        /// Last lines of the output so far, or of the check's.
        output: VecDeque<String>,
        /// Result of the last probe, if that is the reason.
        probe: Option<String>,
    },
    /// The instance has ended, and could not have worked for a reason outside the release: its port
    /// is another program's, or the operator's check cannot be started.
    MachineFault(String),
    /// The instance has ended.
    Exited {
        /// Exit status and last output.
        exit: Exit,
        /// Result of the last probe, if the instance never became ready.
        probe: Option<String>,
    },
}

/// A fact about a ready instance, as a sentence about "it".
#[derive(Debug)]
pub(super) enum Note {
    /// Others may reach it without handoff.
    Public(String),
    /// It is asked in another way than plain HTTP, or a warm-up request failed.
    Check(String),
}

/// The result of a look at the listener at an instance's address.
enum PortFinding {
    /// Nothing to report.
    Fine,
    /// Others may reach the instance without handoff.
    Public(String),
    /// A process that does not descend from the root listens there: it is named later.
    Suspect(Stranger),
}

/// The reason for which the listener on an instance's port keeps it from becoming ready.
enum PortFault {
    /// Another program of the same user listens.
    Stranger(String),
    /// Another user's program listens: the instance cannot have the port.
    Taken(String),
}

/// Settings for the checks and the stop of one instance.
#[derive(Debug)]
pub(super) struct InstanceConfig {
    pub(super) port: u16,
    /// Ports of `--port-name`.
    pub(super) further_ports: Vec<u16>,
    pub(super) readiness: Readiness,
    /// Liveness check that has to succeed too, as the instance replaces an unhealthy one of the
    /// same release.
    pub(super) liveness: Option<Liveness>,
    /// The operator's check, after all others.
    pub(super) verification: Option<Verification>,
    /// Maximum time from the launch to readiness.
    pub(super) start_timeout: Duration,
    /// Maximum time from the request to stop to the end, where nobody else sets a time.
    pub(super) stop_timeout: Duration,
    pub(super) last_probe: LastProbe,
}

/// The result of the last probe, until one succeeds.
pub(super) type LastProbe = Rc<RefCell<Option<String>>>;

/// The time at which the instance is killed, if it has not stopped before; none while it is to
/// run.
pub(super) type StopTime = watch::Receiver<Option<Instant>>;

/// The listener of a ready instance.
struct Listener {
    address: SocketAddr,
    /// Its user, if that is looked at.
    user: Option<u32>,
    protocol: AppProtocol,
}

/// The result of a start.
enum StartResult {
    Ready(Listener, Vec<Note>, Option<Stranger>),
    NeverReady(String),
    Unverified(StepFailure),
    Exited(Exit),
    MachineFault(String),
    StopRequested,
}

/// Follows a process to its end.
pub(super) async fn follow<P: Process>(
    mut process: P,
    config: InstanceConfig,
    mut stop_time: StopTime,
    report: impl Fn(InstanceEvent),
) {
    let mut suspect = None;
    match start(&mut process, &config, &mut stop_time).await {
        StartResult::Ready(listener, notes, stranger) => {
            let Listener {
                address,
                user,
                protocol,
            } = listener;
            config.last_probe.take();
            suspect = stranger.map(|stranger| (stranger, address));
            report(InstanceEvent::Ready {
                address,
                user,
                protocol,
                notes,
            });
        }
        StartResult::NeverReady(probe) => report(InstanceEvent::NeverReady {
            reason: describe_timeout(&process.tree(), &config, &probe).await,
            output: process.output(),
            probe: Some(probe),
        }),
        StartResult::Unverified(StepFailure { reason, output, .. }) => {
            report(InstanceEvent::NeverReady {
                reason,
                output,
                probe: None,
            });
        }
        StartResult::Exited(exit) => {
            let probe = config.last_probe.take();
            return report(match config.taken_port(&process.tree()).await {
                Some(port) => InstanceEvent::MachineFault(format!(
                    "its port {port} was taken by another program before it could listen"
                )),
                None => InstanceEvent::Exited { exit, probe },
            });
        }
        StartResult::MachineFault(reason) => {
            stop(&mut process, stop_time, config.stop_timeout).await;
            return report(InstanceEvent::MachineFault(reason));
        }
        StartResult::StopRequested => {}
    }
    report(serve(process, suspect, stop_time, config.stop_timeout, &report).await);
}

/// Follows a process that has been ready before to its end.
pub(super) async fn follow_adopted<P: Process>(
    process: P,
    stop_timeout: Duration,
    stop_time: StopTime,
    report: impl Fn(InstanceEvent),
) {
    report(serve(process, None, stop_time, stop_timeout, &report).await);
}

/// Waits for the end of an instance, or ends it when that is requested.
async fn serve<P: Process>(
    mut process: P,
    suspect: Option<(Stranger, SocketAddr)>,
    mut stop_time: StopTime,
    stop_timeout: Duration,
    report: &impl Fn(InstanceEvent),
) -> InstanceEvent {
    let naming = async {
        if let Some((stranger, address)) = suspect
            && let Some(name) = stranger.name().await
        {
            report(InstanceEvent::PortSuspect(describe_stranger(
                address, &name,
            )));
        }
        std::future::pending::<Infallible>().await
    };
    let exited = tokio::select! {
        exit = process.exited() => Some(exit),
        _ = stop_time.wait_for(Option::is_some) => None,
        never = naming => match never {},
    };
    let exit = match exited {
        Some(exit) => exit,
        None => stop(&mut process, stop_time, stop_timeout).await,
    };
    let probe = None;
    InstanceEvent::Exited { exit, probe }
}

/// Waits until the instance is ready, or cannot become so.
async fn start<P: Process>(
    process: &mut P,
    config: &InstanceConfig,
    stop_time: &mut StopTime,
) -> StartResult {
    let last_probe = config.last_probe.as_ref();
    let hint = RefCell::default();
    let deadline = Instant::now() + config.start_timeout;
    loop {
        let ready = config
            .readiness
            .wait_until_ready(config.port, deadline, last_probe, &hint);
        let tree = process.tree();
        let looking = look_elsewhere(&tree, config.port, &hint);
        let ready = tokio::select! {
            exit = process.exited() => return StartResult::Exited(exit),
            _ = stop_time.changed() => return StartResult::StopRequested,
            ready = ready => ready,
            never = looking => match never {},
        };
        let found = match ready {
            Ok(found) => found,
            Err(ReadinessTimeout { last_probe }) => return StartResult::NeverReady(last_probe),
        };
        let Found {
            address, protocol, ..
        } = found;
        // Before the check: what replaces the listener later is then another user's for sure.
        let user = match config.readiness.owner_check {
            OwnerCheck::Off => None,
            OwnerCheck::Require | OwnerCheck::Warn => listening::user_at(address),
        };
        let preparing = async {
            let finding = check_owner(&tree, config.readiness.owner_check, address).await?;
            Ok((finding, config.prepare(found, last_probe).await))
        };
        let prepared = tokio::select! {
            exit = process.exited() => return StartResult::Exited(exit),
            _ = stop_time.changed() => return StartResult::StopRequested,
            prepared = tokio::time::timeout_at(deadline, preparing) => prepared,
        };
        match prepared {
            Ok(Ok((finding, mut notes))) => {
                let stranger = match finding {
                    PortFinding::Fine => None,
                    PortFinding::Suspect(stranger) => Some(stranger),
                    PortFinding::Public(note) => {
                        notes.insert(0, Note::Public(note));
                        None
                    }
                };
                if let Some(verification) = &config.verification {
                    last_probe.replace(Some("--verify has not ended yet".to_owned()));
                    let verified = tokio::select! {
                        exit = process.exited() => return StartResult::Exited(exit),
                        _ = stop_time.changed() => return StartResult::StopRequested,
                        verified = verification.check(address) => verified,
                    };
                    match verified {
                        Ok(()) => {}
                        Err(failure) if failure.is_releases_fault => {
                            return StartResult::Unverified(failure);
                        }
                        Err(failure) => return StartResult::MachineFault(failure.reason),
                    }
                }
                let listener = Listener {
                    address,
                    user,
                    protocol,
                };
                return StartResult::Ready(listener, notes, stranger);
            }
            Ok(Err(PortFault::Taken(reason))) => return StartResult::MachineFault(reason),
            Ok(Err(PortFault::Stranger(reason))) => {
                last_probe.replace(Some(reason));
                tokio::time::sleep(config.readiness.interval).await;
            }
            Err(_elapsed) => {
                return StartResult::NeverReady(last_probe.take().unwrap_or_default());
            }
        }
    }
}

/// Checks that the instance owns the listener at the address that answered. Returns an error for one
/// that counts as not ready.
async fn check_owner(
    tree: &ProcessTree,
    check: OwnerCheck,
    address: SocketAddr,
) -> Result<PortFinding, PortFault> {
    if check == OwnerCheck::Off {
        return Ok(PortFinding::Fine);
    }
    match tree.owner(address).await {
        PortOwner::Unknown => Ok(PortFinding::Fine),
        PortOwner::Tree(addresses) => {
            let public = addresses.iter().find(|address| !address.ip().is_loopback());
            Ok(public.map_or(PortFinding::Fine, |address| {
                PortFinding::Public(format!(
                    "it listens on {address}: unless a firewall protects the port, others reach it \
                     without handoff; an app that can takes {{host}}"
                ))
            }))
        }
        PortOwner::Stranger(stranger) => {
            let is_foreign = stranger.is_foreign;
            if check == OwnerCheck::Warn && !is_foreign {
                return Ok(PortFinding::Suspect(stranger));
            }
            let Some(name) = stranger.name().await else {
                return Ok(PortFinding::Fine);
            };
            let reason = describe_stranger(address, &name);
            Err(if is_foreign {
                PortFault::Taken(reason)
            } else {
                PortFault::Stranger(reason)
            })
        }
    }
}

/// Returns whether what an instance has left behind listens on the port.
async fn is_held_by(tree: &ProcessTree, port: u16) -> bool {
    match tree.owner((Ipv4Addr::LOCALHOST, port).into()).await {
        PortOwner::Tree(_) => true,
        PortOwner::Stranger(stranger) => stranger.name().await.is_none(),
        PortOwner::Unknown => false,
    }
}

fn describe_stranger(address: SocketAddr, name: &str) -> String {
    format!("on its address {address} answers {name}, which it has not started")
}

// === impl InstanceConfig ===

impl InstanceConfig {
    /// Returns the first of its ports that another program keeps it from binding.
    async fn taken_port(&self, tree: &ProcessTree) -> Option<u16> {
        for port in iter::once(self.port).chain(self.further_ports.iter().copied()) {
            if ports::is_taken(port) && !is_held_by(tree, port).await {
                return Some(port);
            }
        }
        None
    }

    async fn prepare(&self, found: Found, last_probe: &RefCell<Option<String>>) -> Vec<Note> {
        let mut notes = Vec::new();
        if found.asked_as == AskedAs::Https {
            let note = "it redirects plain HTTP to https, so checks are asked as https";
            notes.push(Note::Check(note.to_owned()));
        }
        let problems = self.readiness.warm_up(found, last_probe).await;
        notes.extend(problems.into_iter().map(Note::Check));
        if let Some(liveness) = &self.liveness {
            last_probe.replace(Some("its liveness check fails too".to_owned()));
            let Found {
                address, protocol, ..
            } = found;
            liveness.wait_until_healthy(address, protocol).await;
        }
        notes
    }
}

/// Asks the instance to stop, and kills it at `stop_time`, or after the timeout if there is none.
async fn stop<P: Process>(process: &mut P, mut stop_time: StopTime, timeout: Duration) -> Exit {
    let deadline = *stop_time.borrow_and_update();
    let mut deadline = deadline.unwrap_or_else(|| Instant::now() + timeout);
    let mut request = process.ask_to_stop();
    let mut is_requesting = true;
    loop {
        tokio::select! {
            exit = process.exited() => return exit,
            requested = &mut request, if is_requesting => {
                is_requesting = false;
                if let Err(error) = requested {
                    tracing::warn!(
                        event = "stop_request_failed",
                        pid = process.pid(),
                        %error,
                        "an instance cannot be asked to stop (--stop), so it is killed"
                    );
                    deadline = Instant::now();
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                process.kill();
                return process.exited().await;
            }
            Ok(()) = stop_time.changed() => {
                deadline = stop_time.borrow_and_update().unwrap_or(deadline);
            }
        }
    }
}

async fn describe_timeout(tree: &ProcessTree, config: &InstanceConfig, probe: &str) -> String {
    let timeout = humantime::format_duration(config.start_timeout);
    let hint = describe_elsewhere(tree, config.port).await;
    let hint = hint.filter(|hint| !probe.contains(hint));
    format!(
        "was not ready within {timeout}: {probe}{}",
        hint.unwrap_or_default()
    )
}

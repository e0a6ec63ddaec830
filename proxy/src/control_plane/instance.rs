//! The life of one process tree, from its launch to its end, as events for the supervisor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::liveness::Liveness;
use super::readiness::{OwnerCheck, Readiness, ReadinessTimeout};
use crate::os::ports;
use crate::process::{Exit, PortOwner, Process};

/// Time after which an instance that is not ready is first searched for other ports. Each next time
/// is twice as long: a look costs some milliseconds.
const FIRST_LOOK_ELSEWHERE: Duration = Duration::from_secs(2);

/// An event in the life of an instance, in this order.
#[derive(Debug)]
pub(super) enum InstanceEvent {
    /// The instance is ready for requests.
    Ready {
        /// Address at which the instance listens.
        address: SocketAddr,
        /// Result of the look at the port.
        port_finding: PortFinding,
    },
    /// The instance was not ready in time.
    NeverReady {
        /// Reason in one line.
        reason: String,
        /// Last lines of the output so far.
        output: VecDeque<String>,
        /// Result of the last probe.
        probe: String,
    },
    /// The instance has ended, and its port is another program's: it could not have worked.
    PortTaken,
    /// The instance has ended.
    Exited {
        /// Exit status and last output.
        exit: Exit,
        /// Result of the last probe, if the instance never became ready.
        probe: Option<String>,
    },
}

/// The result of a look at the listener on an instance's port.
#[derive(Debug)]
pub(super) enum PortFinding {
    /// Nothing to report.
    Fine,
    /// A fact that is no problem, as a sentence about "it".
    Note(String),
    /// A problem with the owner of the port.
    Warning(String),
}

/// Settings for the checks and the stop of one instance.
#[derive(Clone, Debug)]
pub(super) struct InstanceConfig {
    pub(super) port: u16,
    pub(super) readiness: Readiness,
    /// Liveness check that has to succeed too, as the instance replaces an unhealthy one of the
    /// same release.
    pub(super) liveness: Option<Liveness>,
    /// Maximum time from the launch to readiness.
    pub(super) start_timeout: Duration,
    pub(super) last_probe: LastProbe,
}

/// The result of the last probe, until one succeeds.
pub(super) type LastProbe = Rc<RefCell<Option<String>>>;

/// The time at which the instance is killed, if it has not stopped before; none while it is to
/// run.
pub(super) type StopTime = watch::Receiver<Option<Instant>>;

/// The result of a start.
enum StartResult {
    Ready(SocketAddr, PortFinding),
    NeverReady(String),
    Exited(Exit),
    StopRequested,
}

/// Follows a process to its end.
pub(super) async fn follow<P: Process>(
    mut process: P,
    config: InstanceConfig,
    mut stop_time: StopTime,
    report: impl Fn(InstanceEvent),
) {
    match start(&mut process, &config, &mut stop_time).await {
        StartResult::Ready(address, port_finding) => {
            config.last_probe.take();
            report(InstanceEvent::Ready {
                address,
                port_finding,
            });
        }
        StartResult::NeverReady(probe) => report(InstanceEvent::NeverReady {
            reason: describe_timeout(&process, &config, &probe),
            output: process.output(),
            probe,
        }),
        StartResult::Exited(exit) => {
            let probe = config.last_probe.take();
            return report(if ports::is_taken(config.port) {
                InstanceEvent::PortTaken
            } else {
                InstanceEvent::Exited { exit, probe }
            });
        }
        StartResult::StopRequested => {}
    }
    let exited = tokio::select! {
        exit = process.exited() => Some(exit),
        _ = stop_time.wait_for(Option::is_some) => None,
    };
    let exit = match exited {
        Some(exit) => exit,
        None => stop(&mut process, stop_time).await,
    };
    let probe = None;
    report(InstanceEvent::Exited { exit, probe });
}

/// Waits until the instance is ready, or cannot become so.
async fn start<P: Process>(
    process: &mut P,
    config: &InstanceConfig,
    stop_time: &mut StopTime,
) -> StartResult {
    let last_probe = config.last_probe.as_ref();
    let hint = RefCell::default();
    let mut look_after = FIRST_LOOK_ELSEWHERE;
    let deadline = Instant::now() + config.start_timeout;
    loop {
        let ready = config
            .readiness
            .wait_until_ready(config.port, deadline, last_probe, &hint);
        tokio::pin!(ready);
        let ready = loop {
            tokio::select! {
                exit = process.exited() => return StartResult::Exited(exit),
                _ = stop_time.changed() => return StartResult::StopRequested,
                ready = &mut ready => break ready,
                () = tokio::time::sleep(look_after) => {
                    look_after *= 2;
                    look_elsewhere(process, config.port, &hint);
                }
            }
        };
        let address = match ready {
            Ok(address) => address,
            Err(ReadinessTimeout { last_probe }) => return StartResult::NeverReady(last_probe),
        };
        let owner = check_owner(process, config);
        let preparing = async {
            match owner {
                Ok(finding) => {
                    config.prepare(address, last_probe).await;
                    Some(finding)
                }
                Err(reason) => {
                    last_probe.replace(Some(reason));
                    tokio::time::sleep(config.readiness.interval).await;
                    None
                }
            }
        };
        let prepared = tokio::select! {
            exit = process.exited() => return StartResult::Exited(exit),
            _ = stop_time.changed() => return StartResult::StopRequested,
            prepared = tokio::time::timeout_at(deadline, preparing) => prepared,
        };
        match prepared {
            Ok(Some(finding)) => return StartResult::Ready(address, finding),
            Ok(None) => {}
            Err(_elapsed) => {
                return StartResult::NeverReady(last_probe.take().unwrap_or_default());
            }
        }
    }
}

/// Checks that the instance owns the listener on its port. Returns an error for one that counts as
/// not ready.
fn check_owner<P: Process>(process: &P, config: &InstanceConfig) -> Result<PortFinding, String> {
    if config.readiness.owner_check == OwnerCheck::Off {
        return Ok(PortFinding::Fine);
    }
    let port = config.port;
    match process.owner(port) {
        PortOwner::Unknown => Ok(PortFinding::Fine),
        PortOwner::Tree(addresses) => {
            let public = addresses.iter().find(|address| !address.ip().is_loopback());
            Ok(public.map_or(PortFinding::Fine, |address| {
                PortFinding::Note(format!(
                    "it listens on {address}: unless a firewall protects the port, others reach it \
                     without handoff; an app that can takes {{host}}"
                ))
            }))
        }
        PortOwner::Another(other) => {
            let reason = format!("on its port {port} answers {other}, which it has not started");
            match config.readiness.owner_check {
                OwnerCheck::Require => Err(reason),
                OwnerCheck::Warn | OwnerCheck::Off => Ok(PortFinding::Warning(reason)),
            }
        }
    }
}

// === impl InstanceConfig ===

impl InstanceConfig {
    async fn prepare(&self, address: SocketAddr, last_probe: &RefCell<Option<String>>) {
        self.readiness.warm_up(address, last_probe).await;
        if let Some(liveness) = &self.liveness {
            last_probe.replace(Some("its liveness check fails too".to_owned()));
            liveness.wait_until_healthy(address).await;
        }
    }
}

/// Asks the instance to stop, and kills it at `stop_time`.
async fn stop<P: Process>(process: &mut P, mut stop_time: StopTime) -> Exit {
    let mut deadline = stop_time.borrow_and_update().unwrap_or_else(Instant::now);
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

fn describe_timeout<P: Process>(process: &P, config: &InstanceConfig, probe: &str) -> String {
    let timeout = humantime::format_duration(config.start_timeout);
    let hint = describe_elsewhere(process, config.port).filter(|hint| !probe.contains(hint));
    format!(
        "was not ready within {timeout}: {probe}{}",
        hint.unwrap_or_default()
    )
}

/// Looks at which other ports the instance listens, and logs the first finding.
fn look_elsewhere<P: Process>(process: &P, port: u16, hint: &RefCell<String>) {
    let found = describe_elsewhere(process, port).unwrap_or_default();
    if hint.borrow().is_empty() && !found.is_empty() {
        tracing::info!(
            event = "listens_elsewhere",
            pid = process.pid(),
            port,
            "an instance is not ready{found}"
        );
    }
    hint.replace(found);
}

fn describe_elsewhere<P: Process>(process: &P, port: u16) -> Option<String> {
    let all = process.listeners().into_iter();
    let elsewhere: Vec<_> = all
        .filter(|listener| listener.port() != port)
        .map(|listener| listener.to_string())
        .collect();
    let elsewhere = (!elsewhere.is_empty()).then(|| elsewhere.join(" and "));
    elsewhere.map(|elsewhere| {
        format!(
            "; it listens on {elsewhere}, not on its port {port}: pass it {{port}}, or let it read \
             PORT"
        )
    })
}

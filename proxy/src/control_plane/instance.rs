//! The life of one process tree, from its launch to its end, as facts for the supervisor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::readiness::{NeverReady, Readiness};
use crate::process::{Exit, Process};

/// What becomes of an instance, in this order.
#[derive(Debug)]
pub(super) enum Fact {
    /// The health check succeeded on this address.
    Ready(SocketAddr),
    /// The health check did not succeed in time.
    NeverReady {
        /// In one line.
        reason: String,
        /// The last lines so far.
        output: VecDeque<String>,
        /// What the last probe said.
        probe: String,
    },
    /// It is gone, and its port is another program's: it could not have worked.
    PortTaken,
    /// It is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// What the last probe said, if it never became ready.
        probe: Option<String>,
    },
}

/// How to check and stop it.
#[derive(Clone, Debug)]
pub(super) struct Care {
    pub(super) port: u16,
    pub(super) readiness: Readiness,
    pub(super) start_timeout: Duration,
    pub(super) last_probe: LastProbe,
}

/// What the last probe said, until one succeeds.
pub(super) type LastProbe = Rc<RefCell<Option<String>>>;

/// When it has to be gone; until then it is asked politely. Nothing as long as it shall run.
pub(super) type StopBy = watch::Receiver<Option<Instant>>;

/// Follows a process to its end.
pub(super) async fn follow<P: Process>(
    mut process: P,
    care: Care,
    mut stop_by: StopBy,
    report: impl Fn(Fact),
) {
    let deadline = Instant::now() + care.start_timeout;
    let verdict = tokio::select! {
        exit = process.exited() => {
            let fact = match port_taken(care.port).await {
                true => Fact::PortTaken,
                false => Fact::Exited { exit, probe: care.last_probe.take() },
            };
            return report(fact);
        }
        _ = stop_by.changed() => None,
        verdict = care.readiness.wait(care.port, deadline, &care.last_probe) => Some(verdict),
    };
    match verdict {
        Some(Ok(address)) => {
            care.last_probe.take();
            report(Fact::Ready(address));
        }
        Some(Err(NeverReady { last_probe: probe })) => report(Fact::NeverReady {
            reason: never_ready(&process, &care, &probe),
            output: process.output(),
            probe,
        }),
        None => {}
    }
    let exited = tokio::select! {
        exit = process.exited() => Some(exit),
        _ = stop_by.wait_for(Option::is_some) => None,
    };
    let exit = match exited {
        Some(exit) => exit,
        None => stop(&mut process, stop_by).await,
    };
    let probe = None;
    report(Fact::Exited { exit, probe });
}

async fn stop<P: Process>(process: &mut P, mut stop_by: StopBy) -> Exit {
    let mut deadline = stop_by.borrow_and_update().unwrap_or_else(Instant::now);
    if let Err(error) = process.ask_to_stop() {
        tracing::debug!(pid = process.pid(), %error, "it cannot be asked to stop");
        deadline = Instant::now();
    }
    loop {
        tokio::select! {
            exit = process.exited() => return exit,
            () = tokio::time::sleep_until(deadline) => {
                process.kill();
                return process.exited().await;
            }
            Ok(()) = stop_by.changed() => {
                deadline = stop_by.borrow_and_update().unwrap_or(deadline);
            }
        }
    }
}

fn never_ready<P: Process>(process: &P, care: &Care, probe: &str) -> String {
    let timeout = humantime::format_duration(care.start_timeout);
    let elsewhere: Vec<_> = process
        .listeners()
        .into_iter()
        .filter(|listener| listener.port() != care.port)
        .map(|listener| listener.to_string())
        .collect();
    let hint = match elsewhere.is_empty() {
        true => String::new(),
        false => format!(
            "; it listens on {}, not on its port {}: pass it {{port}}, or let it read PORT",
            elsewhere.join(" and "),
            care.port
        ),
    };
    format!("was not ready within {timeout}: {probe}{hint}")
}

/// Whether somebody listens on the port of a process tree that is gone.
async fn port_taken(port: u16) -> bool {
    let connect = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port));
    let connected = tokio::time::timeout(Duration::from_secs(1), connect).await;
    matches!(connected, Ok(Ok(_)))
}

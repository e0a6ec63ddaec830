//! The life of one process tree, from its launch to its end, as facts for the supervisor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::live::LiveCheck;
use super::readiness::{Identity, NeverReady, Readiness};
use crate::process::{Exit, PortOwner, Process};

/// What becomes of an instance, in this order.
#[derive(Debug)]
pub(super) enum Fact {
    /// It may have requests.
    Ready {
        /// Where it listens.
        address: SocketAddr,
        /// What is not as it should be with that.
        warning: Option<String>,
    },
    /// It was not ready in time.
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
    /// Has to be well too: it shall be better than another one of its release.
    pub(super) live: Option<LiveCheck>,
    pub(super) start_timeout: Duration,
    pub(super) last_probe: LastProbe,
}

/// What the last probe said, until one succeeds.
pub(super) type LastProbe = Rc<RefCell<Option<String>>>;

/// When it has to be gone; until then it is asked politely. Nothing as long as it shall run.
pub(super) type StopBy = watch::Receiver<Option<Instant>>;

/// What a start comes to.
enum Start {
    Ready(SocketAddr, Option<String>),
    NeverReady(String),
    Exited(Exit),
    Stopped,
}

/// Follows a process to its end.
pub(super) async fn follow<P: Process>(
    mut process: P,
    care: Care,
    mut stop_by: StopBy,
    report: impl Fn(Fact),
) {
    match start(&mut process, &care, &mut stop_by, &care.last_probe).await {
        Start::Ready(address, warning) => {
            care.last_probe.take();
            report(Fact::Ready { address, warning });
        }
        Start::NeverReady(probe) => report(Fact::NeverReady {
            reason: never_ready(&process, &care, &probe),
            output: process.output(),
            probe,
        }),
        Start::Exited(exit) => {
            let probe = care.last_probe.take();
            return report(match port_taken(care.port).await {
                true => Fact::PortTaken,
                false => Fact::Exited { exit, probe },
            });
        }
        Start::Stopped => {}
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

async fn start<P: Process>(
    process: &mut P,
    care: &Care,
    stop_by: &mut StopBy,
    last_probe: &RefCell<Option<String>>,
) -> Start {
    let deadline = Instant::now() + care.start_timeout;
    loop {
        let verdict = tokio::select! {
            exit = process.exited() => return Start::Exited(exit),
            _ = stop_by.changed() => return Start::Stopped,
            verdict = care.readiness.wait(care.port, deadline, last_probe) => verdict,
        };
        let address = match verdict {
            Ok(address) => address,
            Err(NeverReady { last_probe }) => return Start::NeverReady(last_probe),
        };
        let owned = owned(process, care);
        let preparing = async {
            match owned {
                Ok(warning) => {
                    care.prepare(address, last_probe).await;
                    Some(warning)
                }
                Err(reason) => {
                    last_probe.replace(Some(reason));
                    tokio::time::sleep(care.readiness.interval).await;
                    None
                }
            }
        };
        let prepared = tokio::select! {
            exit = process.exited() => return Start::Exited(exit),
            _ = stop_by.changed() => return Start::Stopped,
            prepared = tokio::time::timeout_at(deadline, preparing) => prepared,
        };
        match prepared {
            Ok(Some(warning)) => return Start::Ready(address, warning),
            Ok(None) => {}
            Err(_elapsed) => return Start::NeverReady(last_probe.take().unwrap_or_default()),
        }
    }
}

/// Whether who answers on its port is the instance; what is not as it should be.
fn owned<P: Process>(process: &P, care: &Care) -> Result<Option<String>, String> {
    if care.readiness.identity == Identity::Off {
        return Ok(None);
    }
    let port = care.port;
    match process.owner(port) {
        PortOwner::Unknown => Ok(None),
        PortOwner::Tree(addresses) => {
            let public = addresses.iter().find(|address| !address.ip().is_loopback());
            Ok(public.map(|address| {
                format!("it listens on {address}, which others may reach; pass it {{host}}")
            }))
        }
        PortOwner::Another(other) => {
            let reason = format!("on its port {port} answers {other}, which it has not started");
            match care.readiness.identity {
                Identity::Require => Err(reason),
                Identity::Warn | Identity::Off => Ok(Some(reason)),
            }
        }
    }
}

impl Care {
    async fn prepare(&self, address: SocketAddr, last_probe: &RefCell<Option<String>>) {
        self.readiness.warm_up(address, last_probe).await;
        if let Some(live) = &self.live {
            last_probe.replace(Some("its live check fails too".to_owned()));
            live.is_well(address).await;
        }
    }
}

async fn stop<P: Process>(process: &mut P, mut stop_by: StopBy) -> Exit {
    let mut deadline = stop_by.borrow_and_update().unwrap_or_else(Instant::now);
    let mut asking = process.ask_to_stop();
    let mut is_asking = true;
    loop {
        tokio::select! {
            exit = process.exited() => return exit,
            asked = &mut asking, if is_asking => {
                is_asking = false;
                if let Err(error) = asked {
                    tracing::warn!(
                        pid = process.pid(),
                        %error,
                        "cannot be asked to stop (--stop), so it is killed"
                    );
                    deadline = Instant::now();
                }
            }
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

//! One server process: its start, its watch, its end.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::event::Event;
use super::host::{Host, random_id};
use super::job::{Job, ask_to_stop, terminate};
use super::launch::Launch;
use super::rapid_fail::RapidFails;
use super::readiness::{Seen, answers};
use super::upstream::{RequestBody, SendError, Upstream};
use super::web_config::WebConfig;

const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Time in which the end of a watched descendant is noticed; the original waits for its handle.
const NOTICE: Duration = Duration::from_millis(50);
/// Number of processes above which, at the moment when the port becomes ready, a start has failed.
const MAX_PROCESSES: usize = 16;
/// Time from the request to stop to the kill.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A process that listens.
#[derive(Debug)]
pub(super) struct ServerProcess {
    pid: u32,
    token: String,
    host: Arc<Host>,
    job: Job,
    watched: Vec<u32>,
    upstream: Upstream,
    fails: Arc<Mutex<RapidFails>>,
    /// True once the module has given it up.
    is_over: watch::Sender<bool>,
    /// True once the root has ended.
    has_exited: watch::Receiver<bool>,
}

/// A root whose end is collected as soon as it comes.
#[derive(Debug)]
struct Root {
    pid: u32,
    job: Job,
    has_exited: watch::Receiver<bool>,
}

// === impl ServerProcess ===

impl ServerProcess {
    /// One attempt.
    pub(super) async fn start(
        config: &WebConfig,
        host: &Arc<Host>,
        fails: &Arc<Mutex<RapidFails>>,
    ) -> Result<Arc<Self>, String> {
        let port = free_port();
        let token = random_id();
        let root = Root::spawn(config, host, port, &token)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        host.events.push(Event::Started {
            pid: root.pid,
            port,
        });
        match root.await_ready(config, host, port).await {
            Ok(watched) => {
                let process = Arc::new(Self {
                    pid: root.pid,
                    token,
                    host: Arc::clone(host),
                    job: root.job,
                    watched,
                    upstream: Upstream::new(port, host.module.resends),
                    fails: Arc::clone(fails),
                    is_over: watch::Sender::new(false),
                    has_exited: root.has_exited,
                });
                host.events.push(Event::Ready {
                    pid: process.pid,
                    watched: process.watched.clone(),
                });
                tokio::spawn(Arc::clone(&process).watch());
                Ok(process)
            }
            Err(reason) => {
                terminate(root.pid);
                root.job.kill();
                root.ended().await;
                Err(reason)
            }
        }
    }

    /// Returns whether requests go to it.
    pub(super) fn is_up(&self) -> bool {
        !*self.is_over.borrow()
    }

    /// Passes on a request.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        self.upstream.send(request).await
    }

    /// Ends it as the module does.
    pub(super) async fn stop(&self) {
        if self.is_over.send_replace(true) {
            return;
        }
        let mut was_asked = false;
        if self.host.module.asks {
            was_asked = self.ask().await;
        }
        if was_asked {
            tokio::select! {
                () = self.ended() => {}
                () = self.host.clock.sleep(SHUTDOWN) => {}
            }
        }
        let killed = !*self.has_exited.borrow();
        self.kill();
        self.ended().await;
        let pid = self.pid;
        self.host.events.push(Event::Stopped { pid, killed });
    }

    /// Asks it to stop by a request; what does not answer it as it should gets a signal.
    async fn ask(&self) -> bool {
        let by = if self.upstream.ask_to_stop(&self.token).await {
            "request"
        } else if self.host.module.signal_arrives && ask_to_stop(self.pid) {
            "signal"
        } else {
            return false;
        };
        self.host.events.push(Event::Asked { pid: self.pid, by });
        true
    }

    fn kill(&self) {
        // Only the living: the original holds handles, and here another may have the id by now.
        let mut known = self.host.sandbox.pids();
        known.retain(|pid| self.watched.contains(pid));
        known.into_iter().for_each(terminate);
        // Its id is its own until its end has been collected.
        if !*self.has_exited.borrow() {
            terminate(self.pid);
        }
        self.job.kill();
    }

    async fn ended(&self) {
        ended(&self.has_exited).await;
    }

    /// Probes the port whenever a watched process ends.
    async fn watch(self: Arc<Self>) {
        let mut descendants: Vec<u32> = Vec::new();
        if self.host.module.watches_descendants {
            let others = self.watched.iter().copied();
            descendants.extend(others.filter(|&pid| pid != self.pid));
        }
        let mut is_over = self.is_over.subscribe();
        let mut root_ended = false;
        loop {
            let pid = tokio::select! {
                _ = is_over.wait_for(|is_over| *is_over) => return,
                () = self.ended(), if !root_ended => {
                    root_ended = true;
                    self.pid
                }
                pid = self.one_ends(&mut descendants), if !descendants.is_empty() => pid,
            };
            if answers(self.upstream.port()).await {
                self.host.events.push(Event::Overlooked { pid });
                continue;
            }
            if self.is_over.send_replace(true) {
                return;
            }
            self.kill();
            let mut fails = self.fails.lock();
            fails.record(self.host.clock.now());
            self.host.events.push(Event::Crashed { pid: self.pid });
            return;
        }
    }

    async fn one_ends(&self, pids: &mut Vec<u32>) -> u32 {
        loop {
            let living = self.host.sandbox.pids();
            if let Some(at) = pids.iter().position(|pid| !living.contains(pid)) {
                return pids.swap_remove(at);
            }
            tokio::time::sleep(NOTICE).await;
        }
    }
}

// === impl Root ===

impl Root {
    fn spawn(config: &WebConfig, host: &Host, port: u16, token: &str) -> io::Result<Self> {
        let launch = Launch {
            config,
            worker: &host.environment,
            root: &host.root,
            port,
            token: host.module.asks.then_some(token),
            log_suffix: &format!("{}_{port}", std::process::id()),
            gives_console: host.module.gives_console,
        };
        let job = Job::new(host.module.has_jobs)?;
        let mut command = launch.command()?;
        if !host.module.has_jobs {
            // Nor does the sandbox let its processes make one.
            command.env("HANDOFF_TEST_REFUSES_JOBS", "1");
        }
        let mut child = host.sandbox.spawn(&mut command, &job)?;
        let pid = child.id();
        let (exited, has_exited) = watch::channel(false);
        // A thread of its own: on Linux its end is nobody else's to wait for.
        std::thread::spawn(move || {
            let _ = child.wait();
            exited.send_replace(true);
        });
        Ok(Self {
            pid,
            job,
            has_exited,
        })
    }

    /// Waits for the port; gives the processes to watch.
    async fn await_ready(
        &self,
        config: &WebConfig,
        host: &Host,
        port: u16,
    ) -> Result<Vec<u32>, String> {
        let deadline = host.clock.now() + config.startup_time_limit;
        let seen = loop {
            if *self.has_exited.borrow() {
                return Err("it ended before it listened".to_owned());
            }
            match host.module.look.at(port).await {
                Seen::Nobody if host.clock.now() >= deadline => {
                    let limit = config.startup_time_limit;
                    return Err(format!("it did not listen within {limit:?}"));
                }
                Seen::Nobody => tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = host.clock.sleep_until(deadline) => {}
                    () = self.ended() => {}
                },
                seen @ (Seen::Somebody | Seen::Owner(_)) => break seen,
            }
        };
        // Without a job of its own the module asks for the one around it all. What that answers in
        // Azure is not known; if it named other workers' processes, a recycle would end them.
        let members = self.job.pids();
        if members.len() > MAX_PROCESSES {
            let count = members.len();
            return Err(format!("{count} processes are more than {MAX_PROCESSES}"));
        }
        match seen {
            Seen::Owner(owner) if owner != self.pid && !members.contains(&owner) => Err(format!(
                "it was started, but did not listen on the given port: process {owner} does"
            )),
            Seen::Owner(_) | Seen::Somebody | Seen::Nobody => Ok(members),
        }
    }

    async fn ended(&self) {
        ended(&self.has_exited).await;
    }
}

async fn ended(has_exited: &watch::Receiver<bool>) {
    // The sender goes with the end that it tells.
    let _ = has_exited.clone().wait_for(|exited| *exited).await;
}

/// `rand() % (48000 - 1025) + 1025 + 1`, again while somebody has it.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(1026..=48_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

//! The load: an open loop at a fixed rate, on kept connections and on new ones.
//!
//! ```text
//! pacer ─due─▶ sender ─▶ client ─▶ http, websocket, visit     response ─▶ check ─▶ outcome
//!                    └──▶ http2
//! ```

pub mod check;
pub mod client;
pub mod failure;
pub mod http;
mod http2;
pub mod mix;
pub mod outcome;
pub mod pacer;
pub mod request;
pub mod visit;
pub mod websocket;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::LocalSet;
use tokio::time::timeout;

use self::check::{Possible, check, check_status};
use self::client::{Client, Idle, converse};
use self::failure::{Failed, Failure};
use self::http::{Response, Version};
use self::http2::Connections;
use self::mix::Mix;
use self::outcome::Outcome;
use self::pacer::{Pace, Pacer};
use self::request::{Call, Connection, Destination, Request};

/// Maximum number of new connections at a time; the wait of the others counts as latency. It keeps a
/// stalled server from using up our file descriptors, which would look like refused connections.
const NEW_CONNECTIONS: usize = 512;

/// Number of kept connections for one of HTTP/2, which carries several requests at a time.
const KEPT_FOR_HTTP2: usize = 8;

/// Number of descriptors for everything that is not a connection to the server.
const OTHER_FILES: usize = 64;

/// The load and its destination.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    pub server: SocketAddr,
    pub destination: Destination,
    /// Requests a second.
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// Maximum time from the sending of a request to its last byte, and to wait for a connection.
    pub timeout: Duration,
    /// Newest deployed release: no newer one can answer.
    pub deployed: Arc<AtomicU32>,
    pub mix: Mix,
    pub releases: Releases,
    /// Apps write a journal and name each request in its answer, so that more kinds of failures can
    /// be told apart.
    pub has_journal: bool,
}

/// The releases that answers name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Releases {
    /// None: only the status of an answer is checked.
    Unnamed,
    /// One, as sample-app's do, in any order.
    Named,
    /// One, and none that is older than one which answered before the request was sent.
    InOrder,
}

/// Load that is being offered.
#[derive(Debug)]
pub struct Generator {
    started: Instant,
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<u64>,
    sender: JoinHandle<()>,
}

/// A request that has become due, at this time from the start.
#[derive(Clone, Copy, Debug)]
struct Due {
    seq: u64,
    due: Duration,
}

/// A request that the generator has taken up.
#[derive(Clone, Copy, Debug)]
struct Taken {
    request: Request,
    due: Duration,
    taken: Duration,
}

/// An unchecked response.
struct Received {
    response: Response,
    /// Newest release that an answer had named when the request was sent.
    oldest: u32,
    part_late: Duration,
}

/// State of the thread that sends all requests.
struct Sender {
    plan: LoadPlan,
    started: Instant,
    http2: Connections,
    /// Newest release that an answer has named.
    seen: Cell<u32>,
    outcomes: UnboundedSender<Outcome>,
}

// === impl Generator ===

impl Generator {
    /// Starts to offer load. Each request ends as one outcome; `outcomes` closes after the last.
    pub fn start(plan: LoadPlan, outcomes: UnboundedSender<Outcome>) -> io::Result<Self> {
        allow_open_files(plan.connections.get() + NEW_CONNECTIONS + OTHER_FILES)?;
        let started = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, due) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let pacer = Pacer::new(plan.rate);

        let load = thread::Builder::new().name("load".to_owned());
        let load = load.spawn(move || {
            let connections = plan.connections.get().div_ceil(KEPT_FOR_HTTP2);
            let sender = Rc::new(Sender {
                http2: Connections::new(plan.server, connections),
                plan,
                started,
                seen: Cell::new(0),
                outcomes,
            });
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, take_up(sender, due));
            // Requests in flight end by themselves, at the latest when they time out.
            runtime.block_on(tasks);
        })?;
        let stopped = Arc::clone(&stop);
        let pacer = thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || keep_pace(pacer, started, &stopped, &sender))?;
        Ok(Self {
            started,
            stop,
            pacer,
            sender: load,
        })
    }

    /// Returns the time at which the first request was due.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Stops offering requests; those in flight go on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the last request has ended; returns the number of requests offered.
    pub fn join(self) -> io::Result<u64> {
        let panicked = |_| io::Error::other("a thread of the generator panicked");
        let offered = self.pacer.join().map_err(panicked)?;
        self.sender.join().map_err(panicked)?;
        Ok(offered)
    }
}

/// Runs on a thread of its own: the runtime's timers are no finer than a millisecond.
fn keep_pace(
    pacer: Pacer,
    started: Instant,
    stop: &AtomicBool,
    sender: &UnboundedSender<Due>,
) -> u64 {
    let mut seq = 0;
    while !stop.load(Ordering::Relaxed) {
        match pacer.pace(started.elapsed(), seq) {
            Pace::Wait(wait) => thread::sleep(wait.min(Duration::from_millis(50))),
            Pace::Due(due) => {
                if sender.send(Due { seq, due }).is_err() {
                    break;
                }
                seq += 1;
            }
        }
    }
    seq
}

async fn take_up(sender: Rc<Sender>, mut due: UnboundedReceiver<Due>) {
    let (kept, queue) = unbounded_channel();
    let queue = Rc::new(Mutex::new(queue));
    for _ in 0..sender.plan.connections.get() {
        tokio::task::spawn_local(Rc::clone(&sender).keep_connection(Rc::clone(&queue)));
    }
    let permits = Rc::new(Semaphore::new(NEW_CONNECTIONS));
    while let Some(Due { seq, due }) = due.recv().await {
        let request = sender.plan.mix.request(seq);
        let taken = Taken {
            request,
            due,
            taken: sender.started.elapsed(),
        };
        match request.connection {
            // The connections' tasks end after this one, so that one of them receives it.
            Connection::Kept => drop(kept.send(taken)),
            Connection::Stream => {
                let sender = Rc::clone(&sender);
                tokio::task::spawn_local(async move { sender.send(taken, &mut None).await });
            }
            Connection::New => {
                let (sender, permits) = (Rc::clone(&sender), Rc::clone(&permits));
                tokio::task::spawn_local(async move {
                    let _permit = permits.acquire().await;
                    sender.send(taken, &mut None).await;
                });
            }
        }
    }
}

// === impl Sender ===

impl Sender {
    /// Sends requests on one kept connection. The tasks take turns, so that every connection stays
    /// in use.
    async fn keep_connection(self: Rc<Self>, queue: Rc<Mutex<UnboundedReceiver<Taken>>>) {
        let mut client = None;
        loop {
            let Some(taken) = queue.lock().await.recv().await else {
                return;
            };
            self.send(taken, &mut client).await;
        }
    }

    /// Makes one request, on the connection that is given or else on a new one.
    async fn send(&self, taken: Taken, client: &mut Option<Client>) {
        let Taken {
            request,
            due,
            taken,
        } = taken;
        let mut is_reopened = false;
        let began = self.started.elapsed();
        let limit = self.plan.timeout;
        let late = |what: &str| Failed::new(Failure::Timeout, format!("{what} in {limit:?}"));
        // A stalled server leaves a queue behind: no request waits in it longer than for an answer.
        let result = if began.saturating_sub(due) > limit {
            Err(late("no connection was free"))
        } else {
            let received = self.receive(&request, client, &mut is_reopened);
            let result = timeout(limit, received).await;
            result.unwrap_or_else(|_| Err(late("no answer")))
        };
        // Before the check of the answer, which is not the server's work.
        let ended = self.started.elapsed();
        let part_late = result.as_ref().map_or(Duration::ZERO, |r| r.part_late);
        let result = result.and_then(|received| self.check(&request, &received));
        if result.is_err() || request.connection == Connection::New {
            *client = None;
        }
        let (release, failed) = match result {
            Ok(release) => (release, None),
            Err(failed) if self.plan.has_journal => (None, Some(failed)),
            Err(failed) => {
                let kind = failed.kind.plain();
                (None, Some(Failed { kind, ..failed }))
            }
        };
        self.seen.set(self.seen.get().max(release.unwrap_or(0)));
        // It fails only after the receiver has stopped counting.
        let _ = self.outcomes.send(Outcome {
            request,
            due,
            taken,
            began,
            ended,
            part_late,
            release,
            is_reopened,
            failed,
        });
    }

    async fn receive(
        &self,
        request: &Request,
        client: &mut Option<Client>,
        is_reopened: &mut bool,
    ) -> Result<Received, Failed> {
        let oldest = || match self.plan.releases {
            Releases::InOrder => self.seen.get(),
            Releases::Unnamed | Releases::Named => 0,
        };
        if request.connection == Connection::Stream {
            let oldest = oldest();
            let sent = self.http2.converse(request, &self.plan.destination);
            let (response, part_late) = sent.await?;
            return Ok(Received {
                response,
                oldest,
                part_late,
            });
        }
        match client.as_ref().map(Client::idle) {
            None | Some(Idle::Open) => {}
            // Nothing of this request was sent, so no client would notice.
            Some(Idle::Closed) => {
                *client = None;
                *is_reopened = true;
            }
            Some(Idle::Unexpected) => {
                let detail = "bytes came that belong to no request";
                return Err(Failed::new(Failure::Wrong, detail));
            }
        }
        let open = match client {
            Some(open) => open,
            None => client.insert(Client::connect(self.plan.server).await?),
        };
        if self.plan.releases == Releases::Unnamed {
            open.expect_version(Version::Any);
        }
        let oldest = oldest();
        let (response, part_late) = converse(open, request, &self.plan.destination).await?;
        if !response.is_kept {
            *client = None;
        }
        if let Call::Visit { .. } = request.call {
            let server = self.plan.server;
            visit::go_on(&response, request, server, &self.plan.destination).await?;
        }
        Ok(Received {
            response,
            oldest,
            part_late,
        })
    }

    /// Returns the release that answered, if answers name it.
    fn check(&self, request: &Request, received: &Received) -> Result<Option<u32>, Failed> {
        if self.plan.releases == Releases::Unnamed {
            return check_status(&received.response).map(|()| None);
        }
        let possible = Possible {
            oldest: received.oldest,
            newest: self.plan.deployed.load(Ordering::Relaxed),
        };
        check(request, &received.response, possible, self.plan.has_journal).map(Some)
    }
}

/// Raises the soft limit, never the hard one.
#[cfg(unix)]
pub(crate) fn allow_open_files(wanted: usize) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let wanted = wanted as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(io::Error::other(format!(
            "{wanted} open files are needed and the system allows {}; offer fewer --connections or raise `ulimit -Hn`",
            limit.maximum.unwrap_or_default()
        )));
    }
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Does nothing: sockets are not counted as files there.
#[cfg(windows)]
pub(crate) fn allow_open_files(_wanted: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;

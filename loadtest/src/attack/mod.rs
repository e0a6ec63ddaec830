//! Offers the load: an open loop at a fixed rate, on kept connections and on new ones.

use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{cell::Cell, rc::Rc};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::check::{Possible, check, check_status};
use crate::client::{Client, Idle};
use crate::pacer::{Pace, Pacer};
use crate::result::{Failed, Failure, Outcome};
use crate::traffic::{Call, Connection, Mix, Place, Shot};
use crate::websocket::Talk;
use crate::wire::Answer;

/// New connections open at the same time; more wait, and their wait counts as latency. It keeps a
/// stalled server from using up our file descriptors, which would look like refused connections.
const NEW_CONNECTIONS: usize = 512;

/// Descriptors for everything that is not a connection to the server.
const OTHER_FILES: usize = 64;

/// What is offered to whom.
#[derive(Debug, Clone)]
pub struct Plan {
    pub server: SocketAddr,
    pub place: Place,
    /// Requests a second.
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// For one request, from its sending to its last byte; and for a connection that is free for it.
    pub timeout: Duration,
    /// The newest release that was deployed: none that is newer can answer.
    pub deployed: Arc<AtomicU32>,
    pub mix: Mix,
    /// Answers name their release, as sample-app's do. Of others only the status is known.
    pub names_releases: bool,
    /// Apps write down each request, and name it in its answer: then failures are told apart more
    /// finely than the demo does.
    pub journaled: bool,
}

/// Load that is being offered.
#[derive(Debug)]
pub struct Attack {
    started: Instant,
    stop: Arc<AtomicBool>,
    pacer: JoinHandle<u64>,
    load: JoinHandle<()>,
}

/// A request that has become due, at this time from the start.
#[derive(Debug, Clone, Copy)]
struct Due {
    seq: u64,
    due: Duration,
}

/// A request that was taken up by the generator.
#[derive(Debug, Clone, Copy)]
struct Taken {
    shot: Shot,
    due: Duration,
    taken: Duration,
}

/// What came of a request, before it is looked at.
struct Heard {
    answer: Answer,
    /// The newest release that an answer had named when this request was sent.
    oldest: u32,
    /// How late the latest part was, of what comes in parts.
    part_late: Duration,
}

/// What all requests share, on the one thread that does them.
struct Field {
    plan: Plan,
    started: Instant,
    /// The newest release that an answer has named.
    seen: Cell<u32>,
    outcomes: UnboundedSender<Outcome>,
}

// === impl Attack ===

impl Attack {
    /// Starts offering load. Each request ends as one outcome; `outcomes` closes with the last.
    ///
    /// # Errors
    /// A thread could not be started or the system allows too few open files.
    pub fn launch(plan: Plan, outcomes: UnboundedSender<Outcome>) -> io::Result<Self> {
        allow_open_files(plan.connections.get() + NEW_CONNECTIONS + OTHER_FILES)?;
        let started = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, due) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let pacer = Pacer::new(plan.rate);
        let mix = plan.mix;

        let load = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                let field = Rc::new(Field {
                    plan,
                    started,
                    seen: Cell::new(0),
                    outcomes,
                });
                let tasks = LocalSet::new();
                tasks.block_on(&runtime, take_up(field, mix, due));
                // What is still in flight ends by itself, at the latest when it times out.
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
            load,
        })
    }

    /// When the first request was due.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Offers nothing more; what is in flight goes on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The number of requests that were offered. Waits until the last has ended.
    ///
    /// # Errors
    /// A thread panicked, so outcomes are missing.
    pub fn join(self) -> io::Result<u64> {
        let offered = self
            .pacer
            .join()
            .map_err(|_| io::Error::other("the pacer panicked"))?;
        self.load
            .join()
            .map_err(|_| io::Error::other("the load thread panicked"))?;
        Ok(offered)
    }
}

/// A thread of its own: the runtime's timers are no finer than a millisecond.
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

async fn take_up(field: Rc<Field>, mix: Mix, mut due: UnboundedReceiver<Due>) {
    let (kept, queue) = unbounded_channel();
    let queue = Rc::new(Mutex::new(queue));
    for _ in 0..field.plan.connections.get() {
        tokio::task::spawn_local(Rc::clone(&field).keep_connection(Rc::clone(&queue)));
    }
    let permits = Rc::new(Semaphore::new(NEW_CONNECTIONS));
    while let Some(Due { seq, due }) = due.recv().await {
        let shot = mix.shot(seq);
        let taken = Taken {
            shot,
            due,
            taken: field.started.elapsed(),
        };
        match shot.connection {
            // It fails only when every worker has gone, and they go last.
            Connection::Kept => drop(kept.send(taken)),
            Connection::New => {
                let (field, permits) = (Rc::clone(&field), Rc::clone(&permits));
                tokio::task::spawn_local(async move {
                    let _permit = permits.acquire().await;
                    field.fire(taken, &mut None).await;
                });
            }
        }
    }
}

// === impl Field ===

impl Field {
    /// The workers take turns, so that every connection stays in use.
    async fn keep_connection(self: Rc<Self>, queue: Rc<Mutex<UnboundedReceiver<Taken>>>) {
        let mut client = None;
        loop {
            let Some(taken) = queue.lock().await.recv().await else {
                return;
            };
            self.fire(taken, &mut client).await;
        }
    }

    /// Makes one request, on the connection that is there or else on a new one.
    async fn fire(&self, Taken { shot, due, taken }: Taken, client: &mut Option<Client>) {
        let mut reopened = false;
        let began = self.started.elapsed();
        let patience = self.plan.timeout;
        let late = |what: &str| Failed::new(Failure::Timeout, format!("{what} in {patience:?}"));
        // A server that stalls leaves a queue behind: nobody waits in it for longer than for an answer.
        let result = if began.saturating_sub(due) > patience {
            Err(late("no connection was free"))
        } else {
            let exchange = self.exchange(&shot, client, &mut reopened);
            let result = timeout(patience, exchange).await;
            result.unwrap_or_else(|_| Err(late("no answer")))
        };
        // Before the answer is looked at: that is the generator's work, not the server's.
        let ended = self.started.elapsed();
        let part_late = result
            .as_ref()
            .map_or(Duration::ZERO, |heard| heard.part_late);
        let result = result.and_then(|heard| self.judge(&shot, &heard));
        if result.is_err() || shot.connection == Connection::New {
            *client = None;
        }
        let (release, failed) = match result {
            Ok(release) => (release, None),
            Err(failed) if self.plan.journaled => (None, Some(failed)),
            Err(failed) => {
                let kind = failed.kind.plain();
                (None, Some(Failed { kind, ..failed }))
            }
        };
        self.seen.set(self.seen.get().max(release.unwrap_or(0)));
        // The other side has gone only when nobody counts any more.
        let _ = self.outcomes.send(Outcome {
            shot,
            due,
            taken,
            began,
            ended,
            part_late,
            release,
            reopened,
            failed,
        });
    }

    async fn exchange(
        &self,
        shot: &Shot,
        client: &mut Option<Client>,
        reopened: &mut bool,
    ) -> Result<Heard, Failed> {
        match client.as_ref().map(Client::idle) {
            None | Some(Idle::Open) => {}
            // Nothing of this request was sent, so no client would notice.
            Some(Idle::Closed) => {
                *client = None;
                *reopened = true;
            }
            Some(Idle::Unasked) => {
                return Err(Failed::new(
                    Failure::Wrong,
                    "bytes came that belong to no request",
                ));
            }
        }
        let open = match client {
            Some(open) => open,
            None => client.insert(Client::connect(self.plan.server).await?),
        };
        open.hears_http_1_0(!self.plan.names_releases);
        let oldest = self.seen.get();
        let (answer, part_late) = converse(open, shot, &self.plan.place).await?;
        let is_http = !matches!(shot.call, Call::Talk { .. });
        // On a kept connection, the next request asks.
        if shot.connection == Connection::New && is_http && open.idle() == Idle::Unasked {
            return Err(Failed::new(
                Failure::Wrong,
                "bytes came after the end of the answer",
            ));
        }
        if !answer.keep {
            *client = None;
        }
        Ok(Heard {
            answer,
            oldest,
            part_late,
        })
    }

    /// The release that answered, where that is known.
    fn judge(&self, shot: &Shot, heard: &Heard) -> Result<Option<u32>, Failed> {
        if !self.plan.names_releases {
            return check_status(&heard.answer).map(|()| None);
        }
        let possible = Possible {
            oldest: heard.oldest,
            newest: self.plan.deployed.load(Ordering::Relaxed),
        };
        check(shot, &heard.answer, possible, self.plan.journaled).map(Some)
    }
}

/// Does what a request asks for, however long it takes. The answer, and how late the latest part of
/// it was: an app sends one after the other at the pace that it was asked for.
async fn converse(
    client: &mut Client,
    shot: &Shot,
    place: &Place,
) -> Result<(Answer, Duration), Failed> {
    let request = shot.encode(place);
    let mut part_late = Duration::ZERO;
    let answer = match shot.call {
        Call::Chunks { count, every } => {
            let chunks = (0..count).map(|at| shot.chunk(at));
            client.upload(&request, chunks, every).await
        }
        Call::Talk {
            count,
            every,
            close,
        } => {
            let mut talk = Talk::new(shot.seq, count);
            let answer = client.talk(&request, &mut talk, every, close).await;
            part_late = talk.slowest();
            answer
        }
        Call::Events { every, .. } => {
            let mut events = Events::new(Instant::now(), every);
            let answer = client
                .follow(&request, |body| events.come(body, Instant::now()))
                .await;
            part_late = events.late;
            answer
        }
        Call::Old => {
            client.speaks_http_1_0();
            client.exchange(&request).await
        }
        Call::Home
        | Call::Page
        | Call::Version
        | Call::Echo(_)
        | Call::Slow(_)
        | Call::Upload(_) => client.exchange(&request).await,
    };
    Ok((answer?, part_late))
}

/// The events of a stream as they come.
#[derive(Debug)]
struct Events {
    /// When the next one should be there.
    due: Instant,
    every: Duration,
    count: usize,
    late: Duration,
}

// === impl Events ===

impl Events {
    fn new(first: Instant, every: Duration) -> Self {
        Self {
            due: first,
            every,
            count: 0,
            late: Duration::ZERO,
        }
    }

    /// The body is there so far.
    fn come(&mut self, body: &[u8], now: Instant) {
        // An event ends with an empty line.
        let count = body.windows(2).filter(|pair| pair == b"\n\n").count();
        while self.count < count {
            self.late = self.late.max(now.saturating_duration_since(self.due));
            self.due += self.every;
            self.count += 1;
        }
    }
}

/// Raises the soft limit, never the hard one.
#[cfg(unix)]
fn allow_open_files(wanted: usize) -> io::Result<()> {
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
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            ..limit
        },
    )?)
}

/// Sockets are not counted there.
#[cfg(windows)]
fn allow_open_files(_wanted: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;

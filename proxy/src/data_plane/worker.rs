//! A thread that serves connections: its own runtime, its own pool, nothing shared but the router.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use slab::Slab;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::access::Recorder;
use super::activity::{Activity, Clock, Doing, SWEEP, Verdict};
use super::forward::{Client, Forward, Shared};
use super::headers::Peer;
use super::listener::Accept;
use super::pool::Pool;
use super::request_id::RequestIds;
use super::stream::{ClientIo, Stream};
use super::{Phase, Settings};
use crate::router::{Notice, Router};

/// How far hyper reads ahead for one connection.
const BUFFER: usize = 64 * 1024;
/// At shutdown tunnels are asked to end at once, and those that have not after so long are cut: the
/// port is closed meanwhile, and who sees the end connects to what comes next.
const TUNNELS_END: Duration = Duration::from_secs(2);
/// For a head that does not come. No length would let the client wait for the close.
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A handle to the thread.
#[derive(Debug)]
pub(super) struct Worker {
    intake: Intake,
    running: Option<(oneshot::Receiver<()>, JoinHandle<()>)>,
}

/// Where connections for a worker go.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    jobs: mpsc::UnboundedSender<Job>,
    connections: Arc<AtomicUsize>,
}

enum Job {
    Serve(TcpStream, SocketAddr),
    Accept(Accept),
}

/// The connections of a worker, tunnels too.
#[derive(Debug)]
pub(super) struct Connections {
    /// Those that hyper serves.
    served: RefCell<Slab<Served>>,
    is_draining: Cell<bool>,
    count: Arc<AtomicUsize>,
    one_ended: Notify,
}

/// What serves one connection after the other.
#[derive(Debug)]
pub(super) struct Server {
    settings: Settings,
    clock: Clock,
    shared: Rc<Shared>,
    connections: Rc<Connections>,
    last_peer: RefCell<Peer>,
}

/// What the sweep looks at, and whom it wakes.
#[derive(Debug)]
struct Served {
    client: Rc<Client>,
    waker: Waker,
}

/// One of them, from its acceptance to its end, also as a tunnel.
#[derive(Debug)]
pub(super) struct Open(Rc<Connections>);

/// Serves a connection, and closes it between two requests when the worker drains.
struct Serve {
    connection: http1::UpgradeableConnection<TokioIo<ClientIo>, Forward>,
    connections: Rc<Connections>,
    client: Rc<Client>,
    key: Option<usize>,
    is_told: bool,
}

// === impl Worker ===

impl Worker {
    pub(super) fn start(
        number: usize,
        router: &Arc<Router>,
        settings: &Settings,
        phases: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (running, ended) = oneshot::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let intake = Intake {
            jobs,
            connections: Arc::clone(&connections),
        };
        let notices = router.subscribe();
        let router = Arc::clone(router);
        let settings = settings.clone();
        let run = move || {
            let _running = running;
            let serve = serve_all(router, &settings, connections, inbox, notices, phases);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(serve),
                Err(error) => tracing::error!(%error, number, "a worker cannot run"),
            }
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(run)?;
        Ok(Self {
            intake,
            running: Some((ended, thread)),
        })
    }

    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Has this worker accept connections.
    pub(super) fn accept(&self, accept: Accept) {
        // A worker that has ended has said why.
        let _ = self.intake.jobs.send(Job::Accept(accept));
    }

    /// Waits until the worker has ended. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if let Some((running, _)) = &mut self.running {
            // The sender never sends: that it is gone is the message.
            let _ = running.await;
        }
        if let Some((_, thread)) = self.running.take() {
            // Dropping the sender was the last that it did.
            let _ = thread.join();
        }
    }
}

// === impl Intake ===

impl Intake {
    /// How many connections the worker has.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// One more: counted before it is served, so that none is dealt twice as many.
    pub(super) fn count(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the worker one more.
    pub(super) fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        self.count();
        // A worker that has ended takes none; the connection is closed.
        let _ = self.jobs.send(Job::Serve(stream, peer));
    }
}

async fn serve_all(
    router: Arc<Router>,
    settings: &Settings,
    count: Arc<AtomicUsize>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    mut notices: mpsc::UnboundedReceiver<Notice>,
    mut phases: watch::Receiver<Phase>,
) {
    let clock = Clock::default();
    let pool = Rc::new(Pool::new(settings.app, clock.clone()));
    let (leftovers, mut left_over) = mpsc::unbounded_channel();
    let shared = Rc::new(Shared {
        router,
        pool: Rc::clone(&pool),
        leftovers,
        limits: settings.request,
        forwarded: settings.forwarded,
        shutdown_request: settings.shutdown_request.clone(),
        user_tokens: settings.user_tokens.clone(),
        recorder: settings.access_log.as_ref().map(Recorder::new),
        request_ids: settings.request_id.then(RequestIds::default),
        tally: settings.tallies.as_ref().map(|all| all.worker(&count)),
    });
    let connections = Rc::new(Connections {
        served: RefCell::default(),
        is_draining: Cell::new(false),
        count,
        one_ended: Notify::new(),
    });
    let server = Rc::new(Server {
        settings: settings.clone(),
        clock: clock.clone(),
        shared: Rc::clone(&shared),
        connections: Rc::clone(&connections),
        last_peer: RefCell::new(Peer::new(Ipv4Addr::LOCALHOST.into())),
    });
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !connections.have_ended() {
        tokio::select! {
            Some(job) = jobs.recv() => match job {
                Job::Serve(stream, peer) => server.serve(stream, peer),
                Job::Accept(accept) => {
                    tokio::task::spawn_local(accept.run(Rc::clone(&server)));
                }
            },
            Some(notice) = notices.recv() => match notice {
                Notice::Promoted(generation) => pool.restore(generation),
                Notice::Superseded(generation) => pool.supersede(generation),
                Notice::TunnelsClose(generation, period) => {
                    pool.close_tunnels(generation, period);
                }
                Notice::Evicted(generation, class) => {
                    let evicted = pool.evict(generation, class);
                    if let Some(tally) = &shared.tally {
                        tally.evicted(class, evicted);
                    }
                }
            },
            Ok(()) = phases.changed() => {
                let phase = *phases.borrow_and_update();
                match phase {
                    Phase::Serving | Phase::Closed => {}
                    Phase::Draining => {
                        connections.drain();
                        pool.end_tunnels(TUNNELS_END);
                    }
                    Phase::Cut => return,
                }
            }
            () = connections.one_ended.notified() => {}
            Some(leftover) = left_over.recv() => {
                tokio::task::spawn_local(leftover.read());
            }
            _ = sweep.tick() => {
                clock.tick();
                pool.sweep();
                connections.sweep(settings);
                if let Some(recorder) = &shared.recorder {
                    recorder.flush();
                }
            }
        }
    }
}

// === impl Server ===

impl Server {
    /// Serves a connection that has been counted.
    pub(super) fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        let settings = &self.settings;
        let open = Open(Rc::clone(&self.connections));
        let stream = Stream::accepted(stream);
        let activity = Arc::new(Activity::new(self.clock.clone()));
        let io = TokioIo::new(ClientIo::new(stream.clone(), Arc::clone(&activity)));
        let client = Rc::new(Client {
            peer: self.peer(peer.ip()),
            stream,
            activity,
            _open: open,
        });
        let forward = Forward::new(Rc::clone(&self.shared), Rc::clone(&client));
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER.max(settings.max_header_size))
            .max_header_size(settings.max_header_size)
            .max_headers(settings.max_headers)
            .half_close(true)
            .serve_connection(io, forward)
            .with_upgrades();
        let serve = Serve {
            connection,
            connections: Rc::clone(&self.connections),
            client,
            key: None,
            is_told: false,
        };
        tokio::task::spawn_local(async move {
            if let Err(error) = serve.await {
                tracing::debug!(%error, %peer, "a client's connection ended early");
            }
        });
    }
}

impl Server {
    /// Most often it is the one of the connection before: its text is made once.
    fn peer(&self, address: IpAddr) -> Peer {
        let mut last = self.last_peer.borrow_mut();
        if last.address() != address {
            *last = Peer::new(address);
        }
        last.clone()
    }
}

// === impl Connections ===

impl Connections {
    fn drain(&self) {
        self.is_draining.set(true);
        for (_, served) in &*self.served.borrow() {
            served.waker.wake_by_ref();
        }
    }

    /// Ends the connections that do nothing for too long, and those whose clients have left.
    ///
    /// hyper would look for the end of the stream twice in every request, and yet see a client leave
    /// only when it has read all that came before: not behind an unread body, and not behind the
    /// next request. So it is told that clients may close their half, and does not look.
    fn sweep(&self, settings: &Settings) {
        for (_, Served { client, waker }) in &*self.served.borrow() {
            let is_draining = self.is_draining.get();
            match client.activity.verdict(&settings.client, is_draining) {
                Verdict::TimedOut => client.stream.last_word(TIMED_OUT),
                Verdict::Close => {}
                Verdict::Keep => {
                    let has_left = !settings.half_close
                        && client.activity.doing() == Doing::Request
                        && client.stream.is_read_closed();
                    if !has_left {
                        // Whose first answer takes so long is watched from now on.
                        let _ = client.stream.register();
                        continue;
                    }
                }
            }
            if client.activity.waits_to_send() {
                // The rest of an answer ends with it, which may look complete else.
                client.sees_a_failure();
            }
            client.activity.end();
            waker.wake_by_ref();
        }
    }

    /// Whether a connection ends with what it is doing now. One that has just been opened may send its
    /// request first; the sweep ends it if it does not.
    fn lets_go_of(&self, client: &Client) -> bool {
        self.is_draining.get() && client.activity.doing() != Doing::Nothing
    }

    fn have_ended(&self) -> bool {
        self.is_draining.get() && self.count.load(Ordering::Relaxed) == 0
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.one_ended.notify_one();
    }
}

// === impl Serve ===

impl Future for Serve {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        if this.key.is_none() {
            // A task's waker stays the same.
            let served = Served {
                client: Rc::clone(&this.client),
                waker: cx.waker().clone(),
            };
            this.key = Some(this.connections.served.borrow_mut().insert(served));
        }
        if this.client.activity.is_ended() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.connection).poll(cx);
        // Only now: what has come is read first, also of a connection that was accepted last.
        if polled.is_ready() || this.is_told || !this.connections.lets_go_of(&this.client) {
            return polled;
        }
        this.is_told = true;
        Pin::new(&mut this.connection).graceful_shutdown();
        Pin::new(&mut this.connection).poll(cx)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // What it held is dropped after the borrow has ended.
            let _served = self.connections.served.borrow_mut().remove(key);
        }
    }
}

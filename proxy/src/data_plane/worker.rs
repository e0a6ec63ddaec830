//! A worker: a thread that serves connections with its own runtime and its own pool, and shares
//! only the router with the others.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};

use super::accept::{WorkerHandle, WorkerJob};
use super::access::AccessRecorder;
use super::burst::Burst;
use super::clock::{Clock, SWEEP_INTERVAL};
use super::connections::Connections;
use super::context::ForwardContext;
use super::error_log::ErrorLog;
use super::own_paths::OwnPaths;
use super::phase::Phase;
use super::pool::Pool;
use super::request_id::RequestIds;
use super::server::Server;
use super::settings::DataPlaneSettings;
use super::shared_pool::SharedPool;
use crate::os::memory;
use crate::router::{Notice, Router};

/// Time that tunnels have to close at shutdown before they are cut. The port is closed meanwhile: a
/// client that sees its tunnel end connects to the next sidecar.
const TUNNEL_CLOSE_PERIOD: Duration = Duration::from_secs(2);

/// Number of turns of tasks after which new events are looked for. Long transfers are always ready,
/// and without this a short request beside them is seen only after 61 turns of 256 KiB each.
const EVENT_INTERVAL: u32 = 16;

/// A running worker thread.
#[derive(Debug)]
pub(super) struct Worker {
    handle: WorkerHandle,
    running: Option<(oneshot::Receiver<()>, JoinHandle<()>)>,
}

// === impl Worker ===

impl Worker {
    /// Starts the thread of worker `number`.
    pub(super) fn start(
        number: usize,
        router: &Arc<Router>,
        settings: &DataPlaneSettings,
        shared_pool: &Arc<SharedPool>,
        phases: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let (running, ended) = oneshot::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (handle, jobs) = WorkerHandle::new(Arc::clone(&connections));
        let notices = router.subscribe();
        let router = Arc::clone(router);
        let settings = settings.clone();
        let shared = Arc::clone(shared_pool);
        let run = move || {
            let _running = running;
            let serve = serve_all(
                router,
                &settings,
                shared,
                connections,
                jobs,
                notices,
                phases,
            );
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(serve),
                Err(error) => tracing::error!(
                    event = "worker_failed",
                    %error, worker = number, "a worker thread cannot start its runtime"
                ),
            }
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(run)?;
        Ok(Self {
            handle,
            running: Some((ended, thread)),
        })
    }

    /// Returns the handle that gives this worker connections.
    pub(super) fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    /// Waits until the worker has ended. Cancel safe.
    pub(super) async fn join(&mut self) {
        if let Some((ended, _)) = &mut self.running {
            // Nothing is sent: the sender is dropped at the end.
            let _ = ended.await;
        }
        if let Some((_, thread)) = self.running.take() {
            // Returns at once: the drop of the sender was the thread's last act.
            let _ = thread.join();
        }
    }
}

/// Runs a worker until its last connection has ended or is to be cut.
async fn serve_all(
    router: Arc<Router>,
    settings: &DataPlaneSettings,
    shared_pool: Arc<SharedPool>,
    open: Arc<AtomicUsize>,
    mut jobs: mpsc::UnboundedReceiver<WorkerJob>,
    mut notices: mpsc::UnboundedReceiver<Notice>,
    mut phases: watch::Receiver<Phase>,
) {
    let mut clock = Clock::new();
    let mut idle_closes = shared_pool.idle_closes();
    let pool = Rc::new(Pool::new(settings.app, shared_pool));
    let (body_drain, mut unread_bodies) = mpsc::unbounded_channel();
    let counters = settings.counters.as_ref();
    let context = Rc::new(ForwardContext {
        router,
        pool: Rc::clone(&pool),
        body_drain,
        limits: settings.request,
        client_limits: settings.client,
        forwarded: settings.forwarded,
        trusted_proxies: settings.trusted_proxies.clone(),
        own_paths: OwnPaths::new(settings).map(Box::new),
        error_pages: settings.error_pages.clone(),
        error_log: ErrorLog::default(),
        user_tokens: settings.user_tokens.clone(),
        recorder: settings.access_log.as_ref().map(AccessRecorder::new),
        websocket_close_code: settings.websocket_close_code,
        session_cookie: settings.session_cookie.clone(),
        tester_field: settings.tester_field.clone(),
        request_ids: settings.request_id.then(RequestIds::default),
        counters: counters.map(|counters| counters.register_worker(&open)),
    });
    let connections = Rc::new(Connections::new(open));
    let server = Rc::new(Server::new(
        settings.clone(),
        Rc::clone(&context),
        Rc::clone(&connections),
    ));
    let mut burst = Burst::default();
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !connections.is_drained() {
        tokio::select! {
            Some(job) = jobs.recv() => match job {
                WorkerJob::Serve(stream, peer) => server.serve(stream, peer),
                WorkerJob::Accept(acceptor) => {
                    tokio::task::spawn_local(acceptor.run(Rc::clone(&server)));
                }
                WorkerJob::MakeRoom => connections.make_room(clock.now()),
            },
            Ok(()) = idle_closes.changed() => pool.release_idle(),
            Some(notice) = notices.recv() => match notice {
                Notice::Promoted(generation) => pool.restore(generation),
                Notice::Superseded(generation) => {
                    pool.supersede(generation);
                    connections.supersede(generation);
                }
                Notice::TunnelsClose(generation, period) => {
                    pool.close_tunnels(generation, period);
                }
                Notice::Evicted(generation, class) => {
                    let evicted = pool.evict(generation, class);
                    connections.evict(generation);
                    if let Some(counters) = &context.counters {
                        counters.count_evicted(class, evicted);
                    }
                }
            },
            Ok(()) = phases.changed() => {
                let phase = *phases.borrow_and_update();
                match phase {
                    Phase::Serving | Phase::Closed => {}
                    Phase::Leaving => connections.enter(phase),
                    Phase::Draining => {
                        connections.enter(phase);
                        pool.end_tunnels(TUNNEL_CLOSE_PERIOD);
                    }
                    Phase::Cut => return,
                }
            }
            () = connections.wait_for_change() => {}
            Some(unread) = unread_bodies.recv() => {
                tokio::task::spawn_local(unread.discard());
            }
            _ = sweep.tick(), if !connections.is_at_rest() => {
                let now = clock.advance();
                let is_unused = pool.sweep(now);
                connections.sweep(settings, now);
                if burst.observe(connections.open(), connections.take_parked()) {
                    memory::give_back_unused_memory();
                }
                if let Some(recorder) = &context.recorder {
                    recorder.flush();
                }
                // The memory of a burst goes back at the second sweep after its end.
                if is_unused && !burst.is_pending() {
                    connections.rest_if_unused();
                }
            }
        }
    }
}

//! The router: the one pointer to the active upstream, and the only thing that both planes know.
//!
//! In flight is ownership. A request holds the `Arc<Upstream>` that [`Router::acquire`] returned
//! until its response body or tunnel ends; [`Router::promote`] swaps the pointer; the upstream is
//! drained when its last `Arc` drops. No counter can disagree with that, and no early return, panic
//! or cancelled future can forget to end a request. Never copy the address out and drop the handle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

pub use self::notice::{Class, Notice};
pub use self::progress::{Observation, Progress, WorkerProgress};
pub use self::unanswered::Unanswered;
use crate::release::Generation;

mod notice;
mod progress;
mod unanswered;

/// Number of held requests that are released at once to an app that has just started; the others
/// follow one by one.
const RELEASE_BURST: usize = 64;
/// Interval between the others.
const RELEASE_INTERVAL: Duration = Duration::from_millis(1);

/// The route of new requests.
#[derive(Debug)]
pub struct Router {
    active: ArcSwapOption<Upstream>,
    pause: Mutex<Pause>,
    route_changed: Notify,
    request_waiting: Notify,
    held: AtomicUsize,
    /// Number of held requests released since the last promotion.
    released: AtomicUsize,
    has_served: AtomicBool,
    is_closing: AtomicBool,
    hold: HoldLimits,
    workers: Mutex<Vec<mpsc::UnboundedSender<Notice>>>,
}

/// The pause of a router.
#[derive(Debug)]
enum Pause {
    /// New requests are routed.
    Off,
    /// New requests are held, and go to `resume_to` after the pause.
    On { resume_to: Option<Arc<Upstream>> },
}

/// Limits of the requests that wait while no upstream is active.
#[derive(Clone, Copy, Debug)]
pub struct HoldLimits {
    /// Maximum waiting time before the first release has served: a slow first start is no error.
    pub first_timeout: Duration,
    /// Maximum waiting time after that.
    pub timeout: Duration,
    /// Maximum number of waiting requests; more are refused at once.
    pub max: usize,
}

/// A held request, counted until it is dropped.
struct HeldRequest<'a>(&'a AtomicUsize);

/// The address of one generation.
///
/// Not `Clone` on purpose: the `Arc` around it is the count of what is in flight.
#[derive(Debug)]
pub struct Upstream {
    /// The launch that serves these requests.
    pub generation: Generation,
    /// The address of its app.
    pub address: SocketAddr,
    is_evicted: AtomicBool,
    tunnels: Arc<AtomicUsize>,
    responses: Option<Arc<ResponseCounts>>,
    unanswered: Unanswered,
    progress: Arc<Progress>,
    // Dropped with the last handle. The end of a request may do no more than this: drop code runs on
    // a worker in the middle of its work.
    _in_use: oneshot::Sender<()>,
}

/// One tunnel among what is in flight, counted until it is dropped. For display.
#[derive(Debug)]
pub struct TunnelMark(Arc<AtomicUsize>);

/// Counts of one generation's responses.
#[derive(Debug, Default)]
pub struct ResponseCounts {
    all: AtomicU64,
    errors: AtomicU64,
}

/// The judgement of a response, or of its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// The app did nothing wrong.
    NoFault,
    /// The app failed.
    AppFault,
}

/// Completes when the last handle of its [`Upstream`] is dropped.
#[derive(Debug)]
pub struct Drain {
    released: oneshot::Receiver<()>,
    upstream: Weak<Upstream>,
}

/// A request that got no upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The maximum number of requests waits already.
    #[error("too many requests are waiting for a release to become ready")]
    Full,
    /// The maximum waiting time has passed.
    #[error("no release became ready in time")]
    Expired,
    /// The sidecar shuts down: there is nothing to wait for.
    #[error("the sidecar is shutting down")]
    Closing,
}

// === impl Router ===

impl Router {
    /// Returns a router without an upstream.
    pub fn new(hold: HoldLimits) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            pause: Mutex::new(Pause::Off),
            released: AtomicUsize::new(0),
            route_changed: Notify::new(),
            request_waiting: Notify::new(),
            held: AtomicUsize::new(0),
            has_served: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            hold,
            workers: Mutex::default(),
        }
    }

    /// Returns the active upstream, which is in flight from now on.
    pub fn acquire(&self) -> Option<Arc<Upstream>> {
        self.active.load_full()
    }

    /// Returns the active upstream, and waits for one while there is none.
    ///
    /// `except` is a generation that the caller could not reach: it waits for another one.
    ///
    /// # Errors
    /// Returns a [`HoldError`] if the request may not wait, or not longer.
    pub async fn acquire_or_hold(
        &self,
        except: Option<Generation>,
    ) -> Result<Arc<Upstream>, HoldError> {
        let usable = |upstream: &Arc<Upstream>| Some(upstream.generation) != except;
        if let Some(upstream) = self.acquire().filter(usable) {
            return Ok(upstream);
        }
        let _held = self.count_held()?;
        let timeout = if self.has_served.load(Ordering::Relaxed) {
            self.hold.timeout
        } else {
            self.hold.first_timeout
        };
        let routed = async {
            loop {
                let changed = self.route_changed.notified();
                if self.is_closing() {
                    return Err(HoldError::Closing);
                }
                // Acquired after the registration: a promotion in between is not missed.
                match self.acquire().filter(usable) {
                    Some(upstream) => return Ok(upstream),
                    None => changed.await,
                }
                self.wait_for_turn().await;
            }
        };
        let expired = |_| Err(HoldError::Expired);
        tokio::time::timeout(timeout, routed)
            .await
            .unwrap_or_else(expired)
    }

    /// Waits until a request is held. For one caller.
    pub async fn wait_for_request(&self) {
        self.request_waiting.notified().await;
    }

    /// Sends new requests to `upstream` from now on, in one step; during a pause, after it.
    pub fn promote(&self, upstream: Arc<Upstream>) {
        let promoted = upstream.generation;
        let superseded = match &mut *self.pause.lock() {
            Pause::On { resume_to } => resume_to.replace(upstream),
            Pause::Off => {
                let superseded = self.active.swap(Some(upstream));
                self.release_held();
                superseded
            }
        };
        self.notify_workers(Notice::Promoted(promoted));
        if let Some(superseded) = superseded.filter(|old| old.generation != promoted) {
            self.notify_workers(Notice::Superseded(superseded.generation));
        }
    }

    /// Removes the route: new requests are held.
    pub fn withdraw(&self) {
        let superseded = match &mut *self.pause.lock() {
            Pause::On { resume_to } => resume_to.take(),
            Pause::Off => self.active.swap(None),
        };
        if let Some(superseded) = superseded {
            self.notify_workers(Notice::Superseded(superseded.generation));
        }
    }

    /// Holds new requests, whatever is promoted meanwhile.
    pub fn pause(&self) {
        let mut pause = self.pause.lock();
        if matches!(*pause, Pause::Off) {
            *pause = Pause::On {
                resume_to: self.active.swap(None),
            };
        }
    }

    /// Ends the pause: held requests go to the upstream that was promoted last.
    pub fn resume(&self) {
        let pause = std::mem::replace(&mut *self.pause.lock(), Pause::Off);
        if let Pause::On {
            resume_to: Some(upstream),
        } = pause
        {
            self.active.store(Some(upstream));
            self.release_held();
        }
    }

    /// Returns the generation that gets new requests, now or after the pause.
    pub fn routed(&self) -> Option<Generation> {
        let generation = |upstream: &Arc<Upstream>| upstream.generation;
        match &*self.pause.lock() {
            Pause::On { resume_to } => resume_to.as_ref().map(generation),
            Pause::Off => self.active.load().as_ref().map(generation),
        }
    }

    /// Closes the tunnels of `upstream` within `period`, gracefully, and not all at once.
    pub fn close_tunnels(&self, upstream: &Weak<Upstream>, period: Duration) {
        if let Some(upstream) = upstream.upgrade() {
            self.notify_workers(Notice::TunnelsClose(upstream.generation, period));
        }
    }

    /// Cuts off the rest of `class` in `upstream`.
    pub fn evict(&self, upstream: &Weak<Upstream>, class: Class) {
        if let Some(upstream) = upstream.upgrade() {
            if class == Class::Request {
                upstream.is_evicted.store(true, Ordering::Release);
            }
            self.notify_workers(Notice::Evicted(upstream.generation, class));
        }
    }

    /// Begins the shutdown: from now on no request waits for an upstream, and every response closes
    /// its connection.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.route_changed.notify_waiters();
    }

    /// Returns `true` once the sidecar shuts down.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Returns a receiver of all further notices, in order.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Notice> {
        let (worker, notices) = mpsc::unbounded_channel();
        self.workers.lock().push(worker);
        notices
    }

    /// Returns the number of requests that wait for an upstream. For display.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn count_held(&self) -> Result<HeldRequest<'_>, HoldError> {
        self.request_waiting.notify_one();
        let held = HeldRequest(&self.held);
        if self.held.fetch_add(1, Ordering::Relaxed) < self.hold.max {
            Ok(held)
        } else {
            Err(HoldError::Full)
        }
    }

    fn release_held(&self) {
        self.has_served.store(true, Ordering::Relaxed);
        self.released.store(0, Ordering::Relaxed);
        self.route_changed.notify_waiters();
    }

    async fn wait_for_turn(&self) {
        let turn = self.released.fetch_add(1, Ordering::Relaxed);
        if let Some(late @ 1..) = turn.checked_sub(RELEASE_BURST) {
            let intervals = u32::try_from(late).unwrap_or(u32::MAX);
            tokio::time::sleep(RELEASE_INTERVAL.saturating_mul(intervals)).await;
        }
    }

    fn notify_workers(&self, notice: Notice) {
        self.workers
            .lock()
            .retain(|worker| worker.send(notice).is_ok());
    }
}

impl Drop for HeldRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Upstream ===

impl Upstream {
    /// Returns an upstream, and a [`Drain`] that completes when nothing is in flight to it any more.
    pub fn new(generation: Generation, address: SocketAddr) -> (Arc<Self>, Drain) {
        Self::with_counts(generation, address, None, Arc::default())
    }

    /// Does the same as [`Upstream::new`], counts responses in `responses`, and records in
    /// `progress` how they come.
    pub fn with_counts(
        generation: Generation,
        address: SocketAddr,
        responses: Option<Arc<ResponseCounts>>,
        progress: Arc<Progress>,
    ) -> (Arc<Self>, Drain) {
        let (in_use, released) = oneshot::channel();
        let upstream = Arc::new(Self {
            generation,
            address,
            is_evicted: AtomicBool::new(false),
            tunnels: Arc::default(),
            responses,
            unanswered: Unanswered::default(),
            progress,
            _in_use: in_use,
        });
        let drain = Drain {
            released,
            upstream: Arc::downgrade(&upstream),
        };
        (upstream, drain)
    }

    /// Returns the requests whose connection the app has closed without a response.
    pub fn unanswered(&self) -> &Unanswered {
        &self.unanswered
    }

    /// Returns the progress of its instance.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Counts a response, if responses are counted.
    pub fn count_response(&self, outcome: ResponseOutcome) {
        if let Some(responses) = &self.responses {
            responses.all.fetch_add(1, Ordering::Relaxed);
            if outcome == ResponseOutcome::AppFault {
                responses.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns `true` if its requests were cut off.
    ///
    /// Tunnels have a shorter grace period: an upstream that has lost only those may be routed to
    /// again, and what is in flight to it goes on.
    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }

    /// Counts one more of what is in flight as a tunnel.
    pub fn mark_tunnel(&self) -> TunnelMark {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelMark(Arc::clone(&self.tunnels))
    }

    /// Returns the number of tunnels in flight. For display.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }
}

impl Drop for TunnelMark {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl ResponseCounts ===

impl ResponseCounts {
    /// Returns the number of responses, and the number of errors among them.
    pub fn read(&self) -> (u64, u64) {
        let errors = self.errors.load(Ordering::Relaxed);
        (self.all.load(Ordering::Relaxed), errors)
    }
}

// === impl Drain ===

impl Drain {
    /// Returns the upstream, which exists while something is in flight to it or it is routed.
    pub fn upstream(&self) -> Weak<Upstream> {
        self.upstream.clone()
    }

    /// Waits until the last handle is dropped.
    pub async fn wait(self) {
        // Nothing is sent: the sender is dropped with the upstream.
        let _ = self.released.await;
    }
}

#[cfg(test)]
mod tests;

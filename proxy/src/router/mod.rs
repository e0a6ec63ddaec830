//! The hinge between the planes: the one pointer to the active upstream.
//!
//! In flight is ownership. A request holds the `Arc<Upstream>` that [`Router::acquire`] gave it
//! until its response body or tunnel ends; [`Router::promote`] swaps the pointer; the upstream is
//! drained when its last `Arc` drops. No counter can disagree with that, and no early return,
//! panic or cancelled future can forget to say it is done. Never copy the address out and drop the
//! handle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::release::Generation;

/// Of the requests that were held, so many go at once to an app that has just started, and the
/// others one after another.
const AT_ONCE: usize = 64;
const PACE: Duration = Duration::from_millis(1);

/// Which upstream new requests use.
#[derive(Debug)]
pub struct Router {
    active: ArcSwapOption<Upstream>,
    /// What gets the requests after the pause, during one.
    aside: Mutex<Option<Option<Arc<Upstream>>>>,
    routed: Notify,
    wanted: Notify,
    held: AtomicUsize,
    /// How many of the held ones have been let go since the last promotion.
    released: AtomicUsize,
    served: AtomicBool,
    closing: AtomicBool,
    hold: Hold,
    workers: Mutex<Vec<mpsc::UnboundedSender<Notice>>>,
}

/// How long, and how many, requests may wait while no upstream is active.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// Before the first release ever served: a slow first start is no error.
    pub first_timeout: Duration,
    /// After that.
    pub timeout: Duration,
    /// More requests than this are refused at once.
    pub max: usize,
}

/// Where one generation's requests go.
///
/// Deliberately not `Clone`: the `Arc` around it is the count of what is in flight.
#[derive(Debug)]
pub struct Upstream {
    /// The launch whose requests these are.
    pub generation: Generation,
    /// Where its app listens.
    pub address: SocketAddr,
    evicted: AtomicBool,
    tunnels: Arc<AtomicUsize>,
    answers: Option<Arc<Answers>>,
    // Dropped with the last handle, which is all that a request's end may do: drop code runs on a
    // worker in the middle of its work.
    _in_use: oneshot::Sender<()>,
}

/// One tunnel among what is in flight, counted as long as this lives. For display.
#[derive(Debug)]
pub struct TunnelMark(Arc<AtomicUsize>);

/// How a generation's app answers, where somebody wants to know: one addition an answer.
#[derive(Debug, Default)]
pub struct Answers {
    all: AtomicU64,
    errors: AtomicU64,
}

/// Completes when the last handle of its [`Upstream`] is dropped.
#[derive(Debug)]
pub struct Drain {
    released: oneshot::Receiver<()>,
    upstream: Weak<Upstream>,
}

/// What the data plane's workers are told about a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It gets new requests, perhaps once more.
    Promoted(Generation),
    /// It gets no new requests: its idle connections are of no more use.
    Superseded(Generation),
    /// Its tunnels shall end within this time, politely, and not all at once.
    TunnelsClose(Generation, Duration),
    /// What is left of this class in it is cut off.
    Evicted(Generation, Class),
}

/// What is in flight, by how long it may reasonably last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A request with an end.
    Request,
    /// An upgraded connection or an event stream: ends when one side wants it to.
    Tunnel,
}

/// Why a request got no upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// As many requests as may wait do wait.
    #[error("too many requests are waiting for a release to become ready")]
    Full,
    /// It has waited for as long as it may.
    #[error("no release became ready in time")]
    Expired,
    /// The sidecar shuts down: there is nothing to wait for.
    #[error("the sidecar is shutting down")]
    Closing,
}

// === impl Router ===

impl Router {
    /// A router without an upstream.
    pub fn new(hold: Hold) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            aside: Mutex::new(None),
            released: AtomicUsize::new(0),
            routed: Notify::new(),
            wanted: Notify::new(),
            held: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            hold,
            workers: Mutex::default(),
        }
    }

    /// The active upstream, in flight from now on.
    pub fn acquire(&self) -> Option<Arc<Upstream>> {
        self.active.load_full()
    }

    /// The active upstream; while there is none, waits for one.
    ///
    /// `not` is a generation that the caller could not reach: it waits for another one.
    ///
    /// # Errors
    /// [`HoldError`] when it may not wait, or not longer.
    pub async fn acquire_or_hold(
        &self,
        not: Option<Generation>,
    ) -> Result<Arc<Upstream>, HoldError> {
        let usable = |upstream: &Arc<Upstream>| Some(upstream.generation) != not;
        if let Some(upstream) = self.acquire().filter(usable) {
            return Ok(upstream);
        }
        let _held = self.hold()?;
        let timeout = match self.served.load(Ordering::Relaxed) {
            true => self.hold.timeout,
            false => self.hold.first_timeout,
        };
        let routed = async {
            loop {
                let routed = self.routed.notified();
                if self.is_closing() {
                    return Err(HoldError::Closing);
                }
                // Asked for after the registration: a promotion in between is not missed.
                match self.acquire().filter(usable) {
                    Some(upstream) => return Ok(upstream),
                    None => routed.await,
                }
                self.wait_for_its_turn().await;
            }
        };
        let expired = |_| Err(HoldError::Expired);
        tokio::time::timeout(timeout, routed)
            .await
            .unwrap_or_else(expired)
    }

    /// Completes once a request has asked for an upstream when there was none. For one to wait.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Sends new requests to `upstream` from now on, in one step; during a pause, after it.
    pub fn promote(&self, upstream: Arc<Upstream>) {
        let promoted = upstream.generation;
        let superseded = match &mut *self.aside() {
            Some(aside) => aside.replace(upstream),
            None => {
                let superseded = self.active.swap(Some(upstream));
                self.let_go();
                superseded
            }
        };
        self.tell(Notice::Promoted(promoted));
        if let Some(superseded) = superseded.filter(|old| old.generation != promoted) {
            self.tell(Notice::Superseded(superseded.generation));
        }
    }

    /// Sends new requests nowhere: they are held.
    pub fn withdraw(&self) {
        let superseded = match &mut *self.aside() {
            Some(aside) => aside.take(),
            None => self.active.swap(None),
        };
        if let Some(superseded) = superseded {
            self.tell(Notice::Superseded(superseded.generation));
        }
    }

    /// Holds new requests, whatever is promoted meanwhile.
    pub fn pause(&self) {
        let mut aside = self.aside();
        if aside.is_none() {
            *aside = Some(self.active.swap(None));
        }
    }

    /// Ends the pause: held requests go to what was promoted last.
    pub fn resume(&self) {
        let upstream = self.aside().take().flatten();
        if upstream.is_some() {
            self.active.store(upstream);
            self.let_go();
        }
    }

    /// Which generation gets new requests, now or after the pause.
    pub fn routed(&self) -> Option<Generation> {
        let generation = |upstream: &Arc<Upstream>| upstream.generation;
        match &*self.aside() {
            Some(aside) => aside.as_ref().map(generation),
            None => self.active.load().as_ref().map(generation),
        }
    }

    /// Has the tunnels of `upstream` end within `period`, politely, and not all at once.
    pub fn close_tunnels(&self, upstream: &Weak<Upstream>, period: Duration) {
        if let Some(upstream) = upstream.upgrade() {
            self.tell(Notice::TunnelsClose(upstream.generation, period));
        }
    }

    /// Cuts off what is left of `class` in `upstream`.
    pub fn evict(&self, upstream: &Weak<Upstream>, class: Class) {
        if let Some(upstream) = upstream.upgrade() {
            if class == Class::Request {
                upstream.evicted.store(true, Ordering::Release);
            }
            self.tell(Notice::Evicted(upstream.generation, class));
        }
    }

    /// The sidecar shuts down: from now on nothing waits for an upstream any more, and every answer
    /// closes its connection.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.routed.notify_waiters();
    }

    /// Whether the sidecar shuts down.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What a worker has to be told, in order.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Notice> {
        let (worker, notices) = mpsc::unbounded_channel();
        self.workers().push(worker);
        notices
    }

    /// How many requests wait for an upstream. For display.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn hold(&self) -> Result<Held<'_>, HoldError> {
        self.wanted.notify_one();
        let held = Held(&self.held);
        match self.held.fetch_add(1, Ordering::Relaxed) < self.hold.max {
            true => Ok(held),
            false => Err(HoldError::Full),
        }
    }

    fn let_go(&self) {
        self.served.store(true, Ordering::Relaxed);
        self.released.store(0, Ordering::Relaxed);
        self.routed.notify_waiters();
    }

    async fn wait_for_its_turn(&self) {
        let turn = self.released.fetch_add(1, Ordering::Relaxed);
        if let Some(late @ 1..) = turn.checked_sub(AT_ONCE) {
            let pauses = u32::try_from(late).unwrap_or(u32::MAX);
            tokio::time::sleep(PACE.saturating_mul(pauses)).await;
        }
    }

    fn aside(&self) -> MutexGuard<'_, Option<Option<Arc<Upstream>>>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, notice: Notice) {
        self.workers().retain(|worker| worker.send(notice).is_ok());
    }

    fn workers(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<Notice>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One waiting request, for as long as it waits.
struct Held<'a>(&'a AtomicUsize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Upstream ===

impl Upstream {
    /// An upstream, and what tells when nothing is in flight to it any more.
    pub fn new(generation: Generation, address: SocketAddr) -> (Arc<Self>, Drain) {
        Self::counting(generation, address, None)
    }

    /// The same, with its answers counted.
    pub fn counting(
        generation: Generation,
        address: SocketAddr,
        answers: Option<Arc<Answers>>,
    ) -> (Arc<Self>, Drain) {
        let (in_use, released) = oneshot::channel();
        let upstream = Arc::new(Self {
            generation,
            address,
            evicted: AtomicBool::new(false),
            tunnels: Arc::default(),
            answers,
            _in_use: in_use,
        });
        let drain = Drain {
            released,
            upstream: Arc::downgrade(&upstream),
        };
        (upstream, drain)
    }

    /// Counts an answer, if somebody wants to know; `is_error` is one that the app is to blame for.
    pub fn answered(&self, is_error: bool) {
        if let Some(answers) = &self.answers {
            answers.all.fetch_add(1, Ordering::Relaxed);
            if is_error {
                answers.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether its requests were cut off. Tunnels have a shorter grace: one that has lost only those
    /// may be routed to again, and what is in flight to it goes on.
    pub fn evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// Counts one more of what is in flight as a tunnel.
    pub fn mark_tunnel(&self) -> TunnelMark {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        TunnelMark(Arc::clone(&self.tunnels))
    }

    /// How many tunnels are in flight. For display.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }
}

impl Drop for TunnelMark {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Answers ===

impl Answers {
    /// How many there were, and how many of them were errors.
    pub fn read(&self) -> (u64, u64) {
        let errors = self.errors.load(Ordering::Relaxed);
        (self.all.load(Ordering::Relaxed), errors)
    }
}

// === impl Drain ===

impl Drain {
    /// The upstream, as long as something is in flight to it or it is routed.
    pub fn upstream(&self) -> Weak<Upstream> {
        self.upstream.clone()
    }

    /// Waits until the last handle is dropped.
    pub async fn wait(self) {
        // The sender never sends: that it is gone is the message.
        let _ = self.released.await;
    }
}

#[cfg(test)]
mod tests;

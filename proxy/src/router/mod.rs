//! The router: the one pointer to the active upstream, and the only thing that both planes know.
//!
//! In flight is ownership. A request holds the `Arc<Upstream>` that [`Router::acquire`] returned
//! until its response body or tunnel ends; [`Router::promote`] swaps the pointer; the upstream is
//! drained when its last `Arc` drops. No counter can disagree with that, and no early return, panic
//! or cancelled future can forget to end a request. Never copy the address out and drop the handle.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use self::detour::Detour;
pub use self::detour::Preview;
pub use self::maintenance::Maintenance;
pub use self::notice::{Class, Notice};
use self::pinned::PinnedUpstreams;
pub use self::pinned::SessionsLeft;
pub use self::progress::{Observation, Progress, WorkerProgress};
pub use self::session::{Session, SessionToken};
use self::superseded::Superseded;
pub use self::unanswered::Unanswered;
pub use self::upstream::{
    AppProtocol, Drain, ResponseCounts, ResponseOutcome, TunnelMark, Upstream,
};
use crate::release::Generation;

mod detour;
mod maintenance;
mod notice;
mod pinned;
mod progress;
mod session;
mod session_routes;
mod superseded;
mod unanswered;
mod upstream;

/// Number of held requests that are released at once to an app that has just started; the others
/// follow one by one.
const RELEASE_BURST: usize = 64;
/// Interval between the others.
const RELEASE_INTERVAL: Duration = Duration::from_millis(1);

/// The route of new requests.
#[derive(Debug)]
pub struct Router {
    active: ArcSwapOption<Upstream>,
    detour: Mutex<Detour>,
    superseded: Mutex<Superseded>,
    pinned: Mutex<PinnedUpstreams>,
    route_changed: Notify,
    request_waiting: Notify,
    held: AtomicUsize,
    /// Number of held requests released since the last promotion.
    released: AtomicUsize,
    has_served: AtomicBool,
    is_closing: AtomicBool,
    is_leaving: AtomicBool,
    hold: HoldLimits,
    workers: Mutex<Vec<mpsc::UnboundedSender<Notice>>>,
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
    /// The deployment is in maintenance, and the client is not among those that are allowed.
    #[error("the deployment is in maintenance")]
    Maintenance,
}

// === impl Router ===

impl Router {
    /// Returns a router without an upstream.
    pub fn new(hold: HoldLimits) -> Self {
        Self {
            active: ArcSwapOption::empty(),
            detour: Mutex::default(),
            superseded: Mutex::default(),
            pinned: Mutex::default(),
            released: AtomicUsize::new(0),
            route_changed: Notify::new(),
            request_waiting: Notify::new(),
            held: AtomicUsize::new(0),
            has_served: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            hold,
            workers: Mutex::default(),
        }
    }

    /// Returns the active upstream, which is in flight from now on. `None` also during a pause, and
    /// while a release is staged: [`Router::acquire_or_hold`] goes on then.
    pub fn acquire(&self) -> Option<Arc<Upstream>> {
        self.active.load_full()
    }

    /// Returns the active upstream, also while a release is staged; in a maintenance none.
    pub fn acquire_active(&self) -> Option<Arc<Upstream>> {
        self.route_of(None).unwrap_or_default()
    }

    /// Returns the upstream of the staged release, if the request has its token.
    pub fn acquire_preview(&self, token: &[u8]) -> Option<Arc<Upstream>> {
        self.detour.lock().preview_for(token)
    }

    /// Returns the active upstream, and waits for one while there is none.
    ///
    /// `except` is a generation that the caller could not reach: it waits for another one. `client`
    /// decides in a maintenance.
    ///
    /// # Errors
    /// Returns a [`HoldError`] if the request may not wait, or not longer.
    pub async fn acquire_or_hold(
        &self,
        except: Option<Generation>,
        client: Option<IpAddr>,
    ) -> Result<Arc<Upstream>, HoldError> {
        let usable = |upstream: &Arc<Upstream>| Some(upstream.generation) != except;
        if let Some(upstream) = self.route_of(client)?.filter(usable) {
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
                match self.route_of(client)?.filter(usable) {
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
        let superseded = {
            let mut detour = self.detour.lock();
            detour.end_preview(promoted);
            let kept = detour.active().take();
            self.pin_superseded(kept.as_ref(), promoted);
            let superseded = if detour.is_engaged() {
                *detour.active() = Some(upstream);
                kept
            } else {
                self.active.swap(Some(upstream)).or(kept)
            };
            if !detour.is_paused() {
                self.release_held();
            }
            superseded
        };
        self.notify_workers(Notice::Promoted(promoted));
        // The route has it from now on.
        drop(self.superseded.lock().release(promoted));
        drop(self.pinned.lock().unpin(promoted));
        if let Some(superseded) = superseded.filter(|old| old.generation != promoted) {
            self.superseded.lock().add(&superseded);
            // Requests of its sessions use its idle connections.
            if !superseded.is_pinnable() {
                self.notify_workers(Notice::Superseded(superseded.generation));
            }
        }
    }

    /// Keeps an upstream without requests, so that it can be asked for what only it has.
    pub fn keep_standby(&self, upstream: Arc<Upstream>) {
        self.superseded.lock().keep(upstream);
    }

    /// Ends that: nobody else asks this generation from now on.
    pub fn release_standby(&self, generation: Generation) {
        drop(self.superseded.lock().release(generation));
    }

    /// Returns the superseded upstreams that drain or are kept, the latest first.
    pub fn superseded(&self) -> Vec<Arc<Upstream>> {
        let active = self.routed();
        let mut all = self.superseded.lock().all();
        all.retain(|upstream| Some(upstream.generation) != active);
        all
    }

    /// Removes the route: new requests are held.
    pub fn withdraw(&self) {
        let kept = {
            let mut detour = self.detour.lock();
            self.active.swap(None).or_else(|| detour.active().take())
        };
        if let Some(superseded) = kept {
            self.notify_workers(Notice::Superseded(superseded.generation));
        }
    }

    /// Sends new requests that have the token of `preview` to its upstream, and the others to the
    /// active one as before.
    pub fn stage(&self, preview: Preview) {
        let mut detour = self.detour.lock();
        detour.show(preview);
        self.empty_pointer(&mut detour);
    }

    /// Sets the share of new clients, 0 to 1, that the preview of a generation gets.
    pub fn set_share(&self, generation: Generation, share: f64) {
        self.detour.lock().set_share(generation, share);
    }

    /// Ends the preview of a generation, if there is one.
    pub fn unstage(&self, generation: Generation) {
        let mut detour = self.detour.lock();
        if detour.end_preview(generation) {
            self.fill_pointer(&mut detour);
            self.notify_workers(Notice::Superseded(generation));
        }
    }

    /// Holds new requests, whatever is promoted meanwhile.
    pub fn pause(&self) {
        let mut detour = self.detour.lock();
        detour.pause();
        self.empty_pointer(&mut detour);
    }

    /// Ends the pause: held requests go to the upstream that was promoted last.
    pub fn resume(&self) {
        let mut detour = self.detour.lock();
        if detour.is_paused() {
            detour.resume();
            let is_routed = detour.routed().is_some();
            self.fill_pointer(&mut detour);
            if is_routed {
                self.release_held();
            }
        }
    }

    /// Refuses new requests and those that are held, except for those of allowed clients, whatever
    /// is promoted meanwhile.
    pub fn begin_maintenance(&self, maintenance: Maintenance) {
        let mut detour = self.detour.lock();
        detour.set_maintenance(Some(Arc::new(maintenance)));
        self.empty_pointer(&mut detour);
        self.route_changed.notify_waiters();
    }

    /// Ends the maintenance: new requests go to the upstream that was promoted last.
    pub fn end_maintenance(&self) {
        let mut detour = self.detour.lock();
        detour.set_maintenance(None);
        let is_routed = detour.route().is_some();
        self.fill_pointer(&mut detour);
        if is_routed {
            self.release_held();
        }
    }

    /// Returns the maintenance, if there is one.
    pub fn maintenance(&self) -> Option<Arc<Maintenance>> {
        self.detour.lock().maintenance()
    }

    /// Returns the upstream for a request of this client, if there is one at the moment.
    fn route_of(&self, client: Option<IpAddr>) -> Result<Option<Arc<Upstream>>, HoldError> {
        if let Some(upstream) = self.acquire() {
            return Ok(Some(upstream));
        }
        let detour = self.detour.lock();
        if detour.should_refuse(client) {
            return Err(HoldError::Maintenance);
        }
        // It may have come back to the pointer meanwhile.
        Ok(detour.route().or_else(|| self.acquire()))
    }

    /// Keeps the active upstream in `detour`, so that every request comes by there.
    fn empty_pointer(&self, detour: &mut Detour) {
        if let Some(active) = self.active.swap(None) {
            *detour.active() = Some(active);
        }
    }

    /// Takes the active upstream back, unless another reason keeps it there.
    fn fill_pointer(&self, detour: &mut Detour) {
        if !detour.is_engaged()
            && let Some(active) = detour.active().take()
        {
            self.active.store(Some(active));
        }
    }

    /// Returns the generation that gets new requests, now or after the pause.
    pub fn routed(&self) -> Option<Generation> {
        self.routed_upstream().map(|upstream| upstream.generation)
    }

    /// Returns its upstream, which is in flight from now on.
    pub fn routed_upstream(&self) -> Option<Arc<Upstream>> {
        let mut detour = self.detour.lock();
        let active = self.active.load_full();
        active.or_else(|| detour.active().clone())
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
                upstream.mark_evicted();
            }
            self.notify_workers(Notice::Evicted(upstream.generation, class));
        }
    }

    /// Begins the shutdown: from now on no request waits for an upstream, and every response closes
    /// its connection.
    pub fn close(&self) {
        self.leave();
        self.is_closing.store(true, Ordering::Release);
        self.route_changed.notify_waiters();
    }

    /// Lets every response close its connection: another process accepts.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    /// Returns `true` once every response closes its connection.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
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

#[cfg(test)]
mod tester_tests;
#[cfg(test)]
mod tests;

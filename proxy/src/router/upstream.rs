//! The address of one generation, and what is in flight to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::progress::Progress;
use super::session::{Session, SessionToken};
use super::unanswered::Unanswered;
use crate::release::Generation;

/// The address of one generation.
///
/// Not `Clone` on purpose: the `Arc` around it is the count of what is in flight.
#[derive(Debug)]
pub struct Upstream {
    /// The launch that serves these requests.
    pub generation: Generation,
    /// The address of its app.
    pub address: SocketAddr,
    /// The user who has to listen there, if that is looked at.
    pub user: Option<u32>,
    /// The protocol that its app speaks.
    pub protocol: AppProtocol,
    is_evicted: AtomicBool,
    /// Its name in the cookies of clients, if they get any.
    session: Option<SessionToken>,
    has_sessions: AtomicBool,
    tunnels: Arc<AtomicUsize>,
    responses: Option<Arc<ResponseCounts>>,
    unanswered: Arc<Unanswered>,
    progress: Arc<Progress>,
    // Dropped with the last handle. The end of a request may do no more than this: drop code runs on
    // a worker in the middle of its work.
    _in_use: Option<oneshot::Sender<()>>,
    /// The upstream that is in use for one request of a tester.
    _of: Option<Arc<Self>>,
}

/// A protocol in which an app is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
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
    pub(super) released: oneshot::Receiver<()>,
    upstream: Weak<Upstream>,
}

// === impl Upstream ===

impl Upstream {
    /// Returns an upstream, and a [`Drain`] that completes when nothing is in flight to it any more.
    pub fn new(generation: Generation, address: SocketAddr) -> (Arc<Self>, Drain) {
        let protocol = AppProtocol::default();
        Self::with_counts(
            generation,
            address,
            protocol,
            None,
            None,
            Arc::default(),
            None,
        )
    }

    /// Does the same as [`Upstream::new`], counts responses in `responses`, and records in
    /// `progress` how they come. Sessions that begin there have the token `session`.
    pub fn with_counts(
        generation: Generation,
        address: SocketAddr,
        protocol: AppProtocol,
        user: Option<u32>,
        responses: Option<Arc<ResponseCounts>>,
        progress: Arc<Progress>,
        session: Option<SessionToken>,
    ) -> (Arc<Self>, Drain) {
        let (in_use, released) = oneshot::channel();
        let upstream = Arc::new(Self {
            generation,
            address,
            user,
            protocol,
            is_evicted: AtomicBool::new(false),
            session,
            has_sessions: AtomicBool::new(false),
            tunnels: Arc::default(),
            responses,
            unanswered: Arc::default(),
            progress,
            _in_use: Some(in_use),
            _of: None,
        });
        let drain = Drain {
            released,
            upstream: Arc::downgrade(&upstream),
        };
        (upstream, drain)
    }

    /// Returns the upstream for one request of a tester, whose response is counted in `responses`
    /// and nowhere else.
    pub(super) fn for_tester(self: &Arc<Self>, responses: &Arc<ResponseCounts>) -> Arc<Self> {
        // Its response has the cookie.
        self.begin_session();
        Arc::new(Self {
            generation: self.generation,
            address: self.address,
            user: self.user,
            protocol: self.protocol,
            is_evicted: AtomicBool::new(false),
            session: self.session,
            has_sessions: AtomicBool::new(true),
            tunnels: Arc::clone(&self.tunnels),
            responses: Some(Arc::clone(responses)),
            unanswered: Arc::clone(&self.unanswered),
            progress: Arc::clone(&self.progress),
            _in_use: None,
            _of: Some(Arc::clone(self)),
        })
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

    /// Returns `true` if clients may go on reaching it when it is superseded.
    pub(super) fn is_pinnable(&self) -> bool {
        self.session.is_some()
    }

    /// Returns the token of sessions that began there.
    pub(super) fn session_token(&self) -> Option<SessionToken> {
        self.session
    }

    /// Goes on with a session, if it began there; returns `true` then.
    pub fn resume_session(&self, session: Session) -> bool {
        let is_here = self.session == Some(session.token);
        if is_here {
            self.begin_session();
        }
        is_here
    }

    /// Returns the token for the cookie of a client, which has a session there from now on.
    pub(super) fn begin_session(&self) -> Option<SessionToken> {
        if !self.has_sessions() {
            self.has_sessions.store(true, Ordering::Relaxed);
        }
        self.session
    }

    /// Returns `true` if any client has a cookie of it.
    pub(super) fn has_sessions(&self) -> bool {
        self.has_sessions.load(Ordering::Relaxed)
    }

    pub(super) fn mark_evicted(&self) {
        self.is_evicted.store(true, Ordering::Release);
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

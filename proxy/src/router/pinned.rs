//! Sessions: clients that go on reaching the upstream on which theirs began, after another one has
//! superseded it.
//!
//! A session at the active upstream needs no entry here: its token is compared with that of the
//! upstream itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{Session, SessionToken};
use super::upstream::Upstream;
use crate::release::Generation;

/// Maximum number of clients that are counted at one upstream.
const COUNTED: usize = 100_000;

/// The sessions that are left at a superseded upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsLeft {
    /// Number of clients of which a request has come since then and within the idle time.
    pub clients: usize,
    /// Time since the last request of any of them; zero while one is in flight.
    pub quiet: Duration,
    /// True if no client has a cookie of this upstream.
    pub are_none: bool,
}

/// The superseded upstreams that are pinned. They are in flight until their sessions end.
#[derive(Debug, Default)]
pub(super) struct PinnedUpstreams(Vec<Pinned>);

#[derive(Debug)]
struct Pinned {
    upstream: Arc<Upstream>,
    last_request: Instant,
    clients: HashMap<u32, Instant>,
}

// === impl PinnedUpstreams ===

impl PinnedUpstreams {
    pub(super) fn pin(&mut self, upstream: Arc<Upstream>) {
        self.unpin(upstream.generation);
        self.0.push(Pinned {
            upstream,
            last_request: Instant::now(),
            clients: HashMap::new(),
        });
    }

    /// Ends the sessions at this generation. Returns its upstream if there was any.
    pub(super) fn unpin(&mut self, generation: Generation) -> Option<Arc<Upstream>> {
        let place = self.place(generation)?;
        Some(self.0.swap_remove(place).upstream)
    }

    /// Returns the upstream at which the session began, and counts its client there.
    pub(super) fn upstream_of(&mut self, session: Session) -> Option<Arc<Upstream>> {
        let is_its = |pinned: &&mut Pinned| pinned.upstream.session_token() == Some(session.token);
        let pinned = self.0.iter_mut().find(is_its)?;
        let now = Instant::now();
        pinned.last_request = now;
        if pinned.clients.len() < COUNTED || pinned.clients.contains_key(&session.client) {
            pinned.clients.insert(session.client, now);
        }
        Some(Arc::clone(&pinned.upstream))
    }

    pub(super) fn token_of(&self, generation: Generation) -> Option<SessionToken> {
        self.0[self.place(generation)?].upstream.begin_session()
    }

    /// Returns the sessions that are left; a client without a request for `idle` has none.
    pub(super) fn left(&self, generation: Generation, idle: Duration) -> Option<SessionsLeft> {
        let pinned = &self.0[self.place(generation)?];
        let is_in_use = Arc::strong_count(&pinned.upstream) > 1;
        let is_left = |last: &&Instant| last.elapsed() < idle;
        Some(SessionsLeft {
            clients: pinned.clients.values().filter(is_left).count(),
            quiet: if is_in_use {
                Duration::ZERO
            } else {
                pinned.last_request.elapsed()
            },
            are_none: !is_in_use && !pinned.upstream.has_sessions(),
        })
    }

    fn place(&self, generation: Generation) -> Option<usize> {
        let mut all = self.0.iter();
        all.position(|pinned| pinned.upstream.generation == generation)
    }
}

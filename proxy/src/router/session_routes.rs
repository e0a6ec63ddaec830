//! The routes of sessions: from a client's cookie to the upstream on which its session began.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{HoldError, Notice, Router, Session, SessionToken, SessionsLeft, Upstream};
use crate::release::Generation;

impl Router {
    /// Returns the superseded upstream on which the session began; `None` if it began on `active`, or
    /// is over. `active` was acquired before: a promotion in between moves no session.
    pub fn acquire_pinned(&self, session: Session, active: &Upstream) -> Option<Arc<Upstream>> {
        if active.session_token() == Some(session.token) {
            return None;
        }
        self.pinned.lock().upstream_of(session)
    }

    /// Returns the upstream on which the session began, while no upstream is at the pointer. A new
    /// client is dealt to the canary or to the active upstream, which is `None`.
    pub fn acquire_side(&self, session: Option<Session>) -> Option<Arc<Upstream>> {
        // Held throughout, so that no promotion comes in between.
        let detour = self.detour.lock();
        let known = session.and_then(|session| {
            let here = detour.upstream_with(session.token);
            here.or_else(|| self.pinned.lock().upstream_of(session))
        });
        known.or_else(|| detour.deal())
    }

    /// Returns the canary for a request of a tester; `None` while there is none.
    pub fn acquire_canary(&self) -> Option<Arc<Upstream>> {
        self.detour.lock().canary_for_tester()
    }

    /// Waits while new requests are held by a pause, or refused by a maintenance. A session is no way
    /// past them.
    ///
    /// # Errors
    /// Returns a [`HoldError`] if the request may not wait, or not longer.
    pub async fn wait_for_permission(&self, client: Option<IpAddr>) -> Result<(), HoldError> {
        let is_barred = {
            let detour = self.detour.lock();
            detour.is_paused() || detour.should_refuse(client)
        };
        if is_barred {
            drop(self.acquire_or_hold(None, client).await?);
        }
        Ok(())
    }

    /// Returns the token for the cookie of a client that this generation has answered; `None` if no
    /// session can begin there.
    pub fn begin_session(&self, generation: Generation) -> Option<SessionToken> {
        if let Some(active) = &*self.active.load()
            && active.generation == generation
        {
            return active.begin_session();
        }
        if let Some(upstream) = self.detour.lock().upstream_of(generation) {
            return upstream.begin_session();
        }
        self.pinned.lock().token_of(generation)
    }

    /// Returns the sessions that are left at a superseded generation; a client without a request
    /// for `idle` has none.
    pub fn sessions_left(&self, generation: Generation, idle: Duration) -> Option<SessionsLeft> {
        self.pinned.lock().left(generation, idle)
    }

    /// Ends the sessions at a superseded generation: requests of its clients go to the active one
    /// from now on.
    pub fn end_sessions(&self, generation: Generation) {
        let unpinned = self.pinned.lock().unpin(generation);
        if unpinned.is_some() {
            self.notify_workers(Notice::Superseded(generation));
        }
    }

    /// Pins the upstream that `promoted` is about to supersede, before its pointer goes: no request
    /// of its sessions may come between.
    pub(super) fn pin_superseded(&self, kept: Option<&Arc<Upstream>>, promoted: Generation) {
        let superseded = kept.cloned().or_else(|| self.active.load_full());
        let superseded = superseded.filter(|old| old.is_pinnable() && old.generation != promoted);
        if let Some(superseded) = superseded {
            self.pinned.lock().pin(superseded);
        }
    }
}

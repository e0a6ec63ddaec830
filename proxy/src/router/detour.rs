//! The state in which requests do not go straight to the active upstream: during a pause or a maintenance,
//! and while a release is staged. All take the upstream from the router's pointer, so that every request comes by
//! here, and none has to ask for that state at any other time.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::maintenance::Maintenance;
use super::session::SessionToken;
use super::upstream::{ResponseCounts, Upstream};
use crate::release::Generation;

/// The state beside the router's pointer.
#[derive(Debug, Default)]
pub(super) struct Detour {
    is_paused: bool,
    preview: Option<Preview>,
    maintenance: Option<Arc<Maintenance>>,
    /// The active upstream while the pointer is empty for one of these reasons.
    active: Option<Arc<Upstream>>,
}

/// The upstream of a staged release, for testers: requests that have its token, or ask for the canary.
pub struct Preview {
    upstream: Arc<Upstream>,
    token: Option<Box<[u8]>>,
    /// Counts of the testers' responses, which are not among those of the upstream.
    testers: Arc<ResponseCounts>,
    /// Share of new clients that it gets as well, 0 to 1.
    share: f64,
}

// === impl Detour ===

impl Detour {
    /// Returns true while every request has to come by here.
    pub(super) fn is_engaged(&self) -> bool {
        self.is_paused || self.preview.is_some() || self.maintenance.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.is_paused = false;
    }

    pub(super) fn set_maintenance(&mut self, maintenance: Option<Arc<Maintenance>>) {
        self.maintenance = maintenance;
    }

    pub(super) fn maintenance(&self) -> Option<Arc<Maintenance>> {
        self.maintenance.clone()
    }

    /// Returns true if a maintenance refuses the requests of this client.
    pub(super) fn should_refuse(&self, client: Option<IpAddr>) -> bool {
        let maintenance = self.maintenance.as_ref();
        maintenance.is_some_and(|maintenance| !maintenance.allows(client))
    }

    /// Begins a preview; ends the one before.
    pub(super) fn show(&mut self, preview: Preview) {
        self.preview = Some(preview);
    }

    /// Ends the preview of a generation. Returns true if there was one.
    pub(super) fn end_preview(&mut self, generation: Generation) -> bool {
        let is_it = |preview: &mut Preview| preview.upstream.generation == generation;
        self.preview.take_if(is_it).is_some()
    }

    /// Returns the place of the active upstream.
    pub(super) fn active(&mut self) -> &mut Option<Arc<Upstream>> {
        &mut self.active
    }

    pub(super) fn routed(&self) -> Option<Generation> {
        self.active.as_ref().map(|active| active.generation)
    }

    /// Returns the active upstream for a request, if it is kept here and there is no pause.
    pub(super) fn route(&self) -> Option<Arc<Upstream>> {
        self.active.clone().filter(|_| !self.is_paused)
    }

    /// Returns the upstream of this generation, if it is one of those here.
    pub(super) fn upstream_of(&self, generation: Generation) -> Option<&Arc<Upstream>> {
        let preview = self.preview.as_ref().map(|preview| &preview.upstream);
        let mut all = self.active.iter().chain(preview);
        all.find(|upstream| upstream.generation == generation)
    }

    /// Returns the upstream on which a session began, if it is one of those here.
    pub(super) fn upstream_with(&self, session: SessionToken) -> Option<Arc<Upstream>> {
        let canary = self.canary().map(|canary| &canary.upstream);
        let active = self.active.as_ref().filter(|_| !self.is_paused);
        let mut all = active.into_iter().chain(canary);
        let found = all.find(|upstream| upstream.session_token() == Some(session));
        found.cloned()
    }

    /// Deals a new client to the canary, or to the active upstream: `None`.
    pub(super) fn deal(&self) -> Option<Arc<Upstream>> {
        let canary = self
            .canary()
            .filter(|canary| fastrand::f64() < canary.share);
        canary.map(|canary| Arc::clone(&canary.upstream))
    }

    /// Sets the share of new clients for the preview of a generation.
    pub(super) fn set_share(&mut self, generation: Generation, share: f64) {
        let preview = self.preview.as_mut();
        if let Some(preview) = preview.filter(|it| it.upstream.generation == generation) {
            preview.share = share;
        }
    }

    fn canary(&self) -> Option<&Preview> {
        let preview = self.preview.as_ref().filter(|_| !self.is_paused);
        preview.filter(|preview| preview.share > 0.0)
    }

    /// Returns the staged upstream for a request with this token.
    pub(super) fn preview_for(&self, token: &[u8]) -> Option<Arc<Upstream>> {
        let preview = self.preview.as_ref().filter(|_| !self.is_paused)?;
        let is_right = |right: &[u8]| bool::from(right.ct_eq(token));
        preview
            .token
            .as_deref()
            .is_some_and(is_right)
            .then(|| preview.for_tester())
    }

    /// Returns the canary for a request of a tester.
    pub(super) fn canary_for_tester(&self) -> Option<Arc<Upstream>> {
        self.canary().map(Preview::for_tester)
    }
}

// === impl Preview ===

impl Preview {
    /// Returns the preview of `upstream` for requests that have `token`, and for this share of new
    /// clients, 0 to 1.
    pub fn new(upstream: Arc<Upstream>, token: Option<&str>, share: f64) -> Self {
        Self {
            upstream,
            token: token.map(|token| token.as_bytes().into()),
            testers: Arc::default(),
            share,
        }
    }

    /// Returns the counts of the testers' responses.
    pub fn testers(&self) -> Arc<ResponseCounts> {
        Arc::clone(&self.testers)
    }

    fn for_tester(&self) -> Arc<Upstream> {
        self.upstream.for_tester(&self.testers)
    }
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview")
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

//! The state in which requests do not go straight to the active upstream: during a pause or a maintenance,
//! and while a release is staged. All take the upstream from the router's pointer, so that every request comes by
//! here, and none has to ask for that state at any other time.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::maintenance::Maintenance;
use super::upstream::Upstream;
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

/// The upstream of a staged release, for requests that have its token.
pub struct Preview {
    upstream: Arc<Upstream>,
    token: Box<[u8]>,
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

    /// Returns the staged upstream for a request with this token.
    pub(super) fn preview_for(&self, token: &[u8]) -> Option<Arc<Upstream>> {
        let preview = self.preview.as_ref().filter(|_| !self.is_paused)?;
        let is_right = bool::from(preview.token.ct_eq(token));
        is_right.then(|| Arc::clone(&preview.upstream))
    }
}

// === impl Preview ===

impl Preview {
    /// Returns the preview of `upstream` for requests that have `token`.
    pub fn new(upstream: Arc<Upstream>, token: &str) -> Self {
        Self {
            upstream,
            token: token.as_bytes().into(),
        }
    }
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview")
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

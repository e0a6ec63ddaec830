//! The upstreams that get no new requests, but may still be asked for what only they have.

use std::sync::{Arc, Weak};

use super::upstream::Upstream;
use crate::release::Generation;

/// The superseded upstreams of a router.
#[derive(Debug, Default)]
pub(super) struct Superseded {
    /// Those that drain, the latest last.
    draining: Vec<Weak<Upstream>>,
    standby: Option<Arc<Upstream>>,
}

// === impl Superseded ===

impl Superseded {
    pub(super) fn add(&mut self, upstream: &Arc<Upstream>) {
        self.draining.retain(|upstream| upstream.strong_count() > 0);
        self.draining.push(Arc::downgrade(upstream));
    }

    pub(super) fn keep(&mut self, upstream: Arc<Upstream>) {
        self.standby = Some(upstream);
    }

    /// Returns the standby of this generation, which is kept no longer.
    pub(super) fn release(&mut self, generation: Generation) -> Option<Arc<Upstream>> {
        self.standby
            .take_if(|standby| standby.generation == generation)
    }

    /// Returns those that may be asked, the latest first.
    pub(super) fn all(&self) -> Vec<Arc<Upstream>> {
        let draining = self.draining.iter().rev().filter_map(Weak::upgrade);
        let all = draining.chain(self.standby.clone());
        all.filter(|upstream| !upstream.is_evicted()).collect()
    }
}

//! State shared by all parts of one simulated site.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Clock;
use super::event::Events;
use super::expand::Environment;
use super::job::Sandbox;
use super::module::Module;

/// The machine as the site's worker processes see it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) module: Module,
    /// The worker process's environment.
    pub(super) environment: Environment,
    /// The site's root: `wwwroot`.
    pub(super) root: PathBuf,
    pub(super) sandbox: Sandbox,
    pub(super) clock: Clock,
    pub(super) events: Events,
    pub(super) drawn: AtomicU64,
}

// === impl Host ===

impl Host {
    pub(super) fn random(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        RandomState::new().hash_one(drawn)
    }

    pub(super) fn random_id(&self) -> String {
        format!("{:016x}{:016x}", self.random(), self.random())
    }
}

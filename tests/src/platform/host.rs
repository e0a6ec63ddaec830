//! State shared by all parts of one simulated site.

use std::path::PathBuf;

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
}

pub(super) fn random_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

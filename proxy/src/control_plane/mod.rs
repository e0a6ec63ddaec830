//! From a changed file to a running, routed instance, and to the end of the one before.

pub mod artifact;
mod environment;
mod events;
mod instance;
pub mod lifecycle;
pub mod readiness;
pub mod status;
pub mod supervisor;
pub mod watcher;

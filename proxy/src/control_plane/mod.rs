//! From a changed file to a running, routed instance, and to the end of the one before.

pub mod artifact;
mod dead;
pub mod desired_file;
mod environment;
mod events;
mod instance;
pub mod lifecycle;
pub mod live;
pub mod memory;
pub mod probe;
pub mod readiness;
pub mod reread;
pub mod siblings;
pub mod status_file;
pub mod supervisor;
pub mod watcher;

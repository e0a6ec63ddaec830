//! The control plane: from a changed file to a routed instance, and to the end of the one before.

pub mod artifact;
pub mod before_start;
mod change_events;
pub mod config_source;
pub mod desired_file;
mod elsewhere;
mod environment;
mod instance;
pub mod lifecycle;
pub mod liveness;
pub mod memory;
pub mod probe;
pub mod readiness;
pub mod settings;
pub mod siblings;
mod stale_status;
pub mod status_file;
pub mod step;
pub mod supervisor;
mod watch_set;
pub mod watcher;

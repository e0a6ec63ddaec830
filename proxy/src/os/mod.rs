//! The operating system beside processes: files, sockets, signals, threads, memory, and the service
//! manager.
//!
//! Most modules hold twins for Unix and Windows that export the same names: callers need no `cfg`.
//! Nothing here knows another part of the program.

pub mod descriptors;
pub mod files;
pub mod inherit;
pub mod listening;
pub(crate) mod loopback;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod parents;
pub mod ports;
#[cfg(unix)]
pub mod procfs;
pub mod rights;
pub mod service_manager;
pub mod signal;
pub mod terminal;
pub mod thread;
pub mod volume;

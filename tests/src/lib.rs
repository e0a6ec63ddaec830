//! The harness: a real handoff, real apps, real files, and waiting on published facts.
//!
//! ```text
//! Site ──start(release)──▶ Running ──deploy(release)──▶ its files ──▶ handoff ──▶ app
//!                            │  ▲                                        │
//!                 Connection ┘  └── status file, log, ends of processes ◀┘
//! ```
//! A test says what happens and what has to be true. A helper that awaits or demands something
//! panics when it does not come, and shows the last status and the log. Time passes only in
//! [`wait`] and in the simulated [`platform`].

pub mod admin;
pub mod archive;
pub mod binaries;
pub mod browser;
#[cfg(target_os = "linux")]
pub mod chaos;
pub mod client;
pub mod command;
pub mod deployment;
pub mod faulty;
pub mod http2;
pub mod imports;
pub mod load;
pub mod loadtest;
#[cfg(unix)]
pub mod manual;
#[cfg(unix)]
pub mod mount;
pub mod platform;
#[cfg(unix)]
pub mod processes;
pub mod program;
pub mod release;
pub mod requests;
pub mod shared;
pub mod source;
pub mod stage;
pub mod status;
#[cfg(windows)]
pub mod tokens;
pub mod tools;
pub mod wait;
pub mod websocket;
mod wishes;

pub use client::{Answer, Connection};
pub use deployment::{Running, Site};
#[cfg(unix)]
pub use release::refused_where_set;
pub use release::{Release, app, file, folder};
pub use shared::Deployment;
pub use status::Status;
pub use wait::eventually;

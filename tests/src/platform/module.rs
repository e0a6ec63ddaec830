//! The simulated edition of the module, and where it runs.

use super::readiness::Look;
use super::web_config::Schema;

/// The differences between editions. Start with one of the three, and change what a test is about.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Schema by which it reads `web.config`.
    pub schema: Schema,
    /// Way in which it finds out that a port listens.
    pub look: Look,
    /// True if it gets a job object. Without one it kills the processes that it knows: its child
    /// and what that had started when the port became ready.
    pub has_jobs: bool,
    /// True if it watches descendants, too, for their end.
    pub watches_descendants: bool,
    /// True if it asks before it kills.
    pub asks: bool,
    /// True if the process gets a console (on Windows), without a window.
    pub gives_console: bool,
    /// True if its signal reaches the process.
    pub signal_arrives: bool,
    /// Bytes of an answer that are collected before they are sent.
    pub output_buffer: usize,
    /// An answer that breaks off after the first 8 KB ends as if it were complete.
    pub truncates: bool,
    /// WebSocket extensions do not reach the app.
    pub strips_websocket_extensions: bool,
    /// A request that a kept connection did not take is sent on a new one.
    pub resends: bool,
    /// Azure's front end is before it, with its fields.
    pub front_end: bool,
}

// === impl Module ===

impl Module {
    /// HttpPlatformHandler 1.2 on an IIS of one's own.
    pub fn v1() -> Self {
        Self {
            schema: Schema::V1,
            look: Look::Table,
            has_jobs: true,
            watches_descendants: true,
            asks: false,
            gives_console: true,
            signal_arrives: false,
            output_buffer: 8192,
            truncates: true,
            strips_websocket_extensions: false,
            // Stricter than the original may be.
            resends: false,
            front_end: false,
        }
    }

    /// HttpPlatformHandler 1.2 in Azure's sandbox.
    pub fn azure() -> Self {
        Self {
            look: Look::Connect,
            has_jobs: false,
            gives_console: false,
            front_end: true,
            ..Self::v1()
        }
    }

    /// The open version 2.
    pub fn v2() -> Self {
        Self {
            schema: Schema::V2,
            watches_descendants: false,
            asks: true,
            signal_arrives: true,
            output_buffer: 0,
            truncates: false,
            ..Self::v1()
        }
    }
}

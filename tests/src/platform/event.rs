//! The events of the platform, for tests to wait for.

use std::sync::Arc;

use parking_lot::Mutex;

/// One thing that the module did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has started a server process.
    Started {
        /// Its root.
        pid: u32,
        /// The port that it was told.
        port: u16,
    },
    /// The process listens; these processes are watched.
    Ready {
        /// Its root.
        pid: u32,
        /// All that belonged to it then.
        watched: Vec<u32>,
    },
    /// A start came to nothing.
    StartFailed(String),
    /// A watched process has ended, and the port does not answer: the module ends the rest.
    Crashed {
        /// The server process's root.
        pid: u32,
    },
    /// A watched process has ended, and the port answers: the module looks away.
    Overlooked {
        /// The one that has ended.
        pid: u32,
    },
    /// It failed too often this minute.
    Disabled,
    /// It has been asked to stop, and this is what it was asked by.
    Asked {
        /// The server process's root.
        pid: u32,
        /// `request` or `signal`.
        by: &'static str,
    },
    /// It was ended, or had ended when it should be.
    Stopped {
        /// The server process's root.
        pid: u32,
        /// It had to be killed.
        killed: bool,
    },
    /// A worker took the place of another, which finishes its requests.
    Recycled,
    /// The one that was replaced has ended.
    WorkerEnded {
        /// Requests that were cut.
        cut: usize,
    },
    /// `web.config` or a file of `recycleOnFileChange` has changed.
    Reconfigured,
}

/// All of them, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(Arc<Mutex<Vec<Event>>>);

// === impl Events ===

impl Events {
    pub(super) fn push(&self, event: Event) {
        self.0.lock().push(event);
    }

    pub(super) fn all(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

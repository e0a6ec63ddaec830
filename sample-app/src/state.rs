//! State that the endpoints share.

use std::time::Instant;

use crate::sessions::Sessions;
use crate::signal::Asker;
use crate::websocket::Stopping;

/// State shared by the endpoints. It lives as long as the process, so that a request borrows it
/// instead of counting references.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) version: &'static str,
    pub(crate) home: &'static str,
    pub(crate) readiness: Readiness,
    pub(crate) stopping: Stopping,
    pub(crate) asked: Asker,
    pub(crate) sessions: Sessions,
}

/// The moment from which `/` and `/health` answer 200.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readiness {
    Now,
    At(Instant),
    Never,
}

impl Readiness {
    pub(crate) fn reached(self) -> bool {
        match self {
            Self::Now => true,
            Self::At(instant) => Instant::now() >= instant,
            Self::Never => false,
        }
    }
}

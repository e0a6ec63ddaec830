//! The messages of the router to the workers of the data plane.

use std::time::Duration;

use crate::release::Generation;

/// A message about a generation to the workers of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The generation gets new requests, perhaps once more.
    Promoted(Generation),
    /// The generation gets no new requests: its idle connections are of no more use.
    Superseded(Generation),
    /// The generation's tunnels are to close within this time, gracefully, and not all at once.
    TunnelsClose(Generation, Duration),
    /// The rest of this class is to be cut off.
    Evicted(Generation, Class),
}

/// A class of what is in flight, by how long it may reasonably last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A request, which ends by itself.
    Request,
    /// An upgraded connection or an event stream: lasts until one side ends it.
    Tunnel,
}

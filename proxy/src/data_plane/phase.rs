//! The phases of the data plane's life.

/// A phase of the workers. Phases follow one another in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections are accepted and served.
    Serving,
    /// The backlog is accepted, and then no more.
    Closed,
    /// Another process accepts. Connections are served to their end, and those that have been idle for a
    /// while are closed.
    Leaving,
    /// Idle connections are closed, the others are served to their end.
    Draining,
    /// Remaining connections are cut.
    Cut,
}

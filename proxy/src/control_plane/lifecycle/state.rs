//! The parts of the state that exclude each other.

use super::{Generation, Purpose, ReleaseId};

/// The instance that gets new requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Serving {
    /// Nothing is routed.
    Nothing,
    /// Nothing is routed: this release was stopped to make room for the incoming one.
    Displaced(ReleaseId),
    /// An instance is routed.
    Active(Active),
}

/// A routed instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Active {
    pub(super) instance: Instance,
    pub(super) health: Health,
    /// Present while the release is on trial.
    pub(super) trial: Option<Spare>,
}

/// A launched instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) generation: Generation,
    pub(super) release: ReleaseId,
}

/// The state of the active instance's liveness check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Health {
    /// The check succeeds.
    Healthy,
    /// The check fails.
    Unhealthy {
        /// True if another instance of the release has been launched for it.
        restarted: bool,
    },
}

/// The superseded instance to which a failed trial returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spare {
    /// The instance still drains.
    Draining(Generation),
    /// The instance is idle and kept.
    Standby(Instance),
    /// The instance has ended.
    Gone,
}

/// The instance that is to serve next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Incoming {
    /// Nothing is on its way.
    None,
    /// The launch awaits the end of an instance that it may not run beside.
    WaitingForRoom(Planned),
    /// The launch awaits the end of the back-off.
    BackingOff(Planned),
    /// The instance runs and is not ready yet.
    Candidate(Candidate),
}

/// A launch that has not been made yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Planned {
    pub(super) release: ReleaseId,
    pub(super) purpose: Purpose,
}

/// A launched instance that is not ready yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub(super) instance: Instance,
    pub(super) purpose: Purpose,
}

/// A superseded instance that may still have requests in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Draining {
    pub(super) release: ReleaseId,
    pub(super) leaving: Leaving,
    /// False if it was only staged: nothing goes back to it.
    pub(super) has_served: bool,
}

/// The stage of a superseded instance's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaving {
    /// Clients whose sessions began there still reach it.
    Pinned,
    /// It gets no new requests.
    Finishing,
    /// Its requests have been cut off.
    Evicted,
}

/// A release that gave way to another one because it crashed again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct GaveWay {
    pub(super) release: ReleaseId,
    /// Number of times that it has given way.
    pub(super) count: u32,
    /// True until it is to be tried again.
    pub(super) is_resting: bool,
}

/// The state of the sidecar as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// New requests go to the active instance.
    Running,
    /// New requests are held on request.
    Paused,
    /// Nothing is launched any more.
    ShuttingDown,
}

// === impl Serving ===

impl Serving {
    pub(super) fn active(&self) -> Option<&Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::Nothing | Self::Displaced(_) => None,
        }
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::Nothing | Self::Displaced(_) => None,
        }
    }

    /// Takes out the active instance, so that nothing is routed.
    pub(super) fn take_active(&mut self) -> Option<Active> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Active(active) => Some(active),
            other @ (Self::Nothing | Self::Displaced(_)) => {
                *self = other;
                None
            }
        }
    }

    /// Takes out the release that was displaced.
    pub(super) fn take_displaced(&mut self) -> Option<ReleaseId> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Displaced(release) => Some(release),
            other @ (Self::Nothing | Self::Active(_)) => {
                *self = other;
                None
            }
        }
    }

    /// Returns the release that serves, or that served until it was displaced.
    pub(super) fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Nothing => None,
            Self::Displaced(release) => Some(release),
            Self::Active(active) => Some(&active.instance.release),
        }
    }

    /// Returns the instance that a trial keeps on standby.
    pub(super) fn standby(&self) -> Option<&Instance> {
        match self.active()?.trial.as_ref()? {
            Spare::Standby(instance) => Some(instance),
            Spare::Draining(_) | Spare::Gone => None,
        }
    }
}

// === impl Active ===

impl Active {
    pub(super) fn new(instance: Instance) -> Self {
        Self {
            instance,
            health: Health::Healthy,
            trial: None,
        }
    }
}

// === impl Spare ===

impl Spare {
    pub(super) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Draining(generation) => Some(*generation),
            Self::Standby(instance) => Some(instance.generation),
            Self::Gone => None,
        }
    }
}

// === impl Incoming ===

impl Incoming {
    /// Returns what is to serve next, and why.
    pub(super) fn planned(&self) -> Option<(&ReleaseId, Purpose)> {
        match self {
            Self::None => None,
            Self::WaitingForRoom(planned) | Self::BackingOff(planned) => {
                Some((&planned.release, planned.purpose))
            }
            Self::Candidate(candidate) => Some((&candidate.instance.release, candidate.purpose)),
        }
    }

    /// Returns the release that is to serve next.
    pub(super) fn release(&self) -> Option<&ReleaseId> {
        self.planned().map(|(release, _)| release)
    }

    /// Returns the release that starts, or will when there is room; none during a back-off.
    pub(super) fn starting(&self) -> Option<&ReleaseId> {
        match self {
            Self::None | Self::BackingOff(_) => None,
            Self::WaitingForRoom(_) | Self::Candidate(_) => self.release(),
        }
    }

    pub(super) fn candidate(&self) -> Option<&Candidate> {
        match self {
            Self::Candidate(candidate) => Some(candidate),
            Self::None | Self::WaitingForRoom(_) | Self::BackingOff(_) => None,
        }
    }

    /// Takes out the candidate if it is this generation.
    pub(super) fn take_candidate(&mut self, generation: Generation) -> Option<Candidate> {
        match std::mem::replace(self, Self::None) {
            Self::Candidate(candidate) if candidate.instance.generation == generation => {
                Some(candidate)
            }
            other @ (Self::None
            | Self::WaitingForRoom(_)
            | Self::BackingOff(_)
            | Self::Candidate(_)) => {
                *self = other;
                None
            }
        }
    }

    /// Takes out the launch that awaits the end of the back-off.
    pub(super) fn take_backing_off(&mut self) -> Option<Planned> {
        match std::mem::replace(self, Self::None) {
            Self::BackingOff(planned) => Some(planned),
            other @ (Self::None | Self::WaitingForRoom(_) | Self::Candidate(_)) => {
                *self = other;
                None
            }
        }
    }

    /// Takes out the launch that awaits room.
    pub(super) fn take_waiting(&mut self) -> Option<Planned> {
        match std::mem::replace(self, Self::None) {
            Self::WaitingForRoom(planned) => Some(planned),
            other @ (Self::None | Self::BackingOff(_) | Self::Candidate(_)) => {
                *self = other;
                None
            }
        }
    }
}

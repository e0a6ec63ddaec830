//! The state that the admin port shows.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::watch;

use super::launches::LaunchCounts;
use super::traffic::TrafficHistory;
use crate::data_plane::TrafficCounters;
use crate::deployment::instance_memory::MemoryMeter;
use crate::deployment::status::{InstanceStatus, Status};
use crate::router::Router;
use crate::telemetry::Tail;

/// The sources of all responses.
#[derive(Debug)]
pub(super) struct View {
    pub(super) status: watch::Receiver<Status>,
    pub(super) router: Arc<Router>,
    pub(super) counters: TrafficCounters,
    pub(super) tail: Tail,
    pub(super) launches: RefCell<LaunchCounts>,
    pub(super) traffic: RefCell<TrafficHistory>,
    meter: RefCell<MemoryMeter>,
}

// === impl View ===

impl View {
    pub(super) fn new(
        status: watch::Receiver<Status>,
        router: Arc<Router>,
        counters: TrafficCounters,
        tail: Tail,
    ) -> Self {
        Self {
            status,
            router,
            counters,
            tail,
            launches: RefCell::default(),
            traffic: RefCell::default(),
            meter: RefCell::default(),
        }
    }

    /// Returns the present status with the memory of its instances.
    pub(super) fn complete_status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        self.meter.borrow_mut().complete(&mut status);
        status
    }
}

/// Returns all instances of a sidecar, each with the name of its state.
pub(super) fn all_instances(status: &Status) -> Vec<(&'static str, &InstanceStatus)> {
    let one = |state, instance| Option::iter(instance).map(move |it| (state, it));
    let more = |state, instances| <[_]>::iter(instances).map(move |it| (state, it));
    one("active", &status.active)
        .chain(one("candidate", &status.candidate))
        .chain(one("staged", &status.staged))
        .chain(one("standby", &status.standby))
        .chain(more("draining", &status.draining))
        .chain(more("stopping", &status.stopping))
        .collect()
}

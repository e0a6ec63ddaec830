//! What others are shown, and which copies are still needed.

use super::{State, Supervisor};
use crate::deployment::status::{InstanceStatus, UnixMillis};
use crate::process::Launch;
use crate::release::ReleaseId;

/// Of the refused contents so many are shown, the latest.
const REFUSALS: usize = 10;

impl<L: Launch> Supervisor<L> {
    pub(super) fn forget_unneeded(&mut self) {
        let needed: Vec<_> = self.lifecycle.needed().cloned().collect();
        let runs = |id: &ReleaseId| self.instances.values().any(|i| i.release == *id);
        self.releases
            .retain(|id, _| needed.contains(id) || runs(id));
        let releases = &self.releases;
        self.lifecycle
            .forget_refused(|id| releases.contains_key(id));
        self.watcher.prune(self.releases.keys().cloned().collect());
    }

    pub(super) fn digest_of(&self, id: &ReleaseId) -> String {
        let digest = self.releases.get(id).map(|a| a.release.digest.to_string());
        digest.unwrap_or_default()
    }

    pub(super) fn publish(&self) {
        let mut status = self.status.clone();
        status.heartbeat_ms = UnixMillis::now();
        status.held = self.router.held();
        status.earlier = self.lifecycle.earlier().cloned().collect();
        let refused = self.memory.refusals();
        status.refused = refused[refused.len().saturating_sub(REFUSALS)..].to_vec();
        if let Some(paused) = &mut status.paused {
            paused.in_flight = self.instances.values().map(|i| i.in_flight()).sum();
        }
        for (&generation, instance) in &self.instances {
            let shown = InstanceStatus {
                generation,
                release: instance.release.clone(),
                digest: self.digest_of(&instance.release),
                source: self
                    .releases
                    .get(&instance.release)
                    .and_then(|a| a.source.clone()),
                pid: instance.pid,
                address: instance.address,
                since_ms: instance.since,
                in_flight: instance.in_flight(),
                tunnels: instance.upstream.upgrade().map_or(0, |u| u.tunnels()),
                probe: instance.last_probe.borrow().clone(),
                warning: instance.warning.clone(),
            };
            match instance.state {
                State::Candidate => status.candidate = Some(shown),
                State::Active => status.active = Some(shown),
                State::Standby => status.standby = Some(shown),
                State::Draining => status.draining.push(shown),
                State::Stopping => status.stopping.push(shown),
            }
        }
        self.publisher.send_replace(status);
    }
}

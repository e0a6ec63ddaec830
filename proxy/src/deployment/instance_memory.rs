//! The memory of instances, which is measured only for somebody who reads it: that takes a look at
//! all their processes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::status::Status;
use crate::os::memory::tree_memory;

/// Age from which a measurement is made again.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The memory of the instances of one sidecar, as it was measured last.
#[derive(Debug, Default)]
pub(crate) struct MemoryMeter(HashMap<u32, (Instant, Option<u64>)>);

// === impl MemoryMeter ===

impl MemoryMeter {
    /// Adds the memory of each instance to a status of a sidecar on this machine.
    pub(crate) fn complete(&mut self, status: &mut Status) {
        self.0.retain(|_, (at, _)| at.elapsed() < MAX_AGE);
        let one = [
            &mut status.active,
            &mut status.candidate,
            &mut status.staged,
            &mut status.standby,
        ];
        let more = status.draining.iter_mut().chain(&mut status.stopping);
        for instance in one.into_iter().flatten().chain(more) {
            let Some(pid) = instance.pid else {
                continue;
            };
            let measure = || (Instant::now(), tree_memory(pid));
            instance.memory_bytes = self.0.entry(pid).or_insert_with(measure).1;
        }
    }
}

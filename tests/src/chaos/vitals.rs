//! Memory and descriptors of a process, as Linux shows it.

use std::fmt;
use std::fs;

use handoff::os::procfs::resident_memory;

/// More than this above the base is a leak: a health check's connection may not have ended yet.
const MORE_DESCRIPTORS: usize = 3;
/// Growth of memory that is none, in KiB: allocators keep what they once had.
const MORE_MEMORY: u64 = 8 << 10;

/// The vitals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub memory: u64,
}

// === impl Vitals ===

impl Vitals {
    /// Those of a process, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        let memory = resident_memory(pid)? >> 10;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self {
            descriptors,
            memory,
        })
    }

    /// Returns whether that is no more than it was at first.
    pub fn are_back_at(self, base: Self) -> bool {
        self.descriptors <= base.descriptors + MORE_DESCRIPTORS
            && self.memory <= base.memory + MORE_MEMORY
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            descriptors,
            memory,
        } = self;
        write!(f, "{descriptors} descriptors, {memory} KiB")
    }
}

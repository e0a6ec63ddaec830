//! Processor time and memory of processes, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use handoff::os::procfs::{ProcessStat, executable, pids, resident_memory, with_descendants};

/// Processor time of some processes up to a moment.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// Nanoseconds by process and thread; empty if the system does not count them.
    run_ns: BTreeMap<(u32, u32), u64>,
    /// Ticks, including those of threads that have ended.
    ticks: u64,
}

/// Returns `root` and its descendants, without those that run the program `without`.
pub fn family(root: u32, without: &Path) -> Vec<u32> {
    let mut family = Vec::from_iter(with_descendants([root]));
    family.retain(|pid| executable(*pid).is_none_or(|program| program != without));
    family
}

/// Counts the children of `root` that run `program`.
pub fn running(root: u32, program: &Path) -> usize {
    pids()
        .filter(|pid| ProcessStat::read(*pid).is_some_and(|stat| stat.parent == root))
        .filter(|pid| executable(*pid).is_some_and(|own| own == program))
        .count()
}

/// Returns the resident memory of the processes, in KiB. Shared pages count for each.
pub fn rss_kib(processes: &[u32]) -> u64 {
    let memory = processes.iter().filter_map(|pid| resident_memory(*pid));
    memory.sum::<u64>() / 1024
}

// === impl Cpu ===

impl Cpu {
    /// Reads the time of these processes.
    pub fn of(processes: &[u32]) -> Self {
        let mut cpu = Self::default();
        for &pid in processes {
            let threads = fs::read_dir(format!("/proc/{pid}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let id = thread.file_name().to_string_lossy().parse();
                // It counts in nanoseconds; a tick is ten milliseconds.
                let line = fs::read_to_string(thread.path().join("schedstat"));
                let run = line.ok().and_then(|line| parse_schedstat(&line));
                if let (Ok(id), Some(run)) = (id, run) {
                    cpu.run_ns.insert((pid, id), run);
                }
            }
            if let Some(stat) = ProcessStat::read(pid) {
                cpu.ticks += stat.user_ticks + stat.system_ticks;
            }
        }
        cpu
    }

    /// Returns the microseconds spent since `earlier`; a second has `ticks`.
    pub fn since(&self, earlier: &Self, ticks: u64) -> f64 {
        let tick_us = 1e6 / ticks.max(1) as f64;
        let coarse = self.ticks.saturating_sub(earlier.ticks) as f64 * tick_us;
        let of_thread = |(thread, ns): (&(u32, u32), &u64)| {
            ns.saturating_sub(earlier.run_ns.get(thread).copied().unwrap_or(0))
        };
        let fine = self.run_ns.iter().map(of_thread).sum::<u64>() as f64 / 1e3;
        // Only the coarse figure has the time of threads that have ended meanwhile.
        if fine == 0.0 || coarse - fine > 3.0 * tick_us {
            coarse
        } else {
            fine
        }
    }
}

fn parse_schedstat(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_is_its_first_number() {
        assert_eq!(parse_schedstat("123456 7 8\n"), Some(123_456));
    }

    #[test]
    fn time_is_counted_in_nanoseconds_where_no_thread_has_ended() {
        let at = |threads: &[(u32, u64)], ticks| Cpu {
            run_ns: threads.iter().map(|(tid, ns)| ((1, *tid), *ns)).collect(),
            ticks,
        };
        for (before, after, total) in [
            // A thread that is new counts from its beginning.
            (
                at(&[(1, 1_000)], 0),
                at(&[(1, 20_001_000), (2, 20_000_000)], 4),
                40_000.0,
            ),
            // Less than a tick.
            (at(&[(1, 0)], 10), at(&[(1, 2_000_000)], 10), 2_000.0),
            // No schedstat.
            (at(&[], 10), at(&[], 12), 20_000.0),
            // A thread has ended and took its count along.
            (
                at(&[(1, 0), (2, 500_000_000)], 50),
                at(&[(1, 1_000_000)], 60),
                100_000.0,
            ),
        ] {
            let spent = after.since(&before, 100);
            assert!((spent - total).abs() < 1e-6, "{spent}");
        }
    }

    #[test]
    fn this_process_uses_memory_and_has_itself_as_family() {
        let own = std::process::id();
        assert!(rss_kib(&[own]) > 100);
        assert!(family(own, Path::new("/no/such")).contains(&own));
        let exe = std::env::current_exe().unwrap();
        // Other tests start processes meanwhile.
        assert!(!family(own, &exe).contains(&own));
    }
}

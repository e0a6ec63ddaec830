//! Processor time and memory of processes, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Processor time of some processes up to a moment.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// Nanoseconds by process and thread; empty if the system does not count them.
    run_ns: BTreeMap<(u32, u32), u64>,
    /// Ticks, including those of threads that have ended.
    ticks: u64,
}

/// The used part of `/proc/<pid>/stat`.
#[derive(Debug, Eq, PartialEq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

/// Returns `root` and its descendants, without those that run the program `without`.
pub fn family(root: u32, without: &Path) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in numbers_in("/proc") {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut family = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == without) {
            continue;
        }
        family.push(pid);
        next.extend(children.get(&pid).into_iter().flatten());
    }
    family
}

/// Counts the children of `root` that run `program`.
pub fn running(root: u32, program: &Path) -> usize {
    numbers_in("/proc")
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == root))
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program))
        .count()
}

/// Returns the resident memory of the processes, in KiB. Shared pages count for each.
pub fn rss_kib(processes: &[u32]) -> u64 {
    processes
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| parse_rss(&status))
        .sum()
}

// === impl Cpu ===

impl Cpu {
    /// Reads the time of these processes.
    pub fn of(processes: &[u32]) -> Self {
        let mut cpu = Self::default();
        for &pid in processes {
            for thread in numbers_in(&format!("/proc/{pid}/task")) {
                // It counts in nanoseconds; a tick is ten milliseconds.
                let run = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))
                    .ok()
                    .and_then(|line| parse_schedstat(&line));
                if let Some(run) = run {
                    cpu.run_ns.insert((pid, thread), run);
                }
            }
            if let Some(stat) = stat(pid) {
                cpu.ticks += stat.ticks;
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

fn numbers_in(folder: &str) -> impl Iterator<Item = u32> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The name may hold anything, also spaces and parentheses.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user + system;
    Some(Stat { parent, ticks })
}

fn parse_schedstat(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_rss(status: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let line = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 2 3 4 150 250 0 0 20 0 3 0 9 1 2";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                ticks: 400
            })
        );
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_schedstat("123456 7 8\n"), Some(123_456));
        assert_eq!(
            parse_rss("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t   812 kB\n"),
            Some(812)
        );
        assert_eq!(parse_rss("Name:\tkthreadd\n"), None);
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
        assert!(family(own, &exe).is_empty());
    }
}

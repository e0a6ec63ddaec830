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
    user_ticks: u64,
    system_ticks: u64,
}

/// Processor time between two moments, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    pub user_us: f64,
    pub system_us: f64,
}

/// The used part of `/proc/<pid>/stat`.
#[derive(Debug, Eq, PartialEq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
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
                cpu.user_ticks += stat.user_ticks;
                cpu.system_ticks += stat.system_ticks;
            }
        }
        cpu
    }

    /// Returns the time spent since `earlier`; a second has `ticks`.
    pub fn since(&self, earlier: &Self, ticks: u64) -> Spent {
        let tick_us = 1e6 / ticks.max(1) as f64;
        let user = self.user_ticks.saturating_sub(earlier.user_ticks) as f64 * tick_us;
        let system = self.system_ticks.saturating_sub(earlier.system_ticks) as f64 * tick_us;
        let coarse = user + system;
        let fine: f64 = self
            .run_ns
            .iter()
            .map(|(thread, ns)| ns - earlier.run_ns.get(thread).copied().unwrap_or(0).min(*ns))
            .sum::<u64>() as f64
            / 1e3;
        // Only the coarse figure has the time of threads that have ended meanwhile.
        let lost = coarse - fine > 3.0 * tick_us;
        let total = if fine == 0.0 || lost { coarse } else { fine };
        let share = if coarse > 0.0 { user / coarse } else { 0.0 };
        Spent {
            user_us: total * share,
            system_us: total * (1.0 - share),
        }
    }
}

// === impl Spent ===

impl Spent {
    pub fn total_us(self) -> f64 {
        self.user_us + self.system_us
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
    Some(Stat {
        parent: fields.nth(1)?.parse().ok()?,
        user_ticks: fields.nth(9)?.parse().ok()?,
        system_ticks: fields.next()?.parse().ok()?,
    })
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
                user_ticks: 150,
                system_ticks: 250
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
    fn time_is_split_as_the_ticks_are_and_counted_in_nanoseconds() {
        let at = |threads: &[(u32, u64)], user_ticks, system_ticks| Cpu {
            run_ns: threads.iter().map(|(tid, ns)| ((1, *tid), *ns)).collect(),
            user_ticks,
            system_ticks,
        };
        for (before, after, total, user) in [
            // A thread that is new counts from its beginning.
            (
                at(&[(1, 1_000)], 0, 0),
                at(&[(1, 20_001_000), (2, 20_000_000)], 1, 3),
                40_000.0,
                10_000.0,
            ),
            // Less than a tick.
            (
                at(&[(1, 0)], 5, 5),
                at(&[(1, 2_000_000)], 5, 5),
                2_000.0,
                0.0,
            ),
            // No schedstat.
            (at(&[], 5, 5), at(&[], 6, 6), 20_000.0, 10_000.0),
            // A thread has ended and took its count along.
            (
                at(&[(1, 0), (2, 500_000_000)], 50, 0),
                at(&[(1, 1_000_000)], 60, 0),
                100_000.0,
                100_000.0,
            ),
        ] {
            let spent = after.since(&before, 100);
            assert!((spent.total_us() - total).abs() < 1e-6, "{spent:?}");
            assert!((spent.user_us - user).abs() < 1e-6, "{spent:?}");
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

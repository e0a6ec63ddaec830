//! Memory limits of containers, services and other control groups of Linux: cgroups(7).

use std::fs;
use std::path::Path;

use super::Memory;

/// Mount point of the control groups.
const MOUNTED: &str = "/sys/fs/cgroup";

/// Names of the memory files in one version of the interface.
struct Interface {
    limit: &'static str,
    used: &'static str,
    /// Key in `memory.stat` of cached file content that was not used lately and can be freed at once.
    inactive: &'static str,
}

/// Version 2: `Documentation/admin-guide/cgroup-v2.rst` in Linux.
const V2: Interface = Interface {
    limit: "memory.max",
    used: "memory.current",
    inactive: "inactive_file",
};
/// Version 1: `Documentation/admin-guide/cgroup-v1/memory.rst` in Linux.
const V1: Interface = Interface {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

/// Returns the memory of each limited group that this process is in.
pub(super) fn memory() -> Vec<Memory> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limited(&groups, Path::new(MOUNTED))
}

/// Returns the memory of each limited group in `groups`, whose lines are `NUMBER:CONTROLLERS:/path`
/// (version 2: `0::/path`).
fn limited(groups: &str, mounted: &Path) -> Vec<Memory> {
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, interface) = match controllers {
            "" => (mounted.to_owned(), V2),
            of if of.split(',').any(|one| one == "memory") => (mounted.join("memory"), V1),
            _ => continue,
        };
        // A container may see its own group as the root, though the path is the machine's.
        let folders = Path::new(path.trim_start_matches('/')).ancestors();
        let folders = folders.map(|folder| root.join(folder));
        all.extend(folders.filter_map(|folder| interface.memory(&folder)));
    }
    all
}

impl Interface {
    /// Reads the memory of a group; `None` if it has no limit. (Version 1 states a limit that no use
    /// can reach.)
    fn memory(&self, folder: &Path) -> Option<Memory> {
        let number = |file| -> Option<u64> {
            let text = fs::read_to_string(folder.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let total = number(self.limit)?;
        let used = number(self.used)?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let inactive = stat.lines().find_map(|line| {
            let value = line.strip_prefix(self.inactive)?.strip_prefix(' ')?;
            value.parse().ok()
        });
        let used = used.saturating_sub(inactive.unwrap_or(0));
        Some(Memory {
            available: total.saturating_sub(used),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
    }

    fn memory(available: u64, total: u64) -> Memory {
        Memory { available, total }
    }

    #[test]
    fn every_limit_on_the_way_up_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let app = mounted.path().join("apps/web");
        let stat = "anon 7\nactive_file 9\ninactive_file 100\n";
        group(
            &app,
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "400\n"),
                ("memory.stat", stat),
            ],
        );
        let apps = mounted.path().join("apps");
        group(
            &apps,
            &[("memory.max", "2000\n"), ("memory.current", "1900\n")],
        );
        let found = limited("0::/apps/web\n", mounted.path());
        assert_eq!(found, [memory(700, 1000), memory(100, 2000)]);
    }

    #[test]
    fn the_first_version_is_read_too() {
        let mounted = tempfile::tempdir().unwrap();
        let app = mounted.path().join("memory/docker/7f");
        let stat = "inactive_file 1\ntotal_inactive_file 50\n";
        group(
            &app,
            &[
                ("memory.limit_in_bytes", "500\n"),
                ("memory.usage_in_bytes", "450\n"),
                ("memory.stat", stat),
            ],
        );
        let groups = "5:cpu,cpuacct:/docker/7f\n4:hugetlb,memory:/docker/7f\n0::/\n";
        assert_eq!(limited(groups, mounted.path()), [memory(100, 500)]);
    }

    #[test]
    fn a_container_that_sees_its_group_as_the_root_is_limited() {
        let mounted = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "500\n"),
            ("memory.usage_in_bytes", "450\n"),
        ];
        group(&mounted.path().join("memory"), &files);
        let found = limited("4:memory:/docker/7f\n", mounted.path());
        assert_eq!(found, [memory(50, 500)]);
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_keep_to() {
        let mounted = tempfile::tempdir().unwrap();
        let files = [("memory.max", "max\n"), ("memory.current", "450\n")];
        group(mounted.path(), &files);
        assert_eq!(limited("0::/\n", mounted.path()), []);
        assert_eq!(
            limited("0::/gone\nnonsense\n", Path::new("/no/such/folder")),
            []
        );
    }

    #[test]
    fn more_than_the_limit_leaves_nothing() {
        let mounted = tempfile::tempdir().unwrap();
        let files = [("memory.max", "100\n"), ("memory.current", "450\n")];
        group(mounted.path(), &files);
        assert_eq!(limited("0::/\n", mounted.path()), [memory(0, 100)]);
    }
}

//! The statuses of a deployment's sidecars, and which sidecars are alive.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::deployment::instance_memory::MemoryMeter;
use crate::deployment::status::{Phase, Status, UnixMillis};
use crate::os::files;
use crate::os::machine::{is_gone, is_same_program, shared_pid_namespace};
use crate::os::rights::Rights;

/// Maximum age of a live sidecar's heartbeat. It gives one every three
/// seconds; disks and shares may be slow.
const SILENT: Duration = Duration::from_secs(10);

/// The sidecars of one deployment, as they were read last.
#[derive(Debug)]
pub struct Sidecars {
    folder: PathBuf,
    machine: Option<String>,
    known: BTreeMap<OsString, KnownSidecar>,
}

#[derive(Debug)]
struct KnownSidecar {
    status: Status,
    /// The file of the status, as it was when it was read.
    file: Metadata,
    first_seen: Instant,
    /// Time at which the heartbeat was seen to change.
    moved: Option<Instant>,
    /// Number of readings since the file was found.
    missed: u32,
}

/// The life of a sidecar, as far as it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// It writes its status.
    Live,
    /// Its process runs on this machine, but its status is old: it cannot be written.
    Silent,
    Dead,
}

// === impl Liveness ===

impl Liveness {
    /// Returns true for a sidecar that runs.
    pub(super) fn is_alive(self) -> bool {
        self != Self::Dead
    }
}

// === impl Sidecars ===

impl Sidecars {
    /// Creates an empty list of the sidecars that publish in this state folder.
    pub fn of(state: &Path) -> Self {
        Self {
            folder: state.join("sidecars"),
            machine: shared_pid_namespace(),
            known: BTreeMap::new(),
        }
    }

    /// Reads all status files. The status of a file that is being replaced stays as it was.
    pub fn refresh(&mut self) {
        for known in self.known.values_mut() {
            known.missed += 1;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text.starts_with('.') || !text.ends_with(".json") {
                continue;
            }
            if let Ok((status, file)) = read(&entry.path()) {
                self.seen(name, status, file);
            } else if let Some(known) = self.known.get_mut(&name) {
                known.missed = 0;
            }
        }
        // On a share a file may be missing while it is replaced.
        self.known.retain(|_, known| known.missed < 3);
    }

    fn seen(&mut self, name: OsString, status: Status, file: Metadata) {
        let now = Instant::now();
        let known = self.known.entry(name).or_insert_with(|| KnownSidecar {
            status: status.clone(),
            file: file.clone(),
            first_seen: now,
            moved: None,
            missed: 0,
        });
        if known.status.heartbeat_ms != status.heartbeat_ms {
            known.moved = Some(now);
        }
        known.missed = 0;
        known.status = status;
        known.file = file;
    }

    /// Measures the memory of the instances on this machine: the files hold what it was when
    /// something changed last.
    pub(super) fn measure_memory(&mut self, meter: &mut MemoryMeter) {
        let (now, unix) = (Instant::now(), UnixMillis::now());
        let machine = self.machine.as_deref();
        for known in self.known.values_mut() {
            if known.is_here(machine) && known.liveness(now, unix, machine).is_alive() {
                meter.complete(&mut known.status);
            }
        }
    }

    /// Returns all sidecars, also dead ones.
    pub(super) fn all(&self) -> impl Iterator<Item = &Status> {
        self.known.values().map(|known| &known.status)
    }

    /// Returns the sidecar that wrote its status last, and the rights of whoever could have written
    /// that, unless `rights` are an owner's.
    pub(super) fn latest(&self, rights: &Rights) -> Option<(&Status, Rights)> {
        let latest = self.known.iter();
        let (name, known) = latest.max_by_key(|(_, known)| known.status.heartbeat_ms)?;
        let rights = rights.or_of_writer(&self.folder.join(name), &known.file);
        Some((&known.status, rights))
    }

    /// Returns all sidecars, each with its liveness.
    pub(super) fn with_liveness(&self) -> impl Iterator<Item = (&Status, Liveness)> {
        let (now, unix) = (Instant::now(), UnixMillis::now());
        self.known.values().map(move |known| {
            let liveness = known.liveness(now, unix, self.machine.as_deref());
            (&known.status, liveness)
        })
    }

    /// Returns true if live sidecars run the artifact by different commands. Those before 0.2 publish
    /// none.
    pub(super) fn run_several_commands(&self) -> bool {
        let commands = self.live().filter_map(|status| status.command.as_ref());
        commands.collect::<BTreeSet<_>>().len() > 1
    }

    /// Returns true if the process of a sidecar has certainly ended.
    pub(super) fn is_gone(&self, sidecar: &str) -> bool {
        let machine = self.machine.as_deref();
        let mut known = self.known.values();
        known.all(|known| {
            *known.status.sidecar != *sidecar || known.is_here(machine) && is_gone(known.status.pid)
        })
    }

    /// Returns the sidecars that are alive and do not shut down.
    pub fn live(&self) -> impl Iterator<Item = &Status> {
        self.with_liveness()
            .filter(|(_, liveness)| liveness.is_alive())
            .map(|(status, _)| status)
            .filter(|status| status.phase != Phase::Stopping)
    }
}

fn read(path: &Path) -> io::Result<(Status, Metadata)> {
    let file = files::open_regular(path)?;
    let status = serde_json::from_slice(&files::read_open_large(&file)?)?;
    Ok((status, file.metadata()?))
}

// === impl KnownSidecar ===

impl KnownSidecar {
    /// Returns true if its process ids mean something on this machine.
    fn is_here(&self, machine: Option<&str>) -> bool {
        machine.is_some() && self.status.machine.as_deref() == machine
    }

    fn liveness(&self, now: Instant, unix: UnixMillis, machine: Option<&str>) -> Liveness {
        let is_here = self.is_here(machine);
        if is_here && is_gone(self.status.pid) {
            Liveness::Dead
        } else if self.has_heartbeat(now, unix) {
            Liveness::Live
        } else if is_here && is_same_program(self.status.pid) {
            Liveness::Silent
        } else {
            Liveness::Dead
        }
    }

    /// Returns true if the heartbeat was seen to change lately or, before that can be seen, is not
    /// old. The clocks of a deployment's machines may differ.
    fn has_heartbeat(&self, now: Instant, unix: UnixMillis) -> bool {
        if let Some(moved) = self.moved {
            return now.duration_since(moved) <= SILENT;
        }
        let age = Duration::from_millis(unix.0.abs_diff(self.status.heartbeat_ms.0));
        age <= SILENT && now.duration_since(self.first_seen) <= SILENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(heartbeat: UnixMillis) -> KnownSidecar {
        let listen = ([127, 0, 0, 1], 80).into();
        let mut status = Status::new("s".into(), listen, Default::default());
        status.heartbeat_ms = heartbeat;
        status.machine = None;
        KnownSidecar {
            status,
            file: fs::metadata(".").unwrap(),
            first_seen: Instant::now(),
            moved: None,
            missed: 0,
        }
    }

    #[test]
    fn a_heartbeat_that_is_too_old_is_a_dead_sidecars() {
        let is_alive =
            |then, now| known(UnixMillis(then)).has_heartbeat(Instant::now(), UnixMillis(now));
        assert!(is_alive(0, 9_999));
        assert!(!is_alive(0, 10_001));
        assert!(is_alive(9_999, 0));
        assert!(!is_alive(10_001, 0));
    }

    #[test]
    fn a_heartbeat_that_moves_is_a_live_sidecars_whatever_its_clock_says() {
        let mut other_clock = known(UnixMillis(0));
        let now = Instant::now();
        other_clock.moved = Some(now);
        let unix = UnixMillis(3_600_000);
        assert!(other_clock.has_heartbeat(now + SILENT, unix));
        assert!(!other_clock.has_heartbeat(now + SILENT * 2, unix));
    }

    #[test]
    fn one_whose_clock_is_ahead_is_not_taken_to_live_for_ever() {
        let ahead = known(UnixMillis(5_000));
        let later = ahead.first_seen + SILENT * 2;
        assert!(!ahead.has_heartbeat(later, UnixMillis(0)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_whose_process_is_gone_from_this_machine_is_dead_at_once() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let mut dead = known(UnixMillis(0));
        dead.status.pid = child.id();
        let is_alive = |known: &KnownSidecar, machine| {
            known
                .liveness(Instant::now(), UnixMillis(0), machine)
                .is_alive()
        };
        dead.status.machine = Some("here".to_owned());
        assert!(!is_alive(&dead, Some("here")));
        assert!(is_alive(&dead, Some("elsewhere")));
        assert!(is_alive(&dead, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_that_cannot_write_its_status_lives_as_long_as_its_process() {
        let mut silent = known(UnixMillis(0));
        silent.status.machine = Some("here".to_owned());
        let unix = UnixMillis(3_600_000);
        let liveness =
            |silent: &KnownSidecar, machine| silent.liveness(Instant::now(), unix, machine);
        assert_eq!(liveness(&silent, Some("here")), Liveness::Silent);
        assert_eq!(liveness(&silent, Some("elsewhere")), Liveness::Dead);
        // The number may be another program's by now.
        silent.status.pid = 1;
        assert_eq!(liveness(&silent, Some("here")), Liveness::Dead);
    }

    #[test]
    fn unknown_and_missing_keys_are_tolerated_and_half_a_file_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("sidecars/a.json");
        fs::create_dir(state.path().join("sidecars")).unwrap();
        let old = r#"{"schema":1,"sidecar":"a","version":"0","pid":1,"listen":"127.0.0.1:1",
            "started_ms":1,"heartbeat_ms":1,"phase":"resting","of_tomorrow":{"a":[1]}}"#;
        fs::write(&file, old).unwrap();
        let mut sidecars = Sidecars::of(state.path());
        let phases = |sidecars: &Sidecars| sidecars.all().map(|s| s.phase).collect::<Vec<_>>();
        sidecars.refresh();
        assert_eq!(phases(&sidecars), [Phase::Unknown]);
        fs::write(&file, &old[..40]).unwrap();
        sidecars.refresh();
        assert_eq!(phases(&sidecars), [Phase::Unknown]);
        fs::remove_file(&file).unwrap();
        for left in [1, 1, 0] {
            sidecars.refresh();
            assert_eq!(phases(&sidecars).len(), left);
        }
    }
}

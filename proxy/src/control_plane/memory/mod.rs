//! The memory of a deployment on this machine: launches, and contents that are refused.
//!
//! It is one file in the cache, `memory/<key of the state folder>-<key of the command>.log`, shared
//! by the sidecars of one deployment on one machine. Another command line begins a new memory. Each
//! line is a record after its checksum. The file is replaced as a whole, under a lock, and a line
//! that does not match its checksum is skipped: a file that is cut at any byte yields all records
//! before the cut.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::lifecycle::GOOD;
use crate::deployment::names::{deployment_key, path_key};
use crate::deployment::stated_error::last_lines;
use crate::deployment::status::{Handoff, Outcome, Refusal};
use crate::deployment::{FormerState, path_serde};
use crate::os::files::{self, Access};
use crate::release::{Digest, Release};

/// Maximum number of launches, and of refused contents.
const HISTORY: usize = 100;
/// Maximum size of the output of a refused release that is not the last one: lines and bytes.
const OLDER_OUTPUT: (usize, usize) = (5, 1024);
/// Number of attempts to lock the file: a sidecar writes a few kilobytes under the lock.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The memory of one deployment.
#[derive(Debug)]
pub struct Memory {
    file: PathBuf,
    sidecar: Arc<str>,
    records: Records,
    /// Changes that could not be written yet.
    pending: Vec<Change>,
}

/// The record of one launch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Launch {
    /// Id of the sidecar that launched it.
    sidecar: Arc<str>,
    /// Path of the private copy.
    #[serde(with = "path_serde::exact")]
    artifact: PathBuf,
    /// Working directory.
    #[serde(with = "path_serde::exact")]
    dir: PathBuf,
    handoff: Handoff,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record {
    Launch(Box<Launch>),
    Refusal(Refusal),
}

#[derive(Clone, Debug, Default)]
struct Records {
    /// Launches, oldest first.
    launches: Vec<Launch>,
    refusals: Vec<Refusal>,
}

#[derive(Clone, Debug)]
enum Change {
    Launch(Box<Launch>),
    Refuse(Refusal),
    Forgive(String),
}

/// The standing of a release that has served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Refused,
}

// === impl Memory ===

impl Memory {
    /// Reads the memory of the deployment with the folder `state` and the key of its command, for
    /// `sidecar`.
    ///
    /// # Errors
    /// When the folder cannot be made. A file that cannot be read is an empty memory.
    pub fn open(cache: &Path, state: &Path, command: &str, sidecar: Arc<str>) -> io::Result<Self> {
        let folder = cache.join("memory");
        files::make_own_folder(&folder, Access::None)?;
        let name = deployment_key(state);
        let file = folder.join(format!("{name}-{command}.log"));
        let of_all_commands = former_file(&folder, state);
        if !file.exists() && of_all_commands.exists() {
            // Version 0.1 had one memory for all commands. The first one takes it.
            files::rename(&of_all_commands, &file)?;
        }
        Ok(Self {
            records: Records::read(&file),
            file,
            sidecar,
            pending: Vec::new(),
        })
    }

    /// Moves what version 0.1 left of an artifact into the folder `state` and the memory of its
    /// command. It is done once.
    ///
    /// # Errors
    /// When files cannot be moved.
    pub fn take_over(
        former: &FormerState,
        cache: &Path,
        state: &Path,
        command: &str,
    ) -> io::Result<bool> {
        let folder = cache.join("memory");
        let all = Records::read(&former_file(&folder, &former.folder));
        let mut records = all.clone();
        records
            .launches
            .retain(|launch| former.is_release(&launch.handoff.release, &launch.handoff.digest));
        records
            .refusals
            .retain(|refusal| former.is_release(&refusal.release, &refusal.digest));
        let has_ours = records.len() > 0;
        let has_others = records.len() < all.len();
        let is_moved = former.move_to(state, has_ours, has_others)?;
        let key = format!("{}-", deployment_key(state));
        let is_known = fs::read_dir(&folder).into_iter().flatten().flatten();
        let is_known = is_known
            .filter_map(|entry| entry.file_name().into_string().ok())
            .any(|name| name.starts_with(&key));
        if is_known || !has_ours {
            return Ok(is_moved);
        }
        let file = folder.join(format!("{key}{command}.log"));
        files::write_atomically(&file, records.to_text().as_bytes())?;
        Ok(true)
    }

    /// Reads what siblings have written.
    pub fn refresh(&mut self) {
        self.records = Records::read(&self.file);
        for change in &self.pending {
            self.records.apply(change.clone());
        }
    }

    /// Returns the refusal of a content, if it is refused.
    pub fn refusal(&self, digest: Digest) -> Option<&Refusal> {
        let digest = digest.to_string();
        let mut refusals = self.records.refusals.iter();
        refusals.find(|refusal| refusal.digest == digest)
    }

    /// Returns all refusals, oldest first.
    pub fn refusals(&self) -> &[Refusal] {
        &self.records.refusals
    }

    /// Returns true if nothing is known of this deployment.
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// Returns true if another sidecar launched this content last, with no known outcome: that
    /// sidecar was killed, or the launch is under way.
    pub fn is_unproven(&self, digest: Digest) -> bool {
        let digest = digest.to_string();
        let mut latest_first = self.records.launches.iter().rev();
        let latest = latest_first.find(|launch| launch.handoff.digest == digest);
        latest.is_some_and(|launch| {
            launch.sidecar != self.sidecar && launch.handoff.outcome == Outcome::Starting
        })
    }

    /// Returns the releases that were active last and are not refused, the latest last.
    pub fn good_releases(&self) -> Vec<Release> {
        releases(self.records.served(Standing::Good))
    }

    /// Returns the releases that were active last of those that are refused, the latest last.
    pub fn former_releases(&self) -> Vec<Release> {
        releases(self.records.served(Standing::Refused))
    }

    /// Returns the launches of this sidecar, oldest first.
    pub fn own_launches(&self) -> Vec<Handoff> {
        let launches = self.records.launches.iter();
        let own = launches.filter(|launch| launch.sidecar == self.sidecar);
        own.map(|launch| launch.handoff.clone()).collect()
    }

    /// Records that a launch of this sidecar became active, and removes a refusal of its content.
    pub fn record_promotion(&mut self, release: &Release, handoff: Handoff) {
        let digest = handoff.digest.clone();
        let mut changes = vec![self.launch(release, handoff)];
        if self.refusal(release.digest).is_some() {
            changes.push(Change::Forgive(digest));
        }
        self.change(changes);
    }

    /// Records a launch of this sidecar.
    pub fn record_launch(&mut self, release: &Release, handoff: Handoff) {
        self.change(vec![self.launch(release, handoff)]);
    }

    fn launch(&self, release: &Release, handoff: Handoff) -> Change {
        Change::Launch(Box::new(Launch {
            sidecar: Arc::clone(&self.sidecar),
            artifact: release.artifact.clone(),
            dir: release.dir.clone(),
            handoff,
        }))
    }

    /// Records the refusal of a content.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.change(vec![Change::Refuse(refusal)]);
    }

    /// Removes the refusal of a content.
    pub fn forgive(&mut self, digest: Digest) {
        if self.refusal(digest).is_some() {
            self.change(vec![Change::Forgive(digest.to_string())]);
        }
    }

    fn change(&mut self, changes: Vec<Change>) {
        for change in &changes {
            self.records.apply(change.clone());
        }
        self.pending.extend(changes);
        match self.write() {
            Ok(()) => self.pending.clear(),
            // The next write includes it.
            Err(error) => tracing::warn!(
                event = "memory_not_written",
                file = %self.file.display(),
                %error,
                "cannot write the memory of the deployment"
            ),
        }
    }

    /// Writes the pending changes into a file that siblings may have changed.
    fn write(&mut self) -> io::Result<()> {
        let _alone = self.lock()?;
        let mut records = Records::read(&self.file);
        for change in &self.pending {
            records.apply(change.clone());
        }
        files::write_atomically(&self.file, records.to_text().as_bytes())?;
        self.records = records;
        Ok(())
    }

    fn lock(&self) -> io::Result<File> {
        if let Some(folder) = self.file.parent() {
            // A cleaner of temporary folders may have removed it.
            files::make_own_folder(folder, Access::None)?;
        }
        let lock = self.file.with_extension("lock");
        for _ in 0..LOCK_TRIES {
            if let Some(alone) = files::try_lock(&lock) {
                return Ok(alone);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(io::Error::other("another sidecar has the file locked"))
    }
}

// === impl Records ===

impl Records {
    fn read(file: &Path) -> Self {
        match files::read_large(file) {
            Ok(content) => Self::parse(&content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::warn!(
                    event = "memory_not_read",
                    file = %file.display(),
                    %error,
                    "cannot read the memory of the deployment"
                );
                Self::default()
            }
        }
    }

    fn parse(content: &[u8]) -> Self {
        let mut records = Self::default();
        for line in content.split(|&byte| byte == b'\n') {
            match record(line) {
                Some(Record::Launch(launch)) => records.launches.push(*launch),
                Some(Record::Refusal(refusal)) => records.refusals.push(refusal),
                None => {}
            }
        }
        records
    }

    fn len(&self) -> usize {
        self.launches.len() + self.refusals.len()
    }

    fn to_text(&self) -> String {
        let launches = self
            .launches
            .iter()
            .cloned()
            .map(|launch| Record::Launch(Box::new(launch)));
        let refusals = self.refusals.iter().cloned().map(Record::Refusal);
        // Refusals come first: a file that is cut loses its end.
        let records = refusals.chain(launches);
        records
            .filter_map(|record| serde_json::to_string(&record).ok())
            .map(|json| format!("{} {json}\n", checksum(json.as_bytes())))
            .collect()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Launch(launch) => {
                let is_same = |other: &Launch| {
                    other.sidecar == launch.sidecar
                        && other.handoff.generation == launch.handoff.generation
                };
                match self.launches.iter_mut().find(|other| is_same(other)) {
                    Some(known) => *known = *launch,
                    None => self.launches.push(*launch),
                }
            }
            Change::Refuse(refusal) => {
                self.refusals.retain(|r| r.digest != refusal.digest);
                for older in &mut self.refusals {
                    let (lines, bytes) = OLDER_OUTPUT;
                    older.output = last_lines(&older.output, lines, bytes).to_vec();
                }
                self.refusals.push(refusal);
            }
            Change::Forgive(digest) => self.refusals.retain(|r| r.digest != digest),
        }
        self.trim();
    }

    /// Removes the oldest records, except for good launches.
    fn trim(&mut self) {
        let excess = self.refusals.len().saturating_sub(HISTORY);
        self.refusals.drain(..excess);
        let mut excess = self.launches.len().saturating_sub(HISTORY);
        if excess == 0 {
            return;
        }
        let key = |launch: &Launch| (Arc::clone(&launch.sidecar), launch.handoff.generation);
        let good = self.served(Standing::Good);
        let good: HashSet<_> = good.into_iter().map(key).collect();
        self.launches.retain(|launch| {
            let goes = excess > 0 && !good.contains(&key(launch));
            excess -= usize::from(goes);
            !goes
        });
    }

    /// Returns the launches of this standing that were active last, one of each content, the latest
    /// first.
    fn served(&self, standing: Standing) -> Vec<&Launch> {
        let refused: HashSet<&str> = self.refusals.iter().map(|r| r.digest.as_str()).collect();
        let mut served: Vec<_> = self
            .launches
            .iter()
            .filter(|launch| launch.handoff.promoted_ms.is_some())
            .filter(|launch| {
                refused.contains(launch.handoff.digest.as_str()) == (standing == Standing::Refused)
            })
            .collect();
        served.sort_by_key(|launch| std::cmp::Reverse(launch.handoff.promoted_ms));
        let mut seen = HashSet::new();
        served.retain(|launch| seen.insert(launch.handoff.digest.as_str()));
        served.truncate(GOOD);
        served
    }
}

/// Returns the releases of these launches, in reverse order.
fn releases(launches: Vec<&Launch>) -> Vec<Release> {
    let release = |launch: &Launch| {
        Some(Release {
            id: launch.handoff.release.clone(),
            digest: Digest::parse(&launch.handoff.digest).ok()?,
            shape: String::new(),
            artifact: launch.artifact.clone(),
            dir: launch.dir.clone(),
        })
    };
    launches.into_iter().rev().filter_map(release).collect()
}

/// Returns the file of version 0.1, which knew no command.
fn former_file(folder: &Path, state: &Path) -> PathBuf {
    let state = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    folder.join(format!("{}.log", path_key(&state)))
}

fn record(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    if checksum(json).as_bytes() != sum {
        return None;
    }
    // Records of newer versions may be unknown here.
    serde_json::from_slice(json).ok()
}

fn checksum(json: &[u8]) -> String {
    Digest::finish(Sha256::new_with_prefix(json)).hex()[..8].to_owned()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
#[cfg(unix)]
mod unix_tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::tests::{Site, handoff, release};
    use super::*;

    #[test]
    fn what_is_no_text_is_remembered_as_it_is() {
        let site = Site::new();
        let v1 = Release {
            dir: std::ffi::OsStr::from_bytes(b"/sites/gr\xf6\xdfe").into(),
            ..release("v1")
        };
        site.memory("one")
            .record_promotion(&v1, handoff(&v1, 1, Some(1)));
        let good = site.memory("two").good_releases();
        let good: Vec<_> = good
            .iter()
            .map(|good| (&good.artifact, &good.dir))
            .collect();
        assert_eq!(good, [(&v1.artifact, &v1.dir)]);
    }
}

//! The releases that sibling sidecars run and refuse, perhaps on other machines.
//!
//! Only a sidecar without a memory reads them, once, at its start, so that it does not repeat what
//! they have tried.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::deployment::Target;
use crate::deployment::status::{Phase, UnixMillis};
use crate::os::files;
use crate::release::Digest;

/// Age of a heartbeat, in milliseconds, from which a sidecar counts as dead. Clocks may differ.
const SILENCE_MS: u64 = 60_000;

/// The releases of all siblings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    running: Vec<RunningRelease>,
    /// Digests.
    refused: Vec<String>,
    /// Sidecars that run another command on what is deployed here.
    strangers: Vec<String>,
}

/// A release that a sibling runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct RunningRelease {
    digest: String,
    source: Option<PathBuf>,
}

/// The part of a sibling's status that is read here.
#[derive(Debug, Deserialize)]
struct SiblingStatus {
    sidecar: String,
    heartbeat_ms: UnixMillis,
    phase: Phase,
    command: Option<String>,
    active: Option<RunningRelease>,
    #[serde(default)]
    refused: Vec<RefusedRelease>,
}

#[derive(Debug, Deserialize)]
struct RefusedRelease {
    digest: String,
}

// === impl Siblings ===

impl Siblings {
    /// Reads the status of all sidecars that publish in the folder `state` and run the command with
    /// this key, except `me`.
    pub fn read(state: &Path, command: &str, me: &str, now: UnixMillis) -> Self {
        let entries = fs::read_dir(state.join("sidecars"));
        let mut siblings = Self::default();
        for file in entries.into_iter().flatten().flatten() {
            // A file that is half written, or of another version, is left out.
            let content = files::read_large(&file.path()).unwrap_or_default();
            let Ok(status) = serde_json::from_slice::<SiblingStatus>(&content) else {
                continue;
            };
            let is_alive = status.heartbeat_ms.0.abs_diff(now.0) < SILENCE_MS;
            // Sidecars before 0.2 publish no command.
            let is_ours = status.command.is_none_or(|theirs| theirs == command);
            if is_alive && !is_ours {
                siblings.strangers.push(status.sidecar);
                continue;
            }
            if is_alive && status.sidecar != me && status.phase == Phase::Running {
                siblings.running.extend(status.active);
                let digests = status.refused.into_iter().map(|refused| refused.digest);
                siblings.refused.extend(digests);
            }
        }
        siblings
    }

    /// Warns of sidecars that run another command: requests are read by all of them.
    pub fn warn_of_strangers(&self, state: &Path) {
        if !self.strangers.is_empty() {
            tracing::warn!(
                event = "state_shared",
                state = %state.display(),
                sidecars = self.strangers.join(", "),
                "sidecars with another COMMAND have the same state folder: each pause, restart, \
                 rollback and maintenance reaches all of them. Give each COMMAND its own --state"
            );
        }
    }

    /// Returns an artifact that siblings run instead of this content, if some of them refused it
    /// and none of them runs it.
    pub fn alternative_to(&self, digest: Digest) -> Option<Target> {
        let digest = digest.to_string();
        let is_refused = self.refused.contains(&digest);
        if !is_refused || self.running.iter().any(|running| running.digest == digest) {
            return None;
        }
        self.other_than(&digest)
    }

    /// Returns an artifact that siblings run beside this content, which is to wait.
    pub fn beside(&self, digest: Digest) -> Option<Target> {
        self.other_than(&digest.to_string())
    }

    fn other_than(&self, digest: &str) -> Option<Target> {
        let mut others = self.running.iter().filter(|other| other.digest != digest);
        others.find_map(|running| {
            Some(Target {
                path: running.source.clone()?,
                digest: Some(Digest::parse(&running.digest).ok()?),
                id: None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn digest(content: &str) -> Digest {
        Digest::finish(Sha256::new_with_prefix(content))
    }

    fn status(sidecar: &str, heartbeat: u64, runs: &str, refuses: &str) -> String {
        let (runs, refuses) = (digest(runs), digest(refuses));
        format!(
            r#"{{"sidecar":"{sidecar}","heartbeat_ms":{heartbeat},"phase":"running",
                "active":{{"digest":"{runs}","source":"/site/app","generation":7}},
                "refused":[{{"digest":"{refuses}","reason":"bad"}}]}}"#
        )
    }

    fn read(statuses: &[String]) -> Siblings {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("sidecars")).unwrap();
        for (number, status) in statuses.iter().enumerate() {
            let file = state.path().join(format!("sidecars/{number}.json"));
            fs::write(file, status).unwrap();
        }
        Siblings::read(state.path(), "command", "me", NOW)
    }

    #[test]
    fn what_they_run_is_preferred_to_what_they_refused() {
        let siblings = read(&[status("a", NOW.0, "good", "bad"), "{half".to_owned()]);
        let instead = siblings.alternative_to(digest("bad")).unwrap();
        assert_eq!(instead.digest, Some(digest("good")));
        assert_eq!(instead.path, Path::new("/site/app"));
        assert_eq!(siblings.alternative_to(digest("new")), None);
        assert_eq!(siblings.alternative_to(digest("good")), None);
    }

    #[test]
    fn one_that_runs_it_counts_more_than_one_that_refused_it() {
        let siblings = read(&[
            status("a", NOW.0, "good", "disputed"),
            status("b", NOW.0, "disputed", "bad"),
        ]);
        assert_eq!(siblings.alternative_to(digest("disputed")), None);
    }

    #[test]
    fn another_app_in_the_same_state_folder_is_no_sibling() {
        let of = |command: &str| {
            let status = status("a", NOW.0, "good", "bad");
            status.replacen('{', &format!(r#"{{"command":"{command}","#), 1)
        };
        let stranger = read(&[of("other")]);
        assert_eq!((stranger.running, stranger.refused), Default::default());
        assert_eq!(stranger.strangers, ["a"]);
        assert_ne!(read(&[of("command")]), Siblings::default());
    }

    #[test]
    fn neither_dead_sidecars_nor_the_reading_one_count() {
        let long_ago = NOW.0 - 2 * SILENCE_MS;
        let siblings = read(&[
            status("a", long_ago, "good", "bad"),
            status("me", NOW.0, "good", "bad"),
        ]);
        assert_eq!(siblings, Siblings::default());
    }
}

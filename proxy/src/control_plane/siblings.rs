//! What other sidecars of the same deployment folder run and refuse, perhaps on other machines.
//!
//! Only a sidecar that remembers nothing asks, once, at its start: it need not find out by itself
//! what they have found out before.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::deployment::Target;
use crate::deployment::status::{Phase, UnixMillis};
use crate::release::Digest;

/// Who has not written for so long does not live any more. Clocks may differ.
const SILENCE_MS: u64 = 60_000;

/// What the others say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    running: Vec<Running>,
    refused: Vec<String>,
}

/// What one of them runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Running {
    digest: String,
    source: Option<PathBuf>,
}

/// The part of a status that matters here.
#[derive(Debug, Deserialize)]
struct Seen {
    sidecar: String,
    heartbeat_ms: UnixMillis,
    phase: Phase,
    active: Option<Running>,
    #[serde(default)]
    refused: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    digest: String,
}

// === impl Siblings ===

impl Siblings {
    /// Looks at the sidecars that publish in `state`, but for the one that looks.
    pub fn look(state: &Path, me: &str, now: UnixMillis) -> Self {
        let files = fs::read_dir(state.join("sidecars"));
        let mut siblings = Self::default();
        for file in files.into_iter().flatten().flatten() {
            // One that is being written, or is another version's, says nothing.
            let content = fs::read(file.path()).unwrap_or_default();
            let Ok(seen) = serde_json::from_slice::<Seen>(&content) else {
                continue;
            };
            let is_alive = seen.heartbeat_ms.0.abs_diff(now.0) < SILENCE_MS;
            if is_alive && seen.sidecar != me && seen.phase == Phase::Running {
                siblings.running.extend(seen.active);
                siblings
                    .refused
                    .extend(seen.refused.into_iter().map(|r| r.digest));
            }
        }
        siblings
    }

    /// For a content that some of them refused and none of them runs: where one that they run was
    /// deployed.
    pub fn instead_of(&self, digest: Digest) -> Option<Target> {
        let digest = digest.to_string();
        let is_refused = self.refused.contains(&digest);
        if !is_refused || self.running.iter().any(|running| running.digest == digest) {
            return None;
        }
        self.running.iter().find_map(|running| {
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

    fn look(statuses: &[String]) -> Siblings {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("sidecars")).unwrap();
        for (number, status) in statuses.iter().enumerate() {
            let file = state.path().join(format!("sidecars/{number}.json"));
            fs::write(file, status).unwrap();
        }
        Siblings::look(state.path(), "me", NOW)
    }

    #[test]
    fn what_they_run_is_preferred_to_what_they_refused() {
        let siblings = look(&[status("a", NOW.0, "good", "bad"), "{half".to_owned()]);
        let instead = siblings.instead_of(digest("bad")).unwrap();
        assert_eq!(instead.digest, Some(digest("good")));
        assert_eq!(instead.path, Path::new("/site/app"));
        assert_eq!(siblings.instead_of(digest("new")), None);
        assert_eq!(siblings.instead_of(digest("good")), None);
    }

    #[test]
    fn one_that_runs_it_counts_more_than_one_that_refused_it() {
        let siblings = look(&[
            status("a", NOW.0, "good", "disputed"),
            status("b", NOW.0, "disputed", "bad"),
        ]);
        assert_eq!(siblings.instead_of(digest("disputed")), None);
    }

    #[test]
    fn neither_the_dead_nor_the_one_that_looks_count() {
        let long_ago = NOW.0 - 2 * SILENCE_MS;
        let siblings = look(&[
            status("a", long_ago, "good", "bad"),
            status("me", NOW.0, "good", "bad"),
        ]);
        assert_eq!(siblings, Siblings::default());
    }
}

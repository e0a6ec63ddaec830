//! What a part of a proof has shown: plain data, kept as JSON until all parts are there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::metrics::{Example, Percentiles};
use crate::result::Failure;
use crate::scenario::{Phases, Swap};
use crate::traffic::Class;

/// One handoff under load, from its start to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// What was asked for: a part of another proof is none of this one.
    pub asked: Asked,
    /// When load began, in unix milliseconds.
    pub started_ms: u64,
    pub duration_s: f64,
    pub sent: u64,
    pub sent_again: u64,
    pub reopened: u64,
    pub failed: BTreeMap<Failure, u64>,
    pub examples: Vec<Example>,
    pub lateness: Percentiles,
    pub classes: Vec<ClassPart>,
    pub moments: Vec<Moment>,
    pub swaps: Vec<SwapPart>,
    pub shams: Vec<SwapPart>,
    /// How long the app takes by itself, under the same load.
    pub startup_ms: Vec<f64>,
    /// What went wrong beside failed requests, in words.
    pub problems: Vec<String>,
}

/// What a part was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What was under test, in a word.
    #[serde(default = "handoff")]
    pub strategy: String,
    /// From 1, of so many.
    pub number: u32,
    pub of: u32,
    pub requests: u64,
    pub swaps: u32,
    pub rate: u32,
    pub connections: usize,
    pub deploy_by: String,
    pub windows: bool,
    /// The commit that is tested, where there is one.
    pub commit: Option<String>,
    /// The start of the digest of the programs, where they are known.
    #[serde(default)]
    pub programs: Option<String>,
}

/// One class of traffic. Histograms are of answered requests after the warm-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClassPart {
    pub class: Class,
    pub sent: u64,
    pub failed: u64,
    /// From when each was due.
    pub latency: Percentiles,
    /// From when it was begun.
    pub service: Percentiles,
    pub outside: Percentiles,
    pub in_swaps: Percentiles,
    pub in_shams: Percentiles,
}

/// Half a second of quick requests. Times in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moment {
    /// Its middle, from the start of the load.
    pub at_s: f64,
    pub count: u64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
    pub failed: BTreeMap<Failure, u64>,
}

/// One deploy, real or sham.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwapPart {
    pub release: String,
    /// When its deploy was written, from the start of the load.
    pub at_s: f64,
    #[serde(flatten)]
    pub phases: Phases,
    /// When an answer first named it.
    pub seen_ms: Option<u64>,
}

/// Parts once did not say it.
fn handoff() -> String {
    "handoff".to_owned()
}

// === impl Asked ===

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            strategy: _,
            number,
            of,
            requests,
            swaps,
            rate,
            connections,
            deploy_by,
            windows,
            commit,
            programs,
        } = self;
        let system = if *windows { ", on Windows" } else { "" };
        let [commit, programs] =
            [commit, programs].map(|name| name.as_deref().unwrap_or("unknown"));
        write!(
            f,
            "part {number} of {of} with {requests} requests at {rate}/s on {connections} \
             connections and {swaps} swaps by {deploy_by}{system}, commit {commit}, programs {programs}"
        )
    }
}

// === impl Part ===

impl Part {
    /// Where part `number` is kept.
    pub fn file(folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("part-{number:03}.json"))
    }

    /// None when it has not been made.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        match fs::read(file) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A part is there as a whole, or not.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, file)
    }
}

// === impl ClassPart ===

impl ClassPart {
    pub fn new(class: Class) -> Self {
        Self {
            class,
            sent: 0,
            failed: 0,
            latency: Percentiles::new(),
            service: Percentiles::new(),
            outside: Percentiles::new(),
            in_swaps: Percentiles::new(),
            in_shams: Percentiles::new(),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.outside.merge(&other.outside);
        self.in_swaps.merge(&other.in_swaps);
        self.in_shams.merge(&other.in_shams);
    }
}

// === impl SwapPart ===

impl SwapPart {
    /// `started_ms` is when load began, `seen_ms` when a client saw it, both in unix milliseconds.
    pub fn of(swap: &Swap, started_ms: u64, seen_ms: Option<u64>) -> Self {
        Self {
            release: swap.release.clone(),
            at_s: swap.written_ms.saturating_sub(started_ms) as f64 / 1000.0,
            phases: swap.phases,
            seen_ms: seen_ms.map(|seen| seen.saturating_sub(swap.written_ms)),
        }
    }

    /// From detected to stopped, and not before clients saw it, in seconds from the start of the load.
    pub fn window_s(&self) -> Option<(f64, f64)> {
        let Phases {
            detected_ms,
            promoted_ms,
            stopped_ms,
            ..
        } = self.phases;
        let at = |ms: u64| self.at_s + ms as f64 / 1000.0;
        // Of a sham only that it has stopped is known; of a command only that it has ended.
        let end = promoted_ms.max(self.seen_ms).max(Some(stopped_ms?));
        Some((at(detected_ms?), at(end?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_when_the_old_release_is_gone_and_the_new_one_seen() {
        let window = |promoted_ms, stopped_ms, seen_ms| {
            let swap = SwapPart {
                release: "v2".to_owned(),
                at_s: 10.0,
                phases: Phases {
                    detected_ms: Some(500),
                    promoted_ms,
                    stopped_ms,
                    ..Phases::default()
                },
                seen_ms,
            };
            swap.window_s()
        };
        assert_eq!(window(Some(600), Some(2000), Some(700)), Some((10.5, 12.0)));
        // A command ends before what it has begun.
        assert_eq!(window(None, Some(600), Some(3000)), Some((10.5, 13.0)));
        assert_eq!(window(Some(600), None, Some(700)), None);
    }
}

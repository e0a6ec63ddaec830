//! The result of one part of a run: plain data, kept as JSON until all parts are there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::DeployBy;
use crate::deploy::swap::Swap;
use crate::generator::failure::Failure;
use crate::generator::mix::Clients;
use crate::histogram::Histogram;
use crate::tally::{ClassCounts, Example, Moment};

/// One server under load, from its start to its end.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Part {
    /// Description of the part; one with another description belongs to another run.
    pub spec: PartSpec,
    /// Destination of the requests.
    pub url: String,
    /// Start of the load, in unix milliseconds.
    pub started_ms: u64,
    pub duration_s: f64,
    pub sent: u64,
    pub sent_again: u64,
    pub reopened: u64,
    pub failed: BTreeMap<Failure, u64>,
    pub examples: Vec<Example>,
    pub lateness: Histogram,
    pub classes: Vec<ClassCounts>,
    pub moments: Vec<Moment>,
    pub stall_ms: f64,
    pub gap_ms: f64,
    pub swaps: Vec<Swap>,
    pub control_runs: Vec<Swap>,
    /// Start-up times of the app alone, under the same load.
    pub startup_ms: Vec<f64>,
    /// Faults besides failed requests, in words.
    pub problems: Vec<String>,
}

/// The description of a part.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PartSpec {
    /// Word for what is under test.
    pub strategy: String,
    /// Name of what is under test.
    pub title: String,
    /// Number from 1, and the number of parts.
    pub number: u32,
    pub of: u32,
    /// Minimum number of requests.
    pub requests: u64,
    /// Number of swaps; 0 for as many as there is time for.
    pub swaps: u32,
    /// Time from clients seeing a release to the next deploy.
    pub swap_every_ms: Option<u64>,
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// Answers name their release. Of others only the status is checked, and a swap is over when its
    /// deploy is.
    pub names_releases: bool,
    /// Outcomes are joined with the journal of the apps.
    pub has_journal: bool,
    #[serde(default)]
    pub clients: Clients,
    pub deploy_by: Option<DeployBy>,
    /// Command that deploys.
    pub deploy: Option<String>,
    pub windows: bool,
    pub commit: Option<String>,
    /// Start of the digest of the programs.
    pub programs: Option<String>,
}

// === impl PartSpec ===

impl PartSpec {
    /// Describes the only part of a run: sample-app's mix, without a deployer.
    pub fn new(strategy: &str, rate: NonZeroU32, connections: NonZeroUsize) -> Self {
        Self {
            strategy: strategy.to_owned(),
            title: strategy.to_owned(),
            number: 1,
            of: 1,
            requests: 0,
            swaps: 0,
            swap_every_ms: None,
            rate,
            connections,
            names_releases: true,
            has_journal: false,
            clients: Clients::Http1,
            deploy_by: None,
            deploy: None,
            windows: false,
            commit: None,
            programs: None,
        }
    }
}

impl fmt::Display for PartSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = if self.windows { ", on Windows" } else { "" };
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
        write!(
            f,
            "part {} of {} with {} requests of {} at {}/s on {} connections and {} swaps by {}{system}, \
             commit {}, programs {}",
            self.number,
            self.of,
            self.requests,
            self.clients.name(),
            self.rate,
            self.connections,
            self.swaps,
            self.deploy_by.map_or("command", DeployBy::word),
            name(&self.commit),
            name(&self.programs),
        )
    }
}

// === impl Part ===

impl Part {
    /// Returns the file of part `number`.
    pub fn file(folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("part-{number:03}.json"))
    }

    /// Reads a part; none if it has not been made.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        match fs::read(file) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the part as a whole or not at all.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, file)
    }
}

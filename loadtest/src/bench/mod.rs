//! Compares handoff with other proxies in front of the same backend, on one machine in one run.
//!
//! ```text
//! rounds ─▶ measure ─load─▶ target (direct | a rival | handoff) ─▶ backend
//!              │ /proc (usage)
//!              └─▶ figures (medians or refusal) ─▶ check ─▶ report (text, JSON)
//!           footprint ─memory of handoff alone─────▲
//! ```
//!
//! Generator, proxy and backend share the processors, for every target alike. So requests a second
//! say little of a proxy alone; its processor time per request does.

mod backend;
mod case;
mod check;
mod figures;
mod footprint;
mod load;
mod measure;
mod options;
mod report;
mod rival;
mod rounds;
mod target;
mod usage;

use std::io;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use self::backend::serve;
use self::footprint::Footprint;
use self::options::TargetName;
pub use self::options::{BackendOptions, Options};
use self::report::{Missing, Report, Version};
use self::target::{Ground, Target};
use crate::binaries::{self, BinariesError};
use crate::install;
use crate::interrupt::interrupted;
use crate::load::write_json;
use crate::summary::Machine;
use crate::system::System;

/// Enough for 5,000 connections at both ends of one process, and what else it has open.
const DESCRIPTORS: u64 = 16_384;

const TARGETS: [TargetName; 9] = [
    TargetName::Direct,
    TargetName::Relay,
    TargetName::Nginx,
    TargetName::Haproxy,
    TargetName::Caddy,
    TargetName::Pingora,
    TargetName::KamalProxy,
    TargetName::Handoff,
    TargetName::HandoffMetrics,
];

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("make a temporary folder: {0}")]
    Folder(io::Error),
    #[error("measure the direct way: {0}")]
    Direct(String),
    #[error("finish: interrupted")]
    Interrupted,
    #[error("write {file}: {source}")]
    Json { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// Does what the options ask for; whether every check holds.
///
/// # Errors
/// There is nothing to judge.
pub fn run(options: &Options) -> Result<bool, BenchError> {
    raise_descriptors();
    let handoff = if [TargetName::Handoff, TargetName::HandoffMetrics]
        .iter()
        .any(|name| options.wants(*name))
    {
        binaries::provide(&["handoff"], &System::Native, options.binaries.as_deref())?.pop()
    } else {
        None
    };
    let folder = tempfile::Builder::new()
        .prefix("handoff-bench-")
        .tempdir()
        .map_err(BenchError::Folder)?;
    let ground = Ground::new(folder.path(), handoff).map_err(BenchError::Folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Runtime)?;
    let report = runtime.block_on(bench(options, &ground))?;
    print!("{}", report::text(&report));
    if let Some(file) = &options.json {
        write_json(&report, file).map_err(|source| BenchError::Json {
            file: file.clone(),
            source,
        })?;
    }
    Ok(report.passed.unwrap_or(true))
}

async fn bench(options: &Options, ground: &Ground) -> Result<Report, BenchError> {
    let began = Instant::now();
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    // Outside of what an interrupt drops, so that they are stopped and not only killed.
    let mut targets = Vec::new();
    let measured = tokio::select! {
        measured = measure(options, ground, &mut targets) => measured,
        () = interrupted() => Err(BenchError::Interrupted),
    };
    let versions = targets.iter().map(|target| Version {
        name: target.name,
        version: target.version.clone(),
    });
    let versions = versions
        .filter(|version| !version.version.is_empty())
        .collect();
    for target in targets.into_iter().rev() {
        target.stop().await;
    }
    let (missing, cases, footprint) = measured?;
    let checks = footprint
        .as_ref()
        .map(|footprint| check::all(&cases, footprint))
        .unwrap_or_default();
    Ok(Report {
        schema: 1,
        started,
        machine: Machine::this(),
        quick: options.quick,
        duration_s: began.elapsed().as_secs_f64(),
        versions,
        missing,
        passed: options
            .check
            .then(|| checks.iter().all(|check| check.holds)),
        cases,
        footprint,
        checks,
    })
}

type Results = (Vec<Missing>, Vec<figures::Case>, Option<Footprint>);

/// What it starts it leaves in `targets`.
async fn measure(
    options: &Options,
    ground: &Ground,
    targets: &mut Vec<Target>,
) -> Result<Results, BenchError> {
    if options.install {
        install::proxies().await;
    }
    let direct = ground.direct().await.map_err(BenchError::Direct)?;
    let backend = direct.server;
    targets.push(direct);
    let mut missing = Vec::new();
    for name in TARGETS.into_iter().skip(1) {
        if !options.wants(name) {
            continue;
        }
        match ground.start(name, backend).await {
            Ok(target) => targets.push(target),
            Err(reason) => {
                eprintln!("{}: {reason}", name.text());
                missing.push(Missing { name, reason });
            }
        }
    }
    let cases = if options.cases.is_empty() {
        &case::ALL[..]
    } else {
        &options.cases
    };
    let cases = rounds::play(cases, targets, options.quick, ground).await;
    let footprint = if options.check {
        Some(footprint::measure(ground).await)
    } else {
        None
    };
    Ok((missing, cases, footprint))
}

/// For us and all that we start: 5,000 connections need more than the usual 1,024.
fn raise_descriptors() {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= DESCRIPTORS);
    if enough(now.current) {
        return;
    }
    let raised = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: if enough(now.maximum) {
            now.maximum
        } else {
            Some(DESCRIPTORS)
        },
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("loadtest: failed to raise the number of open files to {DESCRIPTORS}: {error}");
    }
}

//! `bench`: handoff and other proxies in front of the same nginx, on one machine in one run.
//!
//! ```text
//! rounds ─▶ tool (wrk, ab, h2load) ─▶ target (direct | a rival | handoff) ─▶ backend (nginx)
//!    │                                   │ /proc (usage)
//!    └─▶ figures (medians) ─▶ report (limits, text, JSON)
//!        footprint ─memory of handoff alone─▲
//!        alone ─deploys and rest of it──────▲
//! ```
//!
//! Generator, proxy and backend share the processors, for every target alike. So requests a second
//! say little of a proxy alone; its processor time for each request does.

mod alone;
mod figures;
mod footprint;
mod report;
mod rivals;
mod rounds;
mod target;
mod tool;

use std::time::{Instant, SystemTime};

use clap::ValueEnum as _;

use self::footprint::Footprint;
use self::report::{BenchReport, Note};
use self::target::{Baseline, Target};
use super::{CommandError, create_scratch, runtime};
use crate::cli::bench::{AloneName, Options, TargetName, name_of};
use crate::generator::allow_open_files;
use crate::host::binaries;
use crate::host::install;
use crate::host::interrupt::wait_for_interrupt;
use crate::host::system::System;
use crate::report::{Machine, write_json};
use crate::session::SessionError;

/// Number of descriptors for 5,000 connections at both ends of one process.
const DESCRIPTORS: usize = 16_384;

const TARGETS: [TargetName; 8] = [
    TargetName::Relay,
    TargetName::Nginx,
    TargetName::Haproxy,
    TargetName::Caddy,
    TargetName::Pingora,
    TargetName::KamalProxy,
    TargetName::Handoff,
    TargetName::HandoffMetrics,
];

/// Measures; returns whether every check holds.
pub fn run(options: &Options) -> Result<bool, CommandError> {
    binaries::warn_of_dev_build();
    if let Err(error) = allow_open_files(DESCRIPTORS) {
        eprintln!("loadtest: failed to raise the number of open files: {error}");
    }
    if !options.alone.is_empty() {
        let checks = alone::run(&options.alone, options)?;
        print!("{}", report::checks_text(&checks));
        return Ok(checks.iter().all(|check| check.holds));
    }
    let handoff = if options.wants(TargetName::Handoff) || options.wants(TargetName::HandoffMetrics)
    {
        let folder = options.binaries.as_deref();
        binaries::provide(&["handoff"], &System::Native, folder)?.pop()
    } else {
        None
    };
    let folder = create_scratch("handoff-bench-", false)?;
    let runtime = runtime()?;
    if options.install {
        runtime.block_on(install::install(&[install::PROXIES, install::TOOLS]));
    }
    let baseline = Baseline::create(folder.path(), handoff).map_err(direct_failed)?;
    let mut report = runtime.block_on(bench(options, &baseline))?;
    if options.check {
        report.add(alone::run(AloneName::value_variants(), options)?);
    }
    print!("{}", report::text(&report));
    if let Some(file) = &options.json {
        write_json(&report, file).map_err(CommandError::write(file))?;
    }
    Ok(report.passed.unwrap_or(true))
}

async fn bench(options: &Options, baseline: &Baseline) -> Result<BenchReport, CommandError> {
    let began = Instant::now();
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    // Outside of the interrupted future, so that they are stopped and not only killed.
    let mut targets = Vec::new();
    let measured = tokio::select! {
        measured = measure(options, baseline, &mut targets) => measured,
        () = wait_for_interrupt() => Err(CommandError::Session(SessionError::Interrupted(0))),
    };
    let versions = targets.iter().map(|target| Note {
        name: target.name,
        text: target.version.clone(),
    });
    let versions = versions.collect();
    for target in targets.into_iter().rev() {
        target.stop().await;
    }
    let (missing, cases, footprint) = measured?;
    let checks = footprint
        .as_ref()
        .map(|footprint| report::check(&cases, footprint));
    let checks = checks.unwrap_or_default();
    Ok(BenchReport {
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

type Results = (Vec<Note>, Vec<figures::Case>, Option<Footprint>);

/// Measures; started targets are left in `targets`.
async fn measure(
    options: &Options,
    baseline: &Baseline,
    targets: &mut Vec<Target>,
) -> Result<Results, CommandError> {
    let direct = baseline.direct().await.map_err(direct_failed)?;
    targets.push(direct);
    let cases = if options.cases.is_empty() {
        &rounds::ALL[..]
    } else {
        &options.cases
    };
    let ways = rounds::ways(cases);
    let mut missing = Vec::new();
    for name in TARGETS {
        if !options.wants(name) {
            continue;
        }
        match baseline.start(name, &targets[0], &ways).await {
            Ok(target) => targets.push(target),
            Err(text) => {
                eprintln!("{}: {text}", name_of(name));
                missing.push(Note { name, text });
            }
        }
    }
    let cases = rounds::play(cases, targets, options.quick, baseline).await;
    let footprint = if options.check {
        Some(footprint::measure(baseline).await)
    } else {
        None
    };
    Ok((missing, cases, footprint))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn direct_failed(why: String) -> CommandError {
    CommandError::Other(format!("measure the direct way: {why}"))
}

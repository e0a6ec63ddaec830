//! The demo: build, start, offer load while releases are swapped, stop, report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CommandError, Outputs, create_scratch, publish, remove_scratch, runtime, show_log};
use crate::cli::{DeployBy, Options, StrategyName};
use crate::deploy::handoff::Handoff;
use crate::deploy::release::{self, Release};
use crate::deploy::restart::Restart;
use crate::deploy::site::Site;
use crate::generator::mix::{Clients, Mix};
use crate::host::binaries;
use crate::host::system::System;
use crate::report::part::{Part, PartSpec};
use crate::schedule::Pace;
use crate::session::{self, REQUEST_TIMEOUT, SessionError, SessionPlan};
use crate::units::millis;

/// Runs the demo; returns whether it passed.
pub fn run(options: &Options) -> Result<bool, CommandError> {
    let programs: &[&str] = match options.strategy {
        StrategyName::Handoff => &["sample-app", "handoff"],
        StrategyName::Restart => &["sample-app"],
    };
    let system = System::from_option(options.windows)?;
    let binaries = binaries::provide(programs, &system, options.binaries.as_deref())?;
    let folder = create_scratch("handoff-loadtest-", options.keep)?;
    let log = folder.path().join("output.log");
    let held = runtime()?.block_on(hold(folder.path(), &log, options, &system, &binaries));
    let passed = match held {
        Ok(part) => {
            let outputs = Outputs {
                json: options.json.clone(),
                ..Outputs::default()
            };
            let passed = publish(std::slice::from_ref(&part), &outputs)?;
            // A restart fails as it must; its log explains nothing.
            if !passed && options.strategy == StrategyName::Handoff {
                show_log(&log);
            }
            Ok(passed)
        }
        Err(error) => {
            if matches!(error, CommandError::Session(SessionError::Strategy(_))) {
                show_log(&log);
            }
            Err(error)
        }
    };
    remove_scratch(folder, options.keep);
    passed
}

async fn hold(
    folder: &Path,
    log: &Path,
    options: &Options,
    system: &System,
    binaries: &[PathBuf],
) -> Result<Part, CommandError> {
    let site = Site::create(folder.join("site"), options.deploy_by, system.clone());
    let site = site.map_err(CommandError::folder(folder))?;
    let numbers = 1..=options.swaps.saturating_add(1);
    let releases = release::make(&binaries[0], &site.workshop(), numbers, &[], system);
    let releases = releases.map_err(CommandError::Releases)?;
    let spec = spec(options);
    let plan = plan(&spec, &releases, options.swap_every);
    let part = match options.strategy {
        StrategyName::Handoff => {
            let command = ["-port", "{port}"].map(Into::into);
            let start =
                Handoff::start(&[], &binaries[1], site, &releases[0], &command, folder, log);
            session::hold(start, &plan).await?
        }
        StrategyName::Restart => {
            session::hold(Restart::start(site, &releases[0], log), &plan).await?
        }
    };
    Ok(part)
}

/// Plans the demo's mix; the first of the releases serves already.
pub(crate) fn plan<'a>(
    spec: &'a PartSpec,
    releases: &'a [Release],
    every: Duration,
) -> SessionPlan<'a> {
    SessionPlan {
        spec,
        mix: if spec.clients == Clients::Visits {
            Mix::sessions(spec.rate, spec.connections)
        } else {
            Mix::plain(spec.rate, spec.connections)
        },
        timeout: REQUEST_TIMEOUT,
        destination: None,
        serves: 1,
        releases: releases.get(1..).unwrap_or_default(),
        controls: &[],
        pace: Pace::AfterSeen {
            every,
            at_most: None,
        },
        startup: None,
        journal: None,
    }
}

fn spec(options: &Options) -> PartSpec {
    let (strategy, title) = match (options.strategy, options.deploy_by) {
        (StrategyName::Restart, _) => ("restart", "stop, replace, start"),
        (StrategyName::Handoff, DeployBy::Overwrite) => {
            ("handoff", "handoff, artifact overwritten in place")
        }
        (StrategyName::Handoff, DeployBy::Watch) => ("handoff", "handoff, watched folder"),
        (StrategyName::Handoff, DeployBy::Pointer) => ("handoff", "handoff, pointer file"),
    };
    let is_handoff = options.strategy == StrategyName::Handoff;
    PartSpec {
        title: title.to_owned(),
        swaps: options.swaps,
        swap_every_ms: Some(millis(options.swap_every)),
        deploy_by: is_handoff.then_some(options.deploy_by),
        windows: options.windows,
        ..PartSpec::new(strategy, options.rate, options.connections)
    }
}

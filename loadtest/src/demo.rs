//! The run: build, start, offer load while the scenario plays, stop, tell.

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;

use crate::binaries::{self, BinariesError};
use crate::cli::{DeployBy, Options, StrategyName};
use crate::load::{self, LoadError, Order};
use crate::process::last_lines;
use crate::release::{self, Release};
use crate::report::{self, Style};
use crate::scratch;
use crate::site::Site;
use crate::strategy::{Handoff, Restart, Strategy, StrategyError};
use crate::system::{System, WineError};

/// So many lines of the log explain a failure.
const LOG_LINES: usize = 30;

/// Whether the run has shown what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("make a temporary folder: {0}")]
    Folder(io::Error),
    #[error("make the releases: {0}")]
    Releases(io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Wine(#[from] WineError),
    #[error("write {file}: {source}")]
    Json { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// Does what the options ask for.
///
/// # Errors
/// There is no verdict, as the run could not be made.
pub fn run(options: &Options) -> Result<Verdict, DemoError> {
    let packages: &[&str] = match options.strategy {
        StrategyName::Handoff => &["sample-app", "handoff"],
        StrategyName::Restart => &["sample-app"],
    };
    let system = System::asked(options.windows)?;
    let binaries = binaries::provide(packages, &system, options.binaries.as_deref())?;
    let folder = scratch::folder("handoff-loadtest-", options.keep).map_err(DemoError::Folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Runtime)?;
    let verdict = runtime.block_on(run_in(folder.path(), options, &system, &binaries));
    scratch::end(folder, options.keep);
    verdict
}

async fn run_in(
    folder: &Path,
    options: &Options,
    system: &System,
    binaries: &[PathBuf],
) -> Result<Verdict, DemoError> {
    let site = Site::create(folder.join("site"), options.deploy_by, system.clone());
    let site = site.map_err(DemoError::Folder)?;
    let count = options.swaps.saturating_add(1);
    let releases = release::make(&binaries[0], &site.workshop(), count, system)
        .map_err(DemoError::Releases)?;
    let log = folder.join("output.log");
    let verdict = match options.strategy {
        StrategyName::Handoff => {
            let command = ["-port", "{port}"].map(Into::into);
            let start = Handoff::start(&binaries[1], site, &releases[0], &command, folder, &log);
            measure(start, options, &releases).await
        }
        StrategyName::Restart => {
            measure(Restart::start(site, &releases[0], &log), options, &releases).await
        }
    };
    let log_explains = match verdict {
        // A restart fails as it must; its log has nothing to say.
        Ok(Verdict::Failed) => options.strategy == StrategyName::Handoff,
        Err(DemoError::Load(LoadError::Strategy(_))) => true,
        Ok(Verdict::Passed) | Err(_) => false,
    };
    if log_explains {
        eprintln!("\nThe last lines of the output:");
        for line in last_lines(&log, LOG_LINES) {
            eprintln!("  {line}");
        }
    }
    verdict
}

/// Starts, offers load while the scenario plays, stops, tells.
async fn measure<S: Strategy>(
    start: impl Future<Output = Result<S, StrategyError>>,
    options: &Options,
    releases: &[Release],
) -> Result<Verdict, DemoError> {
    let is_handoff = options.strategy == StrategyName::Handoff;
    let order = Order {
        strategy: options
            .strategy
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned()),
        title: title(options).to_owned(),
        deploy_by: is_handoff.then_some(options.deploy_by),
        ..Order::of_sample_app(
            options.rate,
            options.connections,
            releases,
            options.swap_every,
        )
    };
    let summary = load::measure(start, &order).await?;
    print!("{}", report::text(&summary, Style::of_stdout()));
    if let Some(file) = &options.json {
        load::write_json(&summary, file).map_err(|source| DemoError::Json {
            file: file.clone(),
            source,
        })?;
    }
    Ok(if summary.passed {
        Verdict::Passed
    } else {
        Verdict::Failed
    })
}

fn title(options: &Options) -> &'static str {
    match (options.strategy, options.deploy_by) {
        (StrategyName::Restart, _) => "stop, replace, start",
        (StrategyName::Handoff, DeployBy::Overwrite) => "handoff, artifact overwritten in place",
        (StrategyName::Handoff, DeployBy::Watch) => "handoff, watched folder",
        (StrategyName::Handoff, DeployBy::Pointer) => "handoff, pointer file",
    }
}

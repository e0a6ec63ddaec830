//! The proof: every class of traffic over many swaps, in parts, each joined with its journal.
//!
//! ```text
//! script ─swaps, shams─▶ handoff ─▶ apps ─▶ journal ─┐
//!                           ▲                        ├─▶ ledger ─▶ part ─┐
//! attack ─requests──────────┘─▶ outcomes ─▶ tally ───┘      (JSON each)  ├─▶ record ─▶ text, JSON
//!                                                           more parts ──┘      └────▶ page (HTML)
//! ```

mod bounds;
mod commit;
mod ledger;
mod offer;
mod options;
mod page;
mod part;
mod record;
mod script;
mod startup;
mod tally;
mod text;

use std::fs;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use sample_app::journal::ReadError;

use self::offer::{Pace, Stage};
pub use self::options::Options;
use self::part::{Asked, Part};
use self::record::Record;
use self::script::SHAM_LIFE;
use crate::binaries::{self, BinariesError};
use crate::load::{REQUEST_TIMEOUT, write_json};
use crate::process::last_lines;
use crate::release::{self, Release};
use crate::report::Style;
use crate::scratch;
use crate::site::Site;
use crate::strategy::{Handoff, Hook, StrategyError};
use crate::system::{System, WineError};
use crate::traffic::Place;

/// Shams are numbered from here: if one ever answered, it would be a release that was never due.
const SHAMS: u32 = 1_000_000;

/// So many lines of the log explain a failure.
const LOG_LINES: usize = 30;

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("make the folder {folder}: {source}")]
    Folder { folder: PathBuf, source: io::Error },
    #[error("read the programs: {0}")]
    Programs(io::Error),
    #[error("make the releases: {0}")]
    Releases(io::Error),
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    #[error(transparent)]
    Wine(#[from] WineError),
    #[error("offer load: {0}")]
    Attack(io::Error),
    #[error("join the journal: {0}")]
    Journal(#[from] ReadError),
    #[error("finish: interrupted; what a part has shown is kept when it is over (--into)")]
    Interrupted,
    #[error("read {file}: {source}")]
    Read { file: PathBuf, source: io::Error },
    #[error(
        "go on in {file}: it was asked for {there}, and this call asks for {here}; give the same \
         options, or another folder (--into)"
    )]
    AskedElse {
        file: PathBuf,
        there: String,
        here: String,
    },
    #[error("write {file}: {source}")]
    Write { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// What the parts of one call work with.
struct Workplace<'a> {
    options: &'a Options,
    system: System,
    /// sample-app and handoff.
    binaries: Vec<PathBuf>,
}

/// Does what the options ask for; whether it passed.
///
/// # Errors
/// There is no verdict, as a part could not be made.
pub fn run(options: &Options) -> Result<bool, ProveError> {
    let system = System::asked(options.windows)?;
    if let Some(folder) = &options.into {
        fs::create_dir_all(folder).map_err(|source| ProveError::Folder {
            folder: folder.clone(),
            source,
        })?;
    }
    let packages = ["sample-app", "handoff"];
    let binaries = binaries::provide(&packages, &system, options.binaries.as_deref())?;
    let workplace = Workplace {
        options,
        system,
        binaries,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProveError::Runtime)?;
    let mut parts = Vec::new();
    let tested = Tested {
        commit: commit::current(),
        programs: Some(commit::programs(&workplace.binaries).map_err(ProveError::Programs)?),
    };
    for asked in asked(options, &tested) {
        parts.push(workplace.part(&runtime, &asked)?);
    }
    let into = |name: &str| options.into.as_ref().map(|folder| folder.join(name));
    let both = |asked: &Option<PathBuf>, name| asked.clone().into_iter().chain(into(name));
    let files = Files {
        json: both(&options.json, "result.json").collect(),
        html: both(&options.html, "report.html").collect(),
        svg: into("latency.svg"),
    };
    tell(&parts, &files)
}

/// What exactly is tested, as far as it is known.
#[derive(Debug, Default)]
struct Tested {
    commit: Option<String>,
    programs: Option<String>,
}

/// Where a result is written to.
#[derive(Debug)]
struct Files {
    json: Vec<PathBuf>,
    html: Vec<PathBuf>,
    /// The first plot of the page.
    svg: Option<PathBuf>,
}

/// What is offered to a server that runs already, and joined with the journal of its apps.
#[derive(Debug)]
pub struct Standing<'a> {
    pub place: Place,
    pub journal: &'a Path,
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// For one request.
    pub timeout: Duration,
    /// The newest release that may answer before something is deployed.
    pub serves: u32,
    pub releases: &'a [Release],
    pub every: Duration,
    /// Load is offered for so long, else until everything is deployed.
    pub at_most: Option<Duration>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
}

/// Does so, deploying by `hook`; whether it passed.
///
/// # Errors
/// There is no verdict, as it could not be made.
pub async fn against(standing: &Standing<'_>, hook: Hook) -> Result<bool, ProveError> {
    let requests = standing.at_most.map_or(0.0, |time| {
        time.as_secs_f64() * f64::from(standing.rate.get())
    });
    // With a time, as many as there is time for.
    let swaps = match standing.at_most {
        Some(_) => 0,
        None => standing.releases.len(),
    };
    let asked = Asked {
        strategy: "server".to_owned(),
        number: 1,
        of: 1,
        requests: requests as u64,
        swaps: u32::try_from(swaps).unwrap_or(u32::MAX),
        rate: standing.rate.get(),
        connections: standing.connections.get(),
        deploy_by: "command".to_owned(),
        windows: false,
        commit: commit::current(),
        programs: None,
    };
    let stage = Stage {
        asked: &asked,
        rate: standing.rate,
        connections: standing.connections,
        timeout: standing.timeout,
        place: Some(standing.place.clone()),
        serves: standing.serves,
        startup: None,
        swaps: standing.releases,
        shams: &[],
        pace: Pace::Every(standing.every, standing.at_most),
        system: &System::Native,
        journal: standing.journal,
        // Nothing is started that could write one.
        log: Path::new(""),
    };
    let part = offer::part(&stage, hook).await?;
    let files = Files {
        json: Vec::from_iter(standing.json.clone()),
        html: Vec::from_iter(standing.html.clone()),
        svg: None,
    };
    tell(&[part], &files)
}

/// All parts of what the options ask for.
fn asked(options: &Options, tested: &Tested) -> Vec<Asked> {
    let (requests, most) = (options.requests.get(), options.part.get());
    let of = u32::try_from(requests.div_ceil(most)).unwrap_or(u32::MAX);
    // What does not divide goes to the first parts.
    let share = |whole: u64, number: u32| {
        let of = u64::from(of);
        whole / of + u64::from(u64::from(number) <= whole % of)
    };
    let part = |number| Asked {
        strategy: "handoff".to_owned(),
        number,
        of,
        requests: share(requests, number),
        swaps: share(options.swaps.into(), number) as u32,
        rate: options.rate.get(),
        connections: options.connections.get(),
        deploy_by: options
            .deploy_by
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned()),
        windows: options.windows,
        commit: tested.commit.clone(),
        programs: tested.programs.clone(),
    };
    (1..=of).map(part).collect()
}

fn tell(parts: &[Part], files: &Files) -> Result<bool, ProveError> {
    let whole = Asked {
        requests: parts.iter().map(|part| part.asked.requests).sum(),
        swaps: parts.iter().map(|part| part.asked.swaps).sum(),
        ..parts[0].asked.clone()
    };
    let record = Record::new(parts, &whole);
    print!("{}", text::text(&record, Style::of_stdout()));
    for file in &files.json {
        write_json(&record, file).map_err(written(file))?;
    }
    for file in &files.html {
        let html = page::html(&record, parts).map_err(io::Error::other);
        write(file, html)?;
    }
    if let Some(file) = &files.svg
        && record.latency_withheld.is_none()
    {
        let svg = page::picture(&record, parts).map_err(io::Error::other);
        write(file, svg)?;
    }
    Ok(record.passed)
}

fn write(file: &Path, content: io::Result<String>) -> Result<(), ProveError> {
    content
        .and_then(|content| fs::write(file, content))
        .map_err(written(file))
}

fn written(file: &Path) -> impl FnOnce(io::Error) -> ProveError {
    move |source| ProveError::Write {
        file: file.to_owned(),
        source,
    }
}

// === impl Workplace ===

impl Workplace<'_> {
    /// The part that is there already, or else a new one.
    fn part(&self, runtime: &tokio::runtime::Runtime, asked: &Asked) -> Result<Part, ProveError> {
        let file = self
            .options
            .into
            .as_ref()
            .map(|folder| Part::file(folder, asked.number));
        if let Some(file) = &file {
            let there = Part::read(file).map_err(|source| ProveError::Read {
                file: file.clone(),
                source,
            })?;
            match there {
                Some(part) if part.asked == *asked => {
                    eprintln!("part {} of {} is there", asked.number, asked.of);
                    return Ok(part);
                }
                Some(part) => {
                    return Err(ProveError::AskedElse {
                        file: file.clone(),
                        there: part.asked.to_string(),
                        here: asked.to_string(),
                    });
                }
                None => {}
            }
        }
        eprintln!("part {} of {}", asked.number, asked.of);
        let part = self.make(runtime, asked)?;
        if let Some(file) = file {
            part.write(&file).map_err(written(&file))?;
        }
        Ok(part)
    }

    fn make(&self, runtime: &tokio::runtime::Runtime, asked: &Asked) -> Result<Part, ProveError> {
        let folder = scratch::folder("handoff-prove-", self.options.keep).map_err(|source| {
            ProveError::Folder {
                folder: std::env::temp_dir(),
                source,
            }
        })?;
        let log = folder.path().join("output.log");
        let result = runtime.block_on(self.make_in(folder.path(), &log, asked));
        let is_good = result.as_ref().is_ok_and(|part| {
            part.problems.is_empty() && part.failed.values().all(|count| *count == 0)
        });
        if !is_good {
            eprintln!("\nThe last lines of the output:");
            for line in last_lines(&log, LOG_LINES) {
                eprintln!("  {line}");
            }
        }
        scratch::end(folder, self.options.keep);
        result
    }

    async fn make_in(&self, folder: &Path, log: &Path, asked: &Asked) -> Result<Part, ProveError> {
        let options = self.options;
        let site = Site::create(folder.join("site"), options.deploy_by, self.system.clone());
        let site = site.map_err(|source| ProveError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let (app, handoff) = (&self.binaries[0], &self.binaries[1]);
        let workshop = site.workshop();
        let releases = release::make(app, &workshop, asked.swaps + 1, &self.system);
        let releases = releases.map_err(ProveError::Releases)?;
        let args = ["--never-ready", "--crash-after", SHAM_LIFE];
        let numbers = SHAMS + 1..=SHAMS + asked.swaps;
        let shams = release::make_that(app, &workshop, numbers, &args, &self.system);
        let shams = shams.map_err(ProveError::Releases)?;
        let journal = folder.join("journal");
        let stage = Stage {
            asked,
            rate: options.rate,
            connections: options.connections,
            timeout: REQUEST_TIMEOUT,
            place: None,
            serves: 1,
            startup: releases.first(),
            swaps: releases.get(1..).unwrap_or_default(),
            shams: &shams,
            pace: Pace::Spread,
            system: &self.system,
            journal: &journal,
            log,
        };
        let journal = self.system.path(&journal);
        let command = ["-port".into(), "{port}".into(), "--journal".into(), journal];
        let strategy = Handoff::start(handoff, site, &releases[0], &command, folder, log).await?;
        offer::part(&stage, strategy).await
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Command, Options as Cli};

    fn options(arguments: &[&str]) -> Options {
        let arguments = ["loadtest", "prove"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Prove(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_proof_is_a_million_requests_over_a_hundred_swaps() {
        let asked = asked(&options(&[]), &Tested::default());
        assert_eq!(asked.len(), 10);
        assert!(
            asked
                .iter()
                .all(|part| (part.requests, part.swaps) == (100_000, 10))
        );
    }

    #[test]
    fn what_does_not_divide_is_not_left_out() {
        let asked = asked(
            &options(&["--requests", "250001", "--swaps", "7"]),
            &Tested::default(),
        );
        let parts: Vec<(u64, u32)> = asked
            .iter()
            .map(|part| (part.requests, part.swaps))
            .collect();
        assert_eq!(parts, [(83_334, 3), (83_334, 2), (83_333, 2)]);
    }

    #[test]
    fn a_part_that_is_there_is_not_made_again_and_one_of_other_options_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().to_str().unwrap();
        let options = options(&["--requests", "1000", "--swaps", "3", "--into", into]);
        let part = record::tests::part(1000, 3);
        let tested = Tested {
            commit: Some("abc".to_owned()),
            programs: None,
        };
        assert_eq!(asked(&options, &tested), std::slice::from_ref(&part.asked));
        part.write(&Part::file(folder.path(), 1)).unwrap();
        // There is nothing to make one with.
        let workplace = Workplace {
            options: &options,
            system: System::Native,
            binaries: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let there = workplace.part(&runtime, &part.asked).unwrap();
        assert_eq!(there.sent, part.sent);
        let refused = |other: Asked| workplace.part(&runtime, &other).unwrap_err().to_string();
        let error = refused(Asked {
            swaps: 4,
            ..part.asked.clone()
        });
        assert!(
            error.contains("3 swaps") && error.contains("4 swaps"),
            "{error}"
        );
        let error = refused(Asked {
            commit: Some("of another program".to_owned()),
            ..part.asked
        });
        assert!(error.contains("commit of another program"), "{error}");
    }
}

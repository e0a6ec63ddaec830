//! `prove`: every class of traffic over many swaps, in parts, each joined with its journal.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{CommandError, Outputs, create_scratch, publish, remove_scratch, runtime, show_log};
use crate::cli::soak::Options;
use crate::deploy::handoff::Handoff;
use crate::deploy::release;
use crate::deploy::site::Site;
use crate::generator::mix::{Clients, Mix};
use crate::host::binaries;
use crate::host::revision;
use crate::host::system::System;
use crate::report::part::{Part, PartSpec};
use crate::schedule::{CONTROL_LIFE, Pace};
use crate::session::{self, REQUEST_TIMEOUT, SessionPlan, Startup};

/// Number from which releases of control runs count: if one ever answered, it would be a release
/// that was never deployed.
const CONTROLS: u32 = 1_000_000;

/// Options of handoff with which clients who stay over swaps lose nothing: an old release serves them
/// for longer than a session or a page lasts, and ends before a stream does.
const STAYING: &[&str] = &[
    "--sticky=cookie",
    "--session-timeout=7s",
    "--tunnel-drain-timeout=1s",
    "--max-draining=8",
    "--keep-assets=/assets/=assets",
];

/// Options of handoff with which an app of gRPC is reached, and a stream can be longer than a drain.
const GRPC: &[&str] = &[
    "--app-protocol=h2c",
    "--health-grpc=sample.App",
    "--tunnel-drain-timeout=3s",
];

/// The programs and options of all parts.
struct Soak<'a> {
    options: &'a Options,
    system: System,
    /// sample-app and handoff.
    binaries: Vec<PathBuf>,
}

/// Runs all parts; returns whether they passed.
pub fn run(options: &Options) -> Result<bool, CommandError> {
    if options.into.is_some() {
        binaries::warn_of_dev_build();
    }
    let system = System::from_option(options.windows)?;
    if let Some(folder) = &options.into {
        fs::create_dir_all(folder).map_err(CommandError::folder(folder))?;
    }
    let programs = ["sample-app", "handoff"];
    let soak = Soak {
        options,
        binaries: binaries::provide(&programs, &system, options.binaries.as_deref())?,
        system,
    };
    let programs =
        revision::programs(&soak.binaries).map_err(CommandError::read(&soak.binaries[0]))?;
    let base = PartSpec {
        title: "every class of traffic, joined with the journal".to_owned(),
        commit: revision::commit(),
        programs: Some(programs),
        ..PartSpec::new("handoff", options.rate, options.connections)
    };
    let runtime = runtime()?;
    let parts = specs(options, &base)
        .iter()
        .map(|spec| soak.part(&runtime, spec))
        .collect::<Result<Vec<Part>, CommandError>>()?;
    let outputs = Outputs {
        json: options.json.clone(),
        html: options.html.clone(),
        record: options.into.clone(),
    };
    publish(&parts, &outputs)
}

/// Describes all parts.
fn specs(options: &Options, base: &PartSpec) -> Vec<PartSpec> {
    let (requests, most) = (options.requests.get(), options.part.get());
    // One for all kinds of clients at least.
    let kinds = Clients::ALL.len() as u64;
    let of = u32::try_from(requests.div_ceil(most).max(kinds)).unwrap_or(u32::MAX);
    // The remainder goes to the first parts.
    let share = |whole: u64, number: u32| {
        let of = u64::from(of);
        whole / of + u64::from(u64::from(number) <= whole % of)
    };
    let spec = |number| PartSpec {
        number,
        of,
        requests: share(requests, number),
        swaps: share(options.swaps.into(), number) as u32,
        has_journal: true,
        // What clients keep, and gRPC, need options, and most deployments do without.
        clients: Clients::ALL[(number as usize - 1) % Clients::ALL.len()],
        deploy_by: Some(options.deploy_by),
        windows: options.windows,
        ..base.clone()
    };
    (1..=of).map(spec).collect()
}

// === impl Soak ===

impl Soak<'_> {
    /// Returns the part that is there already, or makes it.
    fn part(&self, runtime: &Runtime, spec: &PartSpec) -> Result<Part, CommandError> {
        let folder = self.options.into.as_deref();
        let file = folder.map(|folder| Part::file(folder, spec.number));
        if let Some(file) = &file {
            let there = Part::read(file).map_err(CommandError::read(file))?;
            match there {
                Some(part) if part.spec == *spec => {
                    eprintln!("part {} of {} is there", spec.number, spec.of);
                    return Ok(part);
                }
                Some(part) => {
                    return Err(CommandError::Other(format!(
                        "go on in {}: it was asked for {}, and this call asks for {spec}; give the \
                         same options, or another folder (--into)",
                        file.display(),
                        part.spec
                    )));
                }
                None => {}
            }
        }
        eprintln!("part {} of {}", spec.number, spec.of);
        let part = self.make(runtime, spec)?;
        if let Some(file) = file {
            part.write(&file).map_err(CommandError::write(&file))?;
        }
        Ok(part)
    }

    fn make(&self, runtime: &Runtime, spec: &PartSpec) -> Result<Part, CommandError> {
        let folder = create_scratch("handoff-prove-", self.options.keep)?;
        let log = folder.path().join("output.log");
        let result = runtime.block_on(self.hold(folder.path(), &log, spec));
        let is_good = result.as_ref().is_ok_and(|part| {
            part.problems.is_empty() && part.failed.values().all(|count| *count == 0)
        });
        if !is_good {
            show_log(&log);
        }
        remove_scratch(folder, self.options.keep);
        result
    }

    async fn hold(&self, folder: &Path, log: &Path, spec: &PartSpec) -> Result<Part, CommandError> {
        let system = &self.system;
        let site = Site::create(folder.join("site"), self.options.deploy_by, system.clone());
        let site = site.map_err(CommandError::folder(folder))?;
        let (app, handoff) = (&self.binaries[0], &self.binaries[1]);
        let workshop = site.workshop();
        let releases = release::make(app, &workshop, 1..=spec.swaps + 1, &[], system);
        let releases = releases.map_err(CommandError::Releases)?;
        let args = ["--never-ready", "--crash-after", CONTROL_LIFE];
        let numbers = CONTROLS + 1..=CONTROLS + spec.swaps;
        let controls = release::make(app, &workshop, numbers, &args, system);
        let controls = controls.map_err(CommandError::Releases)?;
        let journal = folder.join("journal");
        let plan = SessionPlan {
            spec,
            mix: Mix::Classes(spec.clients),
            timeout: REQUEST_TIMEOUT,
            destination: None,
            serves: 1,
            releases: releases.get(1..).unwrap_or_default(),
            controls: &controls,
            // The time that the requests take.
            pace: Pace::Spread {
                over: Duration::from_secs_f64(spec.requests as f64 / f64::from(spec.rate.get())),
            },
            startup: releases.first().map(|release| Startup {
                release,
                system,
                log,
            }),
            journal: Some(&journal),
        };
        let journal = system.path(&journal);
        let command = ["-port".into(), "{port}".into(), "--journal".into(), journal];
        let options = match spec.clients {
            Clients::Http1 | Clients::Http2 => &[],
            Clients::Visits => STAYING,
            Clients::Grpc => GRPC,
        };
        let start = Handoff::start(options, handoff, site, &releases[0], &command, folder, log);
        Ok(session::hold(start, &plan).await?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Command, Options as Cli};
    use crate::report;

    fn options(arguments: &[&str]) -> Options {
        let arguments = ["loadtest", "prove"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Prove(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn base(options: &Options) -> PartSpec {
        PartSpec {
            commit: Some("abc".to_owned()),
            ..PartSpec::new("handoff", options.rate, options.connections)
        }
    }

    fn parts(arguments: &[&str]) -> Vec<(u64, u32)> {
        let options = options(arguments);
        let specs = specs(&options, &base(&options));
        specs
            .iter()
            .map(|spec| (spec.requests, spec.swaps))
            .collect()
    }

    #[test]
    fn a_proof_is_a_million_requests_over_a_hundred_swaps() {
        let rate = ["--rate", "1000"];
        assert_eq!(parts(&rate), [(50_000, 5); 20]);
    }

    #[test]
    fn what_does_not_divide_is_not_left_out() {
        let parts = parts(&["--requests", "250001", "--swaps", "7"]);
        assert_eq!(
            parts,
            [
                (41_667, 2),
                (41_667, 1),
                (41_667, 1),
                (41_667, 1),
                (41_667, 1),
                (41_666, 1)
            ]
        );
    }

    #[test]
    fn a_part_that_is_there_is_not_made_again_and_one_of_other_options_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().to_str().unwrap();
        let options = options(&["--requests", "4000", "--swaps", "12", "--into", into]);
        let mut part = report::tests::part(1000, 3);
        part.spec.of = 4;
        part.spec.rate = options.rate;
        let specs = specs(&options, &base(&options));
        assert_eq!(specs[0], part.spec);
        let clients: Vec<Clients> = specs.iter().map(|spec| spec.clients).collect();
        assert_eq!(clients, Clients::ALL);
        part.write(&Part::file(folder.path(), 1)).unwrap();
        // There are no programs to make a part with.
        let soak = Soak {
            options: &options,
            system: System::Native,
            binaries: Vec::new(),
        };
        let runtime = runtime().unwrap();
        assert_eq!(soak.part(&runtime, &specs[0]).unwrap().sent, 1000);
        let other = PartSpec {
            swaps: 4,
            ..specs[0].clone()
        };
        let error = soak.part(&runtime, &other).unwrap_err().to_string();
        assert!(
            error.contains("and 3 swaps") && error.contains("and 4 swaps"),
            "{error}"
        );
    }
}

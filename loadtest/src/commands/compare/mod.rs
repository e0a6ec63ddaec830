//! `compare`: the same load and the same swaps on handoff and on other ways to deploy, in turn.

mod article;
mod contender;
mod markdown;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::ValueEnum as _;

use self::article::Article;
use self::contender::{Contender, Setup};
use self::table::{Comparison, Load, Row, Skipped};
use super::{CommandError, create_scratch, demo, remove_scratch, runtime};
use crate::cli::DeployBy;
use crate::cli::bench::name_of;
use crate::cli::compare::{ContenderName, Options};
use crate::deploy::handoff::Handoff;
use crate::deploy::release::{self, Release};
use crate::deploy::restart::Restart;
use crate::deploy::site::Site;
use crate::generator::mix::Clients;
use crate::host::binaries;
use crate::host::install::{self, first_line};
use crate::host::system::System;
use crate::report::part::PartSpec;
use crate::report::table::Style;
use crate::report::{Machine, Report, write_json};
use crate::session::{self, SessionError};
use crate::units::millis;

/// Options of handoff with sessions, which last for four seconds.
const STAYING: &[&str] = &[
    "--sticky=cookie",
    "--session-timeout=7s",
    "--max-draining=8",
];

/// The programs, releases and options of all ways to deploy.
struct Baseline<'a> {
    options: &'a Options,
    folder: &'a Path,
    handoff: PathBuf,
    /// The platform and the article's app, if they take part.
    article: Option<[PathBuf; 2]>,
    /// Releases of sample-app.
    releases: Vec<Release>,
}

/// Compares them; returns whether all could be run and handoff failed nothing.
pub fn run(options: &Options) -> Result<bool, CommandError> {
    binaries::warn_of_dev_build();
    let mut programs = vec!["handoff", "sample-app"];
    if takes_part(options, ContenderName::Article) {
        programs.extend(["platform", "article"]);
    }
    let built = binaries::provide(&programs, &System::Native, options.binaries.as_deref())?;
    let folder = create_scratch("handoff-compare-", options.keep)?;
    // As /proc names it, and short: some keep sockets there.
    let path = folder.path().canonicalize();
    let path = path.map_err(CommandError::folder(folder.path()))?;
    let numbers = 1..=options.swaps.saturating_add(1);
    let target = path.join("releases");
    let releases = release::make(&built[1], &target, numbers, &[], &System::Native);
    let baseline = Baseline {
        options,
        folder: &path,
        handoff: built[0].clone(),
        article: <[PathBuf; 2]>::try_from(built[2..].to_vec()).ok(),
        releases: releases.map_err(CommandError::Releases)?,
    };
    let comparison = runtime()?.block_on(baseline.compare());
    remove_scratch(folder, options.keep);
    let comparison = comparison?;
    print!("{}", table::text(&comparison, Style::of_stdout()));
    if let Some(file) = &options.json {
        write_json(&comparison, file).map_err(CommandError::write(file))?;
    }
    if let Some(file) = &options.markdown {
        let written = fs::write(file, markdown::markdown(&comparison));
        written.map_err(CommandError::write(file))?;
    }
    Ok(comparison.passed)
}

fn takes_part(options: &Options, name: ContenderName) -> bool {
    let is_default = name != ContenderName::HaproxySticky || options.sessions;
    options.only.contains(&name) || (options.only.is_empty() && is_default)
}

// === impl Baseline ===

impl Baseline<'_> {
    async fn compare(&self) -> Result<Comparison, CommandError> {
        let options = self.options;
        if options.install {
            install::install(&[install::PROXIES]).await;
            install::build_kamal_proxy().await;
        }
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for &name in ContenderName::value_variants() {
            if !takes_part(options, name) {
                continue;
            }
            let found = Setup::of(name).map(|setup| setup.find().map(|program| (setup, program)));
            let found = match found.transpose() {
                Ok(found) => found,
                Err(reason) => {
                    skipped.push(Skipped { name, reason });
                    continue;
                }
            };
            eprintln!("{}", name.title());
            let version = match &found {
                Some((setup, program)) => first_line(program, setup.fixture.version).await,
                None if name == ContenderName::Handoff => {
                    first_line(&self.handoff, "--version").await
                }
                None => String::new(),
            };
            let report = match self.measure(name, found).await {
                Err(error @ CommandError::Session(SessionError::Interrupted(_))) => {
                    return Err(error);
                }
                report => report,
            };
            rows.push(Row::new(name, version, report));
        }
        let load = Load {
            rate: options.rate.get(),
            connections: options.connections.get(),
            swaps: options.swaps,
            swap_every_ms: millis(options.swap_every),
            has_sessions: options.sessions,
        };
        Ok(Comparison::new(
            started,
            Machine::this(),
            rows,
            skipped,
            load,
        ))
    }

    async fn measure(
        &self,
        name: ContenderName,
        found: Option<(Setup, PathBuf)>,
    ) -> Result<Report, CommandError> {
        let folder = self.folder.join(name_of(name));
        fs::create_dir_all(&folder).map_err(CommandError::folder(&folder))?;
        let log = folder.join("output.log");
        let spec = self.spec(name);
        let (first, every) = (&self.releases[0], self.options.swap_every);
        let plan = demo::plan(&spec, &self.releases, every);
        let site = || {
            let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native);
            site.map_err(CommandError::folder(&folder))
        };
        let part = match (found, name, &self.article) {
            (Some((setup, program)), _, _) => {
                let start = Contender::start(&setup, &program, folder.clone(), first);
                session::hold(start, &plan).await?
            }
            (None, ContenderName::Article, Some([platform, article])) => {
                let numbers = 1..=self.options.swaps.saturating_add(1);
                let made = release::make(article, &folder, numbers, &[], &System::Native);
                let releases = made.map_err(CommandError::Releases)?;
                let start = Article::start(platform, article, &releases[0], &log);
                session::hold(start, &demo::plan(&spec, &releases, every)).await?
            }
            (None, ContenderName::StopAndStart, _) => {
                session::hold(Restart::start(site()?, first, &log), &plan).await?
            }
            (None, _, _) => {
                let command = ["-port", "{port}"].map(Into::into);
                let handoff = &self.handoff;
                let options = if spec.clients == Clients::Visits {
                    STAYING
                } else {
                    &[]
                };
                let start =
                    Handoff::start(options, handoff, site()?, first, &command, &folder, &log);
                session::hold(start, &plan).await?
            }
        };
        Ok(Report::new(&[part]))
    }

    fn spec(&self, name: ContenderName) -> PartSpec {
        let options = self.options;
        PartSpec {
            title: name.title().to_owned(),
            swaps: options.swaps,
            swap_every_ms: Some(millis(options.swap_every)),
            clients: if options.sessions {
                Clients::Visits
            } else {
                Clients::Http1
            },
            deploy_by: (name == ContenderName::Handoff).then_some(DeployBy::Pointer),
            ..PartSpec::new(&name_of(name), options.rate, options.connections)
        }
    }
}

//! The same load and the same swaps on handoff and on other ways to deploy, one after the other.
//!
//! ```text
//! for each:  start ─▶ load::measure ─▶ summary ─▶ table (text, Markdown, JSON)
//!              │ handoff · stop and start: the demo's strategies
//!              │ the article's app under the simulated platform (programs of `tests`)
//!              └ a proxy of others (kit) and its deploy script (loadtest/contenders)
//! ```

mod article;
mod contender;
mod kit;
mod options;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::article::Article;
use self::contender::Contender;
use self::kit::Kit;
use self::options::Name;
pub use self::options::Options;
use self::table::{Report, Row, Skipped};
use crate::binaries::{self, BinariesError};
use crate::cli::DeployBy;
use crate::install::{self, first_line};
use crate::load::{self, LoadError, Order};
use crate::release::{self, Release};
use crate::report::Style;
use crate::scratch;
use crate::site::Site;
use crate::strategy::{Handoff, Restart};
use crate::summary::{Machine, Summary};
use crate::system::System;

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("make a temporary folder: {0}")]
    Folder(io::Error),
    #[error("make the releases: {0}")]
    Releases(io::Error),
    #[error("finish: interrupted")]
    Interrupted,
    #[error("write {file}: {source}")]
    Write { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// Why one of them could not be run. Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error("prepare its files: {0}")]
    Prepare(io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What all of them work with.
struct Ground<'a> {
    options: &'a Options,
    folder: &'a Path,
    programs: Programs,
    /// Of sample-app.
    releases: Vec<Release>,
}

/// What was built; the article's programs only when they take part.
struct Programs {
    handoff: PathBuf,
    sample_app: PathBuf,
    article: Option<[PathBuf; 2]>,
}

/// Does what the options ask for; whether all could be run and handoff failed nothing.
///
/// # Errors
/// There is no table.
pub fn run(options: &Options) -> Result<bool, CompareError> {
    let programs = Programs::provide(options)?;
    let folder = scratch::folder("handoff-compare-", options.keep).map_err(CompareError::Folder)?;
    // As /proc names it, and short: some keep sockets there.
    let path = folder.path().canonicalize().map_err(CompareError::Folder)?;
    let count = options.swaps.saturating_add(1);
    let target = path.join("releases");
    let releases = release::make(&programs.sample_app, &target, count, &System::Native)
        .map_err(CompareError::Releases)?;
    let ground = Ground {
        options,
        folder: &path,
        programs,
        releases,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CompareError::Runtime)?;
    let report = runtime.block_on(ground.compare());
    scratch::end(folder, options.keep);
    let report = report?;
    print!("{}", table::text(&report, Style::of_stdout()));
    if let Some(file) = &options.json {
        load::write_json(&report, file).map_err(written(file))?;
    }
    if let Some(file) = &options.markdown {
        fs::write(file, table::markdown(&report)).map_err(written(file))?;
    }
    Ok(report.passed)
}

fn written(file: &Path) -> impl FnOnce(io::Error) -> CompareError {
    move |source| CompareError::Write {
        file: file.to_owned(),
        source,
    }
}

// === impl Programs ===

impl Programs {
    fn provide(options: &Options) -> Result<Self, BinariesError> {
        let folder = options.binaries.as_deref();
        let names = ["handoff", "sample-app"];
        let mut own = binaries::provide(&names, &System::Native, folder)?.into_iter();
        let missing = || BinariesError::NotBuilt(names.join(" and "));
        let article = match takes_part(options, Name::Article) {
            true => {
                let programs = ["platform", "article"];
                let built = binaries::provide_of("tests", &programs, folder)?;
                <[PathBuf; 2]>::try_from(built).ok()
            }
            false => None,
        };
        Ok(Self {
            handoff: own.next().ok_or_else(missing)?,
            sample_app: own.next().ok_or_else(missing)?,
            article,
        })
    }
}

fn takes_part(options: &Options, name: Name) -> bool {
    options.only.is_empty() || options.only.contains(&name)
}

// === impl Ground ===

impl Ground<'_> {
    async fn compare(&self) -> Result<Report, CompareError> {
        let options = self.options;
        if options.install {
            install::proxies().await;
            install::kamal_proxy().await;
        }
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for name in Name::ALL {
            if !takes_part(options, name) {
                continue;
            }
            let found = Kit::of(name).map(|kit| kit.find().map(|program| (kit, program)));
            let found = match found.transpose() {
                Ok(found) => found,
                Err(reason) => {
                    skipped.push(Skipped { name, reason });
                    continue;
                }
            };
            eprintln!("{}", name.title());
            let version = match &found {
                Some((kit, program)) => first_line(program, kit.version).await,
                None if name == Name::Handoff => {
                    first_line(&self.programs.handoff, "--version").await
                }
                None => String::new(),
            };
            let summary = match self.measure(name, found).await {
                Err(MeasureError::Load(LoadError::Interrupted(_))) => {
                    return Err(CompareError::Interrupted);
                }
                summary => summary,
            };
            rows.push(Row::new(name, version, summary));
        }
        Ok(Report::new(
            started,
            Machine::this(),
            rows,
            skipped,
            table::Asked::of(options),
        ))
    }

    async fn measure(
        &self,
        name: Name,
        found: Option<(Kit, PathBuf)>,
    ) -> Result<Summary, MeasureError> {
        let folder = self.folder.join(name.text());
        fs::create_dir_all(&folder).map_err(MeasureError::Prepare)?;
        let log = folder.join("output.log");
        let (first, order) = (&self.releases[0], self.order(name, &self.releases));
        if let Some((kit, program)) = found {
            let start = Contender::start(&kit, &program, folder, first);
            return Ok(load::measure(start, &order).await?);
        }
        let site = || {
            Site::create(folder.join("site"), DeployBy::Pointer, System::Native)
                .map_err(MeasureError::Prepare)
        };
        match (name, &self.programs.article) {
            (Name::Article, Some([platform, article])) => {
                let count = self.options.swaps.saturating_add(1);
                let made = release::make(article, &folder, count, &System::Native);
                let releases = made.map_err(MeasureError::Prepare)?;
                let start = Article::start(platform, article, &releases[0], &log);
                Ok(load::measure(start, &self.order(name, &releases)).await?)
            }
            (Name::StopAndStart, _) => {
                Ok(load::measure(Restart::start(site()?, first, &log), &order).await?)
            }
            _ => {
                let command = ["-port", "{port}"].map(Into::into);
                let handoff = &self.programs.handoff;
                let start = Handoff::start(handoff, site()?, first, &command, &folder, &log);
                Ok(load::measure(start, &order).await?)
            }
        }
    }

    fn order<'a>(&self, name: Name, releases: &'a [Release]) -> Order<'a> {
        let options = self.options;
        Order {
            strategy: name.text(),
            title: name.title().to_owned(),
            deploy_by: (name == Name::Handoff).then_some(DeployBy::Pointer),
            ..Order::of_sample_app(
                options.rate,
                options.connections,
                releases,
                options.swap_every,
            )
        }
    }
}

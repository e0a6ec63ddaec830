//! The same load on any server that runs already, which others may deploy to meanwhile.

mod options;
mod probe;
mod url;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::options::Options;
use self::probe::{Found, ProbeError};
use crate::load::{self, LoadError, Order};
use crate::prove::{self, ProveError, Standing};
use crate::release::Release;
use crate::report::{self, Style};
use crate::strategy::Hook;
use crate::traffic::Mix;

/// Unless something else is asked for.
const SWAPS: u32 = 10;
const TIME: Duration = Duration::from_secs(10);

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(
        "offer {option} to {url}: its answers do not name their release in X-Release as v1, v2, …; \
         put sample-app behind it, or leave {option} out"
    )]
    NotOurs { option: &'static str, url: String },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error("make a temporary folder: {0}")]
    Folder(io::Error),
    #[error("write {file}: {source}")]
    Json { file: PathBuf, source: io::Error },
    #[error("start a runtime: {0}")]
    Runtime(io::Error),
}

/// Does what the options ask for; whether it passed.
///
/// # Errors
/// There is no verdict, as it could not be made.
pub fn run(options: &Options) -> Result<bool, RunError> {
    let folder = tempfile::Builder::new()
        .prefix("handoff-loadtest-")
        .tempdir()
        .map_err(RunError::Folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(run_in(folder.path(), options))
}

async fn run_in(folder: &Path, options: &Options) -> Result<bool, RunError> {
    let found = probe::probe(&options.url).await?;
    let url = format!(
        "http://{}{}",
        options.url.place.host, options.url.place.page
    );
    let wants_more = [
        ("--journal", options.journal.is_some()),
        ("--classes", options.classes),
    ];
    let not_ours = wants_more
        .into_iter()
        .find(|(_, wanted)| *wanted && found.release.is_none());
    if let Some((option, _)) = not_ours {
        return Err(RunError::NotOurs { option, url });
    }

    let releases = releases(options, &found);
    let at_most = match (options.time, &options.deploy) {
        (Some(time), _) => Some(time),
        (None, Some(_)) => None,
        (None, None) => Some(TIME),
    };
    // Nobody tells when others deploy.
    let serves = match (&options.deploy, found.release) {
        (Some(_), Some(release)) => release,
        (Some(_), None) | (None, _) => u32::MAX,
    };
    let hook = Hook::new(found.server, options.deploy.clone(), folder.to_owned());
    if let Some(journal) = &options.journal {
        let standing = Standing {
            place: options.url.place.clone(),
            journal,
            rate: options.rate,
            connections: options.connections,
            timeout: options.timeout,
            serves,
            releases: &releases,
            every: options.swap_every,
            at_most,
            json: options.json.clone(),
            html: options.html.clone(),
        };
        return Ok(prove::against(&standing, hook).await?);
    }

    let (title, mix) = match (found.release, options.classes) {
        (None, _) => (
            format!("{url}, any app: of answers only the status is checked"),
            Mix::Page,
        ),
        (Some(_), true) => (format!("{url}, every class of traffic"), Mix::Classes),
        (Some(_), false) => (url, Mix::new(options.rate, options.connections)),
    };
    let order = Order {
        strategy: "server".to_owned(),
        title,
        deploy_by: None,
        deploy: options.deploy.clone(),
        place: Some(options.url.place.clone()),
        mix,
        rate: options.rate,
        connections: options.connections,
        timeout: options.timeout,
        names_releases: found.release.is_some(),
        serves,
        releases: &releases,
        every: options.swap_every,
        at_most,
    };
    let summary = load::measure(std::future::ready(Ok(hook)), &order).await?;
    print!("{}", report::text(&summary, Style::of_stdout()));
    if let Some(file) = &options.json {
        load::write_json(&summary, file).map_err(|source| RunError::Json {
            file: file.clone(),
            source,
        })?;
    }
    Ok(summary.passed)
}

/// The numbers that are deployed: from the one after that which serves.
fn releases(options: &Options, found: &Found) -> Vec<Release> {
    if options.deploy.is_none() {
        return Vec::new();
    }
    let count = match (options.swaps, options.time) {
        (Some(swaps), _) => swaps,
        (None, None) => SWAPS,
        // A deploy takes its time, too: there is none for more.
        (None, Some(time)) => {
            let every = options.swap_every.as_secs_f64().max(0.001);
            (time.as_secs_f64() / every).ceil().min(1e6) as u32
        }
    };
    let first = found.release.unwrap_or(1).saturating_add(1);
    (first..first.saturating_add(count))
        .map(Release::numbered)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Command, Options as Cli};

    fn options(arguments: &[&str]) -> Options {
        let arguments = ["loadtest", "run", "--url", "http://localhost"]
            .iter()
            .chain(arguments);
        match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Run(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn numbers(arguments: &[&str], release: Option<u32>) -> Vec<u32> {
        let found = Found {
            server: ([127, 0, 0, 1], 1).into(),
            release,
        };
        let releases = releases(&options(arguments), &found);
        releases.iter().map(|release| release.number).collect()
    }

    #[test]
    fn releases_are_numbered_from_the_one_that_serves() {
        let deploy = ["--deploy", "x"];
        assert!(numbers(&[], Some(4)).is_empty());
        assert_eq!(numbers(&deploy, None), Vec::from_iter(2..=11));
        assert_eq!(numbers(&["--deploy", "x", "--swaps", "2"], Some(4)), [5, 6]);
        let time = ["--deploy", "x", "--for", "5s", "--swap-every", "2s"];
        assert_eq!(numbers(&time, Some(4)), [5, 6, 7]);
        assert!(numbers(&deploy, Some(u32::MAX)).is_empty());
    }

    #[test]
    fn the_help_says_what_stands_for_the_number() {
        use clap::CommandFactory as _;

        let mut command = Cli::command();
        let run = command.find_subcommand_mut("run").unwrap();
        let help = run.render_long_help().to_string();
        assert!(help.contains("--deploy <COMMAND {n}>"), "{help}");
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for arguments in [
            &["loadtest", "run"][..],
            &["loadtest", "run", "--url", "example.org"],
            &["loadtest", "run", "--url", "http://x", "--swaps", "3"],
            &["loadtest", "run", "--url", "http://x", "--html", "x.html"],
            &[
                "loadtest", "run", "--url", "http://x", "--deploy", "x", "--swaps", "3", "--for",
                "9s",
            ],
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}

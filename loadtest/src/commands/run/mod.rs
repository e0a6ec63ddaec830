//! `run`: the load on any running server, to which others deploy meanwhile.

mod probe;

use std::path::Path;
use std::time::Duration;

use self::probe::Found;
use super::{CommandError, Outputs, create_scratch, publish, runtime};
use crate::cli::run::Options;
use crate::deploy::hook::Hook;
use crate::deploy::release::Release;
use crate::generator::mix::{Clients, Mix};
use crate::host::revision;
use crate::report::part::PartSpec;
use crate::schedule::Pace;
use crate::session::{self, SessionPlan};
use crate::units::millis;

/// Default number of swaps, and time without swaps.
const SWAPS: u32 = 10;
const TIME: Duration = Duration::from_secs(10);

/// Offers the load; returns whether it passed.
pub fn run(options: &Options) -> Result<bool, CommandError> {
    let folder = create_scratch("handoff-loadtest-", false)?;
    runtime()?.block_on(run_in(folder.path(), options))
}

async fn run_in(folder: &Path, options: &Options) -> Result<bool, CommandError> {
    let found = probe::probe(&options.url).await?;
    let destination = &options.url.destination;
    let url = format!("http://{}{}", destination.host, destination.page);
    let for_sample_app = [
        ("--journal", options.journal.is_some()),
        ("--classes", options.classes),
        ("--visits", options.visits),
        ("--http2", options.http2),
        ("--grpc", options.grpc),
    ];
    let refused = for_sample_app
        .into_iter()
        .find(|(_, is_wanted)| *is_wanted && found.release.is_none());
    if let Some((option, _)) = refused {
        return Err(CommandError::Other(format!(
            "offer {option} to {url}: its answers do not name their release in X-Release as v1, v2, \
             …; put sample-app behind it, or leave {option} out"
        )));
    }

    let releases = releases(options, &found);
    let at_most = options
        .time
        .or_else(|| options.deploy.is_none().then_some(TIME));
    // Without a command, others may deploy any release at any time.
    let serves = found.release.filter(|_| options.deploy.is_some());
    let spec = spec(options, &found, &url, releases.len(), at_most);
    let mix = if found.release.is_none() {
        Mix::Page
    } else if has_classes(options) || options.journal.is_some() {
        Mix::Classes(clients(options))
    } else {
        Mix::plain(options.rate, options.connections)
    };
    let plan = SessionPlan {
        spec: &spec,
        mix,
        timeout: options.timeout,
        destination: Some(destination.clone()),
        serves: serves.unwrap_or(u32::MAX),
        releases: &releases,
        controls: &[],
        pace: Pace::AfterSeen {
            every: options.swap_every,
            at_most,
        },
        startup: None,
        journal: options.journal.as_deref(),
    };
    let hook = Hook::new(found.server, options.deploy.clone(), folder.to_owned());
    let part = session::hold(std::future::ready(Ok(hook)), &plan).await?;
    let outputs = Outputs {
        json: options.json.clone(),
        html: options.html.clone(),
        ..Outputs::default()
    };
    publish(&[part], &outputs)
}

fn clients(options: &Options) -> Clients {
    if options.grpc {
        Clients::Grpc
    } else if options.http2 {
        Clients::Http2
    } else if options.visits {
        Clients::Visits
    } else {
        Clients::Http1
    }
}

fn has_classes(options: &Options) -> bool {
    options.classes || clients(options) != Clients::Http1
}

fn spec(
    options: &Options,
    found: &Found,
    url: &str,
    swaps: usize,
    at_most: Option<Duration>,
) -> PartSpec {
    let load = match (
        found.release,
        options.journal.is_some(),
        has_classes(options),
    ) {
        (None, _, _) => ", any app: of answers only the status is checked",
        (Some(_), true, _) => ", every class of traffic, joined with the journal",
        (Some(_), false, true) => ", every class of traffic",
        (Some(_), false, false) => "",
    };
    let rate = f64::from(options.rate.get());
    // With a limit on time, as many swaps as there is time for.
    let (requests, swaps) = match at_most {
        Some(time) if options.journal.is_some() => ((time.as_secs_f64() * rate) as u64, 0),
        Some(_) => (0, 0),
        None => (0, u32::try_from(swaps).unwrap_or(u32::MAX)),
    };
    PartSpec {
        title: format!("{url}{load}"),
        requests,
        swaps,
        swap_every_ms: Some(millis(options.swap_every)),
        names_releases: found.release.is_some(),
        has_journal: options.journal.is_some(),
        clients: clients(options),
        deploy: options.deploy.clone(),
        commit: options.journal.as_ref().and_then(|_| revision::commit()),
        ..PartSpec::new("server", options.rate, options.connections)
    }
}

/// Returns the releases to deploy: from the one after that which serves.
fn releases(options: &Options, found: &Found) -> Vec<Release> {
    if options.deploy.is_none() {
        return Vec::new();
    }
    let count = match (options.swaps, options.time) {
        (Some(swaps), _) => swaps,
        (None, None) => SWAPS,
        // A deploy takes some time, too, so that there is time for no more than these.
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

//! The command line, as it is written. [`crate::config`] makes sense of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use humantime::parse_duration;

use self::artifacts::Artifacts;
use self::check::Check;
use self::files::Files;
use self::log::Log;
use self::origins::Origins;
use crate::commands::control::{Pause, Restart, Resume, Rollback};
use crate::commands::deploy::Deploy;
use crate::commands::digest::PrintDigest;
use crate::commands::history::History;
use crate::commands::logs::Logs;
use crate::commands::status::ShowStatus;
use crate::data_plane::Forwarded;
use crate::process::console::{self, ConsoleEvent};
use crate::process::stop::Stop;
use crate::user_tokens::WindowsAuth;

pub mod artifacts;
pub mod check;
pub mod completions;
pub mod files;
pub mod handoff_toml;
pub mod log;
pub mod observing;
pub mod origins;
pub mod parse;
mod supervision;

pub use supervision::{AutoRollback, Overlap, StatusRange, Supervision};

/// Deploys an HTTP app without its users noticing.
///
/// A reverse proxy that keeps the public port, runs the app behind it, starts each new artifact
/// beside the old one, checks its health, moves the traffic in one step, and drains and ends the
/// old one.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Subcommands,
}

/// What handoff can be asked to do. Each is described where its options are: a description here would
/// take the place of that in its help.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    Run(Box<Run>),
    Check(Box<Check>),
    Deploy(Box<Deploy>),
    Status(Box<ShowStatus>),
    History(Box<History>),
    Logs(Box<Logs>),
    Rollback(Box<Rollback>),
    Restart(Box<Restart>),
    Pause(Box<Pause>),
    Resume(Box<Resume>),
    Digest(PrintDigest),
    /// Print what a shell needs to complete these commands.
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Stop a program from within its console; handoff starts itself so.
    #[command(name = console::SUBCOMMAND, hide = true)]
    SendConsoleEvent {
        /// Which.
        event: ConsoleEvent,
        /// The first process of the program.
        pid: u32,
    },
}

/// Run an app behind handoff.
///
/// Every option can also be set in the environment: `--drain-timeout` is HANDOFF_DRAIN_TIMEOUT; and
/// in a file (--config): `drain-timeout = "5m"`.
/// Durations are written as `250ms`, `30s`, `5m`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes:
  0  it was asked to end (SIGTERM, Ctrl-C), and has
  1  it cannot run: the port is taken, a folder cannot be used
  2  the command line or the configuration file makes no sense")]
pub struct Run {
    /// The public address [default: 127.0.0.1:$HTTP_PLATFORM_PORT, else 127.0.0.1:8080]
    #[arg(long, env = "HANDOFF_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// Run this file, folder or archive (.zip, .tar.gz); replaced in place it is a new artifact
    #[arg(
        long,
        env = "HANDOFF_ARTIFACT",
        value_name = "PATH",
        help_heading = "What to run"
    )]
    pub artifact: Option<PathBuf>,

    /// Run what this text file names
    #[arg(
        long,
        env = "HANDOFF_POINTER",
        value_name = "FILE",
        help_heading = "What to run"
    )]
    pub pointer: Option<PathBuf>,

    /// Run the newest complete artifact in this folder, newest by arrival; with --pointer only
    /// while that file does not exist
    #[arg(
        long,
        env = "HANDOFF_WATCH",
        value_name = "DIR",
        help_heading = "What to run"
    )]
    pub watch: Option<PathBuf>,

    /// The app's command line. It may hold {artifact} {port} {host} {dir} {release} {shared}.
    /// Starting with `-` it is arguments for the artifact; by default the artifact runs as it is.
    /// A COMMAND with a slash is relative to {dir}, one without is looked up in PATH.
    #[arg(last = true, value_names = ["COMMAND", "ARG"])]
    pub command: Vec<String>,

    /// Shared state, for deployers to see [default: the path of the pointer, the watched folder
    /// or the artifact's folder, plus `.handoff`]
    #[arg(
        long,
        env = "HANDOFF_STATE",
        value_name = "DIR",
        help_heading = "Folders"
    )]
    pub state: Option<PathBuf>,

    /// Private copies, local and executable [default: $CACHE_DIRECTORY, else `handoff` in the
    /// user's cache folder]
    #[arg(
        long,
        env = "HANDOFF_CACHE",
        value_name = "DIR",
        help_heading = "Folders"
    )]
    pub cache: Option<PathBuf>,

    /// {shared} and SHARED_DIR: data that outlives a release [default: `shared` in --state]
    #[arg(
        long,
        env = "HANDOFF_SHARED",
        value_name = "DIR",
        help_heading = "Folders"
    )]
    pub shared: Option<PathBuf>,

    /// The app's working directory and {dir}: `artifact` (where it was deployed), `copy` (its
    /// private copy) or a path [default: `artifact` for a file, `copy` for a folder or an
    /// archive]
    #[arg(
        long,
        env = "HANDOFF_WORKDIR",
        value_name = "artifact|copy|DIR",
        help_heading = "Folders"
    )]
    pub workdir: Option<PathBuf>,

    /// Private copies kept beside those in use
    #[arg(
        long,
        env = "HANDOFF_KEEP",
        value_name = "N",
        default_value_t = 3,
        help_heading = "Folders"
    )]
    pub keep: usize,

    /// How long a file must not change before it counts as complete, unless a digest proves it
    #[arg(long, env = "HANDOFF_SETTLE", value_name = "DURATION", default_value = "2s", value_parser = parse_duration, help_heading = "Detection")]
    pub settle: Duration,

    /// The same for a folder
    #[arg(long, env = "HANDOFF_SETTLE_FOLDER", value_name = "DURATION", default_value = "5s", value_parser = parse_duration, help_heading = "Detection")]
    pub settle_folder: Duration,

    /// How often to look for a new artifact; change events only make it quicker
    #[arg(long, env = "HANDOFF_POLL", value_name = "DURATION", default_value = "2s", value_parser = parse_duration, help_heading = "Detection")]
    pub poll: Duration,

    #[command(flatten)]
    pub artifacts: Artifacts,

    /// Ready when GET of this answers: `/` below 500, another path 200 to 399
    #[arg(
        long,
        env = "HANDOFF_HEALTH_PATH",
        value_name = "PATH",
        default_value = "/",
        help_heading = "Readiness"
    )]
    pub health_path: String,

    /// The Host of health checks [default: the app's own address]
    #[arg(
        long,
        env = "HANDOFF_HEALTH_HOST",
        value_name = "HOST",
        help_heading = "Readiness"
    )]
    pub health_host: Option<String>,

    /// From one health check to the next
    #[arg(long, env = "HANDOFF_HEALTH_INTERVAL", value_name = "DURATION", default_value = "250ms", value_parser = parse_duration, help_heading = "Readiness")]
    pub health_interval: Duration,

    /// For one health check
    #[arg(long, env = "HANDOFF_HEALTH_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration, help_heading = "Readiness")]
    pub health_timeout: Duration,

    /// For a start to become ready while nothing has served yet
    #[arg(long, env = "HANDOFF_START_TIMEOUT", value_name = "DURATION", default_value = "120s", value_parser = parse_duration, help_heading = "Readiness")]
    pub start_timeout: Duration,

    /// For a later start to become ready, from its launch
    #[arg(long, env = "HANDOFF_DEPLOY_TIMEOUT", value_name = "DURATION", default_value = "120s", value_parser = parse_duration, help_heading = "Readiness")]
    pub deploy_timeout: Duration,

    /// For requests in flight to a superseded instance; what outlasts it is cut
    #[arg(long, env = "HANDOFF_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "5m", value_parser = parse_duration, help_heading = "Handoff")]
    pub drain_timeout: Duration,

    /// The same for upgraded connections and event streams
    #[arg(long, env = "HANDOFF_TUNNEL_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = parse_duration, help_heading = "Handoff")]
    pub tunnel_drain_timeout: Duration,

    /// How many superseded instances may drain side by side; the oldest of more is cut
    #[arg(
        long,
        env = "HANDOFF_MAX_DRAINING",
        value_name = "N",
        default_value_t = 2,
        help_heading = "Handoff"
    )]
    pub max_draining: usize,

    /// How an instance is asked to stop: term (SIGTERM), ctrl-break (Windows), ctrl-c,
    /// http:METHOD:/PATH (a request to the app), stdin (its end) or kill (not at all) [default:
    /// term; on Windows ctrl-break]
    #[arg(
        long,
        env = "HANDOFF_STOP",
        value_name = "WAY",
        help_heading = "Handoff"
    )]
    pub stop: Option<Stop>,

    /// From the polite request to stop (--stop) to the kill
    #[arg(long, env = "HANDOFF_STOP_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_duration, help_heading = "Handoff")]
    pub stop_timeout: Duration,

    /// The first instance is launched when the first request comes, and after so long at the latest
    /// [default: 0s, at once; under HttpPlatformHandler, which has to find us alone at first, 5s]
    #[arg(long, env = "HANDOFF_FIRST_LAUNCH_DELAY", value_name = "DURATION", value_parser = parse_duration, help_heading = "Handoff")]
    pub first_launch_delay: Option<Duration>,

    /// After so many crashes in a row, none of which came after a minute of service, the release
    /// before takes over
    #[arg(
        long,
        env = "HANDOFF_RAPID_FAILS",
        value_name = "N",
        default_value_t = 5,
        help_heading = "Handoff"
    )]
    pub rapid_fails: u32,

    /// Checks, the time after the handoff, and going back.
    #[command(flatten)]
    pub supervision: Supervision,

    /// For a request to wait while no release is active; then 503
    #[arg(long, env = "HANDOFF_HOLD_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = parse_duration, help_heading = "Requests")]
    pub hold_timeout: Duration,

    /// The same before the first release has served
    #[arg(long, env = "HANDOFF_FIRST_HOLD_TIMEOUT", value_name = "DURATION", default_value = "110s", value_parser = parse_duration, help_heading = "Requests")]
    pub first_hold_timeout: Duration,

    /// How many requests may wait so
    #[arg(
        long,
        env = "HANDOFF_MAX_HELD",
        value_name = "N",
        default_value_t = 1000,
        help_heading = "Requests"
    )]
    pub max_held: usize,

    /// For the app to accept a connection
    #[arg(long, env = "HANDOFF_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration, help_heading = "Requests")]
    pub connect_timeout: Duration,

    /// From the end of a request to the head of the app's answer; then 504
    #[arg(
        long,
        env = "HANDOFF_RESPONSE_TIMEOUT",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = parse_duration,
        help_heading = "Requests"
    )]
    pub response_timeout: Duration,

    /// For a client to send the head of a request; then 408
    #[arg(
        long,
        env = "HANDOFF_HEADER_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration,
        help_heading = "Requests"
    )]
    pub header_timeout: Duration,

    /// How long a client's connection may be idle. Long: whoever pools connections, as IIS does,
    /// should be the one to close them
    #[arg(
        long,
        env = "HANDOFF_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = parse_duration,
        help_heading = "Requests"
    )]
    pub idle_timeout: Duration,

    /// Bytes of a request's head; more is a 431
    #[arg(
        long,
        env = "HANDOFF_MAX_HEADER_SIZE",
        value_name = "BYTES",
        default_value_t = 32_768,
        help_heading = "Requests"
    )]
    pub max_header_size: usize,

    /// Fields in a request's head; more is a 431
    #[arg(
        long,
        env = "HANDOFF_MAX_HEADERS",
        value_name = "N",
        default_value_t = 100,
        help_heading = "Requests"
    )]
    pub max_headers: usize,

    /// Bytes of a request's target; more is a 414
    #[arg(
        long,
        env = "HANDOFF_MAX_TARGET",
        value_name = "BYTES",
        default_value_t = 16_384,
        help_heading = "Requests"
    )]
    pub max_target: usize,

    /// Connections of clients at a time; more wait until one ends
    #[arg(
        long,
        env = "HANDOFF_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 10_000,
        help_heading = "Requests"
    )]
    pub max_connections: usize,

    /// A client that has ended its half of the connection still waits for its answer; by default it
    /// has left, and its request is cancelled
    #[arg(long, env = "HANDOFF_HALF_CLOSE", help_heading = "Requests")]
    pub half_close: bool,

    /// How long to keep an idle connection to the app; it has to be less than the app itself
    /// does. An app that says `Keep-Alive: timeout=N` is believed instead
    #[arg(long, env = "HANDOFF_UPSTREAM_IDLE_TIMEOUT", value_name = "DURATION", default_value = "4s", value_parser = parse_duration, help_heading = "Requests")]
    pub upstream_idle_timeout: Duration,

    /// The X-Forwarded-* fields
    #[arg(
        long,
        env = "HANDOFF_FORWARDED",
        value_enum,
        default_value = "auto",
        help_heading = "Requests"
    )]
    pub forwarded: Forwarded,

    /// The users' Windows tokens that HttpPlatformHandler leaves in this process with
    /// forwardWindowsAuthToken. `off` ignores them (they leak), `close` closes them, `forward` gives
    /// the app its own
    #[arg(
        long,
        env = "HANDOFF_WINDOWS_AUTH",
        value_enum,
        default_value = "off",
        help_heading = "Requests"
    )]
    pub windows_auth: WindowsAuth,

    /// Threads that serve requests [default: one per processor]
    #[arg(
        long,
        env = "HANDOFF_WORKERS",
        value_name = "N",
        help_heading = "Requests"
    )]
    pub workers: Option<usize>,

    /// At shutdown: how long to go on accepting, with `Connection: close` on every answer
    #[arg(long, env = "HANDOFF_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "1s", value_parser = parse_duration, help_heading = "Shutdown")]
    pub shutdown_delay: Duration,

    /// For the whole shutdown [default: 40s; under HttpPlatformHandler, which kills after 10s, 8s]
    #[arg(long, env = "HANDOFF_SHUTDOWN_TIMEOUT", value_name = "DURATION", value_parser = parse_duration, help_heading = "Shutdown")]
    pub shutdown_timeout: Option<Duration>,

    #[command(flatten)]
    pub log: Log,

    #[command(flatten)]
    pub files: Files,

    /// Where all this came from.
    #[arg(skip)]
    pub origins: Origins,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_help_says_all_there_is_to_say() {
        let mut command = Cli::command();
        for (name, says) in [
            ("run", "HANDOFF_DRAIN_TIMEOUT"),
            ("check", "nothing stays behind"),
            ("deploy", "puts back what was deployed before"),
            ("logs", "--log-file"),
            ("rollback", "refused until it is deployed again"),
            ("pause", "by its own clock"),
        ] {
            let help = command.find_subcommand_mut(name).unwrap();
            let help = help.render_long_help().to_string();
            // Wherever its lines are broken.
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(says), "{name}: {help}");
        }
        for command in command.get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn every_option_can_be_set_in_the_environment() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for option in run.get_opts() {
            let name = option.get_id().as_str().to_uppercase();
            let variable = option.get_env().and_then(|variable| variable.to_str());
            assert_eq!(variable, Some(format!("HANDOFF_{name}").as_str()));
        }
    }

    #[test]
    fn the_readme_lists_every_option_with_its_default() {
        let readme = std::fs::read_to_string("../README.md").unwrap();
        let command = Cli::command();
        let commands = command.get_subcommands().filter(|c| !c.is_hide_set());
        for command in commands {
            let (section, is_own) = match command.get_name() {
                "run" => ("\n## Options\n", true),
                "deploy" => ("\n## Deploying\n", true),
                _ => ("\n## Operating\n", false),
            };
            let (_, after) = readme.split_once(section).unwrap();
            let (here, _) = after.split_once("\n## ").unwrap();
            let name = command.get_name();
            let is_told = is_own || here.contains(&format!("| `handoff {name}"));
            assert!(is_told, "README does not tell of {name}");
            let own = command.get_opts().filter(|option| {
                // A check takes the options of a run.
                name != "check" || ["print", "json"].contains(&option.get_id().as_str())
            });
            for option in own {
                let name = option.get_long().unwrap();
                let option_is_in = |cell: &str| {
                    let mut options = cell.split('`').filter(|part| part.starts_with("--"));
                    options.any(|part| part[2..].split(' ').next() == Some(name))
                };
                let row = here
                    .lines()
                    .filter(|line| line.starts_with("| `--"))
                    .find(|line| option_is_in(line.split(" | ").next().unwrap_or_default()));
                let row = row.unwrap_or_else(|| panic!("README has no row for --{name}"));
                for default in option.get_default_values() {
                    let default = default.to_str().unwrap();
                    assert!(
                        row.contains(default),
                        "README: --{name} is {default} by default"
                    );
                }
            }
        }
    }
}

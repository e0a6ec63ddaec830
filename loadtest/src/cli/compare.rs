//! The command line of `compare`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::file_in_a_folder;

/// Offer the same load to handoff and to other ways to deploy, in turn, on Linux
///
/// Each is set up as its own documentation recommends (loadtest/contenders). One that is not
/// installed is skipped, and named.
///
/// Exits 0 when all that are installed could be run, whatever they lost; 1 when one could not, or
/// when handoff failed a request or a swap; 2 on wrong usage.
#[derive(Debug, Args)]
#[command(max_term_width = 100)]
pub struct Options {
    /// Requests a second, offered whether or not answers keep up
    #[arg(long, value_name = "N", default_value = "500")]
    pub rate: NonZeroU32,

    /// Kept connections; they carry half of the requests, the other half opens one each
    #[arg(long, value_name = "N", default_value = "64")]
    pub connections: NonZeroUsize,

    /// Number of deploys to each
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub swaps: u32,

    /// Time from clients seeing a release to the deploy of the next
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub swap_every: Duration,

    /// Let every fiftieth request begin a session in the app's memory, of up to 11 requests in 4 s;
    /// handoff gets --sticky, and HAProxy takes part a second time, with a cookie of its own
    #[arg(long)]
    pub sessions: bool,

    /// Run only this one; may be repeated
    #[arg(long = "only", value_enum, value_name = "NAME")]
    pub only: Vec<ContenderName>,

    /// Install nginx, haproxy and caddy with apt-get, and kamal-proxy with Go, where they are
    /// missing; starts no service
    #[arg(long)]
    pub install: bool,

    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Also write the table to this file, as Markdown
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub markdown: Option<PathBuf>,

    /// Keep the temporary folder with the releases, the configurations and the logs
    #[arg(long)]
    pub keep: bool,

    /// Use the binaries in this folder (handoff, sample-app, article, platform) instead of building
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// A way to deploy, in the order of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ContenderName {
    Handoff,
    Haproxy,
    /// HAProxy with `cookie insert`: clients of a draining server go on reaching it
    HaproxySticky,
    Nginx,
    Caddy,
    KamalProxy,
    /// The app owns the port: stop it, replace its file, start it again
    StopAndStart,
    /// An app that watches its folder and ends itself, under the simulated platform
    Article,
}

impl ContenderName {
    /// Returns the name for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::StopAndStart => "stop and start",
            Self::Article => "the article's way",
            Self::Haproxy => "HAProxy, Runtime API",
            Self::HaproxySticky => "HAProxy, cookie and drain",
            Self::Nginx => "nginx, reload",
            Self::Caddy => "Caddy, reload",
            Self::KamalProxy => "kamal-proxy",
        }
    }
}

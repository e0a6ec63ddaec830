//! The command line of `run`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::file_in_a_folder;
use super::url::Url;

/// Offer the load to any server that runs already, and count what clients saw
///
/// Where answers at / name their release in X-Release as v1, v2, … (sample-app's do), the demo's
/// mix is asked for, every answer is checked, a swap is over when clients saw the new release, and
/// an answer of a wrong one is a failure. Of any other app only the URL itself is asked for, half
/// on kept connections and half on a new one each, and only these count: refused, reset, timeout,
/// truncated, and a status of 400 or more; a swap is over when its command is.
///
/// Exits 0 when no request failed, every deploy succeeded and clients saw every swap, 1 otherwise,
/// 2 on wrong usage.
#[derive(Debug, Args)]
#[command(max_term_width = 100, verbatim_doc_comment)]
pub struct Options {
    /// The server, as http://HOST:PORT/PATH; a path other than / is all that is asked for
    #[arg(long, value_name = "URL")]
    pub url: Url,

    /// Requests a second, offered whether or not answers keep up
    #[arg(long, value_name = "N", default_value = "1000")]
    pub rate: NonZeroU32,

    /// Kept connections
    #[arg(long, value_name = "N", default_value = "64")]
    pub connections: NonZeroUsize,

    /// Maximum time of one request; no whole answer in this time is a failure
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,

    /// Time for which load is offered [default: until the swaps are made; without --deploy 10s]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,

    /// Command that the shell runs to deploy each release; n in braces becomes its number, which is
    /// the one after that which serves, or 2 where answers do not name it. When it fails, its last
    /// lines are shown
    // In a help text, braces around n are a line break.
    #[arg(long, value_name = "COMMAND {n}")]
    pub deploy: Option<String>,

    /// Number of deploys [default: 10, or with --for as many as there is time for]
    #[arg(long, value_name = "N", requires = "deploy", conflicts_with = "time")]
    pub swaps: Option<u32>,

    /// Time from the end of a swap to the deploy of the next
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub swap_every: Duration,

    /// Offer every class of traffic that `prove` offers; only sample-app answers them all
    #[arg(long)]
    pub classes: bool,

    /// Offer clients who stay over swaps as well: with a session, an old page or a stream of events;
    /// implies --classes
    #[arg(long)]
    pub visits: bool,

    /// Offer clients of HTTP/2 instead, without TLS, who have to keep their connections over swaps;
    /// implies --classes
    #[arg(long, conflicts_with = "visits")]
    pub http2: bool,

    /// Offer calls of gRPC as well; the server has to speak HTTP/2 to the app (handoff's
    /// --app-protocol h2c). Implies --http2
    #[arg(long, conflicts_with = "visits")]
    pub grpc: bool,

    /// Join what clients saw with this journal, which every app behind the server writes
    /// (sample-app --journal FILE), as `prove` does; implies --classes
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Also write the report to this file, as one page of HTML; needs --journal
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder, requires = "journal")]
    pub html: Option<PathBuf>,
}

//! The command line of `prove`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;

use super::{DeployBy, RATE, WINE_RATE, file_in_a_folder};

/// Offer every class of traffic over many swaps, and join what clients saw with what apps wrote down
///
/// Exits 0 when no request failed and clients saw every swap, 1 otherwise, 2 on wrong usage. The
/// full record (a million requests, 100 swaps) also has to hold its bounds on time.
#[derive(Debug, Args)]
#[command(max_term_width = 100)]
pub struct Options {
    /// Minimum number of requests
    #[arg(long, value_name = "N", default_value = "1000000")]
    pub requests: NonZeroU64,

    /// Number of deploys of the next release; a control run is made between two
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub swaps: u32,

    /// Requests a second, offered whether or not answers keep up
    #[arg(
        long,
        value_name = "N",
        default_value = RATE,
        default_value_if("windows", "true", WINE_RATE)
    )]
    pub rate: NonZeroU32,

    /// Kept connections
    #[arg(long, value_name = "N", default_value = "64")]
    pub connections: NonZeroUsize,

    /// Maximum number of requests of a part, of which there are four at least; each has a handoff and
    /// a journal of its own. The clients of one part in four speak HTTP/1; of the next, some stay over
    /// swaps, with a session, an old page or a stream; then they speak HTTP/2, and HTTP/2 and gRPC to
    /// an app that also speaks it
    #[arg(long, value_name = "N", default_value = "50000")]
    pub part: NonZeroU64,

    /// Keep the record in this folder, and go on there: parts that are there are not repeated. The
    /// totals (linux.json or windows.json) and the picture (latency.svg) are written there, too
    #[arg(long, visible_alias = "record", value_name = "DIR")]
    pub into: Option<PathBuf>,

    /// Also write the whole report to this file, as JSON
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub json: Option<PathBuf>,

    /// Also write the whole report to this file, as one page of HTML
    #[arg(long, value_name = "FILE", value_parser = file_in_a_folder)]
    pub html: Option<PathBuf>,

    /// Way in which handoff is given the next release
    #[arg(long, value_enum, default_value_t)]
    pub deploy_by: DeployBy,

    /// Test the Windows program under Wine, which `.ci/wine` sets up; 50 requests a second unless
    /// --rate says more
    #[arg(long)]
    pub windows: bool,

    /// Use the handoff and sample-app binaries in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// Keep the temporary folder with the releases, the state, the journal and the log
    #[arg(long)]
    pub keep: bool,
}

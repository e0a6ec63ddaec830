//! Options about looking on while it runs.

use std::net::SocketAddr;

use clap::Args;

/// See [`super::Run`].
#[derive(Args, Clone, Debug)]
pub struct Observing {
    /// Metrics, status and a page for people, at this loopback address, such as 127.0.0.1:9900
    #[arg(
        long,
        env = "HANDOFF_ADMIN",
        value_name = "ADDR",
        help_heading = "Looking on"
    )]
    pub admin: Option<SocketAddr>,
}

//! Options of the anchor.

use clap::Args;

use super::Switch;

/// Survival of a crash of handoff.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Anchor")]
pub struct AnchorOptions {
    /// Let a second process of handoff keep the public port and the app, so that both survive a crash
    /// of the process that does the work (Linux)
    ///
    /// The anchor is the process that was started. It starts another one within milliseconds, which
    /// goes on with the same port and the same app; requests that were in flight are lost. Connections
    /// wait meanwhile. After more than five crashes within a minute all ends, and handoff with it.
    #[arg(long, value_enum, default_value = "off")]
    pub anchor: Switch,
}

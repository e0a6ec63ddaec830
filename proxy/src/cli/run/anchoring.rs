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

    /// Upgrade handoff when the file of its program has another content; needs --anchor on
    ///
    /// The file is looked at every two seconds, and has to stay the same between two looks. Whatever
    /// prevents the upgrade, such as a version that does not accept the configuration, is in the log; the
    /// next try follows the next change.
    #[arg(long, value_enum, default_value = "off")]
    pub upgrade_on_change: Switch,
}

//! `deploy`: uploads an artifact, changes the channel, and waits for the machines.

use handoff::cli::output::eprint_line;
use handoff::commands::ExitStatus;

use crate::artifact;
use crate::channel::Channel;
use crate::cli::DeployOptions;
use crate::driver::{change, drive};
use crate::garbage;
use crate::store::{Store, StoreError};

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the artifact or the store cannot be used.
pub async fn run(store: &Store, options: &DeployOptions) -> Result<ExitStatus, StoreError> {
    let release = artifact::upload(store, &options.artifact).await?;
    eprint_line(format_args!("handoff-fleet: uploaded {release}"));
    let policy = options.policy();
    let deploying =
        |now: Option<&Channel>| Some(Channel::deploying(now, release.clone(), policy.clone()));
    let Some(channel) = change(store, deploying).await? else {
        return Ok(ExitStatus::Refused);
    };
    if policy.is_some() && channel.rollout.is_none() {
        eprint_line(
            "handoff-fleet: nothing else is to run meanwhile: all machines start it at once",
        );
    }
    let ended = drive(store, channel, options.timeout).await?;
    if ended == ExitStatus::Done {
        match garbage::collect(store, options.keep).await {
            Ok((0, 0)) => {}
            Ok((artifacts, machines)) => eprint_line(format_args!(
                "handoff-fleet: removed from the store: {artifacts} old artifacts, {machines} machines \
                 that are gone"
            )),
            Err(error) => eprint_line(format_args!(
                "handoff-fleet: old artifacts stay in the store: {error}"
            )),
        }
    }
    Ok(ended)
}

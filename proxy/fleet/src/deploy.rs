//! `deploy`: uploads an artifact, changes the channel, and waits for the machines.

use handoff::cli::output::eprint_line;
use handoff::commands::ExitStatus;

use crate::artifact;
use crate::channel::Channel;
use crate::cli::DeployOptions;
use crate::driver::{change, drive};
use crate::garbage;
use crate::signature::{TrustedKey, sign};
use crate::store::{Store, StoreError};

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the artifact or the store cannot be used.
pub async fn run(store: &Store, options: &DeployOptions) -> Result<ExitStatus, StoreError> {
    let release = artifact::upload(store, &options.artifact).await?;
    eprint_line(format_args!("handoff-fleet: uploaded {release}"));
    let policy = options.policy();
    let trust = options.trust.as_deref().map(TrustedKey::read).transpose()?;
    let deploying = |now: Option<&Channel>| {
        let mut channel = Channel::deploying(now, release.clone(), policy.clone());
        let is_trusted = |now: &Channel, key: &TrustedKey| key.check(&options.store, now).is_ok();
        if let (Some(now), Some(key)) = (now, &trust)
            && !is_trusted(now, key)
        {
            // A signature would vouch for whatever somebody has written there.
            eprint_line("handoff-fleet: what was deployed is not signed: nothing can return to it");
            channel.order.before = None;
            channel.rollout = None;
            channel.signature = None;
        }
        // A roll-out that goes on has its order's signature.
        if let (Some(command), None) = (&options.sign_with, &channel.signature) {
            channel.signature = Some(sign(&options.store, &channel.order, command)?);
        }
        Ok(Some(channel))
    };
    let Some(channel) = change(store, deploying).await? else {
        return Ok(ExitStatus::Refused);
    };
    if policy.is_some() && channel.rollout.is_none() {
        eprint_line(
            "handoff-fleet: nothing else is to run meanwhile: all machines start it at once",
        );
    }
    let ended = drive(store, channel, &options.pace).await?;
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

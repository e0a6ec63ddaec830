//! `rollout`: shows, stops, continues a staged roll-out, or takes it back.

use handoff::cli::output::eprint_line;
use handoff::cli::rollout::RolloutAction;
use handoff::commands::ExitStatus;
use handoff::deployment::rollout::Rollout;

use crate::channel::{CHANNEL, Channel};
use crate::cli::RolloutOptions;
use crate::driver::{change, drive};
use crate::status::{self, Format};
use crate::store::{Store, StoreError};

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the store cannot be used.
pub async fn run(store: &Store, options: &RolloutOptions) -> Result<ExitStatus, StoreError> {
    let set = |stopped| {
        move |now: Option<&Channel>| {
            let rollout = now.and_then(|now| Some((now, now.rollout.clone()?)));
            let set = |(now, rollout): (&Channel, Rollout)| {
                now.with_rollout(Some(Rollout { stopped, ..rollout }))
            };
            Ok(rollout.map(set))
        }
    };
    let changed = match options.action {
        RolloutAction::Show => {
            let now = store.read::<Channel>(CHANNEL).await?;
            now.map(|(now, _)| now).filter(|now| now.rollout.is_some())
        }
        RolloutAction::Stop => change(store, set(true)).await?,
        RolloutAction::Continue => change(store, set(false)).await?,
        RolloutAction::Back => {
            let back = |now: Option<&Channel>| {
                let now = now.filter(|now| now.rollout.is_some());
                let reason = || "an operator has taken it back".to_owned();
                Ok(now.and_then(|now| now.going_back(reason())))
            };
            change(store, back).await?
        }
    };
    let Some(channel) = changed else {
        eprint_line(
            "handoff-fleet: no staged roll-out is under way: `handoff-fleet deploy --at-most N` begins one",
        );
        return Ok(ExitStatus::Usage);
    };
    match options.action {
        RolloutAction::Show | RolloutAction::Stop => status::run(store, Format::Text).await,
        RolloutAction::Continue | RolloutAction::Back => drive(store, channel, &options.pace).await,
    }
}

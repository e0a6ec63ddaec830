//! A deploy that stops before the release serves (`--stage`).

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::DeployError;
use super::{DeployRun, POLL_INTERVAL};
use crate::cli::deploy::DeployArgs;
use crate::commands::count;
use crate::deployment::canary::CanaryPlan;
use crate::deployment::desired::{ControlCommand, StageCommand, write_command};
use crate::deployment::status::Status;
use crate::os::rights::explain;
use crate::release::{Digest, ReleaseId};

/// Number of random bytes in a token.
const TOKEN: usize = 16;

/// Returns the minimum duration of the canary, if it is one.
pub(super) fn time_of_canary(options: &DeployArgs) -> Duration {
    let time = options.canary.as_ref().map(CanaryPlan::time);
    time.unwrap_or_default()
}

/// Returns the request to stage a content, with a token of its own.
pub(super) fn request(options: &DeployArgs, digest: Digest) -> Result<StageCommand, DeployError> {
    let mut random = [0; TOKEN];
    getrandom::fill(&mut random)
        .map_err(|error| DeployError::StageUnknown(format!(" (no token can be made: {error})")))?;
    let token = random.iter().fold(String::new(), |mut token, byte| {
        // Writing to a string cannot fail.
        let _ = write!(token, "{byte:02x}");
        token
    });
    let max = *options.stage_timeout + time_of_canary(options);
    let mut stage = StageCommand::new(digest, token, *options.timeout, max);
    stage.canary.clone_from(&options.canary);
    Ok(stage)
}

impl DeployRun<'_> {
    /// Checks that every live sidecar can stage a release.
    pub(super) fn check_stage(&self) -> Result<(), DeployError> {
        if self.stage.is_none() {
            return Ok(());
        }
        let is_canary = self.options.canary.is_some();
        for status in self.follower.sidecars.live() {
            if !status.can_stage {
                return Err(DeployError::CannotStage(status.sidecar.clone()));
            }
            if is_canary && !status.can_canary {
                return Err(DeployError::CannotCanary(status.sidecar.clone()));
            }
        }
        Ok(())
    }

    /// Asks for the stage, and waits until every live sidecar knows: otherwise one could see the
    /// artifact first, and promote it.
    pub(super) fn ask_for_stage(
        &mut self,
        state: &Path,
        stage: StageCommand,
    ) -> Result<(), DeployError> {
        let failed = |error: io::Error| DeployError::StageUnknown(format!(" ({})", explain(error)));
        let pending = write_command(state, ControlCommand::Stage(stage)).map_err(failed)?;
        let serial = Some(pending.serial());
        loop {
            self.follower.sidecars.refresh();
            let mut live = self.follower.sidecars.live();
            let ignorant = live.find(|status: &&Status| status.desired_serial < serial);
            let Some(ignorant) = ignorant.map(|status| status.sidecar.clone()) else {
                return Ok(());
            };
            if Instant::now() >= self.deadline {
                // It is not to be staged later either, when somebody else deploys it.
                let _ = write_command(state, ControlCommand::Retry(self.digest));
                return Err(DeployError::StageUnknown(format!(" (sidecar {ignorant})")));
            }
            sleep(POLL_INTERVAL);
        }
    }

    pub(super) fn message_of_stage(&self, release: &ReleaseId, sidecars: usize) -> String {
        let token = self.stage.as_ref().map_or("", |stage| &stage.token);
        format!(
            "{release} is staged in {}. Requests with this field reach it:\n  \
             X-Handoff-Preview: {token}\n`handoff promote` lets it serve, `handoff abort` gives it up, \
             as does the end of {}",
            count(sidecars, "sidecar"),
            self.options.stage_timeout
        )
    }
}

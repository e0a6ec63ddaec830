//! Another try of a release that has failed before.

use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use super::error::DeployError;
use super::{DeployRun, POLL_INTERVAL};
use crate::commands::progress::Progress;
use crate::deployment::before_start::{BeforeStartRuns, ClaimWatch};
use crate::deployment::desired::ControlCommand;
use crate::deployment::pending_command::write_command;
use crate::os::rights::explain;

impl DeployRun<'_> {
    /// Asks for another try of a release that was refused before. It is written before the artifact
    /// appears.
    pub(super) fn ask_for_retry(
        &mut self,
        state: &Path,
        progress: &mut Progress,
    ) -> Result<(), DeployError> {
        self.forget_failed_run(state, progress);
        if let Some(stage) = self.stage.clone() {
            return self.ask_for_stage(state, stage);
        }
        if let Err(error) = write_command(state, ControlCommand::Retry(self.digest)) {
            let error = explain(error);
            progress.say(&format!("cannot ask for a retry in {state:?}: {error}"));
        }
        Ok(())
    }

    /// Lets `--before-start` run again, if it has failed for this content or was interrupted.
    fn forget_failed_run(&self, state: &Path, progress: &mut Progress) {
        let runs = BeforeStartRuns::of(state);
        let mut watch = ClaimWatch::default();
        let mut has_said = false;
        loop {
            match runs.forget_failed(self.digest, &mut watch) {
                Ok(true) => return,
                Ok(false) if Instant::now() >= self.deadline => return,
                Ok(false) => {}
                Err(error) => {
                    let error = explain(error);
                    return progress.say(&format!(
                        "cannot look whether --before-start has failed before in {state:?}: {error}"
                    ));
                }
            }
            if !std::mem::replace(&mut has_said, true) {
                progress.say("  waiting to see whether --before-start still runs for it");
            }
            sleep(POLL_INTERVAL);
        }
    }
}

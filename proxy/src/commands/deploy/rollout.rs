//! Staged roll-outs: a deploy that sidecars start one group after another.

use std::path::Path;

use super::{DeployError, DeployRun, pointer};
use crate::commands::progress::Progress;
use crate::commands::rollout::Driver;
use crate::deployment::pending_command::{read_rollout, write_rollout};
use crate::deployment::pointer::Pointer;
use crate::os::files;

impl DeployRun<'_> {
    /// Plans a staged roll-out, if one is asked for. One of the same artifact goes on.
    pub(super) fn plan_rollout(&mut self, progress: &mut Progress) -> Result<(), DeployError> {
        let Some(at_most) = self.options.at_most else {
            return Ok(());
        };
        let file = self.place.pointer.as_ref().ok_or(DeployError::NoPointer)?;
        let mut live = self.follower.sidecars.live();
        if let Some(older) = live.find(|status| !status.follows_rollouts) {
            let version = older.version.to_string();
            return Err(DeployError::OlderSidecar(older.sidecar.clone(), version));
        }
        let error = |source| DeployError::Rollout {
            path: self.place.state.clone(),
            source,
        };
        let before = read_rollout(&self.place.state).map_err(error)?;
        let named = self.pointed(file).and_then(|pointer| pointer.digest);
        let named = named.map(|digest| digest.to_string());
        // What a roll-out that is not complete has named is not what the deployment goes back to.
        let unfinished = before.filter(|rollout| Some(&rollout.digest) == named.as_ref());
        let content = || self.at_pointer(file, || files::read_small(file)).ok();
        let instead = match &unfinished {
            Some(rollout) => Some(rollout.instead.clone()),
            None => content().and_then(|content| String::from_utf8(content).ok()),
        };
        let Some(instead) = instead else {
            progress.say("nothing is deployed yet: all sidecars start it at once");
            return Ok(());
        };
        let ours = unfinished.filter(|rollout| rollout.digest == self.digest_text);
        let mut rollout = ours.unwrap_or_default();
        rollout.digest.clone_from(&self.digest_text);
        rollout.instead = instead;
        rollout.at_most = at_most;
        rollout.first = self.options.first;
        rollout.bake_ms = u64::try_from(self.options.bake.as_millis()).unwrap_or(u64::MAX);
        rollout.tolerate = self.options.tolerate;
        rollout.stopped = false;
        let timeout = *self.options.timeout;
        self.rollout = Some(Driver::of(&self.place.state, rollout, timeout));
        Ok(())
    }

    /// Writes the roll-out, before the artifact is deployed.
    pub(super) fn begin_rollout(&mut self) -> Result<(), DeployError> {
        let Some(driver) = &self.rollout else {
            return Ok(());
        };
        let begun = driver.begin(&mut self.follower);
        begun.map_err(|source| DeployError::Rollout {
            path: self.place.state.clone(),
            source,
        })
    }

    /// Ends a roll-out that this deploy has superseded, after the artifact is deployed.
    pub(super) fn end_other_rollout(&self) {
        let state = &self.place.state;
        if self.rollout.is_none() && matches!(read_rollout(state), Ok(Some(_))) {
            // It means nothing with another artifact, and else the next deploy ends it.
            let _ = write_rollout(state, None);
        }
    }

    /// Returns what sidecars run that the roll-out has not reached.
    pub(super) fn instead(&self, file: &Path) -> Option<Pointer> {
        let instead = &self.rollout.as_ref()?.rollout().instead;
        pointer::parse(file, instead.as_bytes())
    }
}

//! The return to what was deployed before a deploy that was refused.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{DeployChanges, DeployRun, POLL_INTERVAL, upload};
use crate::commands::progress::Progress;
use crate::commands::rollout::put_back;
use crate::deployment::status::Status;

/// Maximum time for the other sidecars to return to the release before, after one has refused.
const FOLLOW_BACK: Duration = Duration::from_secs(60);

impl DeployRun<'_> {
    /// Undoes the changes, and follows the sidecars that had promoted the release.
    pub(super) fn go_back(&mut self, changes: &DeployChanges, progress: &mut Progress) {
        let undone = self.undo(changes);
        let (Ok(line) | Err(line)) = &undone;
        progress.say(line);
        if undone.is_ok() {
            self.follow_back(progress);
        }
    }

    /// Undoes the changes, and returns a line about the outcome.
    fn undo(&self, changes: &DeployChanges) -> Result<String, String> {
        let path = &changes.uploaded.path;
        if let (Some(file), Some(driver)) = (&self.place.pointer, &self.rollout) {
            let state = &self.place.state;
            let put_back = self.at_pointer(file, || put_back(state, file, driver.rollout()));
            return match put_back {
                Ok(true) => Ok(format!("{file:?} names what it named before the roll-out")),
                Ok(false) => Ok(format!("{file:?} names something else by now")),
                Err(error) => Err(format!("{file:?} still names it: {error}")),
            };
        }
        if let (Some(file), Some(written)) = (&self.place.pointer, &changes.pointer) {
            let named = written.before(file).map(|pointer| pointer.path);
            let put_back = self.at_pointer(file, || written.put_back(file));
            let named = named.map_or_else(|| "nothing".to_owned(), |path| format!("{path:?}"));
            return match put_back {
                Ok(true) => Ok(format!("{file:?} names {named} again")),
                Ok(false) if written.is_unchanged() => {
                    Ok(format!("{file:?} named it before, and still does"))
                }
                Ok(false) => Ok(format!("{file:?} names something else by now")),
                Err(error) => Err(format!("{file:?} still names it: {error}")),
            };
        }
        if let Some(replaced) = &changes.in_place {
            return match self.on_site(|| replaced.put_back()) {
                Ok(true) => Ok(format!("{path:?} is what it was before")),
                Ok(false) => Ok(format!("{path:?} was replaced again by now")),
                Err(error) => Err(format!("{path:?} stays: {error}")),
            };
        }
        match self.on_site(|| upload::take_back(&changes.uploaded)) {
            Ok(()) => Ok(format!("{path:?} is removed again")),
            Err(error) => Err(format!("{path:?} stays: {error}")),
        }
    }

    /// Waits until no sidecar runs the release any more, for a while.
    fn follow_back(&mut self, progress: &mut Progress) {
        let until = self.deadline.max(Instant::now() + POLL_INTERVAL);
        let until = until.min(Instant::now() + FOLLOW_BACK);
        let mut told = false;
        loop {
            self.follower.sidecars.refresh();
            let has_it = |status: &&Status| {
                let active = status.active.as_ref();
                active.is_some_and(|active| active.digest == self.digest_text)
            };
            let left = self.follower.sidecars.live().filter(has_it).count();
            match left {
                0 if told => return progress.say("  they are back"),
                0 => return,
                _ if Instant::now() >= until => {
                    return progress.say(&format!("  {left} still have it"));
                }
                left if !told || progress.is_due() => {
                    told = true;
                    progress.say(&format!("  {left} that had promoted it go back"));
                }
                _ => {}
            }
            sleep(POLL_INTERVAL);
        }
    }
}

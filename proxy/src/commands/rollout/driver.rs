//! Drives a staged roll-out from group to group.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::bake::Bake;
use super::next::{MemberState, Members, Next, next};
use crate::commands::count;
use crate::commands::follow::{Follower, LaunchesBefore, POLL_INTERVAL, RefusalReport, Step};
use crate::commands::progress::Progress;
use crate::commands::sidecars::Liveness;
use crate::deployment::pending_command::{read_rollout, write_rollout};
use crate::deployment::rollout::Rollout;
use crate::deployment::status::Status;

/// Maximum time for all sidecars to read a new roll-out.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A roll-out that this command drives.
pub(in crate::commands) struct Driver {
    state: PathBuf,
    rollout: Rollout,
    /// Time allowed for each group of sidecars.
    timeout: Duration,
    deadline: Instant,
    bake: Bake,
}

/// The state of a roll-out.
pub(in crate::commands) enum Progression {
    /// It goes on.
    Going,
    /// All sidecars run the artifact.
    Complete,
    /// Too many sidecars have failed: the first of them, and its reason.
    Failed(Arc<str>, RefusalReport),
    /// A group has not been ready in time.
    Late,
    /// An operator has stopped it.
    Stopped,
    /// It was ended, or another one has begun.
    Superseded,
}

// === impl Driver ===

impl Driver {
    /// Creates the driver of a roll-out that the file in the folder `state` contains, or is to contain.
    pub(in crate::commands) fn of(state: &Path, rollout: Rollout, timeout: Duration) -> Self {
        Self {
            state: state.to_owned(),
            rollout,
            timeout,
            deadline: Instant::now() + timeout,
            bake: Bake::default(),
        }
    }

    /// Returns the roll-out.
    pub(in crate::commands) fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// Writes the roll-out, and waits until all sidecars have read it: the artifact may be deployed
    /// then.
    ///
    /// # Errors
    /// When it cannot be written, or a sidecar does not read it.
    pub(in crate::commands) fn begin(&self, follower: &mut Follower) -> io::Result<()> {
        let serial = write_rollout(&self.state, Some(self.rollout.clone()))?;
        let deadline = Instant::now() + READ_TIMEOUT;
        loop {
            follower.sidecars.refresh();
            let has_not = |status: &&Status| status.desired_serial < Some(serial);
            let Some(late) = follower.sidecars.live().find(has_not) else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                let error = format!("sidecar {} does not read desired.json", late.sidecar);
                return Err(io::Error::new(io::ErrorKind::TimedOut, error));
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Takes the next step. The last launch of each sidecar `before` the roll-out does not count.
    ///
    /// # Errors
    /// When the roll-out cannot be read or written.
    pub(in crate::commands) fn advance(
        &mut self,
        follower: &Follower,
        before: &BTreeMap<Arc<str>, LaunchesBefore>,
        progress: &mut Progress,
    ) -> io::Result<Progression> {
        let ours =
            read_rollout(&self.state)?.filter(|rollout| rollout.digest == self.rollout.digest);
        let Some(rollout) = ours else {
            return Ok(Progression::Superseded);
        };
        self.rollout = rollout;
        let (members, failure) = self.members(follower, before);
        match next(&self.rollout, &members, self.bake.is_over(&self.rollout)) {
            Next::Wait if self.rollout.stopped => return Ok(Progression::Stopped),
            Next::Wait => {}
            Next::Bake => {
                if self.bake.begin() {
                    let bake = self.rollout.bake();
                    let line = format!(
                        "the first sidecars run it: waiting {}",
                        humantime::format_duration(bake)
                    );
                    progress.say(&line);
                    self.deadline = Instant::now() + bake + self.timeout;
                }
            }
            Next::Name(ids) => {
                let runs = members
                    .values()
                    .filter(|state| **state == MemberState::Runs);
                let done = format!(
                    "{} of {} run it",
                    runs.count(),
                    count(members.len(), "sidecar")
                );
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                progress.say(&format!("{done}; next: {}", ids.join(", ")));
                self.rollout.may.extend(ids);
                write_rollout(&self.state, Some(self.rollout.clone()))?;
                self.deadline = Instant::now() + self.timeout;
            }
            Next::GoBack => {
                if let Some((id, refusal)) = failure {
                    return Ok(Progression::Failed(id, refusal));
                }
            }
            Next::Complete => {
                self.end()?;
                return Ok(Progression::Complete);
            }
        }
        Ok(if Instant::now() >= self.deadline {
            Progression::Late
        } else {
            Progression::Going
        })
    }

    /// Removes the roll-out from the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(in crate::commands) fn end(&self) -> io::Result<()> {
        write_rollout(&self.state, None).map(drop)
    }

    /// Returns the state of each sidecar, and the first failure.
    fn members(
        &self,
        follower: &Follower,
        before: &BTreeMap<Arc<str>, LaunchesBefore>,
    ) -> (Members, Option<(Arc<str>, RefusalReport)>) {
        let mut failure = None;
        let live: Vec<_> = follower
            .sidecars
            .live()
            .map(|status| &status.sidecar)
            .collect();
        let members = follower
            .sidecars
            .with_liveness()
            .filter_map(|(status, liveness)| {
                let id = &status.sidecar;
                let state = if live.contains(&id) {
                    let before = before.get(id).copied().unwrap_or_else(LaunchesBefore::none);
                    let (state, refusal) = member(status, &self.rollout.digest, before);
                    if let (None, Some(refusal)) = (&failure, refusal) {
                        failure = Some((Arc::clone(id), refusal));
                    }
                    state
                } else if liveness == Liveness::Dead && has_died_starting(status, &self.rollout) {
                    failure.get_or_insert_with(|| {
                        let reason = "the sidecar died while the release started";
                        (Arc::clone(id), RefusalReport::because(reason))
                    });
                    MemberState::Failed
                } else {
                    return None;
                };
                Some((Arc::clone(id), state))
            });
        (members.collect(), failure)
    }
}

fn has_died_starting(status: &Status, rollout: &Rollout) -> bool {
    let candidate = status.candidate.as_ref();
    candidate.is_some_and(|candidate| candidate.digest == rollout.digest)
        && rollout.may.contains(&*status.sidecar)
}

/// Returns the state of a live sidecar, and its reason if it has failed.
fn member(
    status: &Status,
    digest: &str,
    before: LaunchesBefore,
) -> (MemberState, Option<RefusalReport>) {
    let step = Step::of(status, digest, before);
    if let Some(refusal) = step.refusal() {
        return (MemberState::Failed, Some(refusal.clone()));
    }
    if step.is_active() {
        return (MemberState::Runs, None);
    }
    // After its promotion too: a trial or its crashes took the release away again.
    if let Some(refusal) = status
        .refused
        .iter()
        .find(|refusal| refusal.digest == digest)
    {
        return (
            MemberState::Failed,
            Some(RefusalReport::because(&refusal.reason)),
        );
    }
    let state = if matches!(step, Step::Waiting { .. }) {
        MemberState::Waits
    } else {
        MemberState::Starts
    };
    (state, None)
}

//! The run of `--before-start`, by one sidecar of a deployment; the others wait for its outcome.
//!
//! The command may change what all releases share, such as a database. So it is not cut short when
//! a newer release makes this one pointless, and what was cut short is not run again unasked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::instance::{LastProbe, StopTime};
use super::step::{StepFailure, StepSettings};
use crate::deployment::before_start::{
    BeforeStartRuns, ClaimWatch, HEARTBEAT, OwnerLife, RunOutcome, RunState,
};
use crate::deployment::status::UnixMillis;
use crate::process::{Launch, LaunchSpec};
use crate::release::Digest;

/// Interval between two looks at the claims of others.
const POLL: Duration = Duration::from_millis(500);
/// Number of attempts to write an outcome.
const TRIES: u32 = 5;

/// Settings of the command.
#[derive(Clone, Debug)]
pub struct BeforeStartSettings {
    /// The command.
    pub step: StepSettings,
    /// The runs of the deployment.
    pub runs: BeforeStartRuns,
}

/// A run of the command for a release that is to start.
#[derive(Debug)]
pub(super) struct BeforeStart<L> {
    pub(super) settings: BeforeStartSettings,
    pub(super) launcher: Rc<L>,
    pub(super) spec: LaunchSpec,
    pub(super) digest: Digest,
    pub(super) sidecar: Arc<str>,
    /// Shown until the release starts.
    pub(super) progress: LastProbe,
    pub(super) stop_time: StopTime,
}

/// The end of a wait for the turn to run the command.
enum Turn {
    /// The command is to be run here, and is claimed.
    Ours,
    /// It has been run.
    Ended(RunOutcome),
    /// The release is not wanted any more.
    NotWanted,
}

// === impl BeforeStart ===

impl<L: Launch> BeforeStart<L> {
    /// Runs the command, or waits for the outcome of its run elsewhere.
    pub(super) async fn run(mut self) -> Result<(), StepFailure> {
        let turn = self.await_turn().await;
        self.progress.take();
        match turn? {
            Turn::Ended(RunOutcome {
                failure: Some(reason),
                output,
                ..
            }) => Err(failed(reason, output)),
            Turn::Ended(_) => Ok(()),
            // Nobody reads it.
            Turn::NotWanted => Err(failed(String::new(), VecDeque::new())),
            Turn::Ours => self.run_here().await,
        }
    }

    async fn await_turn(&mut self) -> Result<Turn, StepFailure> {
        let mut watch = ClaimWatch::default();
        loop {
            let sidecar = Arc::clone(&self.sidecar);
            let state = self.with_runs(move |runs, digest| runs.claim(digest, &sidecar));
            let claim = match state.await? {
                RunState::Free => return self.await_earlier().await,
                RunState::Ended(outcome) => return Ok(Turn::Ended(outcome)),
                RunState::Taken(claim) => claim,
            };
            if watch.judge(&claim) == OwnerLife::Dead {
                // It may have come to its end before it died.
                let state = self.with_runs(|runs, digest| runs.look(digest)).await?;
                return match state {
                    RunState::Ended(outcome) => Ok(Turn::Ended(outcome)),
                    RunState::Taken(_) | RunState::Free => Err(self.interrupted(&claim.sidecar)),
                };
            }
            self.show(format!("sidecar {} runs --before-start", claim.sidecar));
            if self.await_stop(POLL).await {
                return Ok(Turn::NotWanted);
            }
        }
    }

    /// Waits until the claim is the earliest of the deployment.
    async fn await_earlier(&mut self) -> Result<Turn, StepFailure> {
        let mut watches = BTreeMap::new();
        let mut beat = Instant::now();
        loop {
            let (earlier, seen) = self
                .with_runs(move |runs, digest| Ok((runs.earlier(digest, &mut watches), watches)))
                .await?;
            watches = seen;
            let Some(claim) = earlier else {
                return Ok(Turn::Ours);
            };
            self.show(format!(
                "sidecar {} runs --before-start for another release",
                claim.sidecar
            ));
            if self.await_stop(POLL).await {
                self.with_runs(|runs, digest| runs.release(digest)).await?;
                return Ok(Turn::NotWanted);
            }
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                self.beat().await;
            }
        }
    }

    async fn run_here(self) -> Result<(), StepFailure> {
        self.show("--before-start runs".to_owned());
        tracing::info!(
            event = "before_start_begun",
            generation = self.spec.generation.0,
            release = %self.spec.release,
            "--before-start runs, for all sidecars of the deployment"
        );
        let (step, launcher) = (self.settings.step.clone(), Rc::clone(&self.launcher));
        let spec = self.spec.clone();
        let verdict = tokio::select! {
            verdict = step.run(&*launcher, spec) => verdict,
            () = self.beat_while_ours() => {
                Err(failed("--before-start lost its claim, and was killed".to_owned(), VecDeque::new()))
            }
            () = self.stop_time_over() => Err(failed(
                "--before-start was interrupted: handoff shut down while it ran".to_owned(),
                VecDeque::new(),
            )),
        };
        self.progress.take();
        if let Err(failure) = &verdict
            && !failure.has_run
        {
            self.with_runs(|runs, digest| runs.release(digest)).await?;
            return verdict;
        }
        self.record(&verdict).await;
        verdict
    }

    /// Writes the outcome. Without it, the others take this run for interrupted.
    async fn record(&self, verdict: &Result<(), StepFailure>) {
        let failure = verdict.as_ref().err();
        let outcome = RunOutcome {
            sidecar: Arc::clone(&self.sidecar),
            at_ms: UnixMillis::now(),
            failure: failure.map(|failure| failure.reason.clone()),
            output: failure.map_or_else(VecDeque::new, |failure| failure.output.clone()),
        };
        let outcome = Arc::new(outcome);
        for _ in 0..TRIES {
            let outcome = Arc::clone(&outcome);
            let written = self.with_runs(move |runs, digest| runs.finish(digest, &outcome));
            let Err(error) = written.await else { return };
            tracing::error!(
                event = "before_start_not_recorded",
                release = %self.spec.release,
                reason = %error.reason,
                "the outcome of --before-start cannot be written: other sidecars refuse the release"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Completes when the claim is not this sidecar's any more.
    async fn beat_while_ours(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            if !self.beat().await {
                return;
            }
        }
    }

    /// Writes a sign of life. Returns false if the claim certainly is another's, or none.
    async fn beat(&self) -> bool {
        let sidecar = Arc::clone(&self.sidecar);
        let beaten = self.with_runs(move |runs, digest| runs.beat(digest, &sidecar));
        // A share may be away for a while.
        beaten.await.unwrap_or(true)
    }

    /// Waits, and returns true if the release is not wanted any more.
    async fn await_stop(&mut self, time: Duration) -> bool {
        let stop = self.stop_time.wait_for(Option::is_some);
        tokio::time::timeout(time, stop).await.is_ok()
    }

    /// Waits until the time is over that a shutdown leaves.
    async fn stop_time_over(&self) {
        let mut stop_time = self.stop_time.clone();
        loop {
            let deadline = *stop_time.borrow_and_update();
            let over = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                Ok(()) = stop_time.changed() => {}
            }
        }
    }

    fn show(&self, progress: String) {
        self.progress.replace(Some(progress));
    }

    fn interrupted(&self, sidecar: &str) -> StepFailure {
        let reason = format!(
            "--before-start was interrupted: sidecar {sidecar} ended while it ran it, and it is not \
             run again unless this release is deployed again"
        );
        failed(reason, VecDeque::new())
    }

    /// Works on the files of the runs, which may be on a slow share. An error is the machine's.
    async fn with_runs<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BeforeStartRuns, Digest) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StepFailure> {
        let (runs, digest) = (self.settings.runs.clone(), self.digest);
        let working = tokio::task::spawn_blocking(move || work(&runs, digest));
        let worked = working.await.unwrap_or_else(|error| Err(error.into()));
        worked.map_err(|error| StepFailure {
            reason: format!("the runs of --before-start cannot be read or written: {error}"),
            output: VecDeque::new(),
            is_releases_fault: false,
            has_run: false,
        })
    }
}

fn failed(reason: String, output: VecDeque<String>) -> StepFailure {
    StepFailure {
        reason,
        output,
        is_releases_fault: true,
        has_run: true,
    }
}

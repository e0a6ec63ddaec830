//! Staged roll-outs, and `handoff rollout`.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, json};

pub(super) use self::driver::{Driver, Progression};
use super::ExitStatus;
use super::count;
use super::deployment_paths::{DeploymentPaths, UnknownDeployment};
use super::follow::{
    CommandOutcome, Follower, LaunchesBefore, POLL_INTERVAL, RefusalReport, Report, SidecarReport,
    Step, Steps,
};
use super::progress::Progress;
use crate::cli::deployment::DeploymentArgs;
use crate::cli::output::OutputFormat;
use crate::cli::rollout::{RolloutAction, RolloutArgs};
use crate::deployment::pending_command::{read_rollout, write_rollout};
use crate::deployment::rollout::Rollout;
use crate::deployment::source::pointed;
use crate::os::files;
use crate::os::rights::explain;

pub mod bake;
mod driver;
pub mod next;

/// The reason why a roll-out was neither shown nor changed.
#[derive(Debug, thiserror::Error)]
enum RolloutError {
    #[error(transparent)]
    Place(#[from] UnknownDeployment),
    #[error("no staged roll-out is under way: `handoff deploy --at-most N` begins one")]
    None,
    #[error("cannot read or write a roll-out: {0}")]
    Files(io::Error),
}

impl From<io::Error> for RolloutError {
    fn from(error: io::Error) -> Self {
        Self::Files(explain(error))
    }
}

/// Shows or changes a staged roll-out.
pub fn run(options: &RolloutArgs) -> ExitStatus {
    let mut progress = Progress::new();
    let report = RolloutRun::prepare(&options.follow.deployment).and_then(|mut run| {
        let timeout = *options.follow.timeout;
        match options.action {
            RolloutAction::Show => Ok(run.show()),
            RolloutAction::Stop => run.stop(),
            RolloutAction::Continue => run.go_on(timeout, &mut progress),
            RolloutAction::Back => run.go_back(timeout, &mut progress),
        }
    });
    progress.end();
    let report = report.unwrap_or_else(|error| {
        let exit_status = match error {
            RolloutError::Place(_) | RolloutError::None => ExitStatus::Usage,
            RolloutError::Files(_) => ExitStatus::Refused,
        };
        Report::failed(exit_status, &error)
    });
    report.print(OutputFormat::from_flag(options.follow.json));
    report.exit_status
}

/// Writes into the pointer file what it contained before the roll-out, unless it names something else
/// by now, and ends the roll-out. Returns true if it did.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn put_back(state: &Path, pointer: &Path, rollout: &Rollout) -> io::Result<bool> {
    let content = files::read_small(pointer)?;
    let named = pointed(pointer, &content).ok();
    let named = named.and_then(|target| target.digest);
    if named.is_none_or(|digest| digest.to_string() != rollout.digest) {
        return Ok(false);
    }
    // The roll-out ends last: before that, sidecars would take its end for their turn.
    files::write_atomically(pointer, rollout.instead.as_bytes())?;
    write_rollout(state, None)?;
    Ok(true)
}

/// One execution of the command.
struct RolloutRun {
    place: DeploymentPaths,
    pointer: PathBuf,
    follower: Follower,
    rollout: Rollout,
}

// === impl RolloutRun ===

impl RolloutRun {
    fn prepare(options: &DeploymentArgs) -> Result<Self, RolloutError> {
        let DeploymentArgs {
            state,
            pointer,
            to,
            artifact,
            config: _,
            named_by,
        } = options.clone();
        let place = DeploymentPaths::find(pointer, to, artifact, state, &named_by)?;
        let rights = place.rights_over(&place.state);
        rights.take_on().map_err(UnknownDeployment::from)?;
        let rollout = read_rollout(&place.state)?.ok_or(RolloutError::None)?;
        let pointer = place.pointer.clone().ok_or(RolloutError::None)?;
        let mut follower = Follower::of(&place.state);
        follower.await_live();
        Ok(Self {
            place,
            pointer,
            follower,
            rollout,
        })
    }

    fn show(&self) -> Report {
        let stopped = if self.rollout.stopped {
            "; it is stopped"
        } else {
            ""
        };
        self.report(
            CommandOutcome::Done,
            &format!("{}{stopped}", self.reached()),
        )
    }

    fn stop(&mut self) -> Result<Report, RolloutError> {
        self.rollout.stopped = true;
        write_rollout(&self.place.state, Some(self.rollout.clone()))?;
        let text = format!("the roll-out is stopped: {}", self.reached());
        Ok(self.report(CommandOutcome::Done, &text))
    }

    fn go_on(
        &mut self,
        timeout: Duration,
        progress: &mut Progress,
    ) -> Result<Report, RolloutError> {
        self.rollout.stopped = false;
        let mut driver = Driver::of(&self.place.state, self.rollout.clone(), timeout);
        driver.begin(&mut self.follower)?;
        let progression = loop {
            self.follower.sidecars.refresh();
            self.follower.tell(&self.steps(), progress);
            let progression = driver.advance(&self.follower, &Default::default(), progress)?;
            if !matches!(progression, Progression::Going) {
                break progression;
            }
            sleep(POLL_INTERVAL);
        };
        self.rollout = driver.rollout().clone();
        let reached = self.reached();
        Ok(match progression {
            Progression::Going | Progression::Complete => self.report(
                CommandOutcome::Promoted,
                &format!("the roll-out is complete: {reached}"),
            ),
            Progression::Failed(id, refusal) => {
                let mut report = self.go_back(timeout, progress)?;
                report.outcome = CommandOutcome::Refused;
                report.exit_status = ExitStatus::Refused;
                report.message = refused_by(&id, &refusal, &report.message);
                report
            }
            Progression::Late => self.report(
                CommandOutcome::Timeout,
                &format!("the roll-out stands still: {reached}"),
            ),
            Progression::Stopped => self.report(
                CommandOutcome::Timeout,
                &format!("the roll-out was stopped: {reached}"),
            ),
            Progression::Superseded => self.report(
                CommandOutcome::Superseded,
                "another command has ended the roll-out",
            ),
        })
    }

    fn go_back(
        &mut self,
        timeout: Duration,
        progress: &mut Progress,
    ) -> Result<Report, RolloutError> {
        let rights = self
            .place
            .rights_over(self.pointer.parent().unwrap_or(&self.pointer));
        let (state, pointer) = (&self.place.state, &self.pointer);
        if !rights.apply(|| put_back(state, pointer, &self.rollout))? {
            let text = format!("{pointer:?} names something else by now");
            return Ok(self.report(CommandOutcome::Superseded, &text));
        }
        let deadline = Instant::now() + timeout;
        loop {
            self.follower.sidecars.refresh();
            let steps = self.steps();
            let left = steps.values().filter(|step| step.is_active()).count();
            if left == 0 {
                let text = "all sidecars run what was deployed before";
                return Ok(self.report(CommandOutcome::Done, text));
            }
            if Instant::now() >= deadline {
                let text = format!("{} still run it", count(left, "sidecar"));
                return Ok(self.report(CommandOutcome::Timeout, &text));
            }
            if progress.is_due() {
                progress.say(&format!("  {} go back", count(left, "sidecar")));
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn steps(&self) -> Steps {
        self.follower
            .steps(|status| Step::of(status, &self.rollout.digest, LaunchesBefore::none()))
    }

    /// Returns how far the roll-out has come, in words.
    fn reached(&self) -> String {
        let steps = self.steps();
        let runs = steps.values().filter(|step| step.is_active()).count();
        format!(
            "{runs} of {} run {}",
            count(steps.len(), "sidecar"),
            self.rollout.digest
        )
    }

    fn report(&self, outcome: CommandOutcome, text: &str) -> Report {
        let exit_status = match outcome {
            CommandOutcome::Promoted
            | CommandOutcome::Staged
            | CommandOutcome::Unchanged
            | CommandOutcome::Done => ExitStatus::Done,
            CommandOutcome::Refused | CommandOutcome::Superseded | CommandOutcome::Failed => {
                ExitStatus::Refused
            }
            CommandOutcome::Timeout => ExitStatus::Timeout,
            CommandOutcome::Idle => ExitStatus::Idle,
        };
        let steps = self.steps();
        let lines = steps
            .iter()
            .map(|(id, step)| format!("\n  sidecar {id}: {step}"));
        Report {
            outcome,
            exit_status,
            message: format!("{text}{}", lines.collect::<String>()),
            sidecars: steps.into_iter().map(SidecarReport::from).collect(),
            more: Map::from_iter([("rollout".to_owned(), json!(self.rollout))]),
        }
    }
}

/// Returns the message of a roll-out that has failed and what was done about it.
fn refused_by(id: &str, refusal: &RefusalReport, done: &str) -> String {
    format!("sidecar {id} refused it: {refusal}\n{done}")
}

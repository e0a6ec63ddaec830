//! `handoff rollback`, `restart`, `pause`, `resume` and `maintenance`: commands to all sidecars of a deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, json};

use super::deployment_paths::UnknownDeployment;
use super::follow::{
    CommandOutcome, Follower, LaunchesBefore, POLL_INTERVAL, Report, SidecarReport, Step, Steps,
    step_of_upgrade,
};
use super::progress::Progress;
use super::{ELSEWHERE, ExitStatus, count};
use crate::cli::control::{
    AbortArgs, FollowArgs, PauseArgs, PromoteArgs, RestartArgs, ResumeArgs, RollbackArgs,
};
use crate::cli::deployment::DeploymentArgs;
use crate::cli::output::OutputFormat;
use crate::deployment::desired::{ControlCommand, PendingCommand, write_command};
use crate::deployment::status::{Status, UnixMillis};
use crate::os::rights::explain;
use crate::release::Generation;

/// Maximum time to wait until all sidecars have resumed, after a pause that timed out.
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns to another release.
pub fn rollback(options: &RollbackArgs) -> ExitStatus {
    let command = ControlCommand::Rollback(options.release.clone());
    run_and_follow(&options.follow, command)
}

/// Lets the staged release serve.
pub fn promote(options: &PromoteArgs) -> ExitStatus {
    run_and_follow(&options.follow, ControlCommand::Promote)
}

/// Gives up the staged release.
pub fn abort(options: &AbortArgs) -> ExitStatus {
    run_and_follow(&options.follow, ControlCommand::Abort)
}

/// Hands off to a new instance.
pub fn restart(options: &RestartArgs) -> ExitStatus {
    run_and_follow(&options.follow, ControlCommand::Restart)
}

/// Holds new requests until no other is in flight.
pub fn pause(options: &PauseArgs) -> ExitStatus {
    let max = *options.max;
    let timeout = options.timeout.map_or(max, |timeout| max.min(*timeout));
    let command = ControlCommand::Pause(max);
    run(
        &options.deployment,
        command,
        timeout,
        OutputFormat::from_flag(options.json),
    )
}

/// Ends a pause.
pub fn resume(options: &ResumeArgs) -> ExitStatus {
    run_and_follow(&options.follow, ControlCommand::Resume)
}

fn run_and_follow(follow: &FollowArgs, command: ControlCommand) -> ExitStatus {
    run(
        &follow.deployment,
        command,
        *follow.timeout,
        OutputFormat::from_flag(follow.json),
    )
}

/// The reason why a command was not written.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error(transparent)]
    Place(#[from] UnknownDeployment),
    #[error(
        "cannot write desired.json in {state:?}, by which sidecars receive commands: {source}{}",
        if source.kind() == io::ErrorKind::StorageFull { "; free some space there, and try again" } else { "" }
    )]
    Write { state: PathBuf, source: io::Error },
}

pub(super) fn run(
    place: &DeploymentArgs,
    command: ControlCommand,
    timeout: Duration,
    format: OutputFormat,
) -> ExitStatus {
    let mut progress = Progress::new();
    let report = place
        .enter()
        .map_err(ControlError::from)
        .and_then(|state| ControlRun::new(state, command, timeout).run(&mut progress));
    progress.end();
    let report = report.unwrap_or_else(|error| {
        let exit_status = match error {
            ControlError::Place(_) => ExitStatus::Usage,
            ControlError::Write { .. } => ExitStatus::Refused,
        };
        Report::failed(exit_status, &error)
    });
    report.print(format);
    report.exit_status
}

/// One execution of a command.
struct ControlRun {
    state: PathBuf,
    command: ControlCommand,
    timeout: Duration,
    follower: Follower,
    /// The launches of each sidecar before the command.
    launches: BTreeMap<Arc<str>, LaunchesBefore>,
    /// The active instance of each sidecar before the command.
    active: BTreeMap<Arc<str>, Generation>,
    /// The instance of each sidecar that was staged, or was to be, before the command.
    staged: BTreeMap<Arc<str>, Generation>,
}

/// The end of a command, over all sidecars.
#[derive(Clone, Copy)]
enum ControlOutcome {
    Done,
    Refused,
    Superseded,
    Timeout,
    Idle,
}

// === impl ControlRun ===

impl ControlRun {
    fn new(state: PathBuf, command: ControlCommand, timeout: Duration) -> Self {
        Self {
            follower: Follower::of(&state),
            state,
            command,
            timeout,
            launches: BTreeMap::new(),
            active: BTreeMap::new(),
            staged: BTreeMap::new(),
        }
    }

    fn run(&mut self, progress: &mut Progress) -> Result<Report, ControlError> {
        let deadline = Instant::now() + self.timeout;
        let is_live = self.follower.await_live();
        if !is_live && !self.command.is_lasting() {
            return Ok(self.report(ControlOutcome::Idle, Steps::new()));
        }
        if self.follower.sidecars.run_several_commands() {
            progress.say(
                "sidecars with several COMMANDs have this state folder, and all of them receive the \
                 request: give each COMMAND its own --state",
            );
        }
        self.launches = self.follower.launches();
        self.active = self
            .follower
            .sidecars
            .live()
            .map(|status| {
                let active = status.active.as_ref().map(|active| active.generation);
                (Arc::clone(&status.sidecar), active.unwrap_or(Generation(0)))
            })
            .collect();
        let staged = |status: &Status| {
            let staged = status.staged.as_ref().or(status.candidate.as_ref())?;
            Some((Arc::clone(&status.sidecar), staged.generation))
        };
        self.staged = self.follower.sidecars.live().filter_map(staged).collect();
        let pending = self.write(self.command.clone())?;
        if !is_live {
            return Ok(self.report(ControlOutcome::Idle, Steps::new()));
        }
        let (outcome, steps) = self.follow(&pending, deadline, progress);
        if let (ControlOutcome::Timeout, ControlCommand::Pause(_)) = (outcome, &self.command) {
            self.take_back(&pending, progress)?;
        }
        Ok(self.report(outcome, steps))
    }

    fn write(&self, command: ControlCommand) -> Result<PendingCommand, ControlError> {
        write_command(&self.state, command).map_err(|source| ControlError::Write {
            state: self.state.clone(),
            source: explain(source),
        })
    }

    /// Waits until all sidecars have executed or refused the command.
    fn follow(
        &mut self,
        pending: &PendingCommand,
        deadline: Instant,
        progress: &mut Progress,
    ) -> (ControlOutcome, Steps) {
        loop {
            self.follower.sidecars.refresh();
            let mut steps = self.follower.steps(|status| self.step(status, pending));
            if !matches!(
                self.command,
                ControlCommand::Pause(_) | ControlCommand::Resume
            ) {
                // A sidecar that has started since needs no command.
                steps.retain(|sidecar, _| self.active.contains_key(sidecar));
            }
            self.follower.tell(&steps, progress);
            let is_over = |step: &Step| self.is_done(step) || step.refusal().is_some();
            if !steps.is_empty() && steps.values().all(is_over) {
                let is_done = steps.values().all(|step| self.is_done(step));
                let outcome = if is_done {
                    ControlOutcome::Done
                } else {
                    ControlOutcome::Refused
                };
                return (outcome, steps);
            }
            if !pending.is_current(&self.state) {
                return (ControlOutcome::Superseded, steps);
            }
            if Instant::now() >= deadline {
                let outcome = if steps.is_empty() {
                    ControlOutcome::Idle
                } else {
                    ControlOutcome::Timeout
                };
                return (outcome, steps);
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Returns the progress of one sidecar.
    fn step(&self, status: &Status, pending: &PendingCommand) -> Step {
        let serial = Some(pending.serial());
        if status.desired_serial < serial {
            return Step::Waiting { problem: None };
        }
        if status.desired_serial == serial
            && let Some(problem) = &status.desired_problem
        {
            return Step::impossible(problem);
        }
        let none = Generation(0);
        let of = |all: &BTreeMap<_, _>| all.get(&status.sidecar).copied().unwrap_or(none);
        let before = self.launches.get(&status.sidecar).copied();
        let before = before.unwrap_or_else(LaunchesBefore::none);
        match (&self.command, &status.rollback_to) {
            (ControlCommand::Restart, _) => Step::of_restart(status, of(&self.active), before),
            (ControlCommand::Rollback(_), Some(to)) => Step::of_rollback(status, to, before),
            (ControlCommand::Rollback(_), None) => Step::Waiting { problem: None },
            (ControlCommand::Promote, _) => Step::of_promote(status, of(&self.staged)),
            (ControlCommand::Abort, _) => Step::of_abort(status, of(&self.staged)),
            (ControlCommand::BeginMaintenance(_) | ControlCommand::EndMaintenance, _) => {
                Step::of_maintenance(status)
            }
            (ControlCommand::Upgrade(_), _) => step_of_upgrade(status, pending.serial()),
            (ControlCommand::Pause(_) | ControlCommand::Resume, _)
            | (ControlCommand::Retry(_) | ControlCommand::Stage(_), _) => Step::of_pause(status),
        }
    }

    fn is_done(&self, step: &Step) -> bool {
        match self.command {
            ControlCommand::Pause(_) => *step == Step::Paused,
            ControlCommand::Resume => *step == Step::Resumed,
            ControlCommand::BeginMaintenance(_) => *step == Step::InMaintenance,
            ControlCommand::EndMaintenance => *step == Step::NotInMaintenance,
            ControlCommand::Abort => *step == Step::GivenUp,
            ControlCommand::Upgrade(_) => *step == Step::Upgraded,
            ControlCommand::Rollback(_) | ControlCommand::Restart | ControlCommand::Promote => {
                step.is_active()
            }
            // No command of an operator.
            ControlCommand::Retry(_) | ControlCommand::Stage(_) => step.is_active(),
        }
    }

    /// Ends the pause that this command began, unless another command has begun one since.
    fn take_back(
        &mut self,
        pending: &PendingCommand,
        progress: &mut Progress,
    ) -> Result<(), ControlError> {
        if !pending.is_current(&self.state) {
            return Ok(());
        }
        let serial = Some(self.write(ControlCommand::Resume)?.serial());
        let until = Instant::now() + RESUME_TIMEOUT;
        let is_paused =
            |status: &&Status| status.desired_serial < serial || status.paused.is_some();
        let left = loop {
            self.follower.sidecars.refresh();
            let left = self.follower.sidecars.live().filter(is_paused).count();
            if left == 0 || Instant::now() >= until {
                break left;
            }
            sleep(POLL_INTERVAL);
        };
        if left == 0 {
            progress.say("  all is resumed");
        } else {
            let left = count(left, "sidecar");
            progress.say(&format!("  {left} have not reported yet that they resumed"));
        }
        Ok(())
    }

    fn report(&self, outcome: ControlOutcome, steps: Steps) -> Report {
        let (name, exit_status) = match outcome {
            ControlOutcome::Done => (CommandOutcome::Done, ExitStatus::Done),
            ControlOutcome::Refused => (CommandOutcome::Refused, ExitStatus::Refused),
            ControlOutcome::Superseded => (CommandOutcome::Superseded, ExitStatus::Refused),
            ControlOutcome::Timeout => (CommandOutcome::Timeout, ExitStatus::Timeout),
            ControlOutcome::Idle => (CommandOutcome::Idle, ExitStatus::Idle),
        };
        let releases = self.releases(&steps);
        Report {
            outcome: name,
            exit_status,
            message: self.message(outcome, &steps, &releases),
            sidecars: steps.into_iter().map(SidecarReport::from).collect(),
            more: Map::from_iter([("releases".to_owned(), json!(releases))]),
        }
    }

    /// Returns the active releases of the sidecars that have executed the command.
    fn releases(&self, steps: &Steps) -> BTreeSet<String> {
        let is_done = |status: &&Status| {
            let step = steps.get(&status.sidecar);
            step.is_some_and(|step| self.is_done(step))
        };
        let done = self.follower.sidecars.live().filter(is_done);
        done.filter_map(|status| status.active.as_ref())
            .map(|active| active.release.to_string())
            .collect()
    }

    fn message(
        &self,
        outcome: ControlOutcome,
        steps: &Steps,
        releases: &BTreeSet<String>,
    ) -> String {
        let state = &self.state;
        let text = match outcome {
            ControlOutcome::Done => return self.message_of_done(steps, releases),
            ControlOutcome::Idle => {
                let end = match self.command {
                    ControlCommand::Resume => "the pause is taken out of desired.json",
                    ControlCommand::BeginMaintenance(_) => {
                        "one that starts begins with the maintenance"
                    }
                    ControlCommand::EndMaintenance => {
                        "the maintenance is taken out of desired.json"
                    }
                    ControlCommand::Retry(_)
                    | ControlCommand::Rollback(_)
                    | ControlCommand::Restart
                    | ControlCommand::Pause(_)
                    | ControlCommand::Stage(_)
                    | ControlCommand::Promote
                    | ControlCommand::Abort
                    | ControlCommand::Upgrade(_) => "there is nothing to do",
                };
                return format!("no sidecar runs (none is alive in {state:?}; {ELSEWHERE}): {end}");
            }
            ControlOutcome::Superseded => {
                format!("another command has replaced this one in {state:?}")
            }
            ControlOutcome::Refused if matches!(self.command, ControlCommand::Rollback(_)) => {
                "not all have gone back".to_owned()
            }
            ControlOutcome::Refused => "not all have done it".to_owned(),
            ControlOutcome::Timeout if matches!(self.command, ControlCommand::Pause(_)) => {
                "not all sidecars were paused in time with no request in flight, so the pause is \
                 taken back"
                    .to_owned()
            }
            ControlOutcome::Timeout => {
                let timeout = humantime::format_duration(self.timeout);
                format!("not all have done it after {timeout}")
            }
        };
        steps.iter().fold(text, |mut text, (id, step)| {
            // Writing to a string cannot fail.
            let _ = match step.refusal() {
                Some(refusal) => write!(text, "\n  sidecar {id} refused: {refusal}"),
                None => write!(text, "\n  sidecar {id}: {step}"),
            };
            text
        })
    }

    fn message_of_done(&self, steps: &Steps, releases: &BTreeSet<String>) -> String {
        let all = count(steps.len(), "sidecar");
        let releases: Vec<_> = releases.iter().map(String::as_str).collect();
        let releases = releases.join(" and ");
        match self.command {
            ControlCommand::Rollback(_) => format!("{releases} serves again in {all}"),
            ControlCommand::Promote => format!("{releases} serves in {all}"),
            ControlCommand::Abort => {
                format!("the staged release is given up in {all}; {releases} serves on")
            }
            ControlCommand::Restart => format!("{releases} serves from a new instance in {all}"),
            ControlCommand::Pause(_) => {
                let left = humantime::format_duration(self.pause_left());
                format!(
                    "{all} paused, with no request in flight; the pause ends in {left}, or with \
                     `handoff resume`"
                )
            }
            ControlCommand::BeginMaintenance(_) => format!(
                "{all} in maintenance: new requests get 503 until `handoff maintenance off`"
            ),
            ControlCommand::EndMaintenance => format!("{all} not in maintenance"),
            ControlCommand::Upgrade(_) => {
                format!("handoff is upgraded in {all}; {releases} serves on")
            }
            ControlCommand::Resume | ControlCommand::Retry(_) | ControlCommand::Stage(_) => {
                format!("{all} not paused")
            }
        }
    }

    /// Returns the time until the first sidecar ends the pause, in whole seconds.
    fn pause_left(&self) -> Duration {
        let now = UnixMillis::now();
        let left = |status: &Status| {
            let until = status.paused.as_ref()?.until_ms;
            Some(until.0.saturating_sub(now.0) / 1000)
        };
        let left = self.follower.sidecars.live().filter_map(left).min();
        Duration::from_secs(left.unwrap_or(0))
    }
}

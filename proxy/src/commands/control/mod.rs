//! `handoff rollback`, `restart`, `pause`, `resume` and `maintenance`: commands to all sidecars of a deployment.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cli::control::{
    AbortArgs, FollowArgs, PauseArgs, PromoteArgs, RestartArgs, ResumeArgs, RollbackArgs,
};
use crate::cli::deployment::DeploymentArgs;
use crate::cli::output::OutputFormat;
use crate::commands::deployment_paths::UnknownDeployment;
use crate::commands::follow::{
    Follower, LaunchesBefore, POLL_INTERVAL, Report, Step, Steps, step_of_upgrade,
};
use crate::commands::progress::Progress;
use crate::commands::{ExitStatus, count};
use crate::deployment::desired::ControlCommand;
use crate::deployment::pending_command::{PendingCommand, write_command, write_rollback};
use crate::deployment::status::{CommandEnd, CommandStatus, Status};
use crate::os::files::is_full;
use crate::os::rights::explain;
use crate::release::Generation;

mod report;

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
        if is_full(source) { "; free some space there, and try again" } else { "" }
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
    /// The staged instance of each sidecar before the command, or the candidate, which may have been
    /// to be staged.
    staged: BTreeMap<Arc<str>, StagedBefore>,
}

/// An instance before a promotion or its opposite.
#[derive(Clone, Copy)]
enum StagedBefore {
    Staged(Generation),
    Candidate(Generation),
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
            let staged = match (&status.staged, &status.candidate) {
                (Some(staged), _) => StagedBefore::Staged(staged.generation),
                (None, Some(candidate)) => StagedBefore::Candidate(candidate.generation),
                (None, None) => return None,
            };
            Some((Arc::clone(&status.sidecar), staged))
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
        let written = if command == ControlCommand::Rollback(None) {
            let live = self.follower.sidecars.live();
            let seen = live.map(|status| status.desired_serial).min().flatten();
            write_rollback(&self.state, seen)
        } else {
            write_command(&self.state, command)
        };
        written.map_err(|source| ControlError::Write {
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
                let has = |is_it: fn(&Step) -> bool| steps.values().any(is_it);
                let outcome = if has(|step| matches!(step, Step::Refused(_))) {
                    ControlOutcome::Refused
                } else if has(|step| matches!(step, Step::Superseded(_))) {
                    ControlOutcome::Superseded
                } else {
                    ControlOutcome::Done
                };
                return (outcome, steps);
            }
            // Another one would be the version that it starts with.
            let is_pointless = steps.is_empty()
                && matches!(self.command, ControlCommand::Upgrade(_))
                && self
                    .active
                    .keys()
                    .all(|it| self.follower.sidecars.is_gone(it));
            if Instant::now() >= deadline || is_pointless {
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
        let listed = status.commands.find(self.command.key(), pending.number());
        // One that asks for the same does it for both.
        let other = listed.filter(|it| it.serial > pending.number());
        let other = other.filter(|it| it.command != self.command.to_string());
        if let (Some(other), false) = (other, self.command.is_of_gate()) {
            return Step::superseded(&format!("`{}` has taken its place", other.command));
        }
        let step = self.step_by_state(status, pending, listed);
        let is_refused = listed.is_some_and(|listed| listed.reason.is_some());
        // Of two promotions at once, the second finds nothing to promote any more.
        let is_second = || {
            self.command == ControlCommand::Promote
                && matches!(
                    self.staged.get(&status.sidecar),
                    Some(StagedBefore::Staged(_))
                )
        };
        if self.is_done(&step) && (!is_refused || is_second()) {
            return step;
        }
        match listed {
            Some(CommandStatus {
                outcome,
                reason: Some(reason),
                ..
            }) => {
                if *outcome == CommandEnd::Superseded {
                    Step::superseded(reason)
                } else {
                    Step::impossible(reason)
                }
            }
            Some(_) if !self.command.is_of_gate() => step,
            // A sidecar before 0.2 lists none. One that lists some had not read this one when another
            // took its place.
            _ => match (pending.replaced_by(&self.state), &status.desired_problem) {
                (Some(by), _) => Step::superseded(&format!("`{by}` has taken its place")),
                (None, Some(problem)) if status.desired_serial == serial => {
                    Step::impossible(problem)
                }
                (None, _) => step,
            },
        }
    }

    /// Returns the progress of one sidecar that has read the command, by what it runs.
    fn step_by_state(
        &self,
        status: &Status,
        pending: &PendingCommand,
        listed: Option<&CommandStatus>,
    ) -> Step {
        let active = || {
            let active = self.active.get(&status.sidecar).copied();
            active.unwrap_or(Generation(0))
        };
        let staged = || match self.staged.get(&status.sidecar) {
            Some(StagedBefore::Staged(it) | StagedBefore::Candidate(it)) => *it,
            None => Generation(0),
        };
        let before = self.launches.get(&status.sidecar).copied();
        let before = before.unwrap_or_else(LaunchesBefore::none);
        let as_listed = |step: Step| match listed {
            Some(listed) => step.with_end_of(listed, status),
            None => step,
        };
        let to = match listed {
            Some(listed) => &listed.rollback_to,
            None => &status.rollback_to,
        };
        match (&self.command, to) {
            (ControlCommand::Restart, _) => as_listed(Step::of_restart(status, active(), before)),
            (ControlCommand::Rollback(_), Some(to)) => {
                as_listed(Step::of_rollback(status, to, before))
            }
            (ControlCommand::Rollback(_), None) => Step::Waiting { problem: None },
            (ControlCommand::Promote, _) => Step::of_promote(status, staged()),
            (ControlCommand::Abort, _) => Step::of_abort(status, staged()),
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
        if pending.replaced_by(&self.state).is_some() {
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_starts_without_being_staged_is_promoted_by_no_command() {
        let state = tempfile::tempdir().unwrap();
        let promote = ControlCommand::Promote;
        let pending = write_command(state.path(), promote.clone()).unwrap();
        let status: Status = serde_json::from_value(json!({
            "schema": 1, "sidecar": "a", "version": "0", "pid": 1, "listen": "127.0.0.1:1",
            "started_ms": 1, "heartbeat_ms": 1, "phase": "running",
            "active": {"generation": 2, "release": "v", "digest": "d", "since_ms": 1},
            "handoffs": [{"release": "v", "digest": "d", "generation": 2, "outcome": "promoted",
                "launched_ms": 1, "reason": null}],
            "desired_serial": pending.serial(),
            "commands": [{"key": promote.key(), "command": "promote", "serial": pending.number(),
                "outcome": "refused", "reason": "no release is staged", "rollback_to": null}],
        }))
        .unwrap();
        let step = |before: StagedBefore| {
            let mut run = ControlRun::new(state.path().into(), promote.clone(), Duration::ZERO);
            run.staged.insert(Arc::clone(&status.sidecar), before);
            run.step(&status, &pending)
        };
        let refused = step(StagedBefore::Candidate(Generation(2)));
        assert_eq!(refused, Step::impossible("no release is staged"));
        // Another promotion came first.
        assert_eq!(step(StagedBefore::Staged(Generation(2))), Step::Done);
    }
}

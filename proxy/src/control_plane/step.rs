//! The steps of an operator before a release serves: commands that decide about it (`--verify`).

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::process::template::{Command, Values};
use crate::process::variables::Variables;
use crate::process::{Exit, Launch, LaunchError, LaunchSpec, Process, ProcessRole, stop::Stop};
use crate::release::Generation;

/// Settings of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSettings {
    /// Option that names the command, for messages.
    pub option: &'static str,
    /// The command.
    pub command: Command,
    /// Maximum time for it.
    pub timeout: Duration,
}

/// The reason for which a step keeps a release from serving.
#[derive(Debug)]
pub(super) struct StepFailure {
    /// Reason in one line.
    pub(super) reason: String,
    /// Last lines of the command's output.
    pub(super) output: VecDeque<String>,
    /// True unless the machine kept the command from starting.
    pub(super) is_releases_fault: bool,
    /// True if the command was started.
    pub(super) has_run: bool,
}

/// A step that is over when it completes.
type StepFuture = Pin<Box<dyn Future<Output = Result<(), StepFailure>>>>;

/// The operator's check of an instance that is ready, at its address.
pub(super) struct Verification(Box<dyn Fn(SocketAddr) -> StepFuture>);

// === impl StepSettings ===

impl StepSettings {
    /// Returns what is launched for a release.
    pub(super) fn spec(
        &self,
        generation: Generation,
        values: Values<'_>,
        env: Variables,
    ) -> Result<LaunchSpec, StepFailure> {
        let expanded = self.command.expand(values);
        let (program, args) =
            expanded.map_err(|error| self.not_started(&error.to_string(), true))?;
        Ok(LaunchSpec {
            generation,
            role: ProcessRole::Step,
            release: values.release.id.clone(),
            program,
            args,
            env,
            workdir: values.release.dir.clone(),
            stop: Stop::Kill,
            port: values.port,
        })
    }

    /// Runs the command, and returns its verdict.
    pub(super) async fn run<L: Launch>(
        &self,
        launcher: &L,
        spec: LaunchSpec,
    ) -> Result<(), StepFailure> {
        let not_started =
            |error: LaunchError| self.not_started(&error.to_string(), error.is_releases_fault);
        let mut process = launcher.launch(spec).map_err(not_started)?;
        self.judge(&mut process).await
    }

    async fn judge(&self, process: &mut impl Process) -> Result<(), StepFailure> {
        let (problem, exit) = match tokio::time::timeout(self.timeout, process.exited()).await {
            Ok(exit) if exit.is_success => return Ok(()),
            Ok(exit) => (format!("failed ({})", exit.status), exit),
            Err(_elapsed) => {
                process.kill();
                let timeout = humantime::format_duration(self.timeout);
                let problem = format!("was killed: it took longer than {timeout}");
                (problem, process.exited().await)
            }
        };
        let Exit { output, .. } = exit;
        let said = output.iter().rev().find(|line| !line.trim().is_empty());
        let said = said.map_or(String::new(), |line| format!(": {}", line.trim()));
        Err(StepFailure {
            reason: format!("{} {problem}{said}", self.option),
            output,
            is_releases_fault: true,
            has_run: true,
        })
    }

    fn not_started(&self, problem: &str, is_releases_fault: bool) -> StepFailure {
        StepFailure {
            reason: format!("{}: {problem}", self.option),
            output: VecDeque::new(),
            is_releases_fault,
            has_run: false,
        }
    }
}

// === impl Verification ===

impl Verification {
    /// Returns one that runs the command of `step` beside the instance. The command finds the
    /// instance in HANDOFF_URL, and the active one in HANDOFF_PREVIOUS_URL.
    pub(super) fn new<L: Launch>(
        step: StepSettings,
        launcher: Rc<L>,
        mut spec: LaunchSpec,
        active: Option<SocketAddr>,
    ) -> Self {
        spec.env.set("RELEASE", spec.release.as_str());
        if let Some(active) = active {
            spec.env.set("HANDOFF_PREVIOUS_URL", url(active));
        }
        Self(Box::new(move |address| {
            let (step, launcher, mut spec) = (step.clone(), Rc::clone(&launcher), spec.clone());
            spec.env.set("HANDOFF_URL", url(address));
            Box::pin(async move { step.run(&*launcher, spec).await })
        }))
    }

    /// Checks the instance at `address`.
    pub(super) fn check(&self, address: SocketAddr) -> StepFuture {
        (self.0)(address)
    }
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification").finish_non_exhaustive()
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

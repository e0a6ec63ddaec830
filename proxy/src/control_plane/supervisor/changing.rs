//! Each change of an instance's state, told once and in one form: what, from, to, and why.

use super::super::lifecycle::Event;
use super::{State, Supervisor};
use crate::process::Launch;
use crate::release::{Generation, ReleaseId};

impl<L: Launch> Supervisor<L> {
    /// Tells of a change that follows from the event which is being acted on. `None` is no state:
    /// it has not been launched, or is gone.
    pub(super) fn changed(
        &self,
        generation: Generation,
        release: &ReleaseId,
        (from, to): (Option<State>, Option<State>),
        what: &str,
    ) {
        let (from, to) = (name(from, "nothing"), name(to, "gone"));
        let reason = &self.because;
        tracing::info!(%generation, %release, from, to, %reason, "{what}");
    }
}

impl State {
    /// As the status says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
        }
    }
}

fn name(state: Option<State>, else_: &'static str) -> &'static str {
    state.map_or(else_, State::name)
}

/// Why something changes, in a few words.
pub(super) fn because(event: &Event) -> String {
    let of = |generation: &Generation, what| format!("generation {generation} {what}");
    match event {
        Event::Detected(_) => "a new artifact".to_owned(),
        Event::NothingDetected => "there is no artifact any more".to_owned(),
        Event::LaunchFailed(generation) => of(generation, "could not be started"),
        Event::Ready(generation) => of(generation, "is ready"),
        Event::NeverReady(generation) => of(generation, "was not ready in time"),
        Event::Settled(generation) => of(generation, "has served for a while"),
        Event::LivenessLost(generation) => of(generation, "fails its live check"),
        Event::LivenessRecovered(generation) => of(generation, "succeeds in its live check again"),
        Event::TooManyErrors(generation) => of(generation, "answers with too many errors"),
        Event::TrialEnded(generation) => format!("the trial of generation {generation} is over"),
        Event::Exited(generation) => of(generation, "has ended"),
        Event::Drained(generation) => of(generation, "has nothing in flight"),
        Event::RetryDue => "the back-off is over".to_owned(),
        Event::RetryRequested(_) => "somebody asked to try it again".to_owned(),
        Event::RestartRequested => "somebody asked for a restart".to_owned(),
        Event::RollbackRequested(_) => "somebody asked to go back".to_owned(),
        Event::PauseRequested => "somebody asked for a pause".to_owned(),
        Event::PauseEnded => "the pause is over".to_owned(),
        Event::ShutdownRequested => "handoff shuts down".to_owned(),
        Event::PortClosed => "the public port is closed".to_owned(),
    }
}

//! The events that can happen in a state.

use super::{Event, ReleaseId, Story, World};

impl World {
    /// Everything that could happen next.
    pub(in super::super) fn feasible(&self, story: Story) -> Vec<Event> {
        let releases = ["a", "b"].map(ReleaseId::new);
        let mut events: Vec<_> = releases.clone().map(Event::Detected).into();
        for (&generation, process) in &self.alive {
            events.push(Event::Exited(generation));
            if process.is_starting() {
                events.push(Event::Ready(generation));
                events.push(Event::NeverReady(generation));
                events.push(Event::LaunchFailed(generation));
            }
            if process.draining {
                events.push(Event::Drained(generation));
            }
            if process.pinned {
                events.push(Event::SessionsEnded(generation));
            }
            if self.routed == Some(generation) {
                if !process.settled {
                    events.push(Event::Settled(generation));
                }
                match (story, process.unhealthy) {
                    (Story::Deploys | Story::Stages, _) => {}
                    (_, false) => events.push(Event::LivenessLost(generation)),
                    (_, true) => events.push(Event::LivenessRecovered(generation)),
                }
            }
        }
        if !self.served {
            events.push(Event::OlderDetected(ReleaseId::new("a")));
        }
        if let Some(on_trial) = self.on_trial {
            events.push(Event::TrialEnded(on_trial));
            events.push(Event::TooManyErrors(on_trial));
        }
        if self.retry_armed {
            events.push(Event::RetryDue);
        }
        if let Some(resting) = &self.resting {
            events.push(Event::ReturnDue(resting.clone()));
        }
        if matches!(story, Story::Stages) {
            let known = releases.clone().into_iter();
            let known = known.filter(|release| self.knows(release));
            events.extend(known.map(Event::StageRequested));
            events.push(Event::PromoteRequested);
            events.push(Event::AbortRequested);
            events.push(Event::RestartRequested);
            events.push(Event::RollbackRequested(None));
            events.extend(self.staged.map(Event::StageExpired));
            events.extend(self.staged.map(Event::TooManyErrors));
            events.extend(self.staged.map(Event::CanaryPassed));
        }
        if matches!(story, Story::Requests) {
            events.push(Event::RestartRequested);
            events.push(Event::RollbackRequested(None));
            // Only what is known can be named.
            let known = releases.into_iter().filter(|release| self.knows(release));
            for release in known {
                events.push(Event::RollbackRequested(Some(release.clone())));
                events.push(Event::RetryRequested(release));
            }
            events.push(if self.paused {
                Event::PauseEnded
            } else {
                Event::PauseRequested
            });
        }
        match (self.shutdown, self.closed) {
            (false, _) => events.push(Event::ShutdownRequested),
            (true, false) => events.push(Event::PortClosed),
            (true, true) => {}
        }
        events
    }
}

//! The judgement of a status: is anything under way?

use super::status::{Phase, Status};

// === impl Status ===

impl Status {
    /// Returns the reason for which another process of handoff could not go on now, if there is one:
    /// it knows the active instance, and nothing else.
    pub fn busy_with(&self) -> Option<String> {
        let starting = self.candidate.iter().map(|it| (it, "is starting"));
        let staged = self.staged.iter().map(|it| (it, "awaits its promotion"));
        let standby = self.standby.iter().map(|it| (it, "is on standby"));
        let draining = self.draining.iter().map(|it| (it, "is draining"));
        let stopping = self.stopping.iter().map(|it| (it, "is stopping"));
        let mut others = starting.chain(staged).chain(standby);
        let other = others.next().or_else(|| draining.chain(stopping).next());
        match other {
            _ if self.phase != Phase::Running => Some("handoff is shutting down".to_owned()),
            Some((instance, what)) => Some(format!("{} {what}", instance.release)),
            None if self.paused.is_some() => Some("requests are paused".to_owned()),
            None if self.active.is_none() => Some("nothing serves".to_owned()),
            None if self.bakes_until_ms.is_some() => Some("the release is on trial".to_owned()),
            None => None,
        }
    }
}

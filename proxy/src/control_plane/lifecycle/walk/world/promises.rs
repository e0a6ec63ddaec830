//! The facts that have to be true in every state.

use super::{Process, World};
use crate::release::Generation;

impl World {
    pub(super) fn check(&self) {
        let usable = |(_, p): &(&Generation, &Process)| {
            let refused = p.release.as_ref().is_some_and(|r| self.refused.contains(r));
            p.ready && !p.stopped && (!p.evicted || p.standby) && !refused && !p.only_staged
        };
        let policy = self.policy();
        if let Some(routed) = self.routed {
            assert!(self.alive.contains_key(&routed), "routed to the dead");
        } else if !self.shutdown && policy.can_overlap && policy.may_go_back {
            let idle = self.alive.iter().find(usable);
            assert_eq!(idle, None, "no route while a healthy instance runs");
        }
        let starting = self.alive.values().any(Process::is_starting);
        let coming = starting || self.retry_armed || self.lifecycle.incoming.starting().is_some();
        if self.served && !self.shutdown {
            assert!(self.routed.is_some() || coming, "idle after having served");
        }
        if let Some(wanted) = &self.wanted
            && !self.shutdown
            && !coming
        {
            let serves = self.release_of(self.routed).as_ref() == Some(wanted);
            let is_staged = self.release_of(self.staged).as_ref() == Some(wanted);
            let rests = self.resting.as_ref() == Some(wanted);
            assert!(
                serves || rests || is_staged || self.refused.contains(wanted),
                "a deploy was forgotten"
            );
        }
        assert!(self.restart.is_none() || coming, "a restart was forgotten");
        let planned = self.lifecycle.incoming.release();
        assert!(
            self.rollback.is_none() || self.rollback.as_ref() == planned,
            "a rollback was forgotten"
        );
        for (generation, process) in &self.alive {
            let known = self.routed == Some(*generation)
                || self.staged == Some(*generation)
                || process.draining
                || process.stopped
                || process.standby && self.on_trial.is_some()
                || process.is_starting();
            assert!(known, "generation {generation} was lost");
        }
        for process in self.alive.values().filter(|process| process.pinned) {
            let refused = process.release.as_ref().map(|r| self.refused.contains(r));
            assert_ne!(refused, Some(true), "sessions stay at a refused release");
            assert!(!self.shutdown, "sessions outlast the shutdown");
        }
        if self.closed && self.alive.is_empty() {
            assert!(self.lifecycle.is_finished(), "does not end");
        }
        assert!(!self.shutdown || !self.paused, "paused for ever");
        assert_eq!(self.lifecycle.is_paused(), self.paused);
    }
}

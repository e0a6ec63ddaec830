//! Walks every order of events, to a bounded depth, against a model of the world.
//!
//! The model knows what is true of the processes, whatever the lifecycle believes: which live,
//! which answered their health check, which may still hold requests. After each step it checks
//! what no operator would forgive (invariants 3 and 4 of the design).

use std::collections::{BTreeMap, HashSet};

use super::*;

const DEPTH: usize = 9;
const POLICY: Policy = Policy {
    max_draining: 1,
    rapid_fails: 2,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    lifecycle: Lifecycle,
    alive: BTreeMap<Generation, Process>,
    routed: Option<Generation>,
    retry_armed: bool,
    served: bool,
    shutdown: bool,
    closed: bool,
    /// The last step was a crash of what was routed: the only licence to route backwards.
    crashed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    release: Option<ReleaseId>,
    ready: bool,
    failed: bool,
    settled: bool,
    may_hold_requests: bool,
    draining: bool,
    evicted: bool,
    stopped: bool,
}

impl World {
    fn new() -> Self {
        Self {
            lifecycle: Lifecycle::new(POLICY),
            alive: BTreeMap::new(),
            routed: None,
            retry_armed: false,
            served: false,
            shutdown: false,
            closed: false,
            crashed: false,
        }
    }

    /// Everything that could happen next.
    fn feasible(&self) -> Vec<Event> {
        let mut events: Vec<_> = ["a", "b"]
            .map(|name| Event::Detected(ReleaseId::new(name)))
            .into();
        for (&generation, process) in &self.alive {
            events.push(Event::Exited(generation));
            let starting = !process.ready && !process.failed;
            if starting {
                events.push(Event::Ready(generation));
                events.push(Event::NeverReady(generation));
                events.push(Event::LaunchFailed(generation));
            }
            if process.draining {
                events.push(Event::Drained(generation));
            }
            if self.routed == Some(generation) && !process.settled {
                events.push(Event::Settled(generation));
            }
        }
        if self.retry_armed {
            events.push(Event::RetryDue);
        }
        match (self.shutdown, self.closed) {
            (false, _) => events.push(Event::ShutdownRequested),
            (true, false) => events.push(Event::Closed),
            (true, true) => {}
        }
        events
    }

    fn step(&mut self, event: Event) {
        self.happen(&event);
        for action in self.lifecycle.on(event) {
            self.perform(action);
        }
        self.check();
    }

    fn happen(&mut self, event: &Event) {
        self.crashed = false;
        match event {
            Event::LaunchFailed(generation) => {
                self.alive.remove(generation);
            }
            Event::Exited(generation) => {
                self.alive.remove(generation);
                self.crashed = self.routed == Some(*generation);
            }
            Event::Ready(generation) => self.process(*generation).ready = true,
            Event::NeverReady(generation) => self.process(*generation).failed = true,
            Event::Settled(generation) => self.process(*generation).settled = true,
            Event::Drained(generation) => {
                let process = self.process(*generation);
                process.draining = false;
                process.may_hold_requests = false;
            }
            Event::RetryDue => self.retry_armed = false,
            Event::ShutdownRequested => self.shutdown = true,
            Event::Closed => self.closed = true,
            Event::Detected(_) => {}
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Launch(generation, release) => {
                assert!(!self.shutdown, "launched during shutdown");
                let starting = |p: &&Process| !p.ready && !p.stopped;
                let candidates = self.alive.values().filter(starting).count();
                assert_eq!(candidates, 0, "two candidates");
                let process = Process {
                    release: Some(release),
                    ..Process::default()
                };
                let reused = self.alive.insert(generation, process);
                assert_eq!(reused, None, "a generation was reused");
            }
            Action::Promote(generation) => {
                let crashed = self.crashed;
                let forwards = self.routed < Some(generation);
                let process = self.process(generation);
                assert!(process.ready, "promoted before it was ready");
                assert!(!process.stopped, "promoted after it was stopped");
                assert!(!process.evicted, "promoted after it was evicted");
                assert!(forwards || crashed, "routed backwards");
                process.may_hold_requests = true;
                process.draining = false;
                self.routed = Some(generation);
                self.served = true;
            }
            Action::Withdraw => self.routed = None,
            Action::Drain(generation) => {
                assert_ne!(self.routed, Some(generation), "drained while routed");
                self.process(generation).draining = true;
            }
            Action::Evict(generation) => {
                let process = self.process(generation);
                assert!(process.draining, "evicted what was not draining");
                assert!(!process.evicted, "evicted twice");
                process.evicted = true;
            }
            Action::Stop(generation) => {
                assert_ne!(self.routed, Some(generation), "stopped while routed");
                let process = self.process(generation);
                assert!(!process.may_hold_requests, "stopped under a request");
                assert!(!process.stopped, "stopped twice");
                process.stopped = true;
            }
            Action::Refuse(generation, release) => {
                // Another one serves, or is about to because it has served before.
                let serving = self.routed.and_then(|routed| self.alive.get(&routed));
                let serving = serving.and_then(|process| process.release.as_ref());
                assert_ne!(serving, Some(&release), "refused what serves");
                assert!(
                    self.served,
                    "refused {release} ({generation}) with nothing else"
                );
            }
            Action::RetryAfter(_) => {
                assert!(!self.shutdown, "a retry during shutdown");
                self.retry_armed = true;
            }
        }
    }

    fn check(&self) {
        let usable = |(_, p): &(&Generation, &Process)| p.ready && !p.stopped && !p.evicted;
        if let Some(routed) = self.routed {
            assert!(self.alive.contains_key(&routed), "routed to the dead");
        } else if !self.shutdown {
            let idle = self.alive.iter().find(usable);
            assert_eq!(idle, None, "no route while a healthy instance runs");
        }
        let starting = self.alive.values().any(|p| !p.ready && !p.stopped);
        if self.served && !self.shutdown {
            let coming = self.routed.is_some() || starting || self.retry_armed;
            assert!(coming, "idle after having served");
        }
        for (generation, process) in &self.alive {
            let known = self.routed == Some(*generation)
                || process.draining
                || process.stopped
                || (!process.ready && !process.failed);
            assert!(known, "generation {generation} was lost");
        }
        if self.closed && self.alive.is_empty() {
            assert!(self.lifecycle.is_finished(), "does not end");
        }
    }

    fn process(&mut self, generation: Generation) -> &mut Process {
        let process = self.alive.get_mut(&generation);
        process.unwrap_or_else(|| panic!("generation {generation} does not live"))
    }
}

#[test]
fn every_order_of_events_keeps_the_promises() {
    let mut seen = HashSet::new();
    let mut frontier = vec![(World::new(), Vec::new())];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for (world, path) in &frontier {
            for event in world.feasible() {
                let mut path: Vec<Event> = path.clone();
                path.push(event.clone());
                let mut world = world.clone();
                let shown = PathOnPanic(&path);
                world.step(event);
                std::mem::forget(shown);
                if seen.insert(world.clone()) {
                    next.push((world, path));
                }
            }
        }
        frontier = next;
    }
    assert!(seen.len() > 10_000, "only {} states were seen", seen.len());
}

/// Shows how the world came to the state in which a check fails.
struct PathOnPanic<'a>(&'a [Event]);

impl Drop for PathOnPanic<'_> {
    fn drop(&mut self) {
        eprintln!("after {:?}", self.0);
    }
}

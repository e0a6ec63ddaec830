//! The lifecycle as the next process of handoff restores it.

use super::*;

impl World {
    /// Returns the lifecycle of the next process, if this one is at rest.
    pub(in super::super) fn restored(&self) -> Option<Lifecycle> {
        let before = &self.lifecycle;
        if !before.is_at_rest() {
            return None;
        }
        let active = &before.serving.active()?.instance;
        let record = serde_json::to_string(&before.record()).expect("JSON");
        // What the memory, the process and its output tell.
        let mut after = Lifecycle::new(before.policy, before.good.clone());
        after.former.clone_from(&before.former);
        // One that is to be tried again is none of them, though it may be a former one.
        after.refused.clone_from(&before.refused);
        after.unproven.clone_from(&before.unproven);
        after.adopt_active(active.generation, active.release.clone());
        after.skip_launches(Some(Generation(before.launched)));
        let timers = after.restore(serde_json::from_str(&record).expect("a record"));
        let is_timer = |action: &Action| matches!(action, Action::ReturnAfter(..));
        assert!(timers.iter().all(is_timer), "{timers:?}");
        Some(after)
    }

    /// Takes a step about which `other` has to decide in the same way.
    pub(in super::super) fn step_with(&mut self, other: &mut Lifecycle, event: Event) {
        let decided = self.lifecycle.clone().on(event.clone());
        assert_eq!(other.on(event.clone()), decided, "after {event:?}");
        self.step(event);
    }
}

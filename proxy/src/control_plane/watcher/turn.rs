//! The turn of this sidecar in a staged roll-out.

use std::sync::Arc;

use super::{WatchEvent, WatchThread};
use crate::deployment::Target;
use crate::deployment::rollout::Rollout;
use crate::deployment::source::SourceError;
use crate::release::Digest;

/// The staged roll-out that `desired.json` contained last.
pub(super) struct Turn {
    sidecar: Arc<str>,
    rollout: Option<Rollout>,
    is_awaited: bool,
}

// === impl Turn ===

impl Turn {
    /// Creates the turn of this sidecar while there is no roll-out.
    pub(super) fn new(sidecar: Arc<str>) -> Self {
        Self {
            sidecar,
            rollout: None,
            is_awaited: false,
        }
    }

    /// Follows a roll-out, or none. A file that is gone or cannot be read ends none: on a share that
    /// happens while it is replaced.
    pub(super) fn follow(&mut self, rollout: Option<&Rollout>) {
        self.rollout = rollout.cloned();
    }

    /// Returns the content of the pointer file to obey instead of the present one, which names
    /// `target`, while it is not this sidecar's turn. A sidecar that runs the artifact goes on.
    fn instead(&self, target: &Target, accepted: Option<Digest>) -> Option<&str> {
        let rollout = self.rollout.as_ref()?;
        let digest = target.digest?;
        let is_awaited = digest.to_string() == rollout.digest
            && accepted != Some(digest)
            && !rollout.may.contains(&*self.sidecar);
        is_awaited.then_some(&*rollout.instead)
    }
}

impl WatchThread {
    /// Returns the artifact that is to run in this sidecar now: `target`, or the one before.
    pub(super) fn take_turn(&mut self, target: Target) -> Result<Target, SourceError> {
        let accepted = self.accepted.as_ref().map(|accepted| accepted.digest);
        let instead = self.turn.instead(&target, accepted);
        let is_awaited = instead.is_some();
        let target = match instead {
            Some(content) => self.settings.source.target_of(content),
            None => Ok(target),
        };
        if is_awaited != self.turn.is_awaited {
            self.turn.is_awaited = is_awaited;
            if is_awaited {
                tracing::info!(
                    event = "turn_awaited",
                    "the deployed artifact is launched when the roll-out reaches this sidecar"
                );
            } else {
                tracing::info!(
                    event = "turn_taken",
                    "the deployed artifact may be launched"
                );
            }
            let _ = self.found.send(WatchEvent::AwaitsTurn(is_awaited));
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_run_what_was_deployed_before() {
        let digest = |digits: &str| Digest::parse(&digits.repeat(32)).expect("a digest");
        let (new, old) = (digest("a1"), digest("b2"));
        let target = |digest| Target {
            path: "app".into(),
            digest,
            id: None,
        };
        let mut turn = Turn::new("a".into());
        assert_eq!(turn.instead(&target(Some(new)), Some(old)), None);
        let mut rollout = Rollout {
            digest: new.to_string(),
            instead: "before".to_owned(),
            may: ["b".to_owned()].into(),
            ..Rollout::default()
        };
        turn.follow(Some(&rollout));
        for accepted in [None, Some(old)] {
            assert_eq!(turn.instead(&target(Some(new)), accepted), Some("before"));
        }
        let others = [(Some(old), None), (None, None), (Some(new), Some(new))];
        for (named, accepted) in others {
            assert_eq!(turn.instead(&target(named), accepted), None, "{named:?}");
        }
        rollout.may.insert("a".to_owned());
        turn.follow(Some(&rollout));
        assert_eq!(turn.instead(&target(Some(new)), Some(old)), None);
    }
}

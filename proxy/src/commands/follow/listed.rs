//! The progress of a command by what the sidecar says of it.

use super::step::Step;
use crate::deployment::status::{CommandEnd, CommandStatus, Status};

impl Step {
    /// Returns the progress with a rollback or a restart, whose launches say this, by what the sidecar
    /// says of the command itself.
    pub(in crate::commands) fn with_end_of(self, command: &CommandStatus, status: &Status) -> Self {
        if command.outcome == CommandEnd::Done && !self.is_active() {
            let serves = status.active.as_ref().map(|active| active.release.as_str());
            let serves = serves.unwrap_or("nothing");
            let since = format!("it was done, and since then {serves} serves instead");
            return Self::superseded(&since);
        }
        // The failure is not the end of the command: the machine's fault, or of another launch.
        let goes_on = command.outcome == CommandEnd::Received;
        let refusal = self.refusal().filter(|_| goes_on);
        refusal
            .map(|refusal| Self::Failing {
                reason: refusal.reason.clone(),
            })
            .unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::follow::LaunchesBefore;
    use crate::release::Generation;

    #[test]
    fn what_the_sidecar_says_of_a_command_counts_more_than_the_launches() {
        let listed = |outcome: &str| {
            let command = json!({"key": "restart", "command": "restart", "serial": 1,
                "outcome": outcome, "reason": null, "rollback_to": null});
            serde_json::from_value::<CommandStatus>(command).unwrap()
        };
        let step = |outcomes: &[&str], listed: &CommandStatus| {
            let handoffs = outcomes.iter().zip(3..).map(|(it, generation)| {
                json!({"release": "v2", "digest": "new", "generation": generation,
                    "outcome": it, "launched_ms": 1, "reason": "exited with 3"})
            });
            let handoffs: Vec<_> = handoffs.collect();
            let active = json!({"generation": 2, "release": "v", "digest": "old", "since_ms": 1});
            let status = json!({
                "schema": 1, "sidecar": "a", "version": "0", "pid": 1, "listen": "127.0.0.1:1",
                "started_ms": 1, "heartbeat_ms": 1, "phase": "running", "active": active,
                "handoffs": handoffs,
            });
            let status: Status = serde_json::from_value(status).unwrap();
            let before = LaunchesBefore {
                last: Generation(2),
                starting: None,
            };
            Step::of_restart(&status, Generation(2), before).with_end_of(listed, &status)
        };
        // Of another release, or through the machine: it goes on.
        for outcome in ["refused", "failed"] {
            let going_on = step(&[outcome], &listed("received"));
            assert!(matches!(going_on, Step::Failing { .. }), "{going_on:?}");
            let over = step(&[outcome], &listed("refused"));
            assert!(matches!(over, Step::Refused(_)), "{over:?}");
        }
        // It was done, and an older instance serves again.
        let overtaken = step(&["promoted"], &listed("done"));
        assert!(matches!(overtaken, Step::Superseded(_)), "{overtaken:?}");
        assert!(
            overtaken
                .refusal()
                .expect("a reason")
                .reason
                .contains("v serves")
        );
    }
}

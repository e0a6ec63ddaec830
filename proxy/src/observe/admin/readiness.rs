//! Readiness of this sidecar, and the reason in one sentence if it is not ready.

use crate::deployment::status::{Failure, Phase, Status};

/// Returns the reason why this sidecar should get no requests: it is shutting down, or has no route
/// (`is_routed`).
pub(super) fn reason_unready(status: &Status, is_routed: bool) -> Option<String> {
    if status.phase == Phase::Stopping {
        return Some("this sidecar is shutting down".to_owned());
    }
    if is_routed {
        return None;
    }
    if status.paused.is_some() {
        return Some("new requests are held: the deployment is paused".to_owned());
    }
    let failure = status.last_failure.as_ref().map(|failure| {
        let Failure {
            release,
            reason,
            error,
            ..
        } = failure;
        let error = error.as_ref().map(|error| format!(": {error}"));
        format!(
            "{release} {reason}{}{}",
            in_a_row(status, failure),
            error.unwrap_or_default()
        )
    });
    if let Some(candidate) = &status.candidate {
        let probe = candidate.probe.as_ref().map(|probe| format!(": {probe}"));
        let probe = probe.unwrap_or_default();
        let before = failure.map(|failure| format!("; before that, {failure}"));
        let before = before.unwrap_or_default();
        return Some(format!("{} is starting{probe}{before}", candidate.release));
    }
    let reason = failure.or_else(|| status.artifact_problem.clone());
    Some(reason.unwrap_or_else(|| "nothing has been deployed yet".to_owned()))
}

/// Returns the number of crashes of which a failure is the last.
fn in_a_row(status: &Status, failure: &Failure) -> String {
    let mut handoffs = status.handoffs.iter();
    match handoffs.find(|handoff| handoff.generation == failure.generation) {
        Some(handoff) if handoff.crashes > 1 => format!(", crash {} in a row", handoff.crashes),
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::deployment::status::{Paused, SourceStatus, UnixMillis};
    use crate::release::{Generation, ReleaseId};

    #[test]
    fn the_reason_is_the_one_that_matters_most() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        let why = |status: &Status| reason_unready(status, false).unwrap();
        assert_eq!(reason_unready(&status, true), None);
        assert_eq!(why(&status), "nothing has been deployed yet");
        status.artifact_problem = Some("it is not complete".to_owned());
        assert_eq!(why(&status), "it is not complete");
        status.last_failure = Some(Failure {
            release: ReleaseId::new("app-1"),
            digest: String::new(),
            generation: Generation(1),
            at_ms: UnixMillis::now(),
            reason: "exited with 3".to_owned(),
            error: Some("NoShopError: no".to_owned()),
            exit: None,
            output: Default::default(),
            in_flight: 0,
            probe: None,
        });
        assert_eq!(why(&status), "app-1 exited with 3: NoShopError: no");
        let handoff = serde_json::json!({"release": "app-1", "digest": "", "outcome": "promoted",
            "generation": 1, "launched_ms": 1, "crashes": 7});
        status
            .handoffs
            .push_back(serde_json::from_value(handoff).unwrap());
        let instance = serde_json::json!({"generation": 2, "release": "app-1", "digest": "",
            "since_ms": 1});
        status.candidate = Some(serde_json::from_value(instance).unwrap());
        assert_eq!(
            why(&status),
            "app-1 is starting; before that, app-1 exited with 3, crash 7 in a row: NoShopError: no"
        );
        status.paused = Some(Paused {
            until_ms: UnixMillis::now(),
            in_flight: 0,
        });
        assert!(why(&status).contains("pause"));
        status.phase = Phase::Stopping;
        let stopping = reason_unready(&status, true).unwrap();
        assert_eq!(stopping, "this sidecar is shutting down");
    }
}

//! Reports to the service manager: the state of the service, and signs of life for its watchdog.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::deployment::status::{Phase, Status};
use crate::os::service_manager::{ServiceNotification, notify, watchdog_period};

/// Maximum time between two changes of the status while the supervisor runs.
const HEARTBEATS: Duration = Duration::from_secs(4);
/// Period of the timer without a watchdog.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Reports each change of the status until the supervisor ends.
pub async fn report(mut status: watch::Receiver<Status>) {
    // Half of the period, as sd_watchdog_enabled(3) recommends.
    let period = watchdog_period().map(|period| period / 2);
    let mut alive = tokio::time::interval(period.unwrap_or(NEVER));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = String::new();
    let mut is_alive = true;
    loop {
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                is_alive = true;
                let line = summarize(&status.borrow_and_update());
                if line != reported {
                    notify(ServiceNotification::Status(&line));
                    reported = line;
                }
            }
            _ = alive.tick() => {
                let Some(period) = period else {
                    continue;
                };
                // A supervisor that hangs counts as dead, although this task still runs.
                if std::mem::take(&mut is_alive) || period < HEARTBEATS {
                    notify(ServiceNotification::Alive);
                }
            }
        }
    }
}

/// Describes the status in one line, which `systemctl status` shows.
fn summarize(status: &Status) -> String {
    if status.phase == Phase::Stopping {
        return "shutting down".to_owned();
    }
    let mut parts = Vec::new();
    match &status.active {
        Some(active) => parts.push(format!("{} serves", active.release)),
        None => parts.push("nothing serves".to_owned()),
    }
    if status.paused.is_some() {
        parts.push("new requests are held".to_owned());
    }
    if status.maintenance.is_some() {
        parts.push("in maintenance".to_owned());
    }
    if let Some(candidate) = &status.candidate {
        parts.push(format!("{} is starting", candidate.release));
    }
    if let Some(staged) = &status.staged {
        parts.push(match &status.canary {
            Some(canary) => format!("{} gets {} of new clients", staged.release, canary.share),
            None => format!("{} awaits its promotion", staged.release),
        });
    }
    let draining = status.draining.iter();
    parts.extend(draining.map(|draining| format!("{} is draining", draining.release)));
    if let Some(alarm) = &status.alarm {
        parts.push(format!("unhealthy: {}", alarm.reason));
    }
    if status
        .unanswered
        .as_ref()
        .is_some_and(|found| found.unresponsive_ms.is_some())
    {
        parts.push("it does not respond".to_owned());
    }
    if let Some(problem) = &status.artifact_problem {
        parts.push(format!("cannot deploy: {problem}"));
    }
    // A line break would end the message.
    parts.join(", ").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::deployment::status::SourceStatus;

    #[test]
    fn what_goes_on_is_one_line_whatever_it_is() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        assert_eq!(summarize(&status), "nothing serves");
        status.artifact_problem = Some("it is\nWATCHDOG=trigger".to_owned());
        let line = summarize(&status);
        assert_eq!(
            line,
            "nothing serves, cannot deploy: it is WATCHDOG=trigger"
        );
        status.phase = Phase::Stopping;
        assert_eq!(summarize(&status), "shutting down");
    }
}

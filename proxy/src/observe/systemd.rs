//! Keeping the service manager informed: ready, what goes on, and that it does.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::deployment::status::{Phase, Status};
use crate::os::service_manager::{News, tell, watchdog};

/// The status changes at least this often while the supervisor lives.
const HEARTBEATS: Duration = Duration::from_secs(2);
/// Nobody asked to hear that this process is alive.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells what goes on until the status ends.
pub async fn inform(mut status: watch::Receiver<Status>) {
    // Half of the time that it allows, as sd_watchdog_enabled(3) recommends.
    let period = watchdog().map(|period| period / 2);
    let mut alive = tokio::time::interval(period.unwrap_or(NEVER));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    let mut is_alive = true;
    loop {
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                is_alive = true;
                let line = in_one_line(&status.borrow_and_update());
                if line != said {
                    tell(News::Status(&line));
                    said = line;
                }
            }
            _ = alive.tick() => {
                let Some(period) = period else {
                    continue;
                };
                // A supervisor that hangs is no life, even where this task goes on.
                if std::mem::take(&mut is_alive) || period < HEARTBEATS {
                    tell(News::Alive);
                }
            }
        }
    }
}

/// As `systemctl status` shows it.
fn in_one_line(status: &Status) -> String {
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
    if let Some(candidate) = &status.candidate {
        parts.push(format!("{} starts", candidate.release));
    }
    let draining = status.draining.iter();
    parts.extend(draining.map(|draining| format!("{} drains", draining.release)));
    if let Some(alarm) = &status.alarm {
        parts.push(format!("not well: {}", alarm.reason));
    }
    if let Some(problem) = &status.artifact_problem {
        parts.push(format!("cannot deploy: {problem}"));
    }
    // A line's end would end the message.
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
        assert_eq!(in_one_line(&status), "nothing serves");
        status.artifact_problem = Some("it is\nWATCHDOG=trigger".to_owned());
        let line = in_one_line(&status);
        assert_eq!(
            line,
            "nothing serves, cannot deploy: it is WATCHDOG=trigger"
        );
        status.phase = Phase::Stopping;
        assert_eq!(in_one_line(&status), "shutting down");
    }
}

//! The pause of a release that gave way to the one before after crashes.

use std::time::{Duration, SystemTime};

use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::deployment::status::{GaveWay, UnixMillis};
use crate::process::Launch;
use crate::release::{Generation, ReleaseId};

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_secs(30 * 60);

impl<L: Launch> Supervisor<L> {
    pub(super) fn report_gave_way(
        &mut self,
        generation: Generation,
        from: &ReleaseId,
        to: &ReleaseId,
    ) {
        tracing::error!(
            event = "release_gave_way",
            generation = generation.0,
            release = %from,
            instead = %to,
            "the release has crashed too often: an earlier one serves instead, and this one is tried \
             again later, unless `handoff rollback` says that the earlier one is to stay"
        );
        let now = UnixMillis::now();
        self.journal.status.gave_way = Some(GaveWay {
            generation,
            from: from.clone(),
            to: to.clone(),
            at_ms: now,
            retry_ms: now,
        });
    }

    pub(super) fn return_after(&mut self, release: ReleaseId, times: u32) {
        let pause = pause(times);
        if let Some(given) = &mut self.journal.status.gave_way {
            given.retry_ms = UnixMillis::from(SystemTime::now() + pause);
        }
        self.rest = self.send_after(pause, Message::Lifecycle(Event::ReturnDue(release)));
    }
}

/// Returns the pause of a release that has given way so many times.
fn pause(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_a_limit() {
        let seconds = [1, 2, 3, 99].map(|times| pause(times).as_secs());
        assert_eq!(seconds, [30, 60, 120, 1800]);
    }
}

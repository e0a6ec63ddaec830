//! The requests that the active instance has left unanswered, which are reported and change nothing.

use std::time::{Duration, Instant, SystemTime};

use super::Supervisor;
use crate::deployment::status::{UnansweredRequests, UnixMillis};
use crate::process::Launch;

/// Maximum time without an answer that is not worth a line in the status.
const NOTABLE: Duration = Duration::from_secs(5);
/// Maximum difference of times in the status that are the same one, computed twice.
const SAME: u64 = 900;

impl<L: Launch> Supervisor<L> {
    /// Looks at the requests that wait for the active instance, and reports once when they have waited
    /// for so long, and nothing else was answered, that the instance does not respond.
    pub(super) fn look_at_unanswered(&mut self) {
        let before = self.journal.status.unanswered.take();
        let Some((generation, active)) = self.instances.active() else {
            return;
        };
        let before = before.filter(|before| before.generation == generation);
        let reported = before.as_ref().and_then(|before| before.unresponsive_ms);
        let limit = self.settings.unresponsive_after;
        let seen = active.progress.read();
        let age_of_answer = seen.last_answer.map(|at| at.elapsed());
        let Some(oldest) = seen.unanswered_since else {
            if reported.is_some() {
                tracing::info!(
                    event = "app_responsive",
                    generation = generation.0,
                    release = %active.release,
                    "no request waits for the active instance any more"
                );
            }
            return;
        };
        let waited = oldest.elapsed();
        let is_late = !limit.is_zero() && waited >= limit.min(NOTABLE) || waited >= NOTABLE;
        if !is_late && reported.is_none() {
            return;
        }
        let is_silent = age_of_answer.is_none_or(|age| age >= limit);
        let is_unresponsive =
            !limit.is_zero() && is_silent && (waited >= limit || reported.is_some());
        if is_unresponsive && reported.is_none() {
            let ago = |age| format!("{} ago", seconds(age));
            let last_answer = age_of_answer.map_or_else(|| "never".to_owned(), ago);
            tracing::warn!(
                event = "app_unresponsive",
                generation = generation.0,
                release = %active.release,
                in_flight = active.in_flight(),
                oldest = %seconds(waited),
                last_answer = %last_answer,
                "the active instance has left requests unanswered for --unresponsive-after, and has \
                 answered no other"
            );
        } else if !is_unresponsive && reported.is_some() {
            tracing::info!(
                event = "app_responsive",
                generation = generation.0,
                release = %active.release,
                "the active instance answers again"
            );
        }
        let before = before.as_ref();
        self.journal.status.unanswered = Some(UnansweredRequests {
            generation,
            oldest_ms: steady(oldest, before.map(|before| before.oldest_ms)),
            last_answer_ms: seen
                .last_answer
                .map(|at| steady(at, before.and_then(|before| before.last_answer_ms))),
            unresponsive_ms: is_unresponsive.then(|| reported.unwrap_or_else(UnixMillis::now)),
        });
    }
}

/// Returns the time as the clock has it, or the time before if that is the same: a status that says
/// nothing new is not written.
fn steady(at: Instant, before: Option<UnixMillis>) -> UnixMillis {
    let now = UnixMillis::from(SystemTime::now() - at.elapsed());
    let same = before.filter(|before| before.0.abs_diff(now.0) < SAME);
    same.unwrap_or(now)
}

fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

//! A canary, in `handoff status`.

use crate::deployment::status::CanaryStatus;
use crate::release::ReleaseId;

/// Returns the line about the canary; its stage goes on for `left` at least.
pub(super) fn row(release: &ReleaseId, canary: &CanaryStatus, left: &str) -> String {
    let testers = match canary.tester_responses {
        0 => String::new(),
        responses => format!(", {} in {responses} to testers", canary.tester_errors),
    };
    format!(
        "  {release} gets {} of new clients for {left} more at least, stage {} of {}: {} errors in {} \
         responses, {} in {} of the active release{testers}\n",
        canary.share,
        canary.stage,
        canary.stages,
        canary.errors,
        canary.responses,
        canary.active_errors,
        canary.active_responses
    )
}

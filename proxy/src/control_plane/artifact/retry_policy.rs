//! The times at which an artifact that was not accepted is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::accept_error::AcceptError;
use crate::deployment::{Fingerprint, Target};
use crate::release::Digest;

/// Delay after the first failure, and time for which a changed artifact has to rest.
pub const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Maximum delay while the artifact is open for writing, which is checked without reading it.
const MAX_CHECK_DELAY: Duration = Duration::from_secs(1);
/// Maximum delay after a fault of the machine: each attempt copies the artifact.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// Number of attempts with a content that is wrong. It stays wrong, but the file's times may be
/// coarse or late over a network, so it is read again for a few seconds.
const CONTENT_TRIES: u32 = 6;
/// Number of attempts before wrong content is reported: it may just be incomplete.
const REPORT_AFTER: u32 = 3;

/// Decides when an artifact is tried again.
#[derive(Debug, Default)]
pub struct RetryPolicy {
    last: Option<FailedArtifact>,
}

#[derive(Debug)]
struct FailedArtifact {
    target: Target,
    fingerprint: Fingerprint,
    tries: u32,
    problem: ArtifactProblem,
    is_reported: bool,
    /// True if a process had it open for writing.
    is_written: bool,
    next: Option<Instant>,
    /// The latest change of the artifact since, and its time.
    changed: Option<(Fingerprint, Instant)>,
}

/// The reason why an artifact is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactProblem {
    /// Reason for people.
    pub reason: String,
    /// Digest of the content, if it came with the artifact and can never be accepted.
    pub refused: Option<Digest>,
}

/// An attempt that is not made now.
#[derive(Debug, PartialEq, Eq)]
pub struct Postponed<'a> {
    /// Time until the next check.
    pub wait: Duration,
    /// Problem to report; none while the artifact changes.
    pub problem: Option<&'a ArtifactProblem>,
}

// === impl RetryPolicy ===

impl RetryPolicy {
    /// Checks if the artifact is to be tried now.
    ///
    /// # Errors
    /// [`Postponed`] when it has failed, and would probably fail again.
    pub fn check(
        &mut self,
        target: &Target,
        fingerprint: &Fingerprint,
        now: Instant,
    ) -> Result<(), Postponed<'_>> {
        let Some(failed) = self.last.as_mut().filter(|last| last.target == *target) else {
            return Ok(());
        };
        if failed.fingerprint == *fingerprint {
            let wait = match failed.next {
                Some(next) if next <= now => return Ok(()),
                Some(next) => next - now,
                None => Duration::MAX,
            };
            let problem = failed.is_reported.then_some(&failed.problem);
            return Err(Postponed { wait, problem });
        }
        let since = match &failed.changed {
            Some((seen, since)) if seen == fingerprint => *since,
            _ => {
                failed.changed = Some((fingerprint.clone(), now));
                now
            }
        };
        let wait = RETRY_DELAY.saturating_sub(now - since);
        if wait.is_zero() {
            Ok(())
        } else {
            Err(Postponed {
                wait,
                problem: None,
            })
        }
    }

    /// Records a failure. Returns the time of the next check, and the problem to report.
    pub fn record_failure(
        &mut self,
        target: Target,
        fingerprint: Fingerprint,
        error: &AcceptError,
        now: Instant,
    ) -> Postponed<'_> {
        let before = self.last.take();
        let tries = before.map_or(1, |last| {
            if last.target == target && last.fingerprint == fingerprint {
                last.tries + 1
            } else {
                1
            }
        });
        let delay = RETRY_DELAY.saturating_mul(1 << (tries - 1).min(16));
        let (delay, is_reported) = match error {
            AcceptError::Busy(_)
            | AcceptError::Changed(_)
            | AcceptError::Empty(_)
            | AcceptError::Offline(_) => (Some(delay.min(MAX_CHECK_DELAY)), true),
            AcceptError::Copy { .. } => (Some(delay.min(MAX_RETRY_DELAY)), true),
            AcceptError::Digest { .. } | AcceptError::Broken { .. } => {
                let again = (tries < CONTENT_TRIES).then_some(delay);
                (again, tries >= REPORT_AFTER)
            }
            AcceptError::Refused { .. }
            | AcceptError::NotExecutable { .. }
            | AcceptError::UnsupportedArchive(_)
            | AcceptError::CacheInArtifact { .. }
            | AcceptError::StateInWorkdir { .. } => (None, true),
        };
        // A content that its digest has proved does not change.
        let is_final = is_reported
            && matches!(
                error,
                AcceptError::Broken { .. }
                    | AcceptError::Refused { .. }
                    | AcceptError::NotExecutable { .. }
                    | AcceptError::UnsupportedArchive(_)
                    | AcceptError::CacheInArtifact { .. }
                    | AcceptError::StateInWorkdir { .. }
            );
        let problem = ArtifactProblem {
            reason: error.to_string(),
            refused: target.digest.filter(|_| is_final),
        };
        let failed = self.last.insert(FailedArtifact {
            target,
            fingerprint,
            tries,
            problem,
            is_reported,
            is_written: matches!(error, AcceptError::Busy(_)),
            next: delay.map(|delay| now + delay),
            changed: None,
        });
        Postponed {
            wait: delay.unwrap_or(Duration::MAX),
            problem: failed.is_reported.then_some(&failed.problem),
        }
    }

    /// Lets an artifact that was open for writing be tried now: a writer has closed its file.
    pub fn forget_writer(&mut self) {
        self.last.take_if(|last| last.is_written);
    }

    /// Records that the artifact was accepted.
    pub fn record_success(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::PathBuf;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::control_plane::artifact::ArchiveError;

    fn artifact(content: &str) -> (Target, Fingerprint) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let target = Target {
            path: PathBuf::from("app"),
            digest: None,
            id: None,
        };
        (target, Fingerprint::of(file.path()).unwrap())
    }

    fn wrong_digest() -> AcceptError {
        let digest = Digest::finish(Sha256::new());
        AcceptError::Digest {
            path: "app".into(),
            expected: digest,
            found: digest,
        }
    }

    #[test]
    fn wrong_content_is_read_a_few_times_and_then_only_when_it_changes() {
        let (target, print) = artifact("half");
        let mut retry_policy = RetryPolicy::default();
        let mut now = Instant::now();
        let mut reads = 0;
        while retry_policy.check(&target, &print, now).is_ok() {
            reads += 1;
            let error = wrong_digest();
            let wait = retry_policy
                .record_failure(target.clone(), print.clone(), &error, now)
                .wait;
            if wait == Duration::MAX {
                break;
            }
            now += wait;
        }
        assert_eq!(reads, CONTENT_TRIES);
        let day = Duration::from_secs(86_400);
        let told = retry_policy.check(&target, &print, now + day).unwrap_err();
        let problem = told.problem.unwrap();
        assert!(problem.reason.contains("came with it"));
        assert_eq!(problem.refused, None, "what it should be may yet come");

        // It is left alone while it changes, and read when it has rested.
        let (_, more) = artifact("half and more");
        assert!(retry_policy.check(&target, &more, now).is_err());
        let (_, whole) = artifact("half and more and whole");
        let now = now + RETRY_DELAY;
        let busy = retry_policy.check(&target, &whole, now).unwrap_err();
        assert_eq!(busy.problem, None, "nothing to tell while it changes");
        assert!(
            retry_policy
                .check(&target, &whole, now + RETRY_DELAY)
                .is_ok()
        );
    }

    #[test]
    fn a_digest_that_arrives_is_another_chance_at_once() {
        let (target, print) = artifact("whole");
        let mut retry_policy = RetryPolicy::default();
        let now = Instant::now();
        retry_policy.record_failure(target.clone(), print.clone(), &wrong_digest(), now);
        let right = Target {
            digest: Some(Digest::finish(Sha256::new())),
            ..target
        };
        assert!(retry_policy.check(&right, &print, now).is_ok());
    }

    #[test]
    fn what_is_whole_and_cannot_be_accepted_is_refused() {
        let (target, print) = artifact("whole");
        let digest = Digest::finish(Sha256::new());
        let proved = Target {
            digest: Some(digest),
            ..target.clone()
        };
        let broken = || AcceptError::Broken {
            path: "app.zip".into(),
            source: ArchiveError::Broken("no end".to_owned()),
        };
        let refused = |target: &Target, error: &dyn Fn() -> AcceptError| {
            let mut retry_policy = RetryPolicy::default();
            let mut told = None;
            for _ in 0..REPORT_AFTER {
                let (target, print, now) = (target.clone(), print.clone(), Instant::now());
                let problem = retry_policy
                    .record_failure(target, print, &error(), now)
                    .problem;
                told = problem.and_then(|problem| problem.refused);
            }
            told
        };
        assert_eq!(refused(&proved, &broken), Some(digest));
        assert_eq!(refused(&target, &broken), None, "it may be on its way");
        assert_eq!(refused(&proved, &wrong_digest), None);
        let busy = || AcceptError::Busy("app".into());
        assert_eq!(refused(&proved, &busy), None);
    }

    #[test]
    fn a_full_disk_is_tried_again_for_ever() {
        let (target, print) = artifact("whole");
        let mut retry_policy = RetryPolicy::default();
        let mut now = Instant::now();
        for _ in 0..50 {
            let full = AcceptError::Copy {
                path: "app".into(),
                cache: "cache".into(),
                source: io::ErrorKind::StorageFull.into(),
            };
            let not_yet = retry_policy.record_failure(target.clone(), print.clone(), &full, now);
            assert!(not_yet.problem.is_some());
            assert!(not_yet.wait <= MAX_RETRY_DELAY);
            now += not_yet.wait;
            assert!(retry_policy.check(&target, &print, now).is_ok());
        }
    }
}

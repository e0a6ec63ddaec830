//! When to try again to accept an artifact: seldom enough that nothing is read for nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::AcceptError;
use crate::deployment::{Fingerprint, Target};
use crate::release::Digest;

/// After a first failure, and how long a change has to rest.
pub const RETRY: Duration = Duration::from_millis(250);
/// Somebody writes to it: looking costs no reading.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// The machine's fault: each try copies.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// What is wrong with the content stays wrong. Its times may be coarse, or come late over a network,
/// so it is read again for a few seconds.
const CONTENT_TRIES: u32 = 6;
/// Told of as soon as this: until then it may just be on its way.
const TOLD_AFTER: u32 = 3;

/// Remembers the last artifact that could not be accepted.
#[derive(Debug, Default)]
pub struct Patience {
    last: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    target: Target,
    fingerprint: Fingerprint,
    tries: u32,
    problem: Problem,
    is_told: bool,
    next: Option<Instant>,
    /// What it has become since, and since when.
    changed: Option<(Fingerprint, Instant)>,
}

/// Why an artifact is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As a person reads it.
    pub reason: String,
    /// The content which came with a digest, and is not accepted however often it is looked at.
    pub refused: Option<Digest>,
}

/// Not now.
#[derive(Debug, PartialEq, Eq)]
pub struct NotYet<'a> {
    /// Look again after this.
    pub wait: Duration,
    /// What to tell people; nothing new while it changes.
    pub problem: Option<&'a Problem>,
}

// === impl Patience ===

impl Patience {
    /// Whether to try now.
    ///
    /// # Errors
    /// [`NotYet`] when it has failed, and there is no reason to believe that it would not again.
    pub fn check(
        &mut self,
        target: &Target,
        fingerprint: &Fingerprint,
        now: Instant,
    ) -> Result<(), NotYet<'_>> {
        let Some(failed) = self.last.as_mut().filter(|last| last.target == *target) else {
            return Ok(());
        };
        if failed.fingerprint == *fingerprint {
            let wait = match failed.next {
                Some(next) if next <= now => return Ok(()),
                Some(next) => next - now,
                None => Duration::MAX,
            };
            let problem = failed.is_told.then_some(&failed.problem);
            return Err(NotYet { wait, problem });
        }
        let since = match &failed.changed {
            Some((seen, since)) if seen == fingerprint => *since,
            _ => {
                failed.changed = Some((fingerprint.clone(), now));
                now
            }
        };
        let wait = RETRY.saturating_sub(now - since);
        match wait.is_zero() {
            true => Ok(()),
            false => Err(NotYet {
                wait,
                problem: None,
            }),
        }
    }

    /// It has failed once more. Says when to look again, and what to tell people.
    pub fn failed(
        &mut self,
        target: Target,
        fingerprint: Fingerprint,
        error: &AcceptError,
        now: Instant,
    ) -> NotYet<'_> {
        let before = self.last.take();
        let tries = before.map_or(1, |last| {
            match last.target == target && last.fingerprint == fingerprint {
                true => last.tries + 1,
                false => 1,
            }
        });
        let delay = RETRY.saturating_mul(1 << (tries - 1).min(16));
        let (delay, is_told) = match error {
            AcceptError::Busy(_) | AcceptError::Changed(_) => (Some(delay.min(LAST_LOOK)), true),
            AcceptError::Copy { .. } => (Some(delay.min(LAST_RETRY)), true),
            AcceptError::Digest { .. } | AcceptError::Broken { .. } => {
                let again = (tries < CONTENT_TRIES).then_some(delay);
                (again, tries >= TOLD_AFTER)
            }
            AcceptError::Refused { .. }
            | AcceptError::NotExecutable { .. }
            | AcceptError::StateInWorkdir { .. } => (None, true),
        };
        // What its digest has proved to be whole stays what it is.
        let is_final = is_told
            && matches!(
                error,
                AcceptError::Broken { .. }
                    | AcceptError::Refused { .. }
                    | AcceptError::NotExecutable { .. }
                    | AcceptError::StateInWorkdir { .. }
            );
        let problem = Problem {
            reason: error.to_string(),
            refused: target.digest.filter(|_| is_final),
        };
        let failed = self.last.insert(Failed {
            target,
            fingerprint,
            tries,
            problem,
            is_told,
            next: delay.map(|delay| now + delay),
            changed: None,
        });
        NotYet {
            wait: delay.unwrap_or(Duration::MAX),
            problem: failed.is_told.then_some(&failed.problem),
        }
    }

    /// It was accepted.
    pub fn accepted(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::PathBuf;

    use sha2::{Digest as _, Sha256};

    use super::super::ArchiveError;
    use super::*;

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
        let mut patience = Patience::default();
        let mut now = Instant::now();
        let mut reads = 0;
        while patience.check(&target, &print, now).is_ok() {
            reads += 1;
            let error = wrong_digest();
            let wait = patience
                .failed(target.clone(), print.clone(), &error, now)
                .wait;
            if wait == Duration::MAX {
                break;
            }
            now += wait;
        }
        assert_eq!(reads, CONTENT_TRIES);
        let day = Duration::from_secs(86_400);
        let told = patience.check(&target, &print, now + day).unwrap_err();
        let problem = told.problem.unwrap();
        assert!(problem.reason.contains("came with it"));
        assert_eq!(problem.refused, None, "what it should be may yet come");

        // While it changes it is left alone, and read when that has rested.
        let (_, more) = artifact("half and more");
        assert!(patience.check(&target, &more, now).is_err());
        let (_, whole) = artifact("half and more and whole");
        let now = now + RETRY;
        let busy = patience.check(&target, &whole, now).unwrap_err();
        assert_eq!(busy.problem, None, "nothing to tell while it changes");
        assert!(patience.check(&target, &whole, now + RETRY).is_ok());
    }

    #[test]
    fn a_digest_that_arrives_is_another_chance_at_once() {
        let (target, print) = artifact("whole");
        let mut patience = Patience::default();
        let now = Instant::now();
        patience.failed(target.clone(), print.clone(), &wrong_digest(), now);
        let right = Target {
            digest: Some(Digest::finish(Sha256::new())),
            ..target
        };
        assert!(patience.check(&right, &print, now).is_ok());
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
            let mut patience = Patience::default();
            let mut told = None;
            for _ in 0..TOLD_AFTER {
                let (target, print, now) = (target.clone(), print.clone(), Instant::now());
                let problem = patience.failed(target, print, &error(), now).problem;
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
        let mut patience = Patience::default();
        let mut now = Instant::now();
        for _ in 0..50 {
            let full = AcceptError::Copy {
                path: "app".into(),
                cache: "cache".into(),
                source: io::ErrorKind::StorageFull.into(),
            };
            let not_yet = patience.failed(target.clone(), print.clone(), &full, now);
            assert!(not_yet.problem.is_some());
            assert!(not_yet.wait <= LAST_RETRY);
            now += not_yet.wait;
            assert!(patience.check(&target, &print, now).is_ok());
        }
    }
}

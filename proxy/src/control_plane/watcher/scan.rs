//! The watcher's look at the newest artifact.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::walks::WalkReason;
use super::{Accepted, REPORTED_POLL, WatchEvent, WatchThread};
use crate::control_plane::artifact::{ArtifactProblem, Postponed, RETRY_DELAY, can_see_writers};
use crate::control_plane::change_events::News;
use crate::control_plane::watch_set::WatchSet;
use crate::deployment::source::SourceError;
use crate::deployment::{Fingerprint, Source, Target};
use crate::os::files;

/// Maximum number of folders in an artifact that is watched as a whole: the watches are the user's,
/// for all programs.
const MAX_FOLDERS: usize = 10_000;
/// Share of the settle time after which an artifact is read: one that grows with pauses is not read
/// again and again.
const PREPARE_SHARE: u32 = 4;
/// No time at which something has to be looked at again.
const NO_WAIT: Duration = Duration::MAX;

impl WatchThread {
    /// Watches the files that matter now. Returns true if a watch has begun.
    pub(super) fn watch(&mut self, found: &Result<Target, SourceError>, news: News) -> bool {
        let target = found.as_ref().ok();
        let has_tree = target.is_some_and(|target| self.should_watch_tree(target));
        let artifact = target.map(|target| target.path.clone());
        let is_listed = self.watched.as_ref().is_some_and(|(before, had_tree, at)| {
            (before, *had_tree) == (&artifact, has_tree) && at.elapsed() < REPORTED_POLL
        });
        if is_listed && !news.is_any {
            return false;
        }
        self.watched = Some((artifact, has_tree, Instant::now()));
        let mut set = WatchSet::new();
        for file in self.config.files() {
            set.add_file(&file);
        }
        set.add_file(self.desired.path());
        match &self.settings.source {
            Source::Artifact(path) => set.add_artifact(path),
            Source::Pointer { file, folder } => {
                set.add_file(file);
                if let Some(folder) = folder {
                    set.add_drop_folder(folder);
                }
            }
            Source::Folder(folder) => set.add_drop_folder(folder),
        }
        if let Some(target) = target {
            set.add_artifact(&target.path);
            self.walks.begin(&target.path);
        }
        if has_tree {
            set.add_artifact_tree();
        }
        let has_begun = self.events.watch(set);
        if has_begun {
            // It may have changed since the last walk.
            self.walks.record_change();
        }
        has_begun
    }

    /// Returns true if each change in the folder of an artifact should be reported. One that came
    /// with its digest is another artifact only with another digest.
    fn should_watch_tree(&self, target: &Target) -> bool {
        let folders = self.walks.folders_in(&target.path);
        self.settings.tree_events
            && target.digest.is_none()
            && self.events.may_watch_tree()
            && (1..=MAX_FOLDERS).contains(&folders)
    }

    /// Returns true if each change in the folder of an artifact should be reported, which was not known
    /// when the files to watch were listed.
    pub(super) fn is_tree_unwatched(&self, target: &Target) -> bool {
        let has_tree = self
            .watched
            .as_ref()
            .is_some_and(|(_, has_tree, _)| *has_tree);
        !has_tree && self.should_watch_tree(target)
    }

    /// Looks for a new artifact. Returns the maximum time until the next look.
    pub(super) fn scan(&mut self, found: Result<Target, SourceError>, news: News) -> Duration {
        let target = match found {
            Ok(target) => target,
            Err(reason) => {
                self.store.discard_prepared();
                self.report(Some(ArtifactProblem {
                    reason: reason.to_string(),
                    refused: None,
                }));
                return NO_WAIT;
            }
        };
        if news.is_closed {
            self.retry_policy.forget_writer();
        }
        let fingerprint = match self.examine(&target, news) {
            Ok(fingerprint) => fingerprint,
            Err(wait) => return wait,
        };
        let (now, clock) = (Instant::now(), SystemTime::now());
        if let Err(not_yet) = self.retry_policy.check(&target, &fingerprint, now) {
            let Postponed { wait, problem } = not_yet;
            if let Some(problem) = problem.cloned() {
                self.report(Some(problem));
            }
            return wait;
        }
        let detected = match &self.detected {
            Some((path, detected)) if *path == target.path => *detected,
            _ => clock,
        };
        self.detected = Some((target.path.clone(), detected));
        if target.digest.is_none() && !self.trust_renaming(&target.path, &fingerprint) {
            let age = clock.duration_since(fingerprint.changed).ok();
            let see = || can_see_writers(&target.path);
            let wait = (self.settling).observe(&target.path, &fingerprint, now, age, see);
            if !wait.is_zero() {
                let progress = self.settling.progress();
                let unchanged_for = progress.as_ref().map(|it| now - it.unchanged_since);
                self.show_settling(progress);
                return self.prepare(
                    &target,
                    &fingerprint,
                    unchanged_for.unwrap_or_default(),
                    wait,
                );
            }
        }
        self.show_settling(None);
        self.accept(target, fingerprint, detected)
    }

    /// Takes the fingerprint of the artifact, unless it is known to be the accepted one, or was taken
    /// a moment ago. Then it returns the time until the next look.
    fn examine(&mut self, target: &Target, news: News) -> Result<Fingerprint, Duration> {
        self.walks.begin(&target.path);
        if news.is_in_tree {
            self.walks.record_change();
        }
        let accepted = self.accepted.as_ref().filter(|_| !self.looks_again);
        let accepted = accepted.filter(|accepted| accepted.target == *target);
        let is_folder = accepted.is_some_and(|accepted| accepted.fingerprint.is_folder);
        if is_folder && target.digest.is_some() {
            self.report(None);
            return Err(NO_WAIT);
        }
        let reason = if !is_folder || self.has_changed || self.walks.is_owed() {
            WalkReason::Changed
        } else if self.events.cover_tree() {
            WalkReason::Reported
        } else {
            WalkReason::Unreported
        };
        let begun = Instant::now();
        let wait = self.walks.wait(reason, self.settings.poll, begun);
        if !wait.is_zero() {
            if reason != WalkReason::Changed {
                self.report(None);
            }
            return Err(wait);
        }
        let fingerprint = Fingerprint::of(&target.path);
        let folders = fingerprint.as_ref().ok().map(|it| it.folders);
        self.walks.record_walk(begun, Instant::now(), folders);
        let fingerprint = fingerprint.map_err(|error| {
            // What has been removed since is no problem, or the next scan's.
            if error.kind() != std::io::ErrorKind::NotFound {
                self.report(Some(ArtifactProblem {
                    reason: error.to_string(),
                    refused: None,
                }));
            }
            RETRY_DELAY
        })?;
        let accepted = self.accepted.as_ref().filter(|_| !self.looks_again);
        let is_same = |last: &Accepted| last.target == *target && last.fingerprint == fingerprint;
        self.has_changed = !accepted.is_some_and(is_same);
        if !self.has_changed {
            self.report(None);
            if !fingerprint.is_folder {
                return Err(NO_WAIT);
            }
            let reason = if self.events.cover_tree() {
                WalkReason::Reported
            } else {
                WalkReason::Unreported
            };
            return Err(self.walks.wait(reason, self.settings.poll, Instant::now()));
        }
        Ok(fingerprint)
    }

    /// Reads an artifact while it settles, once it has not changed for a while. Returns the time until
    /// the next look.
    fn prepare(
        &mut self,
        target: &Target,
        fingerprint: &Fingerprint,
        unchanged_for: Duration,
        wait: Duration,
    ) -> Duration {
        if self.store.is_prepared_for(&target.path, fingerprint) {
            return wait;
        }
        self.store.discard_prepared();
        // Elsewhere it takes longer, and others pay for it.
        if !files::is_on_local_file_system(&target.path) {
            return wait;
        }
        let due = (unchanged_for + wait) / PREPARE_SHARE;
        if unchanged_for < due {
            return due - unchanged_for;
        }
        let begun = Instant::now();
        self.store.prepare(target, fingerprint);
        wait.saturating_sub(begun.elapsed())
    }

    /// Returns true for a file or a folder that was renamed to what it is, and has been the same since
    /// that was seen. What a link leads to may still be written.
    fn trust_renaming(&mut self, path: &Path, fingerprint: &Fingerprint) -> bool {
        let renaming = self.events.renaming_of_artifact();
        let Some(number) = renaming.filter(|_| self.events.are_reliable() && !path.is_symlink())
        else {
            return false;
        };
        match &self.renamed {
            Some((known, seen)) if *known == number => seen == fingerprint,
            _ => {
                self.renamed = Some((number, fingerprint.clone()));
                true
            }
        }
    }

    fn accept(
        &mut self,
        target: Target,
        fingerprint: Fingerprint,
        detected: SystemTime,
    ) -> Duration {
        match self.store.accept(&target) {
            Ok(release) => {
                self.retry_policy.record_success();
                self.settling_logged = None;
                self.has_changed = false;
                self.looks_again = false;
                let source: PathBuf = target.path.clone();
                self.accepted = Some(Accepted {
                    target,
                    fingerprint,
                    digest: release.digest,
                });
                self.detected = None;
                self.report(None);
                // The supervisor ends only at shutdown.
                let _ = self.found.send(WatchEvent::Release {
                    release,
                    source,
                    detected,
                    copied: SystemTime::now(),
                });
                NO_WAIT
            }
            Err(error) => {
                let now = Instant::now();
                let Postponed { wait, problem } =
                    self.retry_policy
                        .record_failure(target, fingerprint, &error, now);
                if let Some(problem) = problem.cloned() {
                    self.report(Some(problem));
                }
                wait
            }
        }
    }

    fn report(&mut self, problem: Option<ArtifactProblem>) {
        self.show_settling(None);
        let is_problem = problem.is_some();
        if self.problem != problem {
            self.problem.clone_from(&problem);
            let _ = self.found.send(WatchEvent::Problem(problem));
        }
        if is_problem && self.accepted.is_none() && !self.older.has_replaced_newest {
            self.older.has_replaced_newest = self.fall_back(None);
        }
    }
}

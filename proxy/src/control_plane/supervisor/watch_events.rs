//! The handling of what the watcher reports.

use std::path::PathBuf;

use super::Supervisor;
use super::releases::Accepted;
use crate::control_plane::artifact::ArtifactProblem;
use crate::control_plane::lifecycle::Event;
use crate::control_plane::settings::SupervisorSettings;
use crate::control_plane::watcher::WatchEvent;
use crate::process::Launch;
use crate::release::{Digest, Release, ReleaseId};

impl<L: Launch> Supervisor<L> {
    pub(super) fn handle_watch_event(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Problem(problem) => self.artifact_problem(problem),
            WatchEvent::DataLeft(left) => self.journal.status.data_left = left,
            WatchEvent::AwaitsTurn(awaits) => self.journal.status.awaits_turn = awaits,
            WatchEvent::Settling(settling) => self.journal.status.settling = settling,
            WatchEvent::Release {
                release,
                source,
                detected,
                copied,
            } => {
                tracing::info!(
                    event = "artifact_detected",
                    release = %release.id,
                    digest = %release.digest,
                    "artifact detected"
                );
                let source = Some(source);
                self.detected(Accepted {
                    release,
                    source,
                    launched_shape: None,
                    detected,
                    copied,
                });
            }
            WatchEvent::Older {
                release,
                source,
                detected,
                copied,
            } => {
                let source = Some(source);
                self.older_detected(Accepted {
                    release,
                    launched_shape: None,
                    source,
                    detected,
                    copied,
                });
            }
            WatchEvent::Fetched { release, source } => self.fetched(release, source),
            WatchEvent::Restored(release) => self.restored(release),
            WatchEvent::Desired { desired, at_start } => self.desired(*desired, at_start),
            WatchEvent::DesiredProblem(problem) => {
                if let Some(reason) = &problem {
                    tracing::warn!(
                        event = "commands_unreadable",
                        %reason,
                        "commands in desired.json cannot be read"
                    );
                }
                self.journal.status.desired_problem = problem;
            }
            WatchEvent::Settings(settings) => self.change_settings(*settings),
            WatchEvent::SettingsProblem(reason) => {
                tracing::warn!(
                    event = "configuration_rejected",
                    %reason,
                    "the configuration stays as it was"
                );
                self.journal.status.configuration_problem = Some(reason);
            }
        }
    }

    fn artifact_problem(&mut self, problem: Option<ArtifactProblem>) {
        let (reason, refused) = match problem {
            Some(ArtifactProblem { reason, refused }) => {
                tracing::warn!(event = "artifact_rejected", %reason, "no artifact can be accepted");
                (Some(reason), refused)
            }
            None => {
                tracing::info!(
                    event = "artifact_accepted",
                    "artifacts can be accepted again"
                );
                (None, None)
            }
        };
        let is_problem = reason.is_some();
        self.journal.status.artifact_refused = refused.map(|digest| digest.to_string());
        self.journal.status.artifact_problem = reason;
        if is_problem {
            self.on(Event::NothingDetected);
        }
    }

    fn change_settings(&mut self, settings: SupervisorSettings) {
        self.journal.status.configuration_problem = None;
        if self.settings.environment != settings.environment {
            // Only the names, and all of them: to name what has changed may reveal a value.
            let names = settings.environment.names();
            let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
            tracing::info!(
                event = "variables_changed",
                names = names.join(", "),
                "the app's variables have changed"
            );
            self.renewed = None;
        }
        self.settings = settings;
        self.lifecycle.change_policy(self.settings.policy());
    }

    /// Requests a restart of an active instance that was launched with other variables than the
    /// present ones, once. If the new instance fails, the active one serves on.
    pub(super) fn renew(&mut self) {
        let Some((generation, _)) = self.instances.active() else {
            return;
        };
        if self.has_other_variables()
            && self.renewed != Some(generation)
            && self.lifecycle.can_restart()
        {
            self.renewed = Some(generation);
            self.on(Event::RestartRequested);
        }
    }

    /// Returns true if the active instance was launched with other variables than the present ones.
    pub(super) fn has_other_variables(&self) -> bool {
        let active = self.instances.active();
        active.is_some_and(|(_, active)| active.environment != self.settings.environment)
    }

    /// Handles a new artifact. One with the content of a known release is that release, even if its
    /// name has changed.
    fn detected(&mut self, accepted: Accepted) {
        let digest = accepted.release.digest;
        self.deferred = None;
        // Once: after that, this sidecar knows itself which releases are good.
        let siblings = std::mem::take(&mut self.siblings);
        let target = if self.is_to_stage(digest) {
            siblings.beside(digest)
        } else {
            siblings.alternative_to(digest)
        };
        if let Some(target) = target
            && self.watcher.fetch(target)
        {
            tracing::warn!(
                event = "sibling_release_preferred",
                release = %accepted.release.id,
                "sibling sidecars do not run this release: the one that they run is tried first"
            );
            self.deferred = Some(accepted);
            return;
        }
        let known = self.releases.with_digest(digest);
        let id = known.unwrap_or_else(|| accepted.release.id.clone());
        let shape = accepted.release.shape.clone();
        if id == accepted.release.id || !self.instances.has_release(&id) {
            // Of a known release it is the copy that has just been proved.
            let mut accepted = accepted;
            accepted.release.id = id.clone();
            self.releases.insert(accepted);
        } else if let Some(source) = accepted.source {
            // Its folder, or its file, has another name now.
            self.releases.set_source(&id, source);
        }
        // A sibling, or an earlier sidecar, may have tried it.
        self.journal.memory.refresh();
        let retry = self.to_retry.take();
        if retry == Some(digest) {
            self.retry_now(digest);
        }
        self.retry_if_reshaped(digest, &id, &shape);
        if !self.instances.has_release(&id) {
            if let Some(refusal) = self.journal.memory.refusal(digest) {
                tracing::warn!(
                    event = "release_known_bad",
                    release = %id,
                    reason = %refusal.reason,
                    "the release was refused before, and is not tried again"
                );
                self.lifecycle.remember_refused(id.clone());
            } else if self.journal.memory.is_unproven(digest) {
                tracing::warn!(
                    event = "release_unproven",
                    release = %id,
                    "the last sidecar ended while this release started"
                );
                self.lifecycle.remember_unproven(id.clone());
            }
        }
        self.announce_stage(&id, digest);
        if self.known.take().as_ref() != Some(&id) {
            self.on(Event::Detected(id));
        }
        if let Some(other) = retry.filter(|retry| *retry != digest) {
            self.retry_now(other);
        }
        // It may have another copy now.
        self.prune_copies();
    }

    /// Forgives a refused release whose rights to be run or empty folders are others now.
    fn retry_if_reshaped(&mut self, digest: Digest, id: &ReleaseId, shape: &str) {
        let refusal = self.journal.memory.refusal(digest);
        let refused = refusal.map(|refusal| refusal.shape.as_str());
        if refused.is_some_and(|refused| !refused.is_empty() && refused != shape) {
            tracing::info!(
                event = "release_reshaped",
                release = %id,
                "executable bits or empty folders have changed since the release was refused: it is \
                 tried again"
            );
            self.retry_now(digest);
        }
    }

    /// Handles an artifact that is older than the newest, which cannot serve.
    fn older_detected(&mut self, accepted: Accepted) {
        let digest = accepted.release.digest;
        self.journal.memory.refresh();
        let is_known = self.releases.with_digest(digest).is_some()
            || self.journal.memory.refusal(digest).is_some();
        let id = accepted.release.id.clone();
        if self.lifecycle.has_served() {
            if !self.lifecycle.has_refused_newest() {
                return;
            }
            if is_known {
                return self.look_between();
            }
            tracing::warn!(
                event = "older_artifact_launched",
                release = %id,
                "the newest artifact was refused: one that is older than it, and newer than what \
                 serves, is launched"
            );
            self.releases.insert(accepted);
            return self.on(Event::Detected(id));
        }
        if is_known {
            return self.watcher.fall_back(None);
        }
        tracing::warn!(
            event = "older_artifact_launched",
            release = %id,
            "the newest artifact cannot serve, and nothing else does: an older one is launched"
        );
        self.releases.insert(accepted);
        self.on(Event::OlderDetected(id));
    }

    /// Handles the copy of what siblings run, or the reason why there is none.
    fn fetched(&mut self, release: Result<Release, String>, source: PathBuf) {
        let Some(deferred) = self.deferred.take() else {
            return;
        };
        match release {
            Ok(release) => {
                self.lifecycle.remember_good(release.id.clone());
                if !self.is_to_stage(deferred.release.digest) {
                    self.lifecycle.remember_refused(deferred.release.id.clone());
                }
                self.releases.insert(Accepted {
                    release,
                    source: Some(source),
                    ..deferred.clone()
                });
            }
            Err(reason) => tracing::warn!(
                event = "sibling_release_missing",
                source = %source.display(),
                %reason,
                "the release that sibling sidecars run cannot be copied"
            ),
        }
        self.detected(deferred);
    }
}

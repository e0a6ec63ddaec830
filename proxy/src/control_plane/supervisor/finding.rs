//! What the watcher finds, and whether it is worth a try.

use std::path::PathBuf;

use super::super::artifact::Problem;
use super::super::lifecycle::Event;
use super::super::watcher::WatchEvent;
use super::{Accepted, State, Supervisor};
use crate::process::Launch;
use crate::release::Release;

impl<L: Launch> Supervisor<L> {
    pub(super) fn found(&mut self, found: WatchEvent) {
        match found {
            WatchEvent::Problem(problem) => {
                match &problem {
                    Some(Problem { reason, .. }) => {
                        tracing::warn!(%reason, "no artifact can be accepted");
                    }
                    None => tracing::info!("artifacts can be accepted again"),
                }
                let refused = problem.as_ref().and_then(|problem| problem.refused);
                self.status.artifact_refused = refused.map(|digest| digest.to_string());
                self.status.artifact_problem = problem.map(|problem| problem.reason);
                if self.status.artifact_problem.is_some() {
                    self.on(Event::NothingDetected);
                }
            }
            WatchEvent::Release {
                release,
                source,
                detected,
                copied,
            } => {
                tracing::info!(release = %release.id, digest = %release.digest, "artifact detected");
                let source = Some(source);
                self.detected(Accepted {
                    release,
                    source,
                    detected,
                    copied,
                });
            }
            WatchEvent::Fetched { release, source } => self.fetched(release, source),
            WatchEvent::Restored(release) => self.restored(release),
            WatchEvent::Desired { desired, at_start } => self.desired(desired, at_start),
            WatchEvent::DesiredProblem(problem) => {
                if let Some(reason) = &problem {
                    tracing::warn!(%reason, "what is desired cannot be known");
                }
                self.status.desired_problem = problem;
            }
            WatchEvent::Settings(settings) => {
                self.status.configuration_problem = None;
                if self.settings.environment != settings.environment {
                    // Only the names, and of those all: which has changed may tell already.
                    let names: Vec<_> = settings.environment.names().collect();
                    tracing::info!(?names, "the app's variables have changed");
                    self.renewed = None;
                }
                self.settings = *settings;
                self.lifecycle.change_policy(self.settings.policy());
            }
            WatchEvent::SettingsProblem(reason) => {
                tracing::warn!(%reason, "the configuration stays as it was");
                self.status.configuration_problem = Some(reason);
            }
        }
    }

    /// An instance that was launched with other variables than the present ones gives way to a new
    /// one; when that fails, it serves on.
    pub(super) fn renew(&mut self) {
        let mut instances = self.instances.iter();
        let active = instances.find(|(_, instance)| instance.state == State::Active);
        let Some((&generation, active)) = active else {
            return;
        };
        if active.environment != self.settings.environment
            && self.renewed != Some(generation)
            && self.lifecycle.can_restart()
        {
            self.renewed = Some(generation);
            self.on(Event::RestartRequested);
        }
    }

    /// The same content again, whatever it is called now, is the same release.
    fn detected(&mut self, accepted: Accepted) {
        let digest = accepted.release.digest;
        self.deferred = None;
        // Asked once: after that it is known here what is good.
        let siblings = std::mem::take(&mut self.siblings);
        if let Some(target) = siblings.instead_of(digest)
            && self.watcher.fetch(target)
        {
            tracing::warn!(release = %accepted.release.id, "siblings refused it, and run another");
            self.deferred = Some(accepted);
            return;
        }
        let mut known = self.releases.values().map(|known| &known.release);
        let known = known.find(|known| known.digest == digest);
        let id = match known.map(|known| known.id.clone()) {
            Some(known) if known != accepted.release.id => known,
            _ => {
                let id = accepted.release.id.clone();
                self.releases.insert(id.clone(), accepted);
                id
            }
        };
        // A sibling, or an earlier sidecar, may have tried it.
        self.memory.refresh();
        let runs = self.instances.values().any(|i| i.release == id);
        if let Some(refusal) = self.memory.refusal(digest).filter(|_| !runs) {
            let reason = &refusal.reason;
            tracing::warn!(release = %id, %reason, "it was refused before");
            self.lifecycle.remember_refused(id.clone());
        } else if !runs && self.memory.is_unproven(digest) {
            tracing::warn!(release = %id, "its sidecar ended while it started");
            self.lifecycle.remember_unproven(id.clone());
        }
        self.on(Event::Detected(id));
    }

    /// What siblings run is here, or cannot be had.
    fn fetched(&mut self, release: Result<Release, String>, source: PathBuf) {
        let Some(deferred) = self.deferred.take() else {
            return;
        };
        match release {
            Ok(release) => {
                self.lifecycle.remember_good(release.id.clone());
                self.lifecycle.remember_refused(deferred.release.id.clone());
                let id = release.id.clone();
                let accepted = Accepted {
                    release,
                    source: Some(source),
                    ..deferred
                };
                self.releases.insert(id, accepted);
            }
            Err(reason) => tracing::warn!(?source, %reason, "what siblings run cannot be had"),
        }
        self.detected(deferred);
    }
}

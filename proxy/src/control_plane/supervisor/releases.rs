//! The releases that are accepted and may be launched.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::control_plane::lifecycle::RefusalCause;
use crate::release::{Digest, Release, ReleaseId};

/// The table of accepted releases.
#[derive(Debug, Default)]
pub(super) struct Releases(HashMap<ReleaseId, Accepted>);

/// An accepted release, with its origin.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) release: Release,
    /// Path at which the artifact was deployed, if that is known.
    pub(super) source: Option<PathBuf>,
    /// Shape of the release at its latest launch.
    pub(super) launched_shape: Option<String>,
    pub(super) detected: SystemTime,
    pub(super) copied: SystemTime,
}

// === impl Accepted ===

impl Accepted {
    /// Returns the shape with which the release was refused. What a person has rolled back comes
    /// again only when a person says so.
    pub(super) fn refused_shape(&self, cause: RefusalCause) -> String {
        if cause.is_withdrawal() {
            return String::new();
        }
        let launched = self.launched_shape.as_ref();
        launched.unwrap_or(&self.release.shape).clone()
    }
}

// === impl Releases ===

impl Releases {
    /// Creates the table of releases that an earlier run of this sidecar left.
    pub(super) fn restored(releases: Vec<Release>) -> Self {
        let now = SystemTime::now();
        let accepted = |release: Release| {
            let id = release.id.clone();
            let accepted = Accepted {
                release,
                source: None,
                launched_shape: None,
                detected: now,
                copied: now,
            };
            (id, accepted)
        };
        Self(releases.into_iter().map(accepted).collect())
    }

    pub(super) fn insert(&mut self, mut accepted: Accepted) {
        if let Some(before) = self.get(&accepted.release.id) {
            accepted.launched_shape.clone_from(&before.launched_shape);
        }
        self.0.insert(accepted.release.id.clone(), accepted);
    }

    pub(super) fn get(&self, id: &ReleaseId) -> Option<&Accepted> {
        self.0.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ReleaseId) -> Option<&mut Accepted> {
        self.0.get_mut(id)
    }

    /// Returns the private copies of all releases.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.values().map(|accepted| &accepted.release.artifact)
    }

    fn ids(&self) -> impl Iterator<Item = &ReleaseId> {
        self.0.keys()
    }

    pub(super) fn contains(&self, id: &ReleaseId) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn retain(&mut self, is_needed: impl Fn(&ReleaseId) -> bool) {
        self.0.retain(|id, _| is_needed(id));
    }

    /// Returns the digest as the status shows it; empty for an unknown release.
    pub(super) fn digest_of(&self, id: &ReleaseId) -> String {
        let accepted = self.get(id);
        let digest = accepted.map(|accepted| accepted.release.digest.to_string());
        digest.unwrap_or_default()
    }

    pub(super) fn source_of(&self, id: &ReleaseId) -> Option<PathBuf> {
        self.get(id)?.source.clone()
    }

    pub(super) fn set_source(&mut self, id: &ReleaseId, source: PathBuf) {
        if let Some(accepted) = self.0.get_mut(id) {
            accepted.source = Some(source);
        }
    }

    pub(super) fn with_digest(&self, digest: Digest) -> Option<ReleaseId> {
        let mut releases = self.0.values().map(|accepted| &accepted.release);
        let release = releases.find(|release| release.digest == digest)?;
        Some(release.id.clone())
    }

    /// Finds a release by its full name, by its digest, or by its artifact's name. Of several
    /// releases of one artifact it is the latest of `earlier`; without one there, the name has to
    /// be unambiguous.
    pub(super) fn named<'a>(
        &self,
        name: &str,
        earlier: impl Iterator<Item = &'a ReleaseId>,
    ) -> Option<ReleaseId> {
        if let Some(id) = self.ids().find(|id| id.as_str() == name) {
            return Some(id.clone());
        }
        if let Ok(digest) = Digest::parse(name) {
            return self.with_digest(digest);
        }
        let is_named = |id: &&ReleaseId| {
            let artifact = id.as_str().rsplit_once('-').map(|(artifact, _)| artifact);
            artifact == Some(name)
        };
        let latest = earlier.filter(is_named).last();
        let only = || {
            let mut kept = self.ids().filter(is_named);
            kept.next().filter(|_| kept.next().is_none())
        };
        latest.or_else(only).cloned()
    }
}

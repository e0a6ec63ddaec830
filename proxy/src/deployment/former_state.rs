//! The default state folder that `--artifact` had in version 0.1: one for all artifacts of a folder.
//!
//! What an app left there is taken over once, so that an upgrade loses nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::source::{Source, beside};
use super::{desired, names};
use crate::os::files;
use crate::release::{Digest, ReleaseId};

/// The former state folder of an artifact that has the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerState {
    /// Path of the folder.
    pub folder: PathBuf,
    artifact: PathBuf,
}

/// The part of a status that names the artifact.
#[derive(Default, Deserialize)]
struct SidecarStatus {
    #[serde(default)]
    source: super::status::SourceStatus,
}

/// Returns the state folder in which sidecars of `source` without `--state` publish at the moment:
/// until they are upgraded, those of 0.1 have another one.
pub fn present_state(source: &Source) -> PathBuf {
    let state = source.default_state();
    let former = FormerState::of(source).filter(FormerState::is_published);
    match former {
        Some(former) if !state.join("sidecars").exists() => former.folder,
        _ => state,
    }
}

// === impl FormerState ===

impl FormerState {
    /// Returns the former default of a source, if it had another one.
    pub fn of(source: &Source) -> Option<Self> {
        let Source::Artifact(artifact) = source else {
            return None;
        };
        Some(Self {
            folder: beside(artifact.parent()?),
            artifact: artifact.clone(),
        })
    }

    /// Returns true if a launched or refused release was made of this artifact.
    pub fn is_release(&self, release: &ReleaseId, digest: &str) -> bool {
        let digest = Digest::parse(digest);
        digest.is_ok_and(|digest| names::release_id(None, &self.artifact, digest) == *release)
    }

    /// Returns true if a sidecar of this artifact publishes there.
    pub fn is_published(&self) -> bool {
        self.statuses().any(|(_, is_ours)| is_ours)
    }

    /// Moves what belongs to this artifact into the folder `state`, unless that is in use already.
    /// The two flags tell if the memory has releases of this artifact, and of others. Returns true
    /// if something was moved.
    ///
    /// # Errors
    /// When a file cannot be moved.
    pub fn move_to(&self, state: &Path, has_ours: bool, has_others: bool) -> io::Result<bool> {
        let shared = self.folder.join("shared");
        let has_data = fs::read_dir(&shared).is_ok_and(|mut entries| entries.next().is_some());
        let has_ours = has_ours || self.is_published();
        let has_others = has_others || self.statuses().any(|(_, is_ours)| !is_ours);
        // Data that nothing belongs to are those of an app that stopped before the upgrade.
        let is_used = has_ours || has_data && !has_others;
        if !is_used || state.join("sidecars").exists() {
            return Ok(false);
        }
        let sidecars = state.join("sidecars");
        files::make_folder(&sidecars)?;
        for (status, _) in self.statuses().filter(|(_, is_ours)| *is_ours) {
            if let Some(name) = status.file_name() {
                files::rename(&status, &sidecars.join(name))?;
            }
        }
        let commands = self.folder.join(desired::FILE_NAME);
        if commands.exists() {
            let copied = state.join(desired::FILE_NAME);
            files::write_atomically(&copied, &files::read_small(&commands)?)?;
        }
        // The data stay where they are: another app, or an instance that still runs, uses them.
        let link = state.join("shared");
        let target = Path::new("..").join("shared");
        if has_data && !link.exists() {
            // A link may be refused, or lead nowhere, on Windows.
            let made = files::make_link(&target, &link);
            if !link.is_dir() {
                if made.is_ok() {
                    let _ = fs::remove_file(&link).or_else(|_| fs::remove_dir(&link));
                }
                files::rename(&shared, &link)?;
            }
        }
        Ok(true)
    }

    /// Returns the status files there, each with whether it is this artifact's.
    fn statuses(&self) -> impl Iterator<Item = (PathBuf, bool)> {
        let entries = fs::read_dir(self.folder.join("sidecars"));
        entries.into_iter().flatten().flatten().filter_map(|entry| {
            let path = entry.path();
            let content = files::read_large(&path).ok()?;
            let status: SidecarStatus = serde_json::from_slice(&content).ok()?;
            let artifact = status.source.artifact?;
            Some((
                path,
                artifact.to_string_lossy() == self.artifact.to_string_lossy(),
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn site() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let www = folder.path().join("www");
        fs::create_dir(&www).unwrap();
        (folder, www)
    }

    fn publish(former: &FormerState, name: &str, artifact: &Path) {
        let status = serde_json::json!({"source": {"artifact": artifact}});
        let file = former.folder.join("sidecars").join(name);
        write(&file, &status.to_string());
    }

    #[test]
    fn an_app_takes_over_what_is_its_own_and_leaves_the_rest() {
        let (_folder, www) = site();
        let [shop, blog] = ["shop", "blog"].map(|name| Source::Artifact(www.join(name)));
        let [of_shop, of_blog] = [&shop, &blog].map(|app| FormerState::of(app).unwrap());
        assert_eq!(of_shop.folder, of_blog.folder);
        publish(&of_shop, "1.json", &www.join("shop"));
        publish(&of_shop, "2.json", &www.join("another"));
        write(&of_shop.folder.join("desired.json"), r#"{"serial":7}"#);
        write(&of_shop.folder.join("shared/data"), "kept");

        assert!(of_shop.is_published() && !of_blog.is_published());
        assert!(
            !of_blog
                .move_to(&blog.default_state(), false, false)
                .unwrap()
        );
        assert!(!blog.default_state().exists());

        let state = shop.default_state();
        assert!(of_shop.move_to(&state, false, false).unwrap());
        assert!(state.join("sidecars/1.json").exists());
        let read = |name: &str| fs::read_to_string(state.join(name)).unwrap();
        assert_eq!(read("desired.json"), r#"{"serial":7}"#);
        assert_eq!(read("shared/data"), "kept");
        let left = fs::read_dir(of_shop.folder.join("sidecars")).unwrap();
        assert_eq!(left.count(), 1, "the other app's");
        assert!(!of_shop.move_to(&state, true, false).unwrap(), "only once");
    }

    #[test]
    fn data_go_to_the_only_app_that_can_own_them() {
        let (_folder, www) = site();
        let app = Source::Artifact(www.join("app"));
        let former = FormerState::of(&app).unwrap();
        write(&former.folder.join("shared/data"), "kept");
        let state = app.default_state();
        assert!(
            !former.move_to(&state, false, true).unwrap(),
            "another app's"
        );
        assert!(former.move_to(&state, false, false).unwrap());
        assert!(state.join("shared/data").exists());
    }
}

//! Replaces the artifact that sidecars run with `--artifact`, and puts the one before back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::original::Original;
use super::upload;
use crate::commands::progress::Progress;
use crate::deployment::checksum_file;
use crate::os::files;
use crate::release::Digest;

/// An artifact that this deploy has replaced.
#[derive(Debug)]
pub(super) struct ReplacedArtifact {
    path: PathBuf,
    /// Folder with the artifact before, if there was one.
    before: TempDir,
    checksum_before: Option<Vec<u8>>,
    ours: Option<ArtifactState>,
}

/// The identity of an artifact, to see if it was replaced again.
type ArtifactState = (SystemTime, u64);

/// Replaces the artifact at `path` by a copy of `original`, whose content has this digest.
pub(super) fn replace(
    original: &Original,
    digest: Digest,
    path: &Path,
    progress: &mut Progress,
) -> io::Result<ReplacedArtifact> {
    let folder = path.parent().unwrap_or(path);
    files::make_folder(folder)?;
    files::remove_leftovers(folder, SystemTime::now());
    let before = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempdir_in(folder)?;
    let copy = before.path().join(path.file_name().unwrap_or_default());
    upload::copy_proved(original, digest, &copy, progress)?;
    let model = if path.exists() { path } else { folder };
    files::hand_over(&copy, model)?;
    let checksum_file = checksum_file::path_for(path);
    let checksum_before = files::read_small(&checksum_file).ok();
    swap(&copy, path)?;
    let replaced = ReplacedArtifact {
        path: path.to_owned(),
        before,
        ours: state(path),
        checksum_before,
    };
    // A checksum that is kept there has to be that of the artifact.
    if replaced.checksum_before.is_some() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let line = checksum_file::content(&name, digest, None);
        files::write_atomically(&checksum_file, line.as_bytes())?;
    }
    Ok(replaced)
}

// === impl ReplacedArtifact ===

impl ReplacedArtifact {
    /// Returns true if the artifact is still the one that this deploy has put there.
    pub(super) fn is_current(&self) -> bool {
        state(&self.path) == self.ours
    }

    /// Puts back the artifact before, unless another one is there by now. Returns true if it did.
    pub(super) fn put_back(&self) -> io::Result<bool> {
        if !self.is_current() {
            return Ok(false);
        }
        let before = self.before.path();
        let before = before.join(self.path.file_name().unwrap_or_default());
        if fs::symlink_metadata(&before).is_ok() {
            swap(&before, &self.path)?;
        } else {
            files::rename(&self.path, &before)?;
        }
        if let Some(checksum) = &self.checksum_before {
            files::write_atomically(&checksum_file::path_for(&self.path), checksum)?;
        }
        Ok(true)
    }
}

/// Moves what is at `new` to `path`, and what was there, if anything, to `new`.
fn swap(new: &Path, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return files::rename(new, path);
    }
    if files::exchange(new, path).is_ok() {
        return Ok(());
    }
    // The path is free for a moment, in which sidecars see no artifact and go on.
    let aside = new.with_added_extension("before");
    files::rename(path, &aside)?;
    if let Err(error) = files::rename(new, path) {
        files::rename(&aside, path)?;
        return Err(error);
    }
    files::rename(&aside, new)
}

fn state(path: &Path) -> Option<ArtifactState> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::digest::digest;

    #[test]
    fn files_and_folders_are_replaced_and_put_back_unless_they_have_changed_since() {
        let site = tempfile::tempdir().unwrap();
        let path = |name: &str| site.path().join(name);
        fs::write(path("app"), "one").unwrap();
        fs::write(path("new"), "other").unwrap();
        fs::create_dir_all(path("build")).unwrap();
        fs::write(path("build/index"), "page").unwrap();
        let mut progress = Progress::quiet();
        let mut replace = |new: &str| {
            let digest = digest(&path(new)).unwrap();
            let original = Original::new(path(new));
            replace(&original, digest, &path("app"), &mut progress).unwrap()
        };
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        fs::write(path("app.sha256"), "of one").unwrap();
        let file = replace("new");
        assert_eq!(read("app"), "other");
        assert_ne!(read("app.sha256"), "of one");
        assert!(file.put_back().unwrap());
        assert_eq!(
            (read("app"), read("app.sha256")),
            ("one".into(), "of one".into())
        );
        let folder = replace("build");
        assert_eq!(read("app/index"), "page");
        assert!(folder.put_back().unwrap());
        assert_eq!(read("app"), "one");
        let late = replace("new");
        fs::write(path("app"), "by hand").unwrap();
        assert!(!late.is_current() && !late.put_back().unwrap());
        assert_eq!(read("app"), "by hand");
        drop([file, folder, late]);
        assert_eq!(
            fs::read_dir(site.path()).unwrap().count(),
            4,
            "nothing else stays"
        );
    }
}

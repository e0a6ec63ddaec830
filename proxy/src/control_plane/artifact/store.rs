//! The private copies: what runs, out of the deployer's reach.
//!
//! ```text
//! <cache>/releases/<key>/…       a complete copy: the file or the folder, under its own name
//! <cache>/releases/<key>.lock    held, shared, by each sidecar that may launch it
//! <cache>/staging/…              copies in the making
//! ```
//! The key holds the content's digest, so sidecars of one machine share copies, and a copy is
//! never changed once it has its name.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::digest::{self, EntryKind, digest};
use super::{Fingerprint, Target};
use crate::files;
use crate::release::{Digest, Release, ReleaseId};

/// Accepts artifacts and keeps their copies.
#[derive(Debug)]
pub struct Store {
    cache: PathBuf,
    state: PathBuf,
    workdir: Workdir,
    keep: usize,
    locks: HashMap<ReleaseId, File>,
}

/// The app's working directory, and `{dir}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workdir {
    /// A file's is where it was deployed, a folder's is its private copy.
    Auto,
    /// Where the artifact was deployed.
    Artifact,
    /// The private copy, or the folder that it is in.
    Copy,
    /// Always this.
    Fixed(PathBuf),
}

/// Why an artifact was not accepted. All but the last may pass by themselves.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Somebody writes to it.
    #[error("{0:?} is open for writing")]
    Busy(PathBuf),
    /// It changed while it was copied.
    #[error("{0:?} changed while it was copied")]
    Changed(PathBuf),
    /// It is not yet, or not at all, what its digest says.
    #[error("{path:?} has the digest {found}, but {expected} came with it: it is not complete")]
    Digest {
        /// The artifact.
        path: PathBuf,
        /// What came with it.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// Reading it or writing the copy failed.
    #[error("cannot copy {path:?} to {cache:?}: {source}")]
    Copy {
        /// The artifact.
        path: PathBuf,
        /// The cache.
        cache: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The app could publish or overwrite handoff's own files.
    #[error(
        "the state folder {state:?} lies in the app's working directory {workdir:?}, where a \
         static file server would publish it: choose another with --state or --workdir"
    )]
    StateInWorkdir {
        /// `--state`
        state: PathBuf,
        /// The working directory.
        workdir: PathBuf,
    },
}

// === impl Store ===

impl Store {
    /// A store in the folder `cache`, which is made.
    ///
    /// # Errors
    /// What making it said.
    pub fn open(cache: PathBuf, state: PathBuf, workdir: Workdir, keep: usize) -> io::Result<Self> {
        fs::create_dir_all(cache.join("releases"))?;
        fs::create_dir_all(cache.join("staging"))?;
        Ok(Self {
            cache: fs::canonicalize(cache).map(without_verbatim)?,
            state,
            workdir,
            keep,
            locks: HashMap::new(),
        })
    }

    /// Makes sure that the artifact is whole, and copies it.
    ///
    /// # Errors
    /// [`AcceptError`] when it is not, or cannot be.
    pub fn accept(&mut self, target: &Target) -> Result<Release, AcceptError> {
        let cache = self.cache.clone();
        let cannot_copy = |source| AcceptError::Copy {
            path: target.path.clone(),
            cache: cache.clone(),
            source,
        };
        let path = fs::canonicalize(&target.path)
            .map(without_verbatim)
            .map_err(cannot_copy)?;
        let before = Fingerprint::of(&path).map_err(cannot_copy)?;
        let staging = tempfile::tempdir_in(self.cache.join("staging")).map_err(cannot_copy)?;
        let name = path.file_name().unwrap_or_else(|| "artifact".as_ref());
        let found = copy(&path, &staging.path().join(name)).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return AcceptError::Busy(path.clone());
            }
            cannot_copy(error)
        })?;
        match target.digest {
            Some(expected) if expected == found => {}
            Some(expected) => {
                return Err(AcceptError::Digest {
                    path,
                    expected,
                    found,
                });
            }
            None => {
                let again = digest(&path).map_err(cannot_copy)?;
                let after = Fingerprint::of(&path).map_err(cannot_copy)?;
                if again != found || after != before {
                    return Err(AcceptError::Changed(path));
                }
            }
        }
        let id = release_id(target.id.as_deref(), &path, found);
        let kept = self
            .keep_copy(&id, staging)
            .map_err(cannot_copy)?
            .join(name);
        let dir = self.dir(&path, &kept, before.is_folder);
        if self.state.starts_with(&dir) {
            return Err(AcceptError::StateInWorkdir {
                state: self.state.clone(),
                workdir: dir,
            });
        }
        Ok(Release {
            id,
            digest: found,
            artifact: kept,
            dir,
        })
    }

    /// Removes the copies that no sidecar needs, the newest ones apart.
    pub fn prune(&mut self, needed: &[ReleaseId]) {
        self.locks.retain(|id, _| needed.contains(id));
        let Ok(releases) = fs::read_dir(self.cache.join("releases")) else {
            return;
        };
        let mut copies: Vec<(SystemTime, PathBuf)> = releases
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| !needed.iter().any(|id| entry.file_name() == id.as_str()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        copies.sort();
        let excess = copies.len().saturating_sub(self.keep);
        for (_, copy) in copies.into_iter().take(excess) {
            let lock = lock_path(&copy);
            // Who may launch it holds its lock.
            if let Some(_alone) = files::try_lock(&lock) {
                let removed = fs::remove_dir_all(&copy).and_then(|()| fs::remove_file(&lock));
                if let Err(error) = removed {
                    tracing::debug!(?copy, %error, "an old copy could not be removed");
                }
            }
        }
    }

    /// Gives a copy its name; an equal one that is there already serves as well.
    fn keep_copy(&mut self, id: &ReleaseId, staging: tempfile::TempDir) -> io::Result<PathBuf> {
        let kept = self.cache.join("releases").join(id.as_str());
        let lock = files::lock_shared(&lock_path(&kept))?;
        match fs::rename(staging.path(), &kept) {
            Ok(()) => drop(staging.keep()),
            Err(_) if kept.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.locks.insert(id.clone(), lock);
        Ok(kept)
    }

    fn dir(&self, path: &Path, kept: &Path, is_folder: bool) -> PathBuf {
        let folder_of = |path: &Path| match is_folder {
            true => path.to_owned(),
            false => path.parent().unwrap_or(path).to_owned(),
        };
        match &self.workdir {
            Workdir::Fixed(dir) => dir.clone(),
            Workdir::Artifact => folder_of(path),
            Workdir::Auto if !is_folder => folder_of(path),
            Workdir::Auto | Workdir::Copy => folder_of(kept),
        }
    }
}

/// The name, without what says only that it is a program or an archive, and the digest's start.
fn release_id(given: Option<&str>, path: &Path, digest: Digest) -> ReleaseId {
    let name = match given {
        Some(given) => given.to_owned(),
        None => match path.extension().and_then(|extension| extension.to_str()) {
            Some("exe" | "jar" | "zip") => path.file_stem().unwrap_or_default(),
            _ => path.file_name().unwrap_or_default(),
        }
        .to_string_lossy()
        .into_owned(),
    };
    // It names a folder too.
    let safe = |c: char| match c.is_alphanumeric() || "._+-".contains(c) {
        true => c,
        false => '_',
    };
    let name: String = name.chars().map(safe).take(64).collect();
    ReleaseId::new(format!("{name}-{}", &digest.hex()[..8]))
}

fn lock_path(copy: &Path) -> PathBuf {
    let mut lock = copy.to_owned().into_os_string();
    lock.push(".lock");
    lock.into()
}

/// Copies a file or a folder, and says the digest of what was copied.
fn copy(from: &Path, to: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    if !fs::metadata(from)?.is_dir() {
        let mut source = files::open_unwritten(from)?;
        let mut sink = File::create_new(to)?;
        digest::transfer(&mut source, &mut hash, &mut sink)?;
        files::copy_mode(&source.metadata()?, to, true)?;
        return Ok(Digest::finish(hash));
    }
    fs::create_dir(to)?;
    for entry in digest::entries(from)? {
        let to = to.join(&entry.name);
        match entry.kind {
            EntryKind::Folder => fs::create_dir(&to)?,
            EntryKind::Link => {
                digest::hash_link(&mut hash, &entry)?;
                files::copy_link(&entry.path, &to)?;
            }
            EntryKind::File => {
                let mut source = files::open_unwritten(&entry.path)?;
                let metadata = source.metadata()?;
                digest::hash_name(&mut hash, &entry, metadata.len());
                let mut sink = File::create_new(&to)?;
                digest::transfer(&mut source, &mut hash, &mut sink)?;
                files::copy_mode(&metadata, &to, false)?;
            }
        }
    }
    Ok(Digest::finish(hash))
}

/// `\\?\C:\site` as `C:\site`: many programs cannot work in a verbatim path.
fn without_verbatim(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|path| path.strip_prefix(r"\\?\")) {
        Some(plain) if plain.chars().nth(1) == Some(':') && plain.len() < 240 => plain.into(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Site {
        fn new(workdir: Workdir) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(
                folder.path().join("cache"),
                folder.path().join("state"),
                workdir,
                1,
            )
            .unwrap();
            Self { folder, store }
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.folder.path().join("site").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path
        }

        fn accept(&mut self, path: &Path, digest: Option<Digest>) -> Result<Release, AcceptError> {
            let path = path.to_owned();
            let id = None;
            self.store.accept(&Target { path, digest, id })
        }
    }

    #[test]
    fn a_files_copy_is_what_was_deployed_and_its_folder_where_it_was_deployed() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app.exe", "one");
        let release = site.accept(&app, None).unwrap();
        assert_eq!(fs::read_to_string(&release.artifact).unwrap(), "one");
        assert_eq!(release.artifact.file_name().unwrap(), "app.exe");
        let deployed = fs::canonicalize(app.parent().unwrap()).map(without_verbatim);
        assert_eq!(release.dir, deployed.unwrap());
        let id = format!("app-{}", &digest(&app).unwrap().hex()[..8]);
        assert_eq!(release.id.as_str(), id);
    }

    #[test]
    fn a_folder_runs_in_its_copy_and_later_writes_do_not_reach_it() {
        let mut site = Site::new(Workdir::Auto);
        let page = site.write("pages/sub/index.html", "one");
        let folder = site.folder.path().join("site/pages");
        let release = site.accept(&folder, None).unwrap();
        assert_eq!(release.digest, digest(&folder).unwrap());
        fs::write(page, "two").unwrap();
        assert_eq!(release.dir, release.artifact);
        let copied = fs::read_to_string(release.dir.join("sub/index.html"));
        assert_eq!(copied.unwrap(), "one");
    }

    #[test]
    fn the_same_content_again_is_the_same_release() {
        let mut site = Site::new(Workdir::Copy);
        let app = site.write("app", "one");
        let first = site.accept(&app, None).unwrap();
        let app = site.write("app", "one");
        let again = site.accept(&app, None).unwrap();
        assert_eq!((first.id, first.artifact), (again.id, again.artifact));
    }

    #[test]
    fn a_digest_that_does_not_hold_is_no_artifact() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "half");
        let whole = Digest::finish(Sha256::new_with_prefix("whole"));
        let refused = site.accept(&app, Some(whole));
        assert!(matches!(refused, Err(AcceptError::Digest { .. })));
        let app = site.write("app", "whole");
        site.accept(&app, Some(whole)).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_open_for_writing_is_no_artifact() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let writer = File::options().append(true).open(&app).unwrap();
        let refused = site.accept(&app, None);
        assert!(matches!(refused, Err(AcceptError::Busy(_))), "{refused:?}");
        drop(writer);
        site.accept(&app, None).unwrap();
    }

    #[test]
    fn the_state_may_not_lie_where_the_app_works() {
        let mut site = Site::new(Workdir::Artifact);
        let folder = fs::canonicalize(site.folder.path()).map(without_verbatim);
        site.store.state = folder.unwrap().join("site/.handoff");
        let app = site.write("app", "one");
        let refused = site.accept(&app, None);
        assert!(matches!(refused, Err(AcceptError::StateInWorkdir { .. })));
    }

    #[test]
    fn copies_that_nobody_needs_go_oldest_first() {
        let mut site = Site::new(Workdir::Auto);
        let mut releases = Vec::new();
        for content in ["1", "2", "3", "4"] {
            let app = site.write("app", content);
            releases.push(site.accept(&app, None).unwrap());
        }
        site.store.prune(&[releases[0].id.clone()]);
        let kept: Vec<_> = releases.iter().map(|r| r.artifact.exists()).collect();
        assert_eq!(kept, [true, false, false, true]);
    }
}

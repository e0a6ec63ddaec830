//! The private copies of artifacts, which deployers cannot change.
//!
//! ```text
//! <cache>/releases/<id>/…        a complete copy: the file or the folder, under its own name
//! <cache>/releases/<id>.lock     held, shared, by each sidecar that may launch it
//! <cache>/staging/<random>/…     unfinished copies of one sidecar
//! <cache>/staging/<random>.lock  held by that sidecar
//! ```
//! The id contains the start of the content's digest, so the sidecars of one machine share copies.
//! A finished copy is never changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::accept_error::AcceptError;
use super::archive::Limits;
use super::staging::Staging;
use crate::deployment::Target;
use crate::deployment::digest;
use crate::os::files;
use crate::process::template::Command;
use crate::release::{Release, ReleaseId};

/// Settings of a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `--cache`: folder of this machine.
    pub cache: PathBuf,
    /// `--state`: folder that must not lie in the app's working directory.
    pub state: PathBuf,
    /// `--workdir`: working directory of the app.
    pub workdir: Workdir,
    /// `--keep`: number of private copies kept beside those in use.
    pub keep: usize,
    /// `--copy`: artifacts that are copied.
    pub copying: Copying,
    /// Limits for the content of an archive.
    pub limits: Limits,
    /// Command line of the app.
    pub command: Command,
}

/// The artifacts that are copied before they run. Archives are unpacked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// Nothing: what is deployed runs where it is, and must not be overwritten.
    Never,
    /// Files; folders run where they are.
    File,
    /// Files and folders.
    Tree,
}

/// The working directory of the app, and `{dir}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workdir {
    /// The folder in which a file was deployed; the private copy of a folder or an archive.
    Auto,
    /// The deployed folder, or the folder in which a file or an archive was deployed.
    Artifact,
    /// The private copy, or the folder that it is in.
    Copy,
    /// Always this folder.
    Fixed(PathBuf),
}

/// Accepts artifacts and keeps their copies.
#[derive(Debug)]
pub struct Store {
    pub(super) settings: StoreSettings,
    pub(super) staging: Staging,
    locks: HashMap<ReleaseId, File>,
    /// The release that was accepted last: the supervisor may not need it yet.
    pub(super) newest: Option<ReleaseId>,
}

// === impl Store ===

impl Store {
    /// Opens a store in the cache folder, which is made.
    ///
    /// # Errors
    /// When the folder cannot be made or used.
    pub fn open(settings: StoreSettings) -> io::Result<Self> {
        fs::create_dir_all(settings.cache.join("releases"))?;
        let cache = files::canonical(&settings.cache)?;
        Ok(Self {
            staging: Staging::open(&cache.join("staging"))?,
            settings: StoreSettings { cache, ..settings },
            locks: HashMap::new(),
            newest: None,
        })
    }

    /// Makes the lost copy of a release again from `deployed`, if that has still the same content.
    ///
    /// # Errors
    /// [`AcceptError`] when it has not, or cannot be copied.
    pub fn restore(&mut self, lost: &Release, deployed: PathBuf) -> Result<Release, AcceptError> {
        // The supervisor needs the lost release already, and may not need the newest yet.
        let newest = self.newest.clone();
        let restored = self.accept(&Target {
            path: deployed,
            digest: Some(lost.digest),
            id: Some(lost.id.as_str().to_owned()),
        });
        self.newest = newest;
        restored
    }

    /// Locks the copy of a release that an earlier sidecar accepted. Returns `false` when the copy
    /// is incomplete or gone.
    pub fn adopt(&mut self, release: &Release) -> bool {
        let kept = self.path_of(&release.id);
        if !release.artifact.starts_with(&kept) {
            return false;
        }
        // The lock comes first: a sidecar that holds it alone may be removing the copy.
        let Ok(lock) = files::lock_shared(&lock_path(&kept)) else {
            return false;
        };
        let is_there = release.artifact.exists() && release.dir.is_dir();
        if is_there {
            self.locks.insert(release.id.clone(), lock);
        }
        is_there
    }

    /// Returns true if it has copies that this sidecar may launch.
    pub fn has_copies(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Returns the folder of this machine in which it is.
    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// Removes the copies that no sidecar needs, except for the newest ones.
    pub fn prune(&mut self, needed: &[ReleaseId]) {
        let newest = self.newest.clone();
        let is_needed = |id: &str| {
            needed
                .iter()
                .chain(&newest)
                .any(|needed| needed.as_str() == id)
        };
        self.locks.retain(|id, _| is_needed(id.as_str()));
        let Ok(releases) = fs::read_dir(self.settings.cache.join("releases")) else {
            return;
        };
        let mut copies: Vec<(SystemTime, PathBuf)> = releases
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| !entry.file_name().to_str().is_some_and(is_needed))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        copies.sort();
        let excess = copies.len().saturating_sub(self.settings.keep);
        for (_, copy) in copies.into_iter().take(excess) {
            let lock = lock_path(&copy);
            // A sidecar that may launch the copy holds its lock.
            if let Some(alone) = files::try_lock(&lock) {
                let removed = fs::remove_dir_all(&copy);
                let removed = removed.and_then(|()| files::remove_lock(&lock, alone));
                if let Err(error) = removed {
                    tracing::debug!(
                        event = "copy_not_removed",
                        copy = %copy.display(),
                        %error,
                        "cannot remove an old private copy"
                    );
                }
            }
        }
    }

    /// Moves a finished copy to its place, unless an equal one is there already, and locks it.
    pub(super) fn keep_copy(&mut self, id: &ReleaseId, folder: TempDir) -> io::Result<PathBuf> {
        let kept = self.path_of(id);
        // A cleaner of temporary folders may have removed it.
        fs::create_dir_all(self.settings.cache.join("releases"))?;
        let lock = files::lock_shared(&lock_path(&kept))?;
        if kept.is_dir() && !repair_copy(&kept, folder.path())? {
            // Processes that run from the damaged copy go on.
            tracing::warn!(
                event = "copy_replaced",
                copy = %kept.display(),
                "parts of a private copy are missing: it is replaced"
            );
            let damaged = self.staging.folder()?;
            files::rename(&kept, &damaged.path().join("damaged"))?;
        }
        // Windows reports a folder that is to be replaced as locked.
        let renamed = if kept.is_dir() {
            Err(io::ErrorKind::AlreadyExists.into())
        } else {
            // After a power loss, no name may refer to half a copy.
            files::sync(folder.path()).and_then(|()| files::rename(folder.path(), &kept))
        };
        match renamed {
            Ok(()) => drop(folder.keep()),
            // Another sidecar has made the same copy.
            Err(_) if kept.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.locks.insert(id.clone(), lock);
        Ok(kept)
    }

    fn path_of(&self, id: &ReleaseId) -> PathBuf {
        self.settings.cache.join("releases").join(id.as_str())
    }
}

fn lock_path(copy: &Path) -> PathBuf {
    copy.with_added_extension("lock")
}

/// Compares the copy `kept` with the equal copy `new`, and adds missing permissions to it. Returns
/// `false` when parts of it are missing; an app may have written more into it.
fn repair_copy(kept: &Path, new: &Path) -> io::Result<bool> {
    for entry in digest::entries(new)? {
        let there = kept.join(&entry.relative);
        let Ok(metadata) = fs::symlink_metadata(&there) else {
            return Ok(false);
        };
        let new = fs::symlink_metadata(&entry.path)?;
        if metadata.file_type() != new.file_type() {
            return Ok(false);
        }
        if new.is_file() {
            // A power loss cuts files off; files that have grown were written to by the app.
            if metadata.len() < new.len() {
                return Ok(false);
            }
            files::copy_mode(&new, &there, false)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::deployment::digest::digest;
    use crate::release::Digest;

    struct Site {
        folder: TempDir,
        store: Store,
    }

    impl Site {
        fn new(workdir: Workdir) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let settings = StoreSettings {
                cache: folder.path().join("cache"),
                state: folder.path().join("state"),
                workdir,
                keep: 1,
                copying: Copying::Tree,
                limits: Limits {
                    bytes: 1 << 20,
                    entries: 100,
                    ratio: 200,
                    outside_links: false,
                },
                command: Command::default(),
            };
            let store = Store::open(settings).unwrap();
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

    /// A virus scanner may open a new copy.
    #[cfg(windows)]
    #[test]
    fn a_copy_that_somebody_looks_at_gets_its_name_a_little_later() {
        use std::os::windows::fs::OpenOptionsExt as _;

        const OF_FOLDERS_TOO: u32 = 0x0200_0000;
        let mut site = Site::new(Workdir::Auto);
        let copy = site.store.staging.folder().unwrap();
        let mut looks = File::options();
        looks.read(true).share_mode(1).custom_flags(OF_FOLDERS_TOO);
        let scanner = looks.open(copy.path()).unwrap();
        fs::rename(copy.path(), site.folder.path().join("x")).unwrap_err();
        let (looked, may_go) = std::sync::mpsc::channel();
        let scanner = std::thread::spawn(move || {
            looked.send(()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
            drop(scanner);
        });
        may_go.recv().unwrap();
        let kept = site.store.keep_copy(&ReleaseId::new("one"), copy).unwrap();
        assert!(kept.is_dir());
        scanner.join().unwrap();
    }

    #[test]
    fn a_files_copy_is_what_was_deployed_and_its_folder_where_it_was_deployed() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app.exe", "one");
        let release = site.accept(&app, None).unwrap();
        assert_eq!(fs::read_to_string(&release.artifact).unwrap(), "one");
        assert_eq!(release.artifact.file_name().unwrap(), "app.exe");
        let deployed = files::canonical(app.parent().unwrap());
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
    fn a_release_of_an_earlier_life_is_taken_while_its_copy_is_there() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let release = site.accept(&app, None).unwrap();
        let mut next = Store::open(site.store.settings.clone()).unwrap();
        assert!(next.adopt(&release));
        let elsewhere = Release {
            artifact: "/elsewhere/app".into(),
            ..release.clone()
        };
        assert!(!next.adopt(&elsewhere));
        fs::remove_dir_all(release.artifact.parent().unwrap()).unwrap();
        assert!(!next.adopt(&release));
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
        let folder = files::canonical(site.folder.path());
        site.store.settings.state = folder.unwrap().join("site/.handoff");
        let app = site.write("app", "one");
        let refused = site.accept(&app, None);
        assert!(matches!(refused, Err(AcceptError::StateInWorkdir { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn nor_may_it_by_another_way() {
        let mut site = Site::new(Workdir::Artifact);
        let app = site.write("app", "one");
        let link = site.folder.path().join("link");
        std::os::unix::fs::symlink(app.parent().unwrap(), &link).unwrap();
        site.store.settings.state = link.join("not/there/yet");
        let refused = site.accept(&app, None);
        assert!(matches!(refused, Err(AcceptError::StateInWorkdir { .. })));
        site.store.settings.workdir = Workdir::Fixed(link);
        site.store.settings.state = app.parent().unwrap().join(".handoff");
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
        // The first is needed, the last has just come, and one more is kept.
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn a_copy_of_which_parts_were_cleaned_away_is_made_again() {
        let mut site = Site::new(Workdir::Auto);
        let page = site.write("pages/sub/index.html", "one");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        let copied = first.dir.join("sub/index.html");
        fs::remove_file(&copied).unwrap();
        // What the app has written there itself is no damage.
        fs::write(first.dir.join("cache"), "x").unwrap();
        fs::write(page, "one").unwrap();
        site.accept(&folder, None).unwrap();
        assert_eq!(fs::read_to_string(copied).unwrap(), "one");
        assert!(!first.dir.join("cache").exists());
        fs::write(first.dir.join("cache"), "x").unwrap();
        site.accept(&folder, None).unwrap();
        assert!(first.dir.join("cache").exists());
    }

    #[test]
    fn a_copy_that_was_cut_off_is_made_again_and_one_that_has_grown_is_not() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let copied = site.accept(&app, None).unwrap().artifact;
        fs::write(&copied, "o").unwrap();
        site.accept(&app, None).unwrap();
        assert_eq!(fs::read_to_string(&copied).unwrap(), "one");
        fs::write(&copied, "one more").unwrap();
        site.accept(&app, None).unwrap();
        assert_eq!(fs::read_to_string(&copied).unwrap(), "one more");
    }

    #[cfg(unix)]
    #[test]
    fn the_right_to_be_run_reaches_a_copy_that_is_there_already() {
        use std::os::unix::fs::PermissionsExt as _;

        let mut site = Site::new(Workdir::Auto);
        let run = site.write("pages/run", "one");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
        site.accept(&folder, None).unwrap();
        let copied = fs::metadata(first.dir.join("run")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn what_is_not_to_be_copied_runs_where_it_is() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        site.write("pages/index.html", "one");
        let real = |path: &Path| files::canonical(path).unwrap();
        let pages = site.folder.path().join("site/pages");
        site.store.settings.copying = Copying::File;
        assert_ne!(site.accept(&app, None).unwrap().artifact, real(&app));
        let release = site.accept(&pages, None).unwrap();
        assert_eq!(
            (&release.artifact, &release.dir),
            (&real(&pages), &real(&pages))
        );
        site.store.settings.copying = Copying::Never;
        let release = site.accept(&app, None).unwrap();
        assert_eq!(release.artifact, real(&app));
        assert_eq!(release.digest, digest(&app).unwrap());
        let wrong = Digest::finish(Sha256::new_with_prefix("whole"));
        let refused = site.accept(&app, Some(wrong));
        assert!(matches!(refused, Err(AcceptError::Digest { .. })));
    }

    #[test]
    fn what_was_accepted_last_is_kept_though_nobody_knows_it_yet() {
        let mut site = Site::new(Workdir::Auto);
        site.store.settings.keep = 0;
        let app = site.write("app", "1");
        let first = site.accept(&app, None).unwrap();
        let app = site.write("app", "2");
        let second = site.accept(&app, None).unwrap();
        site.store.prune(&[]);
        assert!(!first.artifact.exists() && second.artifact.exists());
    }
}

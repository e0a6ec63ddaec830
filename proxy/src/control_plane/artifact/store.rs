//! The private copies of artifacts, which deployers cannot change.
//!
//! ```text
//! <cache>/releases/<key>/<id>/…     a complete copy: the file or the folder, under its own name
//! <cache>/releases/<key>/<id>.lock  held, shared, by each sidecar that may launch it
//! <cache>/releases/<key>/<id>.unsynced  the boot in which it was made, until it is on the disk
//! <cache>/staging/<random>/…        unfinished copies of one sidecar
//! <cache>/staging/<random>.lock     held by that sidecar
//! ```
//! The key is the deployment's, so that no app finds what another one has written into its copy. The
//! sidecars of a deployment share copies. An artifact is copied whenever it is accepted, and the new
//! copy is compared, byte by byte, with the one that is there: the id decides nothing, and what an
//! app or a fault of the disk has changed is not launched as a new deploy. A finished copy is never
//! changed, since processes may run from it: one that differs is followed by another one, `<id>~2`.
//!
//! A copy gets its name before it is on the disk, and is launched meanwhile. `<id>.unsynced` has the
//! boot of that moment until then: after another boot the copy may be incomplete.
//!
//! Version 0.1.0 had the copies of all deployments in `<cache>/releases/<id>`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::accept_error::AcceptError;
use super::archive::Limits;
use super::assets::{AssetSettings, AssetStore};
use super::compare::{Proved, has_all_of};
use super::prepared::Prepared;
use super::staging::{Staging, StagingFolder};
use super::written::data_written;
use crate::deployment::file_error::NameFile as _;
use crate::deployment::names::release_ids;
use crate::deployment::{Fingerprint, Target, deployment_key};
use crate::os::files::{self, Access};
use crate::os::machine;
use crate::process::template::Command;
use crate::release::{Digest, Release, ReleaseId};

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
    /// `--keep-assets`: files that are kept for pages of earlier releases.
    pub assets: Option<AssetSettings>,
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
    /// Folder of the deployment's copies.
    copies: PathBuf,
    /// Locks of the copies that may be launched, by their paths.
    locks: HashMap<PathBuf, File>,
    /// Ids of releases that this sidecar knows or knew, with their digests.
    ids: HashMap<ReleaseId, Digest>,
    /// Copies that are not on the disk yet.
    unsynced: Vec<PathBuf>,
    boot: Option<String>,
    /// The artifact that was accepted last: the supervisor may not need it yet.
    pub(super) newest: Option<PathBuf>,
    pub(super) prepared: Option<Prepared>,
    /// Files that are kept for pages of earlier releases.
    pub(super) assets: Option<AssetStore>,
}

// === impl Store ===

impl Store {
    /// Opens a store in the cache folder, which is made.
    ///
    /// # Errors
    /// When the folder cannot be made or used.
    pub fn open(settings: StoreSettings) -> io::Result<Self> {
        files::check_names(&settings.cache)?;
        files::make_own_folder(&settings.cache.join("releases"), Access::Enter)?;
        let cache = files::canonical(&settings.cache)?;
        let copies = cache.join("releases").join(deployment_key(&settings.state));
        files::make_own_folder(&copies, Access::Enter)?;
        let boot = machine::boot();
        let assets = settings.assets.as_ref();
        let assets = assets.map(|assets| AssetStore::open(assets, &cache, &settings.state));
        Ok(Self {
            assets,
            unsynced: unsynced(&copies, boot.as_deref()),
            boot,
            ids: HashMap::new(),
            copies,
            staging: Staging::open(&cache.join("staging"))?,
            settings: StoreSettings { cache, ..settings },
            locks: HashMap::new(),
            newest: None,
            prepared: None,
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
        let releases = self.settings.cache.join("releases");
        let copy = release.artifact.parent();
        let Some(copy) = copy.filter(|copy| copy.starts_with(&releases) && *copy != releases)
        else {
            return false;
        };
        // The lock comes first: a sidecar that holds it alone may be removing the copy.
        let Ok(lock) = files::lock_shared(&lock_path(copy)) else {
            return false;
        };
        if !self.is_whole(copy) {
            tracing::warn!(
                event = "copy_incomplete",
                copy = %copy.display(),
                "a private copy may be incomplete: the machine went down before it was on the disk"
            );
            return false;
        }
        let is_there = release.artifact.exists() && release.dir.is_dir();
        let id = self.ids.entry(release.id.clone());
        let is_adopted = is_there && *id.or_insert(release.digest) == release.digest;
        if is_adopted {
            self.locks.insert(copy.to_owned(), lock);
            if let Some(assets) = &mut self.assets {
                assets.note(release);
            }
        }
        is_adopted
    }

    /// Returns true if [`Store::prepare`] was called for this state of the artifact.
    pub fn is_prepared_for(&self, path: &Path, fingerprint: &Fingerprint) -> bool {
        let prepared = self.prepared.as_ref();
        prepared.is_some_and(|prepared| prepared.is_of(path, fingerprint))
    }

    /// Gives up what was read of an artifact that has changed, or is gone.
    pub fn discard_prepared(&mut self) {
        self.prepared = None;
    }

    /// Does what a launch does not wait for: brings the copies that were kept since the last call to
    /// the disk, and keeps files of theirs for pages that are open when they are superseded.
    pub fn finish_copies(&mut self) {
        for copy in std::mem::take(&mut self.unsynced) {
            let synced = files::sync(&copy).and_then(|()| fs::remove_file(unsynced_mark(&copy)));
            if let Err(error) = synced {
                tracing::debug!(
                    event = "copy_not_synced",
                    copy = %copy.display(),
                    %error,
                    "cannot wait until a private copy is on the disk"
                );
            }
        }
        if let Some(assets) = &mut self.assets {
            assets.keep_pending(&mut self.staging);
        }
    }

    /// Returns the data files that an app has written into its private copy, as paths in it.
    pub fn data_written_into(&self, artifact: &Path) -> Vec<String> {
        let Some(copy) = artifact
            .parent()
            .filter(|copy| copy.starts_with(&self.copies))
        else {
            return Vec::new();
        };
        let lock = fs::metadata(lock_path(copy)).and_then(|lock| lock.modified());
        let folder = if artifact.is_dir() { artifact } else { copy };
        let written = lock.and_then(|complete| data_written(folder, complete));
        // It is only a warning, and the copy may have been removed.
        written.unwrap_or_default()
    }

    /// Returns true if it has copies that this sidecar may launch.
    pub fn has_copies(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Returns the folder of this machine in which it is.
    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    /// Sets the copies aside that no sidecar needs, except for the newest ones. `needed` are the
    /// artifacts that may be launched, that run, and that are remembered. The drop of what is returned
    /// removes them, which may take long.
    pub fn prune(&mut self, needed: &[PathBuf]) -> Vec<StagingFolder> {
        let needed = needed.iter().chain(&self.newest);
        let needed: HashSet<&Path> = needed.filter_map(|artifact| artifact.parent()).collect();
        self.locks.retain(|copy, _| needed.contains(&**copy));
        let mut copies: Vec<_> = folders(&self.copies)
            .filter(|copy| !needed.contains(&**copy))
            .filter_map(|copy| Some((fs::metadata(&copy).ok()?.modified().ok()?, copy)))
            .collect();
        copies.sort();
        let excess = copies.len().saturating_sub(self.settings.keep);
        let excess = copies.into_iter().take(excess);
        let mut unneeded: Vec<PathBuf> = excess.map(|(_, copy)| copy).collect();
        // Other folders there have no lock: they belong to deployments.
        let of_old_version: Vec<_> = folders(&self.settings.cache.join("releases"))
            .filter(|copy| lock_path(copy).is_file() && !needed.contains(&**copy))
            .collect();
        if !of_old_version.is_empty() {
            let memories = self.read_memories();
            let is_remembered = |copy: &PathBuf| {
                let id = copy.file_name().and_then(|id| id.to_str());
                id.is_some_and(|id| memories.contains(id))
            };
            let forgotten = of_old_version.into_iter();
            unneeded.extend(forgotten.filter(|copy| !is_remembered(copy)));
        }
        let set_aside = |copy: &PathBuf| set_aside(copy, &mut self.staging);
        unneeded.iter().filter_map(set_aside).collect()
    }

    /// Reads the memories of all deployments of this machine.
    fn read_memories(&self) -> String {
        let entries = fs::read_dir(self.settings.cache.join("memory"));
        let entries = entries.into_iter().flatten().flatten();
        let contents = entries.filter_map(|entry| files::read_large(&entry.path()).ok());
        contents
            .map(|content| String::from_utf8_lossy(&content).into_owned())
            .collect()
    }

    /// Returns the id of a release, which no other content has had here.
    pub(super) fn id_of(&mut self, given: Option<&str>, path: &Path, digest: Digest) -> ReleaseId {
        let ids = release_ids(given, path, digest);
        let own = ids.iter().find(|id| {
            let known = self.ids.entry((*id).clone());
            *known.or_insert(digest) == digest
        });
        // The last one has the whole digest.
        own.unwrap_or(&ids[2]).clone()
    }

    /// Moves a finished copy to its place, unless one with all that it has is there already, and
    /// locks it.
    pub(super) fn keep_copy(
        &mut self,
        id: &ReleaseId,
        folder: StagingFolder,
        proved: Proved,
    ) -> io::Result<PathBuf> {
        // A cleaner of temporary folders may have removed it.
        files::make_own_folder(&self.copies, Access::Enter).writing(&self.copies)?;
        let mut number = 1;
        let mut copy = self.copies.join(id.as_str());
        let lock = loop {
            let lock = lock_path(&copy);
            let lock = files::lock_shared(&lock).writing(&lock)?;
            if !copy.is_dir() {
                match self.name_copy(folder.path(), &copy) {
                    Ok(()) => {
                        let _ = folder.keep();
                        // What is written into the copy later is its app's.
                        let _ = lock.set_modified(SystemTime::now());
                        break lock;
                    }
                    // Another sidecar has made a copy.
                    Err(_) if copy.is_dir() => {}
                    Err(error) => return Err(error).writing(&copy),
                }
            }
            if has_all_of(&copy, folder.path(), proved)? {
                break lock;
            }
            number += 1;
            let next = self.copies.join(format!("{id}~{number}"));
            tracing::info!(
                event = "copy_replaced",
                copy = %copy.display(),
                next = %next.display(),
                "a private copy differs from what is deployed: the next launch uses another one"
            );
            copy = next;
        };
        self.locks.insert(copy.clone(), lock);
        Ok(copy)
    }

    /// Gives a finished copy its name.
    fn name_copy(&mut self, folder: &Path, copy: &Path) -> io::Result<()> {
        match &self.boot {
            Some(boot) => {
                files::write_atomically(&unsynced_mark(copy), boot.as_bytes())?;
                self.unsynced.push(copy.to_owned());
            }
            // After a power loss, no name may refer to half a copy.
            None => files::sync(folder)?,
        }
        files::rename(folder, copy)
    }

    /// Returns true if a copy is on the disk, or was made since the boot.
    fn is_whole(&self, copy: &Path) -> bool {
        match fs::read_to_string(unsynced_mark(copy)) {
            Ok(boot) => Some(&boot) == self.boot.as_ref(),
            Err(_) => true,
        }
    }
}

/// Returns the copies that were made since the boot and were not synced.
fn unsynced(copies: &Path, boot: Option<&str>) -> Vec<PathBuf> {
    let of_this_boot = |copy: &PathBuf| {
        let made = fs::read_to_string(unsynced_mark(copy)).ok();
        made.is_some() && made.as_deref() == boot
    };
    folders(copies).filter(of_this_boot).collect()
}

/// Lists the folders in a folder.
fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path())
}

/// Moves a copy to the staging folder, unless a sidecar that may launch it holds its lock: what is half
/// removed has no name.
fn set_aside(copy: &Path, staging: &mut Staging) -> Option<StagingFolder> {
    let lock = lock_path(copy);
    let alone = files::try_lock(&lock)?;
    let aside = staging.folder().and_then(|folder| {
        files::rename(copy, &folder.path().join("unneeded"))?;
        Ok(folder)
    });
    let removed = match &aside {
        Ok(_) => Ok(()),
        // The disk may be full.
        Err(_) => files::remove_tree(copy),
    };
    let _ = fs::remove_file(unsynced_mark(copy));
    let removed = removed.and_then(|()| files::remove_lock(&lock, alone));
    if let Err(error) = removed {
        tracing::debug!(
            event = "copy_not_removed",
            copy = %copy.display(),
            %error,
            "cannot remove an old private copy"
        );
    }
    aside.ok()
}

fn lock_path(copy: &Path) -> PathBuf {
    copy.with_added_extension("lock")
}

fn unsynced_mark(copy: &Path) -> PathBuf {
    copy.with_added_extension("unsynced")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::deployment::digest::digest;

    struct Site {
        folder: tempfile::TempDir,
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
                assets: None,
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
        let id = ReleaseId::new("one");
        let kept = site.store.keep_copy(&id, copy, Proved::Everything).unwrap();
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
    fn a_writer_does_not_matter_where_a_digest_proves_the_content() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let _writer = File::options().append(true).open(&app).unwrap();
        let proof = digest(&app).unwrap();
        site.accept(&app, Some(proof)).unwrap();
        site.write("pages/index.html", "one");
        let log = site.write("pages/log/out.txt", "");
        let _writer = File::options().append(true).open(&log).unwrap();
        let folder = site.folder.path().join("site/pages");
        let proof = digest(&folder).unwrap();
        site.accept(&folder, Some(proof)).unwrap();
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
        // Of a folder, it is that very file.
        site.write("pages/index.html", "one");
        let log = site.write("pages/log/out.txt", "");
        let writer = File::options().append(true).open(&log).unwrap();
        let folder = site.folder.path().join("site/pages");
        let refused = site.accept(&folder, None).unwrap_err();
        let named = files::canonical(&log).unwrap();
        assert_eq!(
            refused.to_string(),
            format!("{named:?} is open for writing")
        );
        drop(writer);
        // An editor's is no part of the release.
        let swap = site.write("pages/.index.html.swp", "");
        let _writer = File::options().append(true).open(swap).unwrap();
        site.accept(&folder, None).unwrap();
    }

    #[test]
    fn an_interrupted_download_is_no_artifact_unless_a_digest_proves_it() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "half");
        let control = site.write("app.aria2", "of half");
        let refused = site.accept(&app, None);
        assert!(
            matches!(refused, Err(AcceptError::Offline(_))),
            "{refused:?}"
        );
        site.accept(&app, Some(digest(&app).unwrap())).unwrap();
        fs::remove_file(control).unwrap();
        site.accept(&app, None).unwrap();
        site.write("pages/index.html", "one");
        let control = site.write("pages/data/large.iso.lftp-pget-status", "");
        let folder = site.folder.path().join("site/pages");
        let refused = site.accept(&folder, None);
        assert!(
            matches!(refused, Err(AcceptError::Offline(_))),
            "{refused:?}"
        );
        fs::remove_file(control).unwrap();
        site.accept(&folder, None).unwrap();
    }

    #[test]
    fn a_folder_that_was_emptied_or_is_marked_offline_is_no_artifact() {
        let mut site = Site::new(Workdir::Auto);
        let mark = site.write("pages/App_Offline.htm", "back soon");
        let folder = site.folder.path().join("site/pages");
        let page = site.write("pages/index.html", "one");
        let refused = site.accept(&folder, None);
        assert!(
            matches!(refused, Err(AcceptError::Offline(_))),
            "{refused:?}"
        );
        fs::remove_file(mark).unwrap();
        site.accept(&folder, None).unwrap();
        fs::remove_file(page).unwrap();
        site.write("pages/.git/HEAD", "main");
        fs::create_dir(folder.join("tmp")).unwrap();
        let refused = site.accept(&folder, None);
        assert!(matches!(refused, Err(AcceptError::Empty(_))), "{refused:?}");
    }

    #[test]
    fn a_fetch_in_a_checkout_makes_no_other_release_unless_a_digest_says_so() {
        let mut site = Site::new(Workdir::Auto);
        site.write("pages/index.html", "one");
        site.write("pages/.git/FETCH_HEAD", "1");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        assert!(first.dir.join(".git/FETCH_HEAD").exists(), "it is copied");
        site.write("pages/.git/FETCH_HEAD", "2");
        site.write("pages/.git/packed-refs", "2");
        let again = site.accept(&folder, None).unwrap();
        assert_eq!((&again.id, &again.artifact), (&first.id, &first.artifact));
        let whole = digest(&folder).unwrap();
        let proved = site.accept(&folder, Some(whole)).unwrap();
        assert_eq!(proved.digest, whole);
        // A copy that was lost is made again though the checkout has changed.
        site.accept(&folder, Some(first.digest)).unwrap();
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
        site.store.prune(&[releases[0].artifact.clone()]);
        let kept: Vec<_> = releases.iter().map(|r| r.artifact.exists()).collect();
        // The first is needed, the last has just come, and one more is kept.
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn a_copy_that_lacks_a_part_stays_and_another_one_follows() {
        let mut site = Site::new(Workdir::Auto);
        let page = site.write("pages/sub/index.html", "one");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        let copied = first.dir.join("sub/index.html");
        fs::remove_file(&copied).unwrap();
        // What the app has written there itself is no damage.
        fs::write(first.dir.join("cache"), "x").unwrap();
        fs::write(page, "one").unwrap();
        let second = site.accept(&folder, None).unwrap();
        assert_eq!((&second.id, second.digest), (&first.id, first.digest));
        let whole = fs::read_to_string(second.dir.join("sub/index.html"));
        assert_eq!(whole.unwrap(), "one");
        assert!(!second.dir.join("cache").exists());
        // A process may run in it.
        assert!(first.dir.join("cache").exists() && !copied.exists());
        fs::write(second.dir.join("cache"), "x").unwrap();
        assert_eq!(site.accept(&folder, None).unwrap().dir, second.dir);
        site.store.prune(&[first.artifact]);
        assert!(copied.parent().unwrap().exists(), "it runs");
    }

    #[test]
    fn what_changes_around_the_content_moves_no_copy() {
        let mut site = Site::new(Workdir::Auto);
        site.write("pages/index.html", "one");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        fs::create_dir(folder.join("tmp")).unwrap();
        let second = site.accept(&folder, None).unwrap();
        assert!(first.dir.is_dir() && !first.dir.join("tmp").exists());
        assert!(second.dir.join("tmp").is_dir());
        let again = File::open(folder.join("index.html")).unwrap();
        again.set_modified(SystemTime::UNIX_EPOCH).ok();
        fs::write(folder.join("index.html~"), "two").unwrap();
        assert_eq!(site.accept(&folder, None).unwrap().dir, second.dir);
    }

    #[test]
    fn a_copy_whose_content_has_changed_is_followed_whatever_its_length_is() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let mut copies = vec![site.accept(&app, None).unwrap().artifact];
        for changed in ["one more", "o", "two"] {
            fs::write(copies.last().unwrap(), changed).unwrap();
            let next = site.accept(&app, None).unwrap().artifact;
            assert_eq!(fs::read_to_string(&next).unwrap(), "one", "{changed}");
            assert!(!copies.contains(&next));
            copies.push(next);
        }
        assert_eq!(fs::read_to_string(&copies[0]).unwrap(), "one more");
    }

    #[test]
    fn contents_whose_digests_begin_alike_are_two_releases_with_a_copy_each() {
        let mut site = Site::new(Workdir::Auto);
        let mut accept = |content: &str| {
            let app = site.write("app", content);
            site.accept(&app, None).unwrap()
        };
        // Their first 32 bits are the same.
        let (one, other) = (accept("content 28149"), accept("content 36680"));
        assert_ne!(one.digest, other.digest);
        assert_ne!(one.id, other.id);
        for (release, content) in [(&one, "content 28149"), (&other, "content 36680")] {
            assert_eq!(fs::read_to_string(&release.artifact).unwrap(), content);
        }
        assert_eq!(accept("content 28149").id, one.id);
        assert_eq!(accept("content 36680").artifact, other.artifact);
        // It is found by its name when its copy was lost.
        fs::remove_dir_all(other.artifact.parent().unwrap()).unwrap();
        let deployed = site.folder.path().join("site/app");
        let restored = site.store.restore(&other, deployed).unwrap();
        assert_eq!((restored.id, restored.digest), (other.id, other.digest));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_copy_that_leads_elsewhere_is_followed_by_another_copy() {
        let mut site = Site::new(Workdir::Auto);
        site.write("pages/index.html", "one");
        let folder = site.folder.path().join("site/pages");
        std::os::unix::fs::symlink("index.html", folder.join("home")).unwrap();
        let first = site.accept(&folder, None).unwrap();
        fs::remove_file(first.dir.join("home")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", first.dir.join("home")).unwrap();
        let second = site.accept(&folder, None).unwrap();
        let target = fs::read_link(second.dir.join("home")).unwrap();
        assert_eq!(target, Path::new("index.html"));
    }

    #[test]
    fn a_cache_in_the_deployed_folder_is_refused() {
        let mut site = Site::new(Workdir::Auto);
        site.write("index.html", "one");
        let folder = site.folder.path().to_owned();
        let refused = site.accept(&folder, None);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("--cache"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn the_right_to_be_run_is_in_the_next_copy_and_changes_no_other() {
        use std::os::unix::fs::PermissionsExt as _;

        let mut site = Site::new(Workdir::Auto);
        let run = site.write("pages/run", "one");
        let folder = site.folder.path().join("site/pages");
        let first = site.accept(&folder, None).unwrap();
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
        let second = site.accept(&folder, None).unwrap();
        let can_run = |dir: &Path| {
            let copied = fs::metadata(dir.join("run")).unwrap();
            copied.permissions().mode() & 0o111 == 0o111
        };
        assert!(can_run(&second.dir) && !can_run(&first.dir));
        assert_ne!(
            first.shape, second.shape,
            "it may do what the first could not"
        );
        assert_eq!(first.digest, second.digest);
    }

    #[test]
    fn deployments_with_one_cache_share_no_copy_and_keep_as_many_each() {
        let mut site = Site::new(Workdir::Auto);
        let mut other = Store::open(StoreSettings {
            state: site.folder.path().join("other"),
            ..site.store.settings.clone()
        })
        .unwrap();
        let mut kept = Vec::new();
        for content in ["1", "2", "3"] {
            let path = site.write("app", content);
            let (digest, id) = (None, None);
            let theirs = other.accept(&Target { path, digest, id }).unwrap();
            kept.push(theirs.artifact);
        }
        let app = site.write("app", "3");
        let ours = site.accept(&app, None).unwrap();
        assert!(!kept.contains(&ours.artifact));
        for content in ["4", "5", "6"] {
            let app = site.write("app", content);
            site.accept(&app, None).unwrap();
        }
        site.store.prune(&[]);
        assert!(!ours.artifact.exists());
        assert!(kept.iter().all(|kept| kept.exists()));
    }

    #[test]
    fn copies_of_the_version_before_are_used_and_removed_when_no_memory_names_them() {
        let mut site = Site::new(Workdir::Auto);
        let app = site.write("app", "one");
        let release = site.accept(&app, None).unwrap();
        let cache = site.folder.path().join("cache");
        let old = |id: &str| {
            let copy = files::canonical(&cache).unwrap().join("releases").join(id);
            fs::create_dir(&copy).unwrap();
            fs::write(lock_path(&copy), "").unwrap();
            fs::write(copy.join("app"), "one").unwrap();
            copy.join("app")
        };
        let [used, remembered, forgotten] = ["app-1", "app-2", "app-3"].map(old);
        let earlier = Release {
            artifact: used.clone(),
            ..release
        };
        assert!(site.store.adopt(&earlier));
        fs::create_dir(cache.join("memory")).unwrap();
        fs::write(cache.join("memory/0.log"), "{\"artifact\":\"/app-2/app\"}").unwrap();
        site.store.prune(std::slice::from_ref(&used));
        assert!(used.exists() && remembered.exists() && !forgotten.exists());
        site.store.prune(&[]);
        assert!(!used.exists() && remembered.exists());
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

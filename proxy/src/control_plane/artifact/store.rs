//! The private copies: what runs, out of the deployer's reach.
//!
//! ```text
//! <cache>/releases/<key>/…       a complete copy: the file or the folder, under its own name
//! <cache>/releases/<key>.lock    held, shared, by each sidecar that may launch it
//! <cache>/staging/<random>/…     copies in the making, of one sidecar
//! <cache>/staging/<random>.lock  held by that sidecar
//! ```
//! The key holds the content's digest, so sidecars of one machine share copies, and a copy is
//! never changed once it has its name.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::accept_error::AcceptError;
use super::archive::{self, ArchiveError, Limits};
use super::staging::Staging;
use crate::deployment::copy::{self, Copied};
use crate::deployment::digest::{self, digest};
use crate::deployment::names::{ArchiveFormat, release_id};
use crate::deployment::{Fingerprint, Target};
use crate::os::files;
use crate::process::template::{Command, Values};
use crate::release::{Digest, Release, ReleaseId};

/// Where copies are kept, and what is copied.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// This machine's.
    pub cache: PathBuf,
    /// It may not lie where the app works.
    pub state: PathBuf,
    /// The app's working directory.
    pub workdir: Workdir,
    /// Private copies kept beside those in use.
    pub keep: usize,
    /// What is copied at all.
    pub copying: Copying,
    /// What an archive may unpack to.
    pub limits: Limits,
    /// What is executed of a copy.
    pub command: Command,
}

/// What is copied before it runs. Archives are unpacked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Copying {
    /// Nothing: what is deployed runs where it is, and must not be overwritten.
    Never,
    /// Files; folders run where they are.
    File,
    /// Files and folders.
    Tree,
}

/// Accepts artifacts and keeps their copies.
#[derive(Debug)]
pub struct Store {
    settings: StoreSettings,
    staging: Staging,
    locks: HashMap<ReleaseId, File>,
    /// Accepted last: the supervisor may not know of it yet when it says what it needs.
    newest: Option<ReleaseId>,
}

/// The app's working directory, and `{dir}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workdir {
    /// A file's is where it was deployed, a folder's or an archive's is its private copy.
    Auto,
    /// Where the artifact was deployed.
    Artifact,
    /// The private copy, or the folder that it is in.
    Copy,
    /// Always this.
    Fixed(PathBuf),
}

// === impl Store ===

impl Store {
    /// A store in the cache folder, which is made.
    ///
    /// # Errors
    /// What making it said.
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

    /// Makes sure that the artifact is whole, and copies it.
    ///
    /// # Errors
    /// [`AcceptError`] when it is not, or cannot be.
    pub fn accept(&mut self, target: &Target) -> Result<Release, AcceptError> {
        let cache = self.settings.cache.clone();
        let cannot_copy = |source: io::Error| {
            let (path, cache) = (target.path.clone(), cache.clone());
            match source.kind() == io::ErrorKind::WouldBlock {
                true => AcceptError::Busy(path),
                false => AcceptError::Copy {
                    path,
                    cache,
                    source,
                },
            }
        };
        let path = files::canonical(&target.path).map_err(cannot_copy)?;
        copy::check_unwritten(&path).map_err(cannot_copy)?;
        let before = Fingerprint::of(&path).map_err(cannot_copy)?;
        let name = path.file_name().unwrap_or_else(|| "artifact".as_ref());
        let format = name.to_str().and_then(ArchiveFormat::of);
        let format = format.filter(|_| !before.is_folder);
        let copying = match self.settings.copying {
            Copying::Tree => true,
            Copying::File => !before.is_folder,
            Copying::Never => format.is_some(),
        };
        if !copying {
            let found = digest(&path).map_err(cannot_copy)?;
            prove(target, &path, found, &before, true, cannot_copy)?;
            let id = release_id(target.id.as_deref(), &path, found);
            return self.release(id, found, &path, path.clone());
        }
        let (folder, name, found) = match format {
            None => {
                let folder = self.staging.folder().map_err(cannot_copy)?;
                let to = folder.path().join(name);
                let copied = match before.is_folder {
                    true => copy::copy_folder(&path, &target.path, &to),
                    false => copy::copy_file(&path, &to, true),
                };
                let copied = copied.map_err(cannot_copy)?;
                prove(target, &path, copied.digest, &before, false, cannot_copy)?;
                warn_of_ways_back(&path, &copied);
                (folder, name, copied.digest)
            }
            Some((format, stem)) => {
                // Its own copy first: what is unpacked is what was proved.
                let packed = self.staging.folder().map_err(cannot_copy)?;
                let archive = packed.path().join(name);
                let copied = copy::copy_file(&path, &archive, false).map_err(cannot_copy)?;
                prove(target, &path, copied.digest, &before, false, cannot_copy)?;
                let folder = self.staging.folder().map_err(cannot_copy)?;
                let to = folder.path().join(stem);
                let limits = self.settings.limits;
                let unpacked = File::open(&archive)
                    .map_err(ArchiveError::Write)
                    .and_then(|mut archive| archive::unpack(format, &mut archive, &to, limits));
                unpacked.map_err(|error| match error {
                    ArchiveError::Write(error) => cannot_copy(error),
                    source @ ArchiveError::Broken(_) => AcceptError::Broken {
                        path: path.clone(),
                        source,
                    },
                    source @ ArchiveError::Refused(_) => AcceptError::Refused {
                        path: path.clone(),
                        source,
                    },
                })?;
                (folder, stem.as_ref(), copied.digest)
            }
        };
        let id = release_id(target.id.as_deref(), &path, found);
        let kept = self.keep_copy(&id, folder).map_err(cannot_copy)?.join(name);
        self.release(id, found, &path, kept)
    }

    /// Makes the copy of a release again, which was cleaned away, of what lies at `deployed`: if that
    /// is still the same.
    ///
    /// # Errors
    /// [`AcceptError`] when it is not, or cannot be copied.
    pub fn restore(&mut self, lost: &Release, deployed: PathBuf) -> Result<Release, AcceptError> {
        // Whoever lost it knows of it, and may not know of the newest yet.
        let newest = self.newest.clone();
        let restored = self.accept(&Target {
            path: deployed,
            digest: Some(lost.digest),
            id: Some(lost.id.as_str().to_owned()),
        });
        self.newest = newest;
        restored
    }

    /// What is accepted, if it can be run from there.
    fn release(
        &mut self,
        id: ReleaseId,
        digest: Digest,
        path: &Path,
        artifact: PathBuf,
    ) -> Result<Release, AcceptError> {
        let dir = self.dir(path, &artifact);
        let StoreSettings {
            state,
            cache,
            command,
            ..
        } = &self.settings;
        // A link is another way to the same folder.
        if files::canonical_so_far(state).starts_with(files::canonical_so_far(&dir)) {
            return Err(AcceptError::StateInWorkdir {
                state: state.clone(),
                workdir: dir,
            });
        }
        let release = Release {
            id,
            digest,
            artifact,
            dir,
        };
        let values = Values {
            release: &release,
            port: 0,
            ports: &[],
            host: "",
            shared: Path::new(""),
        };
        // What cannot be launched at all is for the launch to say.
        if let Ok((program, _)) = command.expand(values) {
            let program = PathBuf::from(program);
            if program.starts_with(cache) && files::runs_no_programs(cache) {
                let cache = cache.clone();
                return Err(AcceptError::NotExecutable { cache, program });
            }
        }
        self.newest = Some(release.id.clone());
        Ok(release)
    }

    /// Takes a release that was accepted in an earlier life; `false` when there is nothing left of
    /// it to run.
    pub fn adopt(&mut self, release: &Release) -> bool {
        let kept = self
            .settings
            .cache
            .join("releases")
            .join(release.id.as_str());
        if !release.artifact.starts_with(&kept) {
            return false;
        }
        // First the lock: who has it alone may be about to remove the copy.
        let Ok(lock) = files::lock_shared(&lock_path(&kept)) else {
            return false;
        };
        let is_there = release.artifact.exists() && release.dir.is_dir();
        if is_there {
            self.locks.insert(release.id.clone(), lock);
        }
        is_there
    }

    /// Removes the copies that no sidecar needs, the newest ones apart.
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
            // Who may launch it holds its lock.
            if let Some(alone) = files::try_lock(&lock) {
                let removed = fs::remove_dir_all(&copy);
                let removed = removed.and_then(|()| files::remove_lock(&lock, alone));
                if let Err(error) = removed {
                    tracing::debug!(?copy, %error, "an old copy could not be removed");
                }
            }
        }
    }

    /// Gives a copy its name; an equal one that is there already serves as well.
    fn keep_copy(&mut self, id: &ReleaseId, folder: tempfile::TempDir) -> io::Result<PathBuf> {
        let releases = self.settings.cache.join("releases");
        // Whoever cleans temporary folders may have been here.
        fs::create_dir_all(&releases)?;
        let kept = releases.join(id.as_str());
        let lock = files::lock_shared(&lock_path(&kept))?;
        if kept.is_dir() && !completes(folder.path(), &kept)? {
            // Whatever cleans temporary folders has been there. A process that runs from it goes on.
            tracing::warn!(copy = ?kept, "parts of a private copy are missing: it is replaced");
            let aside = self.staging.folder()?;
            files::rename(&kept, &aside.path().join("damaged"))?;
        }
        // Nothing takes the place of a folder, which on Windows looks as if that were locked.
        let renamed = match kept.is_dir() {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            // A name that outlives a power loss shall not be that of half a copy.
            false => files::sync(folder.path()).and_then(|()| files::rename(folder.path(), &kept)),
        };
        match renamed {
            Ok(()) => drop(folder.keep()),
            Err(_) if kept.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.locks.insert(id.clone(), lock);
        Ok(kept)
    }

    fn dir(&self, path: &Path, artifact: &Path) -> PathBuf {
        let folder_of = |path: &Path| match path.is_dir() {
            true => path.to_owned(),
            false => path.parent().unwrap_or(path).to_owned(),
        };
        match &self.settings.workdir {
            Workdir::Fixed(dir) => dir.clone(),
            Workdir::Artifact => folder_of(path),
            Workdir::Auto if !artifact.is_dir() => folder_of(path),
            Workdir::Auto | Workdir::Copy => folder_of(artifact),
        }
    }
}

/// Whether the content is what was deployed: by the digest that came with it, or because a second
/// look finds the same.
fn prove(
    target: &Target,
    path: &Path,
    found: Digest,
    before: &Fingerprint,
    in_place: bool,
    cannot_read: impl Fn(io::Error) -> AcceptError,
) -> Result<(), AcceptError> {
    if let Some(expected) = target.digest {
        return match expected == found {
            true => Ok(()),
            false => Err(AcceptError::Digest {
                path: path.to_owned(),
                expected,
                found,
            }),
        };
    }
    let again = || -> io::Result<bool> {
        let same = in_place || digest(path)? == found;
        Ok(same && Fingerprint::of(path)? == *before)
    };
    match again().map_err(cannot_read)? {
        true => Ok(()),
        false => Err(AcceptError::Changed(path.to_owned())),
    }
}

/// Whether everything that the copy `new` has is in the copy `kept` too, which gets the permissions
/// that it lacks. (An app may have written more into it.)
fn completes(new: &Path, kept: &Path) -> io::Result<bool> {
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
            // Cut off, by a power loss. One that has grown the app has written to.
            if metadata.len() < new.len() {
                return Ok(false);
            }
            files::copy_mode(&new, &there, false)?;
        }
    }
    Ok(true)
}

/// What runs from a private copy should not reach back to where others write.
fn warn_of_ways_back(path: &Path, copied: &Copied) {
    let Some(first) = copied.leads_back.first() else {
        return;
    };
    let count = copied.leads_back.len();
    tracing::warn!(
        folder = ?path,
        %first,
        count,
        "scripts or links in it lead back into the deployed folder, as in a Python virtual \
         environment: what they start is not the private copy. Start the copy's own interpreter \
         instead, for example `-- venv/bin/python -m uvicorn` for `venv/bin/uvicorn`"
    );
}

fn lock_path(copy: &Path) -> PathBuf {
    let mut lock = copy.to_owned().into_os_string();
    lock.push(".lock");
    lock.into()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

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

    /// As a scanner does that looks at what is new.
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

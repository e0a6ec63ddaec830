//! The steps from a deployed artifact to a release: read or copy, prove, unpack, keep, check.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::accept_error::AcceptError;
use super::archive::{self, ArchiveError};
use super::compare::Proved;
use super::prepared::{Content, Prepared};
use super::staging::StagingFolder;
use super::store::{Copying, Store, StoreSettings, Workdir};
use super::ways_back::list;
use crate::deployment::copy;
use crate::deployment::digest::{self, Digests, Entry, EntryKind, digests};
use crate::deployment::file_error::{FileError, NameFile as _};
use crate::deployment::names::{ArchiveFormat, is_unsupported_archive};
use crate::deployment::transfer::Executable;
use crate::deployment::{Fingerprint, Target};
use crate::os::files;
use crate::release::Release;

/// Name of the file that marks a deploy under way (IIS).
const OFFLINE: &str = "app_offline.htm";
/// Endings of files beside an artifact that tell of an unfinished download: of aria2 and lftp.
const DOWNLOADS: [&str; 2] = ["aria2", "lftp-pget-status"];
/// Maximum difference of two times that a local file system does not tell apart (FAT), and the same of
/// one whose times are finer than hundredths of a second: such times advance with the kernel's timer.
const COARSEST_TIME: Duration = Duration::from_secs(2);
const FINE_TIME: Duration = Duration::from_millis(20);
const HUNDREDTH_NS: u32 = 10_000_000;

/// A deployed artifact, before it is read.
struct Deployed<'a> {
    target: &'a Target,
    /// Path without links.
    path: PathBuf,
    name: OsString,
    /// Entries of a folder.
    entries: Vec<Entry>,
    fingerprint: Fingerprint,
    handling: Handling,
    /// `--cache`, for error messages.
    cache: PathBuf,
}

/// The way in which an artifact is run.
enum Handling {
    InPlace,
    Copy,
    Unpack { format: ArchiveFormat, stem: String },
}

// === impl Store ===

impl Store {
    /// Makes sure that an artifact is whole, and makes its private copy.
    ///
    /// # Errors
    /// [`AcceptError`] when it is not whole, or cannot be copied or run.
    pub fn accept(&mut self, target: &Target) -> Result<Release, AcceptError> {
        let deployed = Deployed::inspect(target, &self.settings)?;
        let prepared = self.prepared.take();
        let prepared = prepared.and_then(|it| it.content_of(&target.path, &deployed.fingerprint));
        let mut content = match prepared {
            Some(content) => content,
            None => self.read(&deployed)?,
        };
        deployed.prove(&content)?;
        let ways_back = std::mem::take(&mut content.ways_back);
        warn_of_lost_privileges(&deployed.path, &content.unprivileged);
        // A fetch in a checkout makes no other release, unless the deployer says so.
        let digest = target.digest.unwrap_or(content.digests.code);
        let proved = if digest == content.digests.whole {
            Proved::Everything
        } else {
            Proved::Code
        };
        let content = self.unpack(&deployed, content)?;
        let id = self.id_of(target.id.as_deref(), &deployed.path, digest);
        let artifact = match content.copy {
            None => deployed.path.clone(),
            Some((folder, name)) => {
                let kept = files::limit_to_readers_of(&deployed.path, folder.path())
                    .and_then(|()| self.keep_copy(&id, folder, proved));
                kept.map_err(|error| deployed.copy_error(error))?.join(name)
            }
        };
        let release = Release {
            dir: self.workdir(&deployed.path, &artifact),
            id,
            digest,
            shape: content.shape,
            artifact,
        };
        self.check_launchable(&release)?;
        if deployed.fingerprint.is_folder && release.artifact != deployed.path {
            let originals = [&*deployed.path, &*target.path];
            self.warn_of_ways_back(&originals, &release, &ways_back);
        }
        self.newest = Some(release.artifact.clone());
        if let Some(assets) = &mut self.assets {
            assets.note(&release);
        }
        Ok(release)
    }

    /// Reads an artifact that may still change, once for each fingerprint: [`Store::accept`] takes
    /// what was read if nothing has changed since.
    pub fn prepare(&mut self, target: &Target, fingerprint: &Fingerprint) {
        // First the room, then the next copy.
        self.prepared = None;
        let read = Deployed::inspect(target, &self.settings)
            .and_then(|deployed| Ok((self.read(&deployed)?, deployed.fingerprint)));
        // The reason of a failure is found again when it counts.
        let of_this_state = read.ok().filter(|(_, found)| found == fingerprint);
        self.prepared = Some(Prepared {
            path: target.path.clone(),
            fingerprint: fingerprint.clone(),
            content: of_this_state.map(|(content, _)| content),
        });
    }

    /// Reads the content, into a private copy unless it runs in place.
    fn read(&mut self, deployed: &Deployed<'_>) -> Result<Content, AcceptError> {
        let path = &deployed.path;
        let begun = SystemTime::now();
        let mut read = || -> io::Result<Content> {
            if let Handling::InPlace = deployed.handling {
                return Ok(Content {
                    read: begun,
                    digests: digests(path)?,
                    shape: copy::shape(path)?,
                    ways_back: Vec::new(),
                    unprivileged: Vec::new(),
                    copy: None,
                });
            }
            let folder = self.staging.folder().writing(&self.settings.cache)?;
            let to = folder.path().join(&deployed.name);
            let copied = match deployed.handling {
                Handling::Copy if deployed.fingerprint.is_folder => {
                    copy::copy_folder(path, &deployed.target.path, &deployed.entries, &to)?
                }
                Handling::Copy => copy::copy_file(path, &to, Executable::Yes)?,
                Handling::Unpack { .. } | Handling::InPlace => {
                    copy::copy_file(path, &to, Executable::AsOriginal)?
                }
            };
            Ok(Content {
                read: begun,
                digests: copied.digests,
                shape: copied.shape,
                ways_back: copied.ways_back,
                unprivileged: copied.unprivileged,
                copy: Some((folder, deployed.name.clone())),
            })
        };
        read().map_err(|error| deployed.copy_error(error))
    }

    /// Unpacks the copy of an archive: only content that is proved.
    fn unpack(
        &mut self,
        deployed: &Deployed<'_>,
        content: Content,
    ) -> Result<Content, AcceptError> {
        let (Handling::Unpack { format, stem }, Some((packed, name))) =
            (&deployed.handling, &content.copy)
        else {
            return Ok(content);
        };
        let mut unpack = || -> Result<StagingFolder, ArchiveError> {
            let folder = self.staging.folder()?;
            let mut archive = File::open(packed.path().join(name))?;
            let to = folder.path().join(stem);
            archive::unpack(*format, &mut archive, &to, self.settings.limits)?;
            Ok(folder)
        };
        let path = deployed.path.clone();
        let folder = unpack().map_err(|error| match error {
            ArchiveError::Write(error) => deployed.copy_error(error),
            source @ ArchiveError::Broken(_) => AcceptError::Broken { path, source },
            source @ ArchiveError::Refused(_) => AcceptError::Refused { path, source },
        })?;
        Ok(Content {
            copy: Some((folder, stem.into())),
            ..content
        })
    }

    /// Returns the working directory of an artifact that was deployed at `path`.
    fn workdir(&self, path: &Path, artifact: &Path) -> PathBuf {
        let folder_of = |path: &Path| {
            let folder = if path.is_dir() {
                Some(path)
            } else {
                path.parent()
            };
            folder.unwrap_or(path).to_owned()
        };
        match &self.settings.workdir {
            Workdir::Fixed(dir) => dir.clone(),
            Workdir::Artifact => folder_of(path),
            Workdir::Auto if !artifact.is_dir() => folder_of(path),
            Workdir::Auto | Workdir::Copy => folder_of(artifact),
        }
    }

    /// Checks that the app cannot reach the state folder, and that its program can be started.
    fn check_launchable(&self, release: &Release) -> Result<(), AcceptError> {
        let StoreSettings {
            state,
            cache,
            command,
            ..
        } = &self.settings;
        // A link is another path to the same folder.
        if files::canonical_existing(state).starts_with(files::canonical_existing(&release.dir)) {
            return Err(AcceptError::StateInWorkdir {
                state: state.clone(),
                workdir: release.dir.clone(),
            });
        }
        // A release without a program fails at its launch.
        if let Some(program) = command.program(release)
            && program.starts_with(cache)
            && files::is_noexec(cache)
        {
            let cache = cache.clone();
            return Err(AcceptError::NotExecutable { cache, program });
        }
        Ok(())
    }
}

// === impl Deployed ===

impl<'a> Deployed<'a> {
    /// Looks at an artifact that its digest will prove, or that is not open for writing.
    fn inspect(target: &'a Target, settings: &StoreSettings) -> Result<Self, AcceptError> {
        let error = |error| copy_error(&target.path, &settings.cache, error);
        let path = files::canonical(&target.path).reading(&target.path);
        let path = path.map_err(error)?;
        let mut entries = Vec::new();
        if path.is_dir() {
            check_cache(&path, &settings.cache)?;
            entries = digest::entries(&path).map_err(error)?;
            check_folder(&path, &entries)?;
        }
        if target.digest.is_none() {
            check_downloaded(&path, &entries)?;
            copy::check_unwritten(&path, &entries).map_err(error)?;
        }
        let fingerprint = Fingerprint::of_entries(&path, &entries).map_err(error)?;
        let name = path.file_name().unwrap_or_else(|| "artifact".as_ref());
        let format = name.to_str().and_then(ArchiveFormat::of);
        if !fingerprint.is_folder && is_unsupported_archive(&name.to_string_lossy()) {
            return Err(AcceptError::UnsupportedArchive(path));
        }
        let handling = match (format, settings.copying) {
            (Some((format, stem)), _) if !fingerprint.is_folder => Handling::Unpack {
                format,
                stem: stem.to_owned(),
            },
            (_, Copying::Tree) => Handling::Copy,
            (_, Copying::File) if !fingerprint.is_folder => Handling::Copy,
            (_, Copying::File | Copying::Never) => Handling::InPlace,
        };
        Ok(Self {
            target,
            name: name.to_owned(),
            path,
            entries,
            fingerprint,
            handling,
            cache: settings.cache.clone(),
        })
    }

    /// Checks that the content is complete: by the digest that came with the artifact, or else
    /// because it has not changed while it was read. The times of a local file system show that,
    /// unless the last change is so new that another one may have the same time; else it has to be
    /// the same when it is read again.
    fn prove(&self, content: &Content) -> Result<(), AcceptError> {
        let path = &self.path;
        let Digests { whole, code } = content.digests;
        if let Some(expected) = self.target.digest {
            // The digest of a release leaves out what is aside.
            if [whole, code].contains(&expected) {
                return Ok(());
            }
            return Err(AcceptError::Digest {
                path: path.clone(),
                expected,
                found: whole,
            });
        }
        let is_unchanged = || -> io::Result<bool> {
            let changed = self.fingerprint.changed;
            let has_certain_times = || {
                let age = content.read.duration_since(changed);
                age.is_ok_and(|age| age > resolution(changed))
                    && files::is_on_local_file_system(path)
            };
            let is_same =
                content.copy.is_none() || has_certain_times() || digests(path)?.code == code;
            let mut entries = Vec::new();
            if self.fingerprint.is_folder {
                entries = digest::entries(path)?;
            }
            Ok(is_same && Fingerprint::of_entries(path, &entries)? == self.fingerprint)
        };
        if is_unchanged().map_err(|error| self.copy_error(error))? {
            Ok(())
        } else {
            Err(AcceptError::Changed(path.clone()))
        }
    }

    fn copy_error(&self, source: io::Error) -> AcceptError {
        copy_error(&self.target.path, &self.cache, source)
    }
}

fn copy_error(path: &Path, cache: &Path, source: io::Error) -> AcceptError {
    if source.kind() == io::ErrorKind::WouldBlock {
        let open = FileError::of(&source).map_or(path, |error| &error.path);
        return AcceptError::Busy(open.to_owned());
    }
    AcceptError::Copy {
        path: path.to_owned(),
        cache: cache.to_owned(),
        source,
    }
}

/// Returns the maximum time after which a local file system gives another time than this one.
fn resolution(time: SystemTime) -> Duration {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.subsec_nanos());
    if nanos.is_multiple_of(HUNDREDTH_NS) {
        COARSEST_TIME
    } else {
        FINE_TIME
    }
}

/// Checks that copies in the cache do not change the folder that is copied.
fn check_cache(path: &Path, cache: &Path) -> Result<(), AcceptError> {
    if cache.starts_with(path) {
        return Err(AcceptError::CacheInArtifact {
            cache: cache.to_owned(),
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Checks that no deploy into a folder is under way as far as the folder tells. An emptied folder
/// is about to be filled.
fn check_folder(path: &Path, entries: &[Entry]) -> Result<(), AcceptError> {
    let is_offline = |entry: &&Entry| (entry.relative.as_os_str()).eq_ignore_ascii_case(OFFLINE);
    if let Some(entry) = entries.iter().find(is_offline) {
        return Err(AcceptError::Offline(entry.path.clone()));
    }
    let is_content = |entry: &Entry| entry.kind != EntryKind::Folder && !entry.is_aside;
    if entries.iter().any(is_content) {
        Ok(())
    } else {
        Err(AcceptError::Empty(path.to_owned()))
    }
}

/// Checks that no download is interrupted, of which a file with another ending is kept beside what it has.
fn check_downloaded(path: &Path, entries: &[Entry]) -> Result<(), AcceptError> {
    let beside = DOWNLOADS.map(|ending| path.with_added_extension(ending));
    let is_download = |entry: &&Entry| {
        let ending = entry.path.extension();
        ending.is_some_and(|ending| DOWNLOADS.iter().any(|known| *known == ending))
    };
    let inside = entries.iter().find(is_download);
    let known = beside.into_iter().find(|file| file.exists());
    match known.or_else(|| inside.map(|entry| entry.path.clone())) {
        Some(file) => Err(AcceptError::Offline(file)),
        None => Ok(()),
    }
}

fn warn_of_lost_privileges(path: &Path, programs: &[String]) {
    if programs.is_empty() {
        return;
    }
    tracing::warn!(
        event = "file_capabilities_lost",
        artifact = %path.display(),
        files = list(programs),
        count = programs.len(),
        "file capabilities and the setuid bit are not copied: these programs have them no more. \
         Give the capabilities to handoff, whose apps inherit them (systemd: \
         AmbientCapabilities=), or run the programs where they are deployed, with `--copy never`"
    );
}

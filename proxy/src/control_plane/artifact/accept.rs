//! The steps from a deployed artifact to a release: read or copy, prove, unpack, keep, check.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::accept_error::AcceptError;
use super::archive::{self, ArchiveError};
use super::store::{Copying, Store, StoreSettings, Workdir};
use crate::deployment::copy::{self, Executable};
use crate::deployment::digest::digest;
use crate::deployment::names::{ArchiveFormat, is_unsupported_archive, release_id};
use crate::deployment::{Fingerprint, Target};
use crate::os::files;
use crate::release::{Digest, Release};

/// A deployed artifact, before it is read.
struct Deployed<'a> {
    target: &'a Target,
    /// Path without links.
    path: PathBuf,
    name: OsString,
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

/// The content of an artifact that has been read.
struct Content {
    digest: Digest,
    /// Scripts and links in the copy that lead into the original, by their names.
    leads_back: Vec<String>,
    /// The private copy: a folder, and a name in it.
    copy: Option<(TempDir, OsString)>,
}

// === impl Store ===

impl Store {
    /// Makes sure that an artifact is whole, and makes its private copy.
    ///
    /// # Errors
    /// [`AcceptError`] when it is not whole, or cannot be copied or run.
    pub fn accept(&mut self, target: &Target) -> Result<Release, AcceptError> {
        let deployed = Deployed::inspect(target, &self.settings)?;
        let content = self.read(&deployed)?;
        deployed.prove(&content)?;
        warn_of_ways_back(&deployed.path, &content.leads_back);
        let digest = content.digest;
        let content = self.unpack(&deployed, content)?;
        let id = release_id(target.id.as_deref(), &deployed.path, digest);
        let artifact = match content.copy {
            None => deployed.path.clone(),
            Some((folder, name)) => {
                let kept = self.keep_copy(&id, folder);
                kept.map_err(|error| deployed.copy_error(error))?.join(name)
            }
        };
        let release = Release {
            dir: self.workdir(&deployed.path, &artifact),
            id,
            digest,
            artifact,
        };
        self.check_launchable(&release)?;
        self.newest = Some(release.id.clone());
        Ok(release)
    }

    /// Reads the content, into a private copy unless it runs in place.
    fn read(&mut self, deployed: &Deployed<'_>) -> Result<Content, AcceptError> {
        let path = &deployed.path;
        let mut read = || -> io::Result<Content> {
            if let Handling::InPlace = deployed.handling {
                let digest = digest(path)?;
                return Ok(Content {
                    digest,
                    leads_back: Vec::new(),
                    copy: None,
                });
            }
            let folder = self.staging.folder()?;
            let to = folder.path().join(&deployed.name);
            let copied = match deployed.handling {
                Handling::Copy if deployed.fingerprint.is_folder => {
                    copy::copy_folder(path, &deployed.target.path, &to)?
                }
                Handling::Copy => copy::copy_file(path, &to, Executable::Yes)?,
                Handling::Unpack { .. } | Handling::InPlace => {
                    copy::copy_file(path, &to, Executable::AsOriginal)?
                }
            };
            Ok(Content {
                digest: copied.digest,
                leads_back: copied.leads_back,
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
        let mut unpack = || -> Result<TempDir, ArchiveError> {
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
    /// Looks at an artifact that is not open for writing.
    fn inspect(target: &'a Target, settings: &StoreSettings) -> Result<Self, AcceptError> {
        let inspect = || -> io::Result<(PathBuf, Fingerprint)> {
            let path = files::canonical(&target.path)?;
            copy::check_unwritten(&path)?;
            let fingerprint = Fingerprint::of(&path)?;
            Ok((path, fingerprint))
        };
        let (path, fingerprint) =
            inspect().map_err(|error| copy_error(&target.path, &settings.cache, error))?;
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
            fingerprint,
            handling,
            cache: settings.cache.clone(),
        })
    }

    /// Checks that the content is complete: by the digest that came with the artifact, or else
    /// because it is the same when it is read again.
    fn prove(&self, content: &Content) -> Result<(), AcceptError> {
        let path = &self.path;
        let found = content.digest;
        if let Some(expected) = self.target.digest {
            if expected == found {
                return Ok(());
            }
            return Err(AcceptError::Digest {
                path: path.clone(),
                expected,
                found,
            });
        }
        let is_unchanged = || -> io::Result<bool> {
            let is_same = content.copy.is_none() || digest(path)? == found;
            Ok(is_same && Fingerprint::of(path)? == self.fingerprint)
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
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::WouldBlock {
        return AcceptError::Busy(path);
    }
    AcceptError::Copy {
        path,
        cache: cache.to_owned(),
        source,
    }
}

/// Warns of a private copy that would start programs of the deployed folder.
fn warn_of_ways_back(path: &Path, leads_back: &[String]) {
    let Some(first) = leads_back.first() else {
        return;
    };
    tracing::warn!(
        event = "copy_leads_back",
        folder = %path.display(),
        %first,
        count = leads_back.len(),
        "scripts or links in the private copy lead back into the deployed folder, as in a Python \
         virtual environment: what they start is not the private copy. Start the copy's own \
         interpreter instead, for example `-- venv/bin/python -m uvicorn` for `venv/bin/uvicorn`"
    );
}

//! The folder that a deployer writes to, and the three ways to deploy there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::release::Release;
use crate::cli::DeployBy;
use crate::host::system::System;

/// The folder of a site.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    by: DeployBy,
    system: System,
}

impl Site {
    /// Creates the folder.
    pub fn create(folder: PathBuf, by: DeployBy, system: System) -> io::Result<Self> {
        fs::create_dir_all(folder.join("releases"))?;
        Ok(Self { folder, by, system })
    }

    /// Returns the folder in which releases are made: with a pointer, the one they will run from, as
    /// deployers upload them beforehand; else one that is not watched.
    pub fn workshop(&self) -> PathBuf {
        match self.by {
            DeployBy::Pointer => self.folder.join("_target"),
            DeployBy::Overwrite | DeployBy::Watch => self.folder.join("made"),
        }
    }

    /// Returns the file that is overwritten in place.
    pub fn artifact(&self) -> PathBuf {
        self.system.executable(&self.folder, "app")
    }

    /// Returns handoff's options that name the source.
    pub fn source(&self) -> [OsString; 2] {
        let (option, path) = match self.by {
            DeployBy::Pointer => ("--pointer", self.pointer()),
            DeployBy::Overwrite => ("--artifact", self.artifact()),
            DeployBy::Watch => ("--watch", self.watched()),
        };
        [option.into(), self.system.path(&path)]
    }

    /// Makes `release` the one that should run.
    pub fn deploy(&self, release: &Release) -> io::Result<()> {
        match self.by {
            DeployBy::Pointer => {
                let file = self.system.path(&release.file);
                let text = format!("{}\nsha256={}\n", file.display(), release.sha256);
                replace(&self.pointer(), text.as_bytes())
            }
            // As `cp` and FTP do it: a watcher sees a file that grows.
            DeployBy::Overwrite => self.copy(release, &self.artifact()),
            DeployBy::Watch => {
                let artifact = self.system.executable(&self.watched(), &release.name());
                self.copy(release, &artifact)
            }
        }
    }

    /// Returns the system on which the programs under test run.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Copies a release over a file, as `cp` does.
    pub fn copy(&self, release: &Release, target: &Path) -> io::Result<()> {
        retry(|| self.system.copy(&release.file, target))
    }

    fn pointer(&self) -> PathBuf {
        self.folder.join("_artifact.txt")
    }

    fn watched(&self) -> PathBuf {
        self.folder.join("releases")
    }
}

/// Replaces a file: a reader sees the old content or the new, never a part.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, content)?;
    retry(|| fs::rename(&new, file))
}

/// Retries for a moment: on Windows, a reader or a process that has just ended may lock the file.
fn retry(mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    const ACCESS_DENIED: i32 = 5;
    const SHARING_VIOLATION: i32 = 32;
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match act() {
            Err(error)
                if cfg!(windows)
                    && matches!(
                        error.raw_os_error(),
                        Some(ACCESS_DENIED | SHARING_VIOLATION)
                    )
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(by: DeployBy) -> (tempfile::TempDir, Site, Release) {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::create(folder.path().join("site"), by, System::Native).unwrap();
        fs::create_dir_all(site.workshop()).unwrap();
        let file = site.workshop().join("v2");
        fs::write(&file, "two").unwrap();
        (
            folder,
            site,
            Release {
                number: 2,
                file,
                sha256: "ab12".to_owned(),
            },
        )
    }

    #[test]
    fn a_pointer_names_the_file_and_its_digest() {
        let (_folder, site, release) = site(DeployBy::Pointer);
        site.deploy(&release).unwrap();
        let [option, pointer] = site.source();
        assert_eq!(option, "--pointer");
        let text = fs::read_to_string(pointer).unwrap();
        assert_eq!(text, format!("{}\nsha256=ab12\n", release.file.display()));
    }

    #[test]
    fn overwriting_changes_the_one_artifact() {
        let (_folder, site, release) = site(DeployBy::Overwrite);
        fs::write(site.artifact(), "one, which is longer").unwrap();
        site.deploy(&release).unwrap();
        assert_eq!(
            site.source(),
            ["--artifact".into(), site.artifact().into_os_string()]
        );
        assert_eq!(fs::read_to_string(site.artifact()).unwrap(), "two");
    }

    #[test]
    fn a_watched_folder_gets_one_file_more_and_nothing_else() {
        let (_folder, site, release) = site(DeployBy::Watch);
        let [option, watched] = site.source();
        assert_eq!(option, "--watch");
        assert_eq!(fs::read_dir(&watched).unwrap().count(), 0);
        site.deploy(&release).unwrap();
        let names: Vec<_> = fs::read_dir(&watched)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(
            names,
            [OsString::from(format!(
                "v2{}",
                std::env::consts::EXE_SUFFIX
            ))]
        );
    }
}

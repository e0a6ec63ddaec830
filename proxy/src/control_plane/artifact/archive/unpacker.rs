//! Writes the entries of an archive, and counts them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::limits::{ArchiveError, Limits, RATIO_FROM};
use super::name;
use crate::os::files;

const BUFFER: usize = 64 * 1024;

/// Unpacks into one folder.
pub(super) struct Unpacker {
    top: PathBuf,
    limits: Limits,
    packed: u64,
    bytes: u64,
    entries: u64,
    /// Links are made at the end: until then no name can lead through one.
    links: Vec<(PathBuf, String)>,
    /// Folders get their permissions and times at the end: until then they are filled.
    folders: BTreeMap<PathBuf, (u32, Option<SystemTime>)>,
}

// === impl Unpacker ===

impl Unpacker {
    pub(super) fn new(top: &Path, limits: Limits, packed: u64) -> io::Result<Self> {
        fs::create_dir(top)?;
        Ok(Self {
            top: top.to_owned(),
            limits,
            packed,
            bytes: 0,
            entries: 0,
            links: Vec::new(),
            folders: BTreeMap::new(),
        })
    }

    pub(super) fn folder(
        &mut self,
        components: &[&str],
        mode: Option<u32>,
        modified: Option<SystemTime>,
    ) -> Result<(), ArchiveError> {
        self.make_folders(components)?;
        // Some packers say nothing with zero.
        if let Some(mode) = mode.map(|mode| mode & 0o777).filter(|mode| *mode != 0) {
            self.folders.insert(self.path(components), (mode, modified));
        }
        Ok(())
    }

    /// Writes a file. Errors of `read` are faults of the archive.
    pub(super) fn file(
        &mut self,
        components: &[&str],
        mode: Option<u32>,
        modified: Option<SystemTime>,
        read: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        let path = self.place(components)?;
        let mut file = File::create_new(&path).map_err(|error| twice(error, components))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match read.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = components.join("/");
                    return Err(ArchiveError::Broken(format!("{name:?}: {error}")));
                }
            };
            self.bytes += n as u64;
            self.check_bytes()?;
            file.write_all(&buffer[..n])?;
        }
        if let Some(modified) = modified {
            // Best effort: only static file servers and bytecode caches use it.
            let _ = file.set_modified(modified);
        }
        drop(file);
        if let Some(mode) = mode {
            files::set_mode(&path, mode)?;
        }
        Ok(())
    }

    pub(super) fn link(&mut self, components: &[&str], target: &str) -> Result<(), ArchiveError> {
        let depth = components.len().saturating_sub(1);
        let name = components.join("/");
        if target.is_empty() || target.contains('\0') {
            return refused(format!("the link {name:?} leads to {target:?}"));
        }
        if !self.limits.outside_links && name::leaves(target, depth) {
            return refused(format!(
                "the link {name:?} leads to {target:?}, which is, or may be, outside of the \
                 archive: pack what it leads to, or allow it with --allow-outside-links"
            ));
        }
        let path = self.place(components)?;
        self.links.push((path, target.to_owned()));
        Ok(())
    }

    /// Makes another name for a file that came before.
    pub(super) fn hard_link(
        &mut self,
        components: &[&str],
        target: &[&str],
    ) -> Result<(), ArchiveError> {
        let original = self.path(target);
        // No link has been made yet, so this is a file of the archive.
        if !original.is_file() {
            let (name, target) = (components.join("/"), target.join("/"));
            return refused(format!(
                "the entry {name:?} is a second name of {target:?}, which is no file before it"
            ));
        }
        let path = self.place(components)?;
        fs::hard_link(original, path).map_err(|error| twice(error, components))
    }

    /// Makes the links, and finishes the folders: all or none, since the folder is incomplete without them.
    pub(super) fn finish(self) -> Result<(), ArchiveError> {
        for (path, target) in &self.links {
            let name = path.strip_prefix(&self.top).unwrap_or(path);
            let name = name.to_string_lossy().replace('\\', "/");
            files::make_link(Path::new(target), path).map_err(|error| {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    return twice(error, &[&name]);
                }
                let said = format!("cannot make the link {name:?}: {error}");
                ArchiveError::Write(io::Error::new(error.kind(), said))
            })?;
        }
        // The deepest first: a time of a folder changes with what is made in it.
        for (path, (mode, modified)) in self.folders.iter().rev() {
            files::finish_folder(path, *mode, *modified)?;
        }
        Ok(())
    }

    /// Returns the path of a new entry, after making its folders.
    fn place(&mut self, components: &[&str]) -> Result<PathBuf, ArchiveError> {
        let Some((_, folders)) = components.split_last() else {
            return refused("an entry that is no folder has no name".to_owned());
        };
        self.make_folders(folders)?;
        self.count_entry()?;
        Ok(self.path(components))
    }

    fn make_folders(&mut self, components: &[&str]) -> Result<(), ArchiveError> {
        let mut path = self.top.clone();
        for component in components {
            path.push(component);
            match fs::create_dir(&path) {
                Ok(()) => self.count_entry()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !path.is_dir() {
                        return Err(twice(error, components));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn path(&self, components: &[&str]) -> PathBuf {
        let mut path = self.top.clone();
        path.extend(components);
        path
    }

    fn count_entry(&mut self) -> Result<(), ArchiveError> {
        self.entries += 1;
        self.check_entries(self.entries)
    }

    /// Checks a number of entries against the limit.
    pub(super) fn check_entries(&self, entries: u64) -> Result<(), ArchiveError> {
        if entries <= self.limits.entries {
            return Ok(());
        }
        refused(format!(
            "it has more than {} entries (--max-entries)",
            self.limits.entries
        ))
    }

    fn check_bytes(&self) -> Result<(), ArchiveError> {
        let Limits { bytes, ratio, .. } = self.limits;
        if self.bytes > bytes {
            return refused(format!(
                "it unpacks to more than {bytes} bytes (--max-unpacked)"
            ));
        }
        if self.bytes > RATIO_FROM && self.bytes / ratio > self.packed {
            return refused(format!(
                "its {} bytes unpack to more than {ratio} times as many (--max-ratio)",
                self.packed
            ));
        }
        Ok(())
    }
}

fn refused<T>(why: String) -> Result<T, ArchiveError> {
    Err(ArchiveError::Refused(why))
}

fn twice(error: io::Error, components: &[&str]) -> ArchiveError {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return error.into();
    }
    let name = components.join("/");
    ArchiveError::Refused(format!("the entry {name:?} is there twice"))
}

//! Comparison of a new copy with the one that has its name.

use std::fs;
use std::io;
use std::path::Path;

use crate::deployment::digest::{self, Entry, EntryKind};
use crate::deployment::file_error::NameFile as _;
use crate::deployment::transfer::is_same_content;
use crate::os::files;

/// The part of a folder that the digest of its release proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proved {
    /// Everything in it.
    Everything,
    /// All but version control folders and editor files.
    Code,
}

/// Returns true if a copy has all that the copy `new` has, with the same content and all its
/// permissions. The app may have written more into it.
pub(super) fn has_all_of(copy: &Path, new: &Path, proved: Proved) -> io::Result<bool> {
    let entries = digest::entries(new)?;
    let is_proved = |entry: &&Entry| proved == Proved::Everything || !entry.is_aside;
    let mut files = Vec::new();
    // What is cheap to see comes first.
    for entry in entries.iter().filter(is_proved) {
        let there = copy.join(&entry.relative);
        let Ok(metadata) = fs::symlink_metadata(&there) else {
            return Ok(false);
        };
        let new = fs::symlink_metadata(&entry.path).reading(&entry.path)?;
        let has_other_length = new.is_file() && metadata.len() != new.len();
        let lacks_permission = files::mode(&new) & !files::mode(&metadata) != 0;
        if metadata.file_type() != new.file_type() || has_other_length || lacks_permission {
            return Ok(false);
        }
        match entry.kind {
            EntryKind::Folder => {}
            EntryKind::Link if fs::read_link(&there).ok() == fs::read_link(&entry.path).ok() => {}
            EntryKind::Link => return Ok(false),
            EntryKind::File => files.push((there, &entry.path)),
        }
    }
    for (there, new) in files {
        // One that cannot be read is not launched either.
        if !is_same_content(&there, new).unwrap_or(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Files that can be replaced on a full disk, too: by room that was kept beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{os, rename, write_atomically};
use crate::os::volume;

/// Keeps room for a file of this size at `reserve`, unless it is there already.
///
/// # Errors
/// There is no room, or no right to write there.
pub fn keep_reserve(reserve: &Path, size: usize) -> io::Result<()> {
    if length(reserve) >= size as u64 {
        return Ok(());
    }
    write_atomically(reserve, &vec![b' '; size])
}

/// Writes a file as [`write_atomically`]; on a full disk into the room at the first of `reserves` that
/// has enough, where the room of the file before, if that is as large, is kept from then on.
///
/// Blanks follow the content then, so that the file keeps its room. A file of `size`, which it has from
/// a reserve, is given up only for new reserves of that size.
///
/// # Errors
/// As [`write_atomically`], and on a full disk if none of `reserves` has enough room.
pub fn write_with_reserve(
    path: &Path,
    reserves: &[PathBuf],
    size: usize,
    content: &[u8],
) -> io::Result<()> {
    let keep_all = || {
        let mut reserves = reserves.iter();
        reserves.all(|reserve| keep_reserve(reserve, size).is_ok())
    };
    let full = if length(path) < size as u64 || keep_all() {
        match write_atomically(path, content) {
            Err(error) if is_full(&error) => error,
            other => return other,
        }
    } else {
        io::ErrorKind::StorageFull.into()
    };
    let mut reserves = reserves.iter();
    if reserves.any(|reserve| write_to_reserve(path, reserve, content).is_ok()) {
        Ok(())
    } else {
        Err(full)
    }
}

/// Writes the content of a file in its place, if it has room for that, and blanks behind it. A reader
/// may see a part of it, and who is killed may leave one.
///
/// # Errors
/// There is not enough room in it, or it cannot be written.
pub fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = volume::open_in_place(path)?;
    let room = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let Some(left) = room.checked_sub(content.len()) else {
        return Err(io::ErrorKind::StorageFull.into());
    };
    volume::write_at(&file, &[content, &vec![b' '; left]].concat(), 0)
}

/// Returns true if there was no room for what was to be written.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn write_to_reserve(path: &Path, reserve: &Path, content: &[u8]) -> io::Result<()> {
    // A name that only this process uses, as it alone writes the file, or has the lock for that.
    let new = path.with_added_extension("new");
    rename(reserve, &new)?;
    let written = fill(&new, path, content).and_then(|()| replace(&new, path, reserve));
    if written.is_err() {
        let _ = rename(&new, reserve);
    }
    written
}

/// Renames `new` to `path`. What was there is the next reserve, if it is as large and the file system
/// has links.
fn replace(new: &Path, path: &Path, reserve: &Path) -> io::Result<()> {
    let old = path.with_added_extension("old");
    // Of somebody who was killed here.
    let _ = fs::remove_file(&old);
    let is_kept = length(path) >= length(new) && fs::hard_link(path, &old).is_ok();
    rename(new, path)?;
    if is_kept {
        let _ = rename(&old, reserve);
    }
    Ok(())
}

/// Returns the length of a file; zero if there is none.
fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Writes the content that is meant for `path` into the room at `new`.
fn fill(new: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let room = fs::symlink_metadata(new)?;
    if !room.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = usize::try_from(room.len()).unwrap_or_default();
    let blanks = vec![b' '; length.saturating_sub(content.len())];
    let file = volume::open_in_place(new)?;
    volume::write_at(&file, &[content, &blanks].concat(), 0)?;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let model = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
    os::adopt(&file, &model);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_file_and_its_reserve_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let (path, reserve) = (folder.path().join("a"), folder.path().join("reserve"));
        let write = |content: &str| write_to_reserve(&path, &reserve, content.as_bytes());
        write("none").unwrap_err();
        keep_reserve(&reserve, 100).unwrap();
        for content in ["first", "second", "third"] {
            keep_reserve(&reserve, 100).unwrap();
            write(content).unwrap();
            let read = fs::read_to_string(&path).unwrap();
            assert_eq!((read.trim_end(), read.len()), (content, 100));
        }
        // Since the second one, without another reserve.
        assert_eq!(fs::metadata(&reserve).unwrap().len(), 100);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        overwrite(&path, b"fourth").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), "fourth");
        overwrite(&path, &[b'x'; 101]).unwrap_err();
    }

    #[test]
    fn what_somebody_left_who_was_killed_is_no_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let (path, reserve) = (folder.path().join("a"), folder.path().join("reserve"));
        fs::write(&path, "whole").unwrap();
        fs::hard_link(&path, folder.path().join("a.old")).unwrap();
        write_to_reserve(&path, &reserve, b"new").unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        keep_reserve(&reserve, 5).unwrap();
        write_to_reserve(&path, &reserve, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new  ");
        assert_eq!(fs::read_to_string(&reserve).unwrap(), "whole");
    }
}

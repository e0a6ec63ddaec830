//! Reads the end of a log that grows, and is rotated when its file is full.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::os::files::identity;
use crate::os::files::rotation::numbered;

/// Number of bytes that are read at a time.
const BLOCK: u64 = 64 << 10;

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    /// Full files with requested lines, the oldest first.
    full: Vec<File>,
    file: File,
    /// An incomplete line.
    rest: Vec<u8>,
}

// === impl Tail ===

impl Tail {
    /// Opens a log at this number of lines before its end, which may be in full files.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &Path, lines: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut missing = go_to_last(&mut file, lines)?;
        let mut full: Vec<File> = Vec::new();
        for number in 1.. {
            let older = match missing {
                0 => None,
                _ => File::open(numbered(path, number)).ok(),
            };
            let Some(mut older) = older else {
                break;
            };
            // A rotation gave this file the next number meanwhile.
            if !is_same(&older, full.last().unwrap_or(&file)) {
                missing = go_to_last(&mut older, missing)?;
                full.push(older);
            }
        }
        full.reverse();
        Ok(Self {
            path: path.to_owned(),
            full,
            file,
            rest: Vec::new(),
        })
    }

    /// Returns the complete lines that are new.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut new = Vec::new();
        for full in std::mem::take(&mut self.full) {
            let current = std::mem::replace(&mut self.file, full);
            new.extend(self.read());
            self.file = current;
        }
        new.extend(self.read());
        // Lines that were written before the rotation come first.
        if self.is_replaced() {
            new.extend(self.read());
            for next in self.next() {
                self.file = next;
                new.extend(self.read());
            }
        }
        new
    }

    /// Returns true if the file has been rotated or emptied. On Windows a file that takes another's
    /// name may take its time of creation too: but it is shorter.
    fn is_replaced(&self) -> bool {
        // Read in this order, the same file only grows.
        let (Ok(open), Ok(named)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        identity(&open) != identity(&named) || named.len() < open.len()
    }

    /// Returns the files that came after the current one, the oldest first: several, if much was
    /// written since the last reading.
    fn next(&self) -> Vec<File> {
        // During a rotation there is no file for a moment; the next call finds it.
        let Ok(current) = File::open(&self.path) else {
            return Vec::new();
        };
        let mut next = vec![current];
        for number in 1.. {
            let Ok(full) = File::open(numbered(&self.path, number)) else {
                break;
            };
            if is_same(&full, &self.file) || is_older(&full, &self.file) {
                break;
            }
            if next.last().is_none_or(|last| !is_same(&full, last)) {
                next.push(full);
            }
        }
        next.reverse();
        next
    }

    fn read(&mut self) -> Vec<String> {
        // The file has been emptied.
        if let (Ok(metadata), Ok(position)) = (self.file.metadata(), self.file.stream_position())
            && metadata.len() < position
        {
            let _ = self.file.rewind();
        }
        // Data that cannot be read now is read the next time.
        let _ = self.file.read_to_end(&mut self.rest);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let text = String::from_utf8_lossy(&whole);
        text.lines().map(str::to_owned).collect()
    }
}

/// Returns true if both are one file. Identities are not enough on Windows, see
/// [`Tail::is_replaced`]; the lengths and times of full files do not change.
fn is_same(one: &File, other: &File) -> bool {
    let told = |metadata: Metadata| {
        let (length, modified) = (metadata.len(), metadata.modified().ok());
        (identity(&metadata), length, modified)
    };
    let (one, other) = (one.metadata().map(told), other.metadata().map(told));
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

/// Returns true if `one` was written before `other`: by a log that kept more files.
fn is_older(one: &File, other: &File) -> bool {
    let modified = |file: &File| {
        file.metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    modified(one) < modified(other)
}

/// Seeks to the start of the last `lines` lines, and returns how many are missing.
fn go_to_last(file: &mut File, lines: usize) -> io::Result<usize> {
    let mut start = file.metadata()?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(start))?;
        return Ok(0);
    }
    let mut ends = 0;
    let mut block = Vec::new();
    while start > 0 {
        let length = start.min(BLOCK);
        start -= length;
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(length).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            ends += 1;
            // The first end belongs to the last line.
            if ends > lines {
                file.seek(SeekFrom::Start(start + at as u64 + 1))?;
                return Ok(0);
            }
        }
    }
    file.rewind()?;
    Ok(lines - ends)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut options = File::options();
        let mut file = options.create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Rotates a log that keeps two files.
    fn rotate(path: &Path) {
        let _ = fs::rename(numbered(path, 1), numbered(path, 2));
        fs::rename(path, numbered(path, 1)).unwrap();
    }

    #[test]
    fn the_last_lines_are_found_in_a_long_file_and_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let last = |lines| Tail::open(&path, lines).unwrap().lines();
        append(&path, "one\ntwo\nthr");
        assert_eq!(last(0), [""; 0]);
        assert_eq!(last(usize::MAX), ["one", "two"]);
        append(&path, "ee\n");
        assert_eq!(last(2), ["two", "three"]);
        let long = "x".repeat(100_000);
        append(&path, &format!("{long}\n{long}\n"));
        assert_eq!(last(3).len(), 3);
        assert_eq!(last(3)[0], "three");
    }

    #[test]
    fn what_is_asked_for_and_not_in_the_file_is_in_the_full_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let last = |lines| Tail::open(&path, lines).unwrap().lines();
        for text in ["one\ntwo\n", "three\nfour\n", "five\n"] {
            if path.exists() {
                rotate(&path);
            }
            append(&path, text);
        }
        assert_eq!(last(1), ["five"]);
        assert_eq!(last(2), ["four", "five"]);
        assert_eq!(last(4), ["two", "three", "four", "five"]);
        assert_eq!(last(9), ["one", "two", "three", "four", "five"]);
        rotate(&path);
        append(&path, "");
        assert_eq!(last(2), ["four", "five"], "nothing is in the new one yet");
    }

    #[test]
    fn lines_are_whole_and_those_of_the_next_file_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "one\n");
        let mut tail = Tail::open(&path, 10).unwrap();
        assert_eq!(tail.lines(), ["one"]);
        append(&path, "tw");
        assert_eq!(tail.lines(), [""; 0]);
        append(&path, "o\nthree\n");
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        assert_eq!(tail.lines(), ["two", "three"], "there is no next one yet");
        append(&folder.path().join("log.1"), "four\n");
        append(&path, "five\n");
        assert_eq!(tail.lines(), ["four", "five"]);
        append(&path, "six\n");
        assert_eq!(tail.lines(), ["six"]);
        fs::write(&path, "7\n").unwrap();
        assert_eq!(tail.lines(), ["7"], "emptied, and begun again");
    }

    #[test]
    fn files_that_were_filled_between_two_looks_are_not_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        append(&path, "zero\n");
        rotate(&path);
        append(&path, "one\n");
        let mut tail = Tail::open(&path, 0).unwrap();
        for text in ["of the second\n", "of the third, which is longer\n"] {
            rotate(&path);
            append(&path, text);
        }
        let expected = ["of the second", "of the third, which is longer"];
        assert_eq!(tail.lines(), expected);
        assert_eq!(tail.lines(), [""; 0]);
    }
}

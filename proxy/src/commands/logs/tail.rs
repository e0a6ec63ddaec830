//! The end of a file that grows, and is replaced by a new one when it is full.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::files::identity;

/// So much is read at a time.
const BLOCK: u64 = 64 << 10;

/// A log file that is being read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    /// A line whose end is not there yet.
    rest: Vec<u8>,
}

// === impl Tail ===

impl Tail {
    /// From so many lines before its end.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn open(path: &Path, lines: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let start = start_of(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            rest: Vec::new(),
        })
    }

    /// The whole lines that are new.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut new = self.read();
        // What was written between the last look at it and its end comes first.
        if self.is_replaced() {
            new.extend(self.read());
            if let Ok(file) = File::open(&self.path) {
                self.file = file;
                new.extend(self.read());
            }
        }
        new
    }

    /// On Windows a file that takes another's name may take its time of creation too: but it is
    /// shorter.
    fn is_replaced(&self) -> bool {
        // In this order: the same file only grows.
        let (Ok(open), Ok(named)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        identity(&open) != identity(&named) || named.len() < open.len()
    }

    fn read(&mut self) -> Vec<String> {
        // Somebody has emptied it.
        if let (Ok(metadata), Ok(position)) = (self.file.metadata(), self.file.stream_position())
            && metadata.len() < position
        {
            let _ = self.file.rewind();
        }
        // What cannot be read now is read the next time.
        let _ = self.file.read_to_end(&mut self.rest);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let text = String::from_utf8_lossy(&whole);
        text.lines().map(str::to_owned).collect()
    }
}

/// Where the last lines begin.
fn start_of(file: &mut File, lines: usize) -> io::Result<u64> {
    let mut start = file.metadata()?.len();
    if lines == 0 {
        return Ok(start);
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
            // The first end is the last line's own.
            if ends > lines {
                return Ok(start + at as u64 + 1);
            }
        }
    }
    Ok(0)
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
}

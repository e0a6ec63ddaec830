//! The requests that reached the app: one line each, appended before the answer begins.
//!
//! ```text
//! <X-Request-ID, or -> <method> <path> <version> <process id>
//! ```
//! Who offers load gives each request an id of its own and joins the lines with what it saw: a
//! request without a line never arrived, one with two was sent twice, and an answer of another
//! release than the line's went astray.
//!
//! On Windows each process has a file of its own, which ends in its id; they are read as one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

/// Stands for the id of a request that has none, such as a health check.
pub const NO_ID: &str = "-";

/// An idempotent request may be sent again once.
const MOST_SENT: usize = 2;

/// A journal to write: a file that several processes may append to at the same time.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    release: &'static str,
    pid: u32,
}

/// One request that reached an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its `X-Request-ID`, or [`NO_ID`].
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The version that the app goes by.
    pub release: String,
    /// The process that took it.
    pub pid: u32,
}

/// The lines of a journal, or of several, by request: what its clients saw is joined with them.
#[derive(Debug)]
pub struct Arrivals<'a>(HashMap<&'a str, Vec<&'a Entry>>);

/// Number of times that a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// It is in no journal.
    Never,
    /// It arrived once, as it should.
    Once,
    /// Sent again, as is allowed for one that is idempotent.
    Again,
    /// More often than that.
    TooOften,
}

/// Why a line is no [`Entry`].
#[derive(Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It is cut off, or two are in one.
    #[error("expected `<id> <method> <path> <version> <process id>`, found {0:?}")]
    Words(String),
    /// The last word is none.
    #[error("expected a process id, found {0:?}: {1}")]
    Pid(String, ParseIntError),
}

/// Why a journal cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// An error of the system.
    #[error("cannot read the journal {0:?}: {1}")]
    Io(PathBuf, io::Error),
    /// It holds something else.
    #[error("line {line} of the journal {path:?}: {source}")]
    Line {
        /// Path of the journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The fault of the entry.
        source: EntryError,
    },
}

/// Reads a whole journal, in the order of arrival (on Windows: at each process).
///
/// # Errors
/// When there is none, or one of its lines is cut off or broken.
pub fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let files = all(path).map_err(|error| ReadError::Io(path.to_owned(), error))?;
    let mut entries = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| ReadError::Io(file.clone(), error))?;
        for (line, text) in (1..).zip(text.lines()) {
            let entry = text.parse().map_err(|source| ReadError::Line {
                path: file.clone(),
                line,
                source,
            })?;
            entries.push(entry);
        }
    }
    Ok(entries)
}

// === impl Arrivals ===

impl<'a> Arrivals<'a> {
    /// Leaves out what no client gave an id.
    pub fn of(journal: &'a [Entry]) -> Self {
        let mut arrivals: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in journal.iter().filter(|entry| entry.has_id()) {
            arrivals.entry(&entry.id).or_default().push(entry);
        }
        Self(arrivals)
    }

    /// The lines of one request, in the order of arrival; nobody gets them again.
    pub fn take(&mut self, id: &str) -> Vec<&'a Entry> {
        self.0.remove(id).unwrap_or_default()
    }

    /// Returns the entries that were not taken.
    pub fn rest(self) -> impl Iterator<Item = &'a Entry> {
        self.0.into_values().flatten()
    }
}

impl Times {
    /// Counts the lines of one request.
    pub fn of(entries: &[&Entry]) -> Self {
        match entries {
            [] => Self::Never,
            [_] => Self::Once,
            [first, ..] if first.is_idempotent() && entries.len() <= MOST_SENT => Self::Again,
            [_, ..] => Self::TooOften,
        }
    }
}

// === impl Journal ===

impl Journal {
    /// Opens `path` for appending in the name of this process, and creates it if need be.
    ///
    /// # Errors
    /// An error of the system.
    pub fn open(path: &Path, release: &'static str) -> io::Result<Self> {
        let pid = std::process::id();
        let path = own(path, pid);
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
            release,
            pid,
        })
    }

    /// Adds a request, whatever a client sends as its id.
    ///
    /// # Errors
    /// What the system said, or that only a part was written.
    pub fn append(&self, id: Option<&[u8]>, method: &str, path: &str) -> io::Result<()> {
        let entry = Entry {
            id: word(id),
            method: method.to_owned(),
            path: path.to_owned(),
            release: self.release.to_owned(),
            pid: self.pid,
        };
        let line = format!("{entry}\n");
        if self.write(line.as_bytes())? == line.len() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only part of the line was written",
            ))
        }
    }

    /// Writes a line at once. In append mode the system puts each write at the end as a whole: no
    /// line inside another one, not even between processes. Hence never a second write.
    ///
    /// But Wine looks for the end and then writes there: hence one at a time, and on Windows a file
    /// for each process.
    fn write(&self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write(line)
    }
}

/// Returns the path that this process writes to.
fn own(journal: &Path, pid: u32) -> PathBuf {
    if cfg!(windows) {
        journal.with_added_extension(pid.to_string())
    } else {
        journal.to_owned()
    }
}

/// Returns the paths that any process has written to, on this system or on Windows, whose programs
/// may be tested here.
fn all(journal: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = match journal.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let is_pid = |text: &OsStr| text.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut all = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?.path();
        let of_a_process =
            file.extension().is_some_and(is_pid) && file.file_stem() == journal.file_name();
        if of_a_process || file.file_name() == journal.file_name() {
            all.push(file);
        }
    }
    if all.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(all)
    }
}

fn word(id: Option<&[u8]>) -> String {
    let visible = |byte: &u8| {
        if byte.is_ascii_graphic() {
            char::from(*byte)
        } else {
            '?'
        }
    };
    let id = id.filter(|id| !id.is_empty());
    id.map_or_else(|| NO_ID.to_owned(), |id| id.iter().map(visible).collect())
}

// === impl Entry ===

impl Entry {
    /// Returns whether a client gave it an id.
    pub fn has_id(&self) -> bool {
        self.id != NO_ID
    }

    /// Returns whether arriving twice does what arriving once does, by its method (RFC 9110,
    /// section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        idempotent.contains(&&*self.method)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            method,
            path,
            release,
            pid,
        } = self;
        write!(f, "{id} {method} {path} {release} {pid}")
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(line: &str) -> Result<Self, EntryError> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, method, path, release, pid] = words[..] else {
            return Err(EntryError::Words(line.to_owned()));
        };
        let number = pid.parse();
        Ok(Self {
            id: id.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            release: release.to_owned(),
            pid: number.map_err(|error| EntryError::Pid(pid.to_owned(), error))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_word_whatever_a_client_sends() {
        assert_eq!(word(Some(b"7f-1")), "7f-1");
        assert_eq!(word(Some(b"a b\xff\n")), "a?b??");
        assert_eq!(word(Some(b"")), "-");
        assert_eq!(word(None), "-");
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(&path, "v1").unwrap();
        journal.append(Some(b"7f-1"), "POST", "/slow").unwrap();
        journal.append(None, "GET", "/").unwrap();
        let entries = read(&path).unwrap();
        let line = format!("7f-1 POST /slow v1 {}", std::process::id());
        assert_eq!(entries[0].to_string(), line);
        assert!(entries[0].has_id() && !entries[0].is_idempotent());
        assert!(!entries[1].has_id() && entries[1].is_idempotent());
    }

    #[test]
    fn no_line_is_inside_another_one() {
        const LINES: usize = 500;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(&path, "v1").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..LINES {
                        let id = number.to_string();
                        journal.append(Some(id.as_bytes()), "GET", "/").unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&path).unwrap().len(), 4 * LINES);
    }

    #[test]
    fn files_of_several_processes_are_one_journal() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["journal.17", "journal.18", "journal.old", "other.17"] {
            fs::write(folder.path().join(name), "7 GET / v1 17\n").unwrap();
        }
        assert_eq!(read(&folder.path().join("journal")).unwrap().len(), 2);
    }

    #[test]
    fn only_what_is_idempotent_may_arrive_again() {
        let lines = |method: &str, times| {
            let entry: Entry = format!("7 {method} / v1 17").parse().unwrap();
            Times::of(&vec![&entry; times])
        };
        assert_eq!(lines("GET", 0), Times::Never);
        assert_eq!(lines("POST", 1), Times::Once);
        assert_eq!(lines("GET", 2), Times::Again);
        assert_eq!(lines("GET", 3), Times::TooOften);
        assert_eq!(lines("POST", 2), Times::TooOften);
    }

    #[test]
    fn arrivals_are_joined_by_id() {
        let journal = [
            "7 GET / v1 17",
            "- GET / v1 17",
            "8 GET / v1 17",
            "7 GET / v2 18",
        ];
        let journal = journal.map(|line| line.parse::<Entry>().unwrap());
        let mut arrivals = Arrivals::of(&journal);
        assert_eq!(arrivals.take("7"), [&journal[0], &journal[3]]);
        assert_eq!(arrivals.take("9"), Vec::<&Entry>::new());
        assert_eq!(arrivals.rest().collect::<Vec<_>>(), [&journal[2]]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for (second, says) in [
            ("7f-1 GET /sl7f-2 GET / v1 17", "found \"7f-1 GET /sl7f-2"),
            ("7f-1 GET / v1 1x", "a process id, found \"1x\""),
            ("7f-1 GET / v1", "found \"7f-1 GET / v1\""),
        ] {
            fs::write(&path, format!("- GET / v1 17\n{second}\n")).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(says), "{error}");
        }
        let error = read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}

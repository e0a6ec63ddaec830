//! A log file that does not grow without bound, and whose loss ends nothing.
//!
//! The crates that rotate by size bring a calendar and a compressor with them, and a file that cannot
//! be written is an error to them; here it is a line on stderr, and the log goes there meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{FileSettings, SIDECAR};
use crate::os::files::rotation::numbered;

/// How soon a file that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How many files of other sidecars are kept at least, and for how long all of them are.
const OTHERS: usize = 20;
const OTHERS_FOR: Duration = Duration::from_secs(60 * 60);

/// When a new file is begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) size: u64,
    pub(super) keep: usize,
}

/// Writes lines to a file, or to stderr as long as it cannot be written.
#[derive(Debug)]
pub(super) struct LogFile<E = io::Stderr> {
    path: PathBuf,
    rotation: Rotation,
    state: State,
    stderr: E,
}

#[derive(Debug)]
enum State {
    /// Nothing has been written yet.
    New,
    Open {
        file: File,
        written: u64,
    },
    /// It could not be written, and is not tried before this time.
    Lost(Instant),
}

// === impl LogFile ===

impl LogFile {
    /// The log of this sidecar. Old ones of others, which only `{sidecar}` tells apart, are removed.
    pub(super) fn new(settings: &FileSettings, sidecar: &str) -> Self {
        let rotation = Rotation {
            size: settings.size,
            keep: settings.keep,
        };
        remove_others(&settings.path, SystemTime::now());
        Self::to(settings.path_of(sidecar), rotation, io::stderr())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl<E: Write> LogFile<E> {
    fn to(path: PathBuf, rotation: Rotation, stderr: E) -> Self {
        Self {
            path,
            rotation,
            state: State::New,
            stderr,
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let State::Lost(until) = self.state
            && Instant::now() < until
        {
            return self.say(line);
        }
        let was_lost = matches!(self.state, State::Lost(_));
        match self.append(line) {
            Ok(()) if was_lost => {
                self.say(format!("handoff: the log is in {:?} again\n", self.path).as_bytes());
            }
            Ok(()) => {}
            Err(error) => {
                self.state = State::Lost(Instant::now() + TRY_AGAIN);
                if !was_lost {
                    let path = &self.path;
                    let note = format!("handoff: cannot write the log file {path:?}: {error}\n");
                    self.say(note.as_bytes());
                }
                self.say(line);
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let State::Open { written, .. } = self.state
            && written > 0
            && written.saturating_add(line.len() as u64) > self.rotation.size
        {
            // Windows renames no open file.
            self.state = State::New;
            rotate(&self.path, self.rotation.keep);
            // A file that could not be renamed goes on, and is tried again when it is twice as long.
            self.state = open(&self.path, |_| 0)?;
        }
        if !matches!(self.state, State::Open { .. }) {
            self.state = open(&self.path, |length| length)?;
        }
        if let State::Open { file, written } = &mut self.state {
            file.write_all(line)?;
            *written += line.len() as u64;
        }
        Ok(())
    }

    fn say(&mut self, line: &[u8]) {
        // There is nobody left to tell.
        let _ = self.stderr.write_all(line);
    }
}

/// Each buffer is a line.
impl<E: Write> Write for LogFile<E> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nothing is kept back.
        Ok(())
    }
}

fn open(path: &Path, count_from: impl Fn(u64) -> u64) -> io::Result<State> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    let written = count_from(file.metadata()?.len());
    Ok(State::Open { file, written })
}

/// Makes room: `a.log` becomes `a.1.log`, that `a.2.log`, and the last one goes.
///
/// The first is moved aside before the others make room for it: on Windows who reads it may keep it
/// from being renamed, and each attempt would cost a full one.
fn rotate(path: &Path, keep: usize) {
    // Whatever fails, the log goes on: in a file that is too long, or with one fewer behind it.
    if keep == 0 {
        let _ = fs::remove_file(path);
        return;
    }
    if fs::rename(path, numbered(path, 0)).is_err() {
        return;
    }
    for number in (0..keep).rev() {
        let _ = fs::rename(numbered(path, number), numbered(path, number + 1));
    }
}

/// Removes the oldest files of other sidecars: each start begins one more, and nobody else would.
fn remove_others(pattern: &Path, now: SystemTime) {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return;
    };
    let Some((before, after)) = name.to_str().and_then(|name| name.split_once(SIDECAR)) else {
        return;
    };
    // A full one has its number before the ending.
    let ending = after.rfind('.').map_or("", |dot| &after[dot..]);
    let is_one = |name: OsString| {
        let rest = name.to_str().and_then(|name| name.strip_prefix(before));
        rest.is_some_and(|rest| {
            let id = rest.get(..8).unwrap_or_default();
            let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id && rest.ends_with(ending)
        })
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| is_one(entry.file_name()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    files.reverse();
    for (written, file) in files.into_iter().skip(OTHERS) {
        let age = now.duration_since(written).unwrap_or_default();
        if age > OTHERS_FOR {
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: PathBuf, size: u64, keep: usize) -> LogFile<Vec<u8>> {
        let rotation = Rotation { size, keep };
        LogFile::to(path, rotation, Vec::new())
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_kept_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/handoff.log");
        let mut log = log(path.clone(), 10, 2);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "six\n");
        assert_eq!(text(&path.with_file_name("handoff.1.log")), "four\nfive\n");
        assert_eq!(text(&path.with_file_name("handoff.2.log")), "three\n");
        assert_eq!(
            names(path.parent().unwrap()).len(),
            3,
            "one\\ntwo\\n is gone"
        );
        assert!(log.stderr.is_empty());
    }

    #[test]
    fn where_no_full_file_follows_none_of_those_that_are_there_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for (name, text) in [("a.1.log", "one"), ("a.2.log", "two")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        for _ in 0..3 {
            rotate(&path, 2);
        }
        assert_eq!(names(folder.path()), ["a.1.log", "a.2.log"]);
        assert_eq!(text(&folder.path().join("a.2.log")), "two");
    }

    #[cfg(windows)]
    #[test]
    fn a_reader_who_lets_nobody_rename_the_file_costs_no_full_one() {
        use std::os::windows::fs::OpenOptionsExt as _;

        const READ_AND_WRITE: u32 = 3;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = log(path.clone(), 4, 2);
        for line in ["one\n", "two\n", "three\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let mut reader = File::options();
        let reader = reader.read(true).share_mode(READ_AND_WRITE).open(&path);
        for line in ["4\n", "5\n", "6\n", "7\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let full = |number: usize| text(&numbered(&path, number));
        assert_eq!((full(1).as_str(), full(2).as_str()), ("two\n", "one\n"));
        drop(reader.unwrap());
        log.write_all(b"again\n").unwrap();
        assert_eq!(text(&path), "again\n");
        assert_eq!(full(1), "three\n4\n5\n6\n7\n");
        assert_eq!((full(2).as_str(), full(3).as_str()), ("two\n", ""));
    }

    #[test]
    fn a_line_longer_than_a_file_is_written_and_what_is_there_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "from before\n").unwrap();
        let mut log = log(path.clone(), 20, 1);
        log.write_all(b"short\n").unwrap();
        log.write_all(&[b'x'; 40]).unwrap();
        assert_eq!(text(&path).len(), 40);
        assert_eq!(text(&folder.path().join("log.1")), "from before\nshort\n");
    }

    #[test]
    fn what_cannot_be_written_goes_to_stderr_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("logs");
        fs::write(&in_the_way, "a file where the folder should be").unwrap();
        let path = in_the_way.join("handoff.log");
        let mut log = log(path.clone(), 1000, 1);
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        let said = String::from_utf8(std::mem::take(&mut log.stderr)).unwrap();
        let mut said = said.lines();
        let note = said.next().unwrap();
        assert!(
            note.starts_with("handoff: cannot write the log file "),
            "{note}"
        );
        assert_eq!(Vec::from_iter(said), ["one", "two"], "told once");

        fs::remove_file(&in_the_way).unwrap();
        log.state = State::Lost(Instant::now());
        log.write_all(b"three\n").unwrap();
        assert_eq!(text(&path), "three\n");
        let said = String::from_utf8(log.stderr).unwrap();
        assert!(said.ends_with(" again\n"), "{said}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_ends_nothing() {
        let mut log = log("/dev/full".into(), 1000, 1);
        log.write_all(b"one\n").unwrap();
        let said = String::from_utf8(log.stderr).unwrap();
        assert!(said.contains("No space left"), "{said}");
        assert!(said.ends_with("one\n"), "{said}");
    }

    #[test]
    fn old_files_of_other_sidecars_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let hours = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 60 * 60);
        let write = |name: &str, at: SystemTime| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(at).unwrap();
        };
        for number in 0..OTHERS as u64 + 5 {
            write(&format!("handoff-{number:08x}.1.log"), hours(2 + number));
        }
        write("handoff-notes.log", hours(1000));
        write("handoff-0a0b0c0d.txt", hours(1000));
        let pattern = folder.path().join("handoff-{sidecar}.log");
        remove_others(&pattern, SystemTime::now());
        let names = names(folder.path());
        assert_eq!(names.len(), OTHERS + 2, "{names:?}");
        assert!(names.contains(&"handoff-00000000.1.log".to_owned()));
        assert!(!names.contains(&"handoff-00000018.1.log".to_owned()));

        for name in names {
            write(&name, SystemTime::now());
        }
        for number in 100..130 {
            write(&format!("handoff-{number:08x}.log"), SystemTime::now());
        }
        remove_others(&pattern, SystemTime::now());
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, OTHERS + 2 + 30, "young ones may be in use");
    }
}

//! A log file that is rotated by size, and whose loss does not end the log.
//!
//! The crates that rotate by size depend on a calendar and a compressor, and return an error for a
//! file that cannot be written. Here stderr gets one note about it, and the lines until it can.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::os::files::rotation::numbered;
use crate::os::files::{FileIdentity, append_to, identity, make_folders};

/// Placeholder of the sidecar's id in the path of a log file.
const SIDECAR: &str = "{sidecar}";
/// Time after which a file that could not be written is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time from one look at whether the path still leads to the open file to the next.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Number of files of other sidecars that are kept in any case.
const KEPT_OTHERS: usize = 20;
/// Time for which all files of other sidecars are kept.
const KEEP_OTHERS_FOR: Duration = Duration::from_secs(60 * 60);

/// Number of requests to open all log files again.
static REOPEN_REQUESTS: AtomicU32 = AtomicU32::new(0);

/// Opens each log file again before its next line: another program may have renamed it.
pub fn reopen_log_files() {
    REOPEN_REQUESTS.fetch_add(1, Ordering::Relaxed);
}

/// Settings of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileSettings {
    /// Path, in which `{sidecar}` stands for the sidecar's id.
    pub path: PathBuf,
    /// Maximum size in bytes, from which a new file is begun.
    pub size: u64,
    /// Number of rotated files that are kept.
    pub keep: usize,
}

/// Limits of a log file and its rotated predecessors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) size: u64,
    pub(super) keep: usize,
}

/// A writer of lines to a file, or to stderr while the file cannot be written.
#[derive(Debug)]
pub(super) struct LogFile<E = io::Stderr> {
    path: PathBuf,
    rotation: Rotation,
    state: FileState,
    stderr: E,
}

#[derive(Debug)]
enum FileState {
    /// Closed: nothing has been written since the start or the rotation.
    Closed,
    Open {
        file: File,
        written: u64,
        identity: FileIdentity,
        /// Value of [`REOPEN_REQUESTS`] when it was opened.
        requests: u32,
        /// Time of the next look at the path.
        look_at: Instant,
    },
    /// Failed: it is not tried again before this time.
    FailedUntil(Instant),
}

// === impl LogFileSettings ===

impl LogFileSettings {
    /// Returns the path of this sidecar's file.
    pub fn path_of(&self, sidecar: &str) -> PathBuf {
        match self.path.to_str() {
            Some(text) => text.replace(SIDECAR, sidecar).into(),
            None => self.path.clone(),
        }
    }

    fn rotation(&self) -> Rotation {
        Rotation {
            size: self.size,
            keep: self.keep,
        }
    }
}

// === impl LogFile ===

impl LogFile {
    /// Returns the log file of this sidecar, and removes old ones of other sidecars, whose names differ
    /// in `{sidecar}` only.
    pub(super) fn new(settings: &LogFileSettings, sidecar: &str) -> Self {
        remove_others(&settings.path, SystemTime::now());
        Self::to(settings.path_of(sidecar), settings.rotation(), io::stderr())
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl LogFile<io::Sink> {
    /// Returns a log file whose lines are on stderr in any case.
    pub(super) fn beside_stderr(settings: &LogFileSettings, sidecar: &str) -> Self {
        remove_others(&settings.path, SystemTime::now());
        Self::to(settings.path_of(sidecar), settings.rotation(), io::sink())
    }
}

impl<E: Write> LogFile<E> {
    fn to(path: PathBuf, rotation: Rotation, stderr: E) -> Self {
        Self {
            path,
            rotation,
            state: FileState::Closed,
            stderr,
        }
    }

    fn write_line(&mut self, line: &[u8]) {
        if let FileState::FailedUntil(until) = self.state
            && Instant::now() < until
        {
            return self.write_to_stderr(line);
        }
        let had_failed = matches!(self.state, FileState::FailedUntil(_));
        match self.append(line) {
            Ok(()) if had_failed => {
                let note = format!("handoff: the log is in {:?} again\n", self.path);
                self.write_to_stderr(note.as_bytes());
            }
            Ok(()) => {}
            Err(error) => {
                self.state = FileState::FailedUntil(Instant::now() + RETRY_AFTER);
                if !had_failed {
                    let path = &self.path;
                    let note = format!("handoff: cannot write the log file {path:?}: {error}\n");
                    self.write_to_stderr(note.as_bytes());
                }
                self.write_to_stderr(line);
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.close_if_moved();
        if let FileState::Open { written, .. } = self.state
            && written > 0
            && written.saturating_add(line.len() as u64) > self.rotation.size
        {
            // Windows does not rename an open file.
            self.state = FileState::Closed;
            rotate(&self.path, self.rotation.keep);
            // A file that could not be renamed is continued, and rotated when it is twice as long.
            self.state = open(&self.path, |_| 0)?;
        }
        if !matches!(self.state, FileState::Open { .. }) {
            self.state = open(&self.path, |length| length)?;
        }
        if let FileState::Open { file, written, .. } = &mut self.state {
            file.write_all(line)?;
            *written += line.len() as u64;
        }
        Ok(())
    }

    /// Closes a file that the path no longer leads to: somebody has renamed or removed it.
    fn close_if_moved(&mut self) {
        let FileState::Open {
            identity: own,
            requests,
            look_at,
            ..
        } = &mut self.state
        else {
            return;
        };
        let now = Instant::now();
        let is_asked = *requests != REOPEN_REQUESTS.load(Ordering::Relaxed);
        if !is_asked && now < *look_at {
            return;
        }
        *look_at = now + LOOK_AFTER;
        // A path that cannot be looked at may be on a share that is away: the open file is better.
        let has_moved = match fs::metadata(&self.path) {
            Ok(metadata) => identity(&metadata) != *own,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_asked || has_moved {
            self.state = FileState::Closed;
        }
    }

    fn write_to_stderr(&mut self, line: &[u8]) {
        // An error cannot be reported anywhere.
        let _ = self.stderr.write_all(line);
    }
}

/// Takes each buffer for a line.
impl<E: Write> Write for LogFile<E> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path, count_from: impl Fn(u64) -> u64) -> io::Result<FileState> {
    if let Some(folder) = path.parent() {
        make_folders(folder)?;
    }
    let file = append_to(path)?;
    let requests = REOPEN_REQUESTS.load(Ordering::Relaxed);
    let metadata = file.metadata()?;
    Ok(FileState::Open {
        written: count_from(metadata.len()),
        identity: identity(&metadata),
        requests,
        look_at: Instant::now() + LOOK_AFTER,
        file,
    })
}

/// Renames `a.log` to `a.1.log`, that to `a.2.log`, and so on; the last one is removed.
///
/// `a.log` is renamed to `a.0.log` first: if a reader prevents that on Windows, no rotated file is
/// lost in the attempt.
fn rotate(path: &Path, keep: usize) {
    // After any error the log goes on: in a file that is too long, or with one rotated file fewer.
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

/// Removes the oldest files of other sidecars: each start creates a new file.
fn remove_others(pattern: &Path, now: SystemTime) {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return;
    };
    let Some((before, after)) = name.to_str().and_then(|name| name.split_once(SIDECAR)) else {
        return;
    };
    // A rotated one has its number before the extension.
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
    for (written, file) in files.into_iter().skip(KEPT_OTHERS) {
        let age = now.duration_since(written).unwrap_or_default();
        if age > KEEP_OTHERS_FOR {
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
    fn a_file_that_was_renamed_or_removed_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = log(path.clone(), 1000, 1);
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("a.log-old")).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(text(&folder.path().join("a.log-old")), "one\ntwo\n");
        let FileState::Open { look_at, .. } = &mut log.state else {
            panic!("it is open");
        };
        *look_at = Instant::now();
        log.write_all(b"three\n").unwrap();
        assert_eq!(text(&path), "three\n");

        fs::remove_file(&path).unwrap();
        reopen_log_files();
        log.write_all(b"four\n").unwrap();
        assert_eq!(text(&path), "four\n");
        assert_eq!(names(folder.path()), ["a.log", "a.log-old"]);
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
        log.state = FileState::FailedUntil(Instant::now());
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
        for number in 0..KEPT_OTHERS as u64 + 5 {
            write(&format!("handoff-{number:08x}.1.log"), hours(2 + number));
        }
        write("handoff-notes.log", hours(1000));
        write("handoff-0a0b0c0d.txt", hours(1000));
        let pattern = folder.path().join("handoff-{sidecar}.log");
        remove_others(&pattern, SystemTime::now());
        let names = names(folder.path());
        assert_eq!(names.len(), KEPT_OTHERS + 2, "{names:?}");
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
        assert_eq!(left, KEPT_OTHERS + 2 + 30, "young ones may be in use");
    }
}

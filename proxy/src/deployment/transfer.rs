//! The reading of contents, which are hashed and, for a copy, written at the same time.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _, Write};
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use super::entries::{Entry, EntryKind, Hashes};
use super::file_error::NameFile as _;
use crate::os::files;
use crate::os::rights::as_reader;
use crate::os::thread::keep_low_priority;

/// Length of a part that is read at once.
const BUFFER: usize = 128 * 1024;
/// Length from which a file is hashed by a thread of its own.
const LARGE: u64 = 1024 * 1024;
/// Number of parts of a large file that may wait for their hash.
const PARTS_AHEAD: usize = 8;
/// Maximum length of a file that is kept in memory until its turn to be hashed.
const SMALL: u64 = 256 * 1024;
/// Number of small files of each thread that may wait for their hash.
const FILES_AHEAD: usize = 8;
/// Maximum number of threads that copy the files of a folder: more only compete for the disk.
const MAX_THREADS: usize = 4;
/// Length of the start of a file that is kept: more than the first line of a script (execve(2): 255
/// characters), and than the files by which Python finds modules.
const START: usize = 64 * 1024;
/// Length of a part that is left out of a sparse file when it is all zeros.
const BLOCK: usize = 4096;

/// The right to run a copied file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executable {
    /// The copy can be run.
    Yes,
    /// The copy can be run if the original can be.
    AsOriginal,
}

/// A file of a folder that is open or copied, in the order in which it is hashed.
pub(crate) struct FileInTurn {
    pub(crate) metadata: Metadata,
    /// True if the copy of the program has fewer rights.
    pub(crate) is_privileged: bool,
    content: Content,
}

enum Content {
    /// It is copied, and this is to be hashed.
    Small(Vec<u8>),
    /// It is to be copied and hashed.
    Large(File),
}

/// The files of a folder, which threads copy ahead of the one that hashes them.
pub(crate) struct CopiedFiles<'env> {
    lanes: Vec<Lane<'env>>,
    next: usize,
}

/// Every so many files, in their order.
type Lane<'env> = Box<dyn Iterator<Item = io::Result<FileInTurn>> + 'env>;

/// A writer to a file that keeps the start of a text, and leaves the holes of a sparse file.
struct Sink {
    file: File,
    start: Vec<u8>,
    is_sparse: bool,
}

// === impl CopiedFiles ===

impl<'env> CopiedFiles<'env> {
    /// Begins to copy the files among `entries` into the folder `to`, whose folders exist.
    pub(crate) fn begin<'scope>(
        scope: &'scope thread::Scope<'scope, 'env>,
        entries: &'env [Entry],
        to: &'env Path,
    ) -> Self {
        let files = move || entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MAX_THREADS).min(files().count());
        let lane = |number| -> Lane<'env> {
            let copies = move || {
                let files = files().skip(number).step_by(threads);
                files.map(move |entry| FileInTurn::copy(entry, to))
            };
            let (done, copied) = sync_channel(FILES_AHEAD);
            let spawned = thread::Builder::new().spawn_scoped(scope, move || {
                keep_low_priority();
                for file in copies() {
                    let is_failed = file.is_err();
                    // Nobody receives it once another file has failed.
                    if done.send(file).is_err() || is_failed {
                        return;
                    }
                }
            });
            match spawned {
                Ok(_) => Box::new(copied.into_iter()),
                // The limit of threads is reached.
                Err(_) => Box::new(copies()),
            }
        };
        Self {
            lanes: (0..threads).map(lane).collect(),
            next: 0,
        }
    }

    /// Returns the next file in the order of the entries.
    pub(crate) fn next(&mut self) -> io::Result<FileInTurn> {
        let lane = self.next % self.lanes.len().max(1);
        self.next += 1;
        let copied = self.lanes.get_mut(lane).and_then(Iterator::next);
        copied.unwrap_or_else(|| Err(io::Error::other("the thread that copies has ended")))
    }
}

// === impl FileInTurn ===

impl FileInTurn {
    /// Opens a file, and copies it if it is small.
    fn copy(entry: &Entry, to: &Path) -> io::Result<Self> {
        let source = as_reader(|| files::open_for_reading(&entry.path));
        let mut source = source.reading(&entry.path)?;
        let metadata = source.metadata().reading(&entry.path)?;
        let is_privileged = files::is_privileged(&source, &metadata);
        let content = if metadata.len() > SMALL {
            Content::Large(source)
        } else {
            let content = read_small(&mut source, metadata.len()).reading(&entry.path)?;
            let to = to.join(&entry.relative);
            let mut sink = Sink::create(&to, &metadata)?;
            sink.write_all(&content).writing(&to)?;
            sink.finish(&to, &metadata, Executable::AsOriginal)?;
            Content::Small(content)
        };
        Ok(Self {
            metadata,
            is_privileged,
            content,
        })
    }

    /// Hashes the content, and copies it to `to` if it is large. Returns its start.
    pub(crate) fn hash(self, entry: &Entry, to: &Path, hashes: &mut Hashes) -> io::Result<Vec<u8>> {
        hashes.begin(entry, self.metadata.len());
        match self.content {
            Content::Small(mut content) => {
                hashes.update(&content);
                content.truncate(START);
                Ok(content)
            }
            Content::Large(source) => {
                let from = (source, &*entry.path);
                let as_original = Executable::AsOriginal;
                let (start, length) = copy_content(from, &self.metadata, to, as_original, hashes)?;
                check_length(entry, self.metadata.len(), length)?;
                Ok(start)
            }
        }
    }
}

/// Checks that a file had the length that is hashed before its content: otherwise the end of one file
/// could stand for another one.
pub(crate) fn check_length(entry: &Entry, hashed: u64, read: u64) -> io::Result<()> {
    if hashed == read {
        Ok(())
    } else {
        Err(changed()).reading(&entry.path)
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "it changed while it was read")
}

/// Reads a file of this length.
fn read_small(source: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(length as usize + 1);
    source.take(length + 1).read_to_end(&mut content)?;
    if content.len() as u64 == length {
        Ok(content)
    } else {
        Err(changed())
    }
}

/// Copies and hashes an open file. Returns the start of its content and its length.
pub(crate) fn copy_content(
    (mut source, from): (File, &Path),
    metadata: &Metadata,
    to: &Path,
    executable: Executable,
    hashes: &mut Hashes,
) -> io::Result<(Vec<u8>, u64)> {
    let mut sink = Sink::create(to, metadata)?;
    let length = if metadata.len() >= LARGE && files::clone_content(&source, &sink.file) {
        // The clone is hashed: the original may change.
        let mut clone = File::open(to).reading(to)?;
        let keep_start = |part: &[u8]| {
            sink.keep_start(part);
            Ok(())
        };
        transfer((&mut clone, to), metadata.len(), hashes, keep_start)?
    } else {
        let write = |part: &[u8]| sink.write_all(part).writing(to);
        transfer((&mut source, from), metadata.len(), hashes, write)?
    };
    let start = sink.finish(to, metadata, executable)?;
    Ok((start, length))
}

/// Reads a source of about this length, hashes it and gives it to `sink`. Returns its length.
///
/// # Errors
/// Those of `sink`, and those of reading, which name the path `from`.
pub(crate) fn transfer(
    (source, from): (&mut impl Read, &Path),
    length: u64,
    hashes: &mut Hashes,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut read = |buffer: &mut [u8]| loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.reading(from),
        }
    };
    if length >= LARGE
        && let Some(read) = transfer_with_helper(&mut read, hashes, &mut sink)
    {
        return read;
    }
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let n = read(&mut buffer)?;
        if n == 0 {
            return Ok(total);
        }
        sink(&buffer[..n])?;
        hashes.update(&buffer[..n]);
        total += n as u64;
    }
}

/// Reads all and gives it to `sink`, while another thread hashes it. Returns the length; `None` if no
/// thread can be started.
fn transfer_with_helper(
    read: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
    hashes: &mut Hashes,
    sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> Option<io::Result<u64>> {
    thread::scope(|scope| {
        let (full, filled) = sync_channel::<(Vec<u8>, usize)>(PARTS_AHEAD);
        let (spent, empty) = channel();
        let hashing = thread::Builder::new().spawn_scoped(scope, move || {
            keep_low_priority();
            for (buffer, n) in filled {
                hashes.update(&buffer[..n]);
                let _ = spent.send(buffer);
            }
        });
        hashing.ok()?;
        let mut transfer = || {
            let mut total = 0;
            loop {
                let mut buffer = empty.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
                let n = read(&mut buffer)?;
                if n == 0 {
                    return Ok(total);
                }
                sink(&buffer[..n])?;
                total += n as u64;
                let ended = |_| io::Error::other("the thread that hashes has ended");
                full.send((buffer, n)).map_err(ended)?;
            }
        };
        let read = transfer();
        // The thread ends when it has hashed all.
        drop(full);
        Some(read)
    })
}

// === impl Sink ===

impl Sink {
    fn create(to: &Path, original: &Metadata) -> io::Result<Self> {
        Ok(Self {
            file: files::create_private(to).writing(to)?,
            start: Vec::new(),
            is_sparse: files::is_sparse(original),
        })
    }

    fn keep_start(&mut self, part: &[u8]) {
        let wanted = START.saturating_sub(self.start.len()).min(part.len());
        self.start.extend(&part[..wanted]);
    }

    /// Gives the file its length, time and permissions, and returns the start of its content.
    fn finish(
        mut self,
        to: &Path,
        original: &Metadata,
        executable: Executable,
    ) -> io::Result<Vec<u8>> {
        if self.is_sparse {
            let length = self.file.stream_position().writing(to)?;
            let length = length.max(self.file.metadata().writing(to)?.len());
            self.file.set_len(length).writing(to)?;
        }
        if let Ok(modified) = original.modified() {
            // Best effort: the content matters.
            let _ = self.file.set_modified(modified);
        }
        drop(self.file);
        files::copy_mode(original, to, executable == Executable::Yes).writing(to)?;
        Ok(self.start)
    }
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let is_empty = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        let n = if self.is_sparse {
            let is_hole = is_empty(&buffer[..buffer.len().min(BLOCK)]);
            let same = buffer
                .chunks(BLOCK)
                .take_while(|block| is_empty(block) == is_hole);
            let n = same.map(<[u8]>::len).sum();
            if is_hole {
                self.file.seek_relative(n as i64)?;
                n
            } else {
                self.file.write(&buffer[..n])?
            }
        } else {
            self.file.write(buffer)?
        };
        self.keep_start(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns true if two files have the same content.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn is_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let mut parts = [vec![0; BUFFER], vec![0; BUFFER]];
    let mut files = [
        File::open(one).reading(one)?,
        File::open(other).reading(other)?,
    ];
    loop {
        let mut lengths = [0; 2];
        for (at, path) in [one, other].into_iter().enumerate() {
            lengths[at] = read_full(&mut files[at], &mut parts[at]).reading(path)?;
        }
        let [length, others] = lengths;
        if length != others || parts[0][..length] != parts[1][..length] {
            return Ok(false);
        }
        if length < BUFFER {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::copy::copy;
    use crate::deployment::digest::digest;

    #[test]
    fn files_of_all_lengths_are_copied_and_hashed_as_they_are_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        std::fs::create_dir(&from).unwrap();
        let edges = [SMALL, LARGE, BUFFER as u64].map(|edge| [edge - 1, edge, edge + 1]);
        let lengths: Vec<u64> = edges.into_iter().flatten().chain(0..100).collect();
        for (number, length) in lengths.iter().enumerate() {
            let content: Vec<u8> = (0..*length)
                .map(|at| (at % 251) as u8 ^ number as u8)
                .collect();
            std::fs::write(from.join(number.to_string()), content).unwrap();
        }
        let copied = copy(&from, &to).unwrap();
        assert_eq!(copied, digest(&from).unwrap());
        assert_eq!(copied, digest(&to).unwrap());
        for number in 0..lengths.len() {
            let name = number.to_string();
            assert!(
                is_same_content(&from.join(&name), &to.join(&name)).unwrap(),
                "{name}"
            );
        }
        assert!(!is_same_content(&from.join("0"), &from.join("1")).unwrap());
        let alone = folder.path().join("alone");
        assert_eq!(
            copy(&from.join("5"), &alone).unwrap(),
            digest(&from.join("5")).unwrap()
        );
    }

    #[test]
    fn a_file_that_has_another_length_than_was_hashed_is_not_copied() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "content").unwrap();
        for (length, is_read) in [(6, false), (7, true), (8, false)] {
            let mut source = File::open(file.path()).unwrap();
            assert_eq!(read_small(&mut source, length).is_ok(), is_read, "{length}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_ends_the_copy_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        std::fs::create_dir(&from).unwrap();
        for number in 0..100 {
            std::fs::write(from.join(number.to_string()), "x").unwrap();
        }
        let entries = crate::deployment::digest::entries(&from).unwrap();
        std::fs::remove_file(from.join("50")).unwrap();
        let error = crate::deployment::copy::copy_folder(&from, &from, &entries, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let named = from.join("50").display().to_string();
        assert!(error.to_string().contains(&named), "{error}");
    }
}

//! Reads small files that anybody may have put there: a pipe never blocks it, and a huge file takes no
//! memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::os;

/// Maximum length of a file that people and deployers write, in bytes.
const SMALL: u64 = 1 << 20;
/// Maximum length of a file that sidecars write, in bytes: many times what a long life leaves there.
const LARGE: u64 = 16 << 20;

/// Reads a file of at most 1 MiB.
///
/// # Errors
/// It is longer, is no regular file, or cannot be read.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(path, SMALL)
}

/// Reads a file of at most 16 MiB.
///
/// # Errors
/// It is longer, is no regular file, or cannot be read.
pub fn read_large(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(path, LARGE)
}

/// Reads an open file of at most 1 MiB.
///
/// # Errors
/// It is longer, or cannot be read.
pub fn read_open_small(file: &File) -> io::Result<Vec<u8>> {
    read_open(file, SMALL)
}

/// Reads an open file of at most 16 MiB.
///
/// # Errors
/// It is longer, or cannot be read.
pub fn read_open_large(file: &File) -> io::Result<Vec<u8>> {
    read_open(file, LARGE)
}

/// Reads a file of at most 1 MiB; on Unix not what a link of this name leads to.
///
/// # Errors
/// It is longer, is no regular file, or cannot be read.
pub fn read_small_itself(path: &Path) -> io::Result<Vec<u8>> {
    read_open(&require_regular(os::open_itself(path)?)?, SMALL)
}

/// Opens a regular file for reading.
///
/// # Errors
/// It is no regular file, or cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    require_regular(open_without_waiting(path)?)
}

fn require_regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let reason = if kind.is_dir() {
        "it is a folder, no file"
    } else if kind.is_symlink() {
        "it is a link, no file"
    } else {
        "it is a pipe, a socket or a device, no file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_open(&open_regular(path)?, most)
}

fn read_open(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let too_long = || {
        let reason = format!("it is longer than {most} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if file.metadata()?.len() > most {
        return Err(too_long());
    }
    let mut content = Vec::new();
    // It may grow meanwhile.
    file.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(too_long());
    }
    Ok(content)
}

/// Opens a file without waiting for the other end of a pipe (fifo(7)).
#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = File::options();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).custom_flags(flags).open(path)
}

#[cfg(windows)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_bounded_length_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap(), b"four");
        let long = read_bounded(&path, 3).unwrap_err();
        assert_eq!(long.to_string(), "it is longer than 3 bytes");
        let missing = read_small(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(read_small(folder.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_else_is_waited_for_or_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&*pipe, &*socket, Path::new("/dev/zero"), folder.path()] {
            assert!(read_small(path).is_err(), "{path:?}");
        }
        // Without blocks: a gibibyte takes no room on the disk.
        let huge = File::create(folder.path().join("huge")).unwrap();
        huge.set_len(1 << 30).unwrap();
        let error = read_small(&folder.path().join("huge")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}

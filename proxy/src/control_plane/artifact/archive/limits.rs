//! The limits for the content of an archive, and the errors of unpacking.

use std::io;

use crate::os::terminal::printable;

/// Unpacked bytes that do no harm, however small the archive is: a file of zeros packs a
/// thousandfold.
pub(super) const RATIO_FROM: u64 = 64 << 20;

/// The limits for the content of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files, folders and links.
    pub entries: u64,
    /// Unpacked bytes for each byte of the archive, beyond the first 64 MiB.
    pub ratio: u64,
    /// True if links may lead out of the archive's folder.
    pub outside_links: bool,
}

/// The reason why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The end is missing, or the content contradicts its checksums: the archive may be incomplete.
    #[error("is not a whole archive (yet): {}", one_line(.0))]
    Broken(String),
    /// The archive is complete, and cannot be run.
    #[error("is refused: {}", one_line(.0))]
    Refused(String),
    /// The disk failed, not the archive.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Returns a text of the archive's own, such as a name, as one that adds no line to what shows it.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\x0a")
}

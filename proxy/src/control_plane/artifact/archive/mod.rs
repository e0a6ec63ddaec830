//! Archives: unpacked into the private copy, whatever was put into them.
//!
//! An archive comes from a build server, but what it says is still only somebody's input: a name may
//! lead out of the folder, a link may, and a few bytes may unpack to a disk full. Whatever could
//! do harm, or means something else on another system, is refused as a whole: half an archive is no
//! release.

use std::fs::File;
use std::io;
use std::path::Path;

mod name;
mod tar;
mod unpacker;
mod zip;

use unpacker::Unpacker;

use crate::deployment::names::ArchiveFormat;

/// What an archive may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// Unpacked bytes for each byte of the archive, once it has unpacked to 64 MiB.
    pub ratio: u64,
    /// Whether links may lead out of the archive's folder.
    pub outside_links: bool,
}

/// Less than this does no harm, however small the archive: a file of zeros packs a thousandfold.
const RATIO_FROM: u64 = 64 << 20;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its end is missing, or its content contradicts its checksums: it may still be written.
    #[error("is not a whole archive (yet): {0}")]
    Broken(String),
    /// It is whole, and nothing that could be run.
    #[error("is refused: {0}")]
    Refused(String),
    /// The disk, not the archive.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Unpacks `archive` into the new folder `to`.
///
/// # Errors
/// [`ArchiveError`]; what was unpacked until then is left for the caller to remove.
pub fn unpack(
    format: ArchiveFormat,
    archive: &mut File,
    to: &Path,
    limits: Limits,
) -> Result<(), ArchiveError> {
    let packed = archive.metadata()?.len();
    let mut unpacker = Unpacker::new(to, limits, packed)?;
    match format {
        ArchiveFormat::Zip => zip::unpack(archive, &mut unpacker)?,
        ArchiveFormat::TarGz => tar::unpack(archive, &mut unpacker)?,
    }
    unpacker.finish()
}

#[cfg(test)]
mod tests;

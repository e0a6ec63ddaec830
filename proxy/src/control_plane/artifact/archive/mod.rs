//! Unpacks archives into the private copy, without trust in their content.
//!
//! An archive comes from a build server, but may be malicious or broken: a name or a link may lead
//! out of the folder, and a few bytes may unpack to a full disk. Entries that could do harm, or
//! differ in meaning between systems, cause a refusal of the whole archive: half an archive is no
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

/// Unpacked bytes that do no harm, however small the archive is: a file of zeros packs a
/// thousandfold.
const RATIO_FROM: u64 = 64 << 20;

/// The reason why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The end is missing, or the content contradicts its checksums: the archive may be incomplete.
    #[error("is not a whole archive (yet): {0}")]
    Broken(String),
    /// The archive is complete, and cannot be run.
    #[error("is refused: {0}")]
    Refused(String),
    /// The disk failed, not the archive.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Unpacks `archive` into the new folder `to`.
///
/// # Errors
/// [`ArchiveError`]; the caller removes what was unpacked until then.
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

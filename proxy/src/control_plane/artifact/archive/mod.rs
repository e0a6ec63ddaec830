//! Unpacks archives into the private copy, without trust in their content.
//!
//! An archive comes from a build server, but may be malicious or broken: a name or a link may lead
//! out of the folder, and a few bytes may unpack to a full disk. Entries that could do harm, or
//! differ in meaning between systems, cause a refusal of the whole archive: half an archive is no
//! release.

use std::fs::File;
use std::path::Path;

mod limits;
mod name;
mod tar;
mod unpacker;
mod zip;

pub use self::limits::{ArchiveError, Limits};
use self::unpacker::Unpacker;

use crate::deployment::names::ArchiveFormat;

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

//! Unpacks `.zip`.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use ::zip::result::ZipError;
use ::zip::{CompressionMethod, System, ZipArchive};
use memchr::memmem;

use super::limits::ArchiveError;
use super::name::{Separators, components};
use super::unpacker::Unpacker;

/// Maximum length of a link's target, above any system's limit.
const LONGEST_LINK: u64 = 4096;
/// Permissions of files in archives from Windows, which have none.
const UNSAID_MODE: u32 = 0o755;

/// Maximum length of what follows the list of entries: two records, a locator and a comment
/// (APPNOTE.TXT, section 4.3).
const LONGEST_END: u64 = 56 + 20 + 22 + 0xffff;
/// The record of those who have more than 65,535 entries: its signature, and the place of their number.
const LARGE_END: &[u8] = b"PK\x06\x06";
const LARGE_END_ENTRIES: usize = 32;

pub(super) fn unpack(archive: &mut File, to: &mut Unpacker) -> Result<(), ArchiveError> {
    // The list is read into memory whole, with some 200 bytes for each.
    to.check_entries(large_number_of_entries(archive)?.unwrap_or_default())?;
    let mut zip = ZipArchive::new(BufReader::new(archive)).map_err(broken)?;
    if zip.has_duplicate_names() {
        return Err(ArchiveError::Refused("it has a name twice".to_owned()));
    }
    // Archives that cannot be unpacked are refused before anything is written.
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        components(&name, Separators::SlashAndBackslash).map_err(ArchiveError::Refused)?;
        if entry.encrypted() {
            return Err(ArchiveError::Refused(format!(
                "the entry {name:?} is encrypted"
            )));
        }
        let method = entry.compression();
        if !matches!(
            method,
            CompressionMethod::Stored | CompressionMethod::Deflated
        ) {
            return Err(ArchiveError::Refused(format!(
                "the entry {name:?} is packed with {method:?}: only deflate and stored are known"
            )));
        }
    }
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let components =
            components(&name, Separators::SlashAndBackslash).map_err(ArchiveError::Refused)?;
        let said = entry.unix_mode().filter(|_| entry.system() == System::Unix);
        let said = said.filter(|mode| mode & 0o777 != 0);
        if entry.is_dir() || name.ends_with('\\') {
            to.folder(&components, said, None)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            (&mut entry)
                .take(LONGEST_LINK)
                .read_to_string(&mut target)
                .map_err(|error| ArchiveError::Broken(format!("{name:?}: {error}")))?;
            to.link(&components, &target)?;
        } else {
            let mode = Some(said.unwrap_or(UNSAID_MODE));
            to.file(&components, mode, None, &mut entry)?;
        }
    }
    Ok(())
}

/// Returns the number of entries that an archive with many of them says to have.
fn large_number_of_entries(archive: &mut File) -> io::Result<Option<u64>> {
    let length = archive.metadata()?.len();
    archive.seek(SeekFrom::Start(length.saturating_sub(LONGEST_END)))?;
    let mut end = Vec::new();
    archive.take(LONGEST_END).read_to_end(&mut end)?;
    archive.rewind()?;
    let entries = memmem::rfind(&end, LARGE_END).and_then(|start| {
        let number = end.get(start + LARGE_END_ENTRIES..)?.first_chunk()?;
        Some(u64::from_le_bytes(*number))
    });
    Ok(entries)
}

fn broken(error: ZipError) -> ArchiveError {
    let ZipError::Io(error) = error else {
        return ArchiveError::Broken(error.to_string());
    };
    // The archive is in the cache by now: errors are the disk's, except at its end.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        ArchiveError::Broken(error.to_string())
    } else {
        error.into()
    }
}

//! Unpacks `.tar.gz`.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use ::tar::{Archive, Entry};
use flate2::bufread::MultiGzDecoder;

use super::limits::ArchiveError;
use super::name::{Separators, components};
use super::unpacker::Unpacker;

/// Maximum size of an entry's headers, a name and attributes, which are read into memory.
const MOST_HEADERS: u64 = 1 << 20;
/// Maximum size of the padding after the last entry: the rest of a tape's record.
const MOST_PADDING: u64 = 16 << 20;
/// Number of zeros at the end of an archive; the standard says two blocks, some packers write one.
const END: u64 = 512;

pub(super) fn unpack(archive: &mut File, to: &mut Unpacker) -> Result<(), ArchiveError> {
    let meter = Meter::default();
    let broken = |error: io::Error| match meter.left.get() {
        0 => ArchiveError::Refused("it has a header of more than a megabyte".to_owned()),
        _ => ArchiveError::Broken(error.to_string()),
    };
    // Some packers write a stream of several members.
    let unpacked = Metered {
        inner: MultiGzDecoder::new(BufReader::new(archive)),
        meter: &meter,
    };
    let mut tar = Archive::new(unpacked);
    let mut entries = tar.entries().map_err(broken)?;
    loop {
        meter.left.set(MOST_HEADERS);
        let Some(entry) = entries.next() else {
            break;
        };
        let mut entry = entry.map_err(broken)?;
        // The unpacker counts the content.
        meter.left.set(u64::MAX);
        unpack_entry(&mut entry, to)?;
    }
    // The padding after the last entry is followed by the checksum.
    meter.left.set(MOST_PADDING);
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(broken)?;
    if meter.zeros.get() >= END {
        Ok(())
    } else {
        Err(ArchiveError::Broken("its end is missing".to_owned()))
    }
}

fn unpack_entry(entry: &mut Entry<'_, impl Read>, to: &mut Unpacker) -> Result<(), ArchiveError> {
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        // A header for all entries, such as the commit.
        return Ok(());
    }
    let name = utf8(entry.path_bytes().into_owned(), "an entry")?;
    let components = name_components(&name)?;
    let header = entry.header();
    let mode = header.mode().ok();
    let modified = header
        .mtime()
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let leads_to = || {
        utf8(
            entry.link_name_bytes().unwrap_or_default().into_owned(),
            &name,
        )
    };
    if kind.is_dir() {
        to.folder(&components, mode, modified)
    } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
        to.file(&components, mode, modified, entry)
    } else if kind.is_symlink() {
        to.link(&components, &leads_to()?)
    } else if kind.is_hard_link() {
        to.hard_link(&components, &name_components(&leads_to()?)?)
    } else {
        Err(ArchiveError::Refused(format!(
            "the entry {name:?} is neither a file nor a folder nor a link"
        )))
    }
}

/// A counter that is shared with the reader, which the archive does not give back.
#[derive(Default)]
struct Meter {
    /// Number of bytes that may still be read.
    left: Cell<u64>,
    /// Number of zeros at the end of the bytes read.
    zeros: Cell<u64>,
}

struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter,
}

// === impl Metered ===

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.left.get();
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("too much to read"));
        }
        let n = self.inner.read(&mut buffer[..most])?;
        self.meter.left.set(left - n as u64);
        let zeros = buffer[..n].iter().rev().take_while(|&&byte| byte == 0);
        let zeros = zeros.count();
        let before = if zeros == n {
            self.meter.zeros.get()
        } else {
            0
        };
        self.meter.zeros.set(before + zeros as u64);
        Ok(n)
    }
}

fn name_components(name: &str) -> Result<Vec<&str>, ArchiveError> {
    // A backslash is an ordinary character here; Windows refuses it in names.
    components(name, Separators::Slash).map_err(ArchiveError::Refused)
}

fn utf8(text: Vec<u8>, what: &str) -> Result<String, ArchiveError> {
    String::from_utf8(text).map_err(|error| {
        let text = error.as_bytes().escape_ascii().to_string();
        ArchiveError::Refused(format!("{what} has a name that is not UTF-8: {text}"))
    })
}

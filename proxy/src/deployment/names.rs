//! Names of artifacts, of the releases that are made of them, and of deployments.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::os::files;
use crate::release::{Digest, ReleaseId};

/// Maximum length of the name in a release's id, in characters and in bytes: the copy's folder has a
/// longer one, and file systems take 255 bytes.
const MAX_CHARS: usize = 64;
const MAX_BYTES: usize = 128;

/// The format of an archive, which its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// `.zip`
    Zip,
    /// `.tar.gz` or `.tgz`
    TarGz,
}

// === impl ArchiveFormat ===

impl ArchiveFormat {
    /// Returns the format of an archive of this name, and the name without the suffix.
    pub fn of(name: &str) -> Option<(Self, &str)> {
        let suffixes = [
            (".zip", Self::Zip),
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
        ];
        suffixes.into_iter().find_map(|(suffix, format)| {
            let at = name.len().checked_sub(suffix.len())?;
            let (stem, end) = name.split_at_checked(at)?;
            (!stem.is_empty() && end.eq_ignore_ascii_case(suffix)).then_some((format, stem))
        })
    }
}

/// Returns whether a file of this name is an archive, or compressed, in a format that is not supported.
pub fn is_unsupported_archive(name: &str) -> bool {
    const EXTENSIONS: [&str; 22] = [
        "tar", "gz", "xz", "txz", "zst", "tzst", "bz2", "tbz", "tbz2", "lz", "tlz", "lz4", "lzma",
        "br", "z", "7z", "rar", "cab", "cpio", "deb", "rpm", "dmg",
    ];
    let extension = Path::new(name).extension().unwrap_or_default();
    let mut all = EXTENSIONS.iter();
    ArchiveFormat::of(name).is_none() && all.any(|it| extension.eq_ignore_ascii_case(it))
}

/// Returns the id of a release: its name, without the suffix of a program or an archive, and the
/// start of its digest.
pub fn release_id(given: Option<&str>, path: &Path, digest: Digest) -> ReleaseId {
    let [id, ..] = release_ids(given, path, digest);
    id
}

/// Returns the ids that a release can have, the usual one first: a longer start of the digest tells
/// contents apart whose digests begin alike.
pub fn release_ids(given: Option<&str>, path: &Path, digest: Digest) -> [ReleaseId; 3] {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = match (given, ArchiveFormat::of(&file_name)) {
        (Some(given), _) => given.to_owned(),
        (None, Some((_, stem))) => stem.to_owned(),
        (None, None) => match path.extension().and_then(|extension| extension.to_str()) {
            Some("exe" | "jar") => path.file_stem().unwrap_or_default().to_string_lossy(),
            _ => file_name,
        }
        .into_owned(),
    };
    // The id is the name of a folder too.
    let safe = |c: char| {
        let is_safe = c.is_alphanumeric() || "._+-".contains(c);
        if is_safe { c } else { '_' }
    };
    let suffixes = [8, 16, 64].map(|digits| format!("-{}", &digest.hex()[..digits]));
    // `handoff deploy` adds a suffix to names, and a restored release has it already.
    let mut known = suffixes.iter();
    let name = known
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(&name);
    let mut name: String = name.chars().map(safe).take(MAX_CHARS).collect();
    name.truncate(name.floor_char_boundary(MAX_BYTES));
    suffixes.map(|suffix| ReleaseId::new(format!("{name}{suffix}")))
}

/// Returns the key of the deployment with the folder `state`, which names its private copies in the
/// cache. Other paths to the same folder mean the same deployment.
pub fn deployment_key(state: &Path) -> String {
    path_key(&files::canonical_existing(state))
}

/// Returns a short name for what is kept in the cache about a path.
pub fn path_key(path: &Path) -> String {
    let hash = Sha256::new_with_prefix(path.as_os_str().as_encoded_bytes());
    Digest::finish(hash).hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_be_the_name_of_a_folder_whatever_was_asked_for() {
        let digest = Digest::parse(&"ab".repeat(32)).unwrap();
        let id = |name: &str| release_id(Some(name), Path::new("x"), digest);
        assert_eq!(id("a/../b").as_str(), "a_.._b-abababab");
        assert_eq!(id(&"x".repeat(99)).as_str().len(), MAX_CHARS + 9);
        // Letters of four bytes each.
        let long = id(&"\u{10450}".repeat(64));
        assert_eq!(long.as_str().len(), MAX_BYTES + 9);
    }
}

//! Names of artifacts, and of the releases that are made of them.

use std::path::Path;

use crate::release::{Digest, ReleaseId};

/// How the archive is packed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// `.zip`
    Zip,
    /// `.tar.gz` or `.tgz`
    TarGz,
}

// === impl ArchiveFormat ===

impl ArchiveFormat {
    /// How the file of this name is packed, if it is an archive, and its name without the suffix.
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

/// The name, without what says only that it is a program or an archive, and the digest's start.
pub fn release_id(given: Option<&str>, path: &Path, digest: Digest) -> ReleaseId {
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
    // It names a folder too.
    let safe = |c: char| match c.is_alphanumeric() || "._+-".contains(c) {
        true => c,
        false => '_',
    };
    let suffix = format!("-{}", &digest.hex()[..8]);
    // `handoff deploy` names files so, and what is restored keeps its name.
    let name = name.strip_suffix(&suffix).unwrap_or(&name);
    let name: String = name.chars().map(safe).take(64).collect();
    ReleaseId::new(format!("{name}{suffix}"))
}

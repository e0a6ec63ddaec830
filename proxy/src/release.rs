//! The terms that both planes share: a release, and the generation of a launch.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The launch number of an instance within one sidecar: ordered, never reused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Generation(pub u64);

/// The displayed name of a release: the artifact's name and the first digits of its digest.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ReleaseId(Arc<str>);

/// The SHA-256 of an artifact's content.
///
/// A folder's digest covers its sorted paths, lengths and contents, and is the same on every
/// system.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// An artifact that was accepted for running.
#[derive(Clone, Debug)]
pub struct Release {
    /// The name in logs, in the status and in `{release}`.
    pub id: ReleaseId,
    /// The content's digest: equal content is the same release.
    pub digest: Digest,
    /// Hash of the rights to be run and of the empty folders, which are not in the digest; empty
    /// when it is not known.
    pub shape: String,
    /// The private copy that runs, a file or a folder: `{artifact}`.
    pub artifact: PathBuf,
    /// The working directory, and `{dir}`.
    pub dir: PathBuf,
}

/// Files of releases, by the paths under which clients ask for them.
pub type KeptFiles = HashMap<String, PathBuf>;

/// A digest that is not 64 hexadecimal digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct InvalidDigest(String);

// === impl Generation ===

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl ReleaseId ===

impl ReleaseId {
    /// Returns the id with this name. Two releases of one sidecar never share one.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the displayed name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Digest ===

impl Digest {
    /// Returns the digest of all that `hash` has read.
    pub fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// Parses 64 hexadecimal digits, with or without a leading `sha256:`.
    ///
    /// # Errors
    /// Returns [`InvalidDigest`] with the text if it is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.to_owned());
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if digits.len() != 64 {
            return Err(invalid());
        }
        let nibble = |digit: u8| (digit as char).to_digit(16).map(|n| n as u8);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(invalid());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// Returns all 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut hex, b| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{b:02x}");
            hex
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_shows() {
        let digest = Digest::finish(Sha256::new_with_prefix("x"));
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert_eq!(Digest::parse(&digest.hex().to_uppercase()), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_named_in_the_error() {
        for text in ["", "sha256:", "12", &"g".repeat(64), &"é".repeat(32)] {
            let error = Digest::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}

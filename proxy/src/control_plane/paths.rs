//! Paths in JSON, which has no way to write one that is not UTF-8.

use std::path::PathBuf;

use serde::{Serialize as _, Serializer};

/// Writes a path that is shown to people: what is not UTF-8 in it is replaced.
#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(super) fn shown<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    let path = path.as_ref().map(|path| path.to_string_lossy());
    path.serialize(to)
}

/// Writes a path so that it can be read back: as text, or else as the system's own units.
pub(super) mod exact {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Units(OsString),
    }

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let path = path.as_os_str().to_owned();
        let written = path
            .into_string()
            .map_or_else(Written::Units, Written::Text);
        written.serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Text(text) => text.into(),
            Written::Units(units) => units.into(),
        })
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use sha2::{Digest as _, Sha256};

    use super::super::memory::Memory;
    use super::super::status::{Handoff, UnixMillis};
    use crate::release::{Digest, Generation, Release, ReleaseId};

    #[test]
    fn what_is_no_text_is_remembered_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let memory = |sidecar: &str| {
            let cache = folder.path();
            Memory::open(cache, cache, sidecar.into()).unwrap()
        };
        let release = Release {
            id: ReleaseId::new("v1"),
            digest: Digest::finish(Sha256::new_with_prefix("v1")),
            artifact: "/copies/v1".into(),
            dir: OsStr::from_bytes(b"/sites/gr\xf6\xdfe").into(),
        };
        let mut handoff = Handoff::new(&release, Generation(1));
        handoff.promoted_ms = Some(UnixMillis(1));
        memory("one").promoted(&release, handoff);
        let good = memory("two").good();
        let good: Vec<_> = good
            .iter()
            .map(|good| (&good.artifact, &good.dir))
            .collect();
        assert_eq!(good, [(&release.artifact, &release.dir)]);
    }
}

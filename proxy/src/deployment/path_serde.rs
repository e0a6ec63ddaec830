//! Paths in JSON, which cannot represent a path that is not UTF-8.

use std::path::PathBuf;

use serde::{Serialize as _, Serializer};

/// Writes a path for people: parts that are not UTF-8 are replaced.
#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(crate) fn shown<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    let path = path.as_ref().map(|path| path.to_string_lossy());
    path.serialize(to)
}

/// Writes a path so that it can be read back: as text, or else in the units of the system.
pub(crate) mod exact {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Units(OsString),
    }

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        let path = path.as_os_str().to_owned();
        let written = path
            .into_string()
            .map_or_else(Written::Units, Written::Text);
        written.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Text(text) => text.into(),
            Written::Units(units) => units.into(),
        })
    }
}

//! The pointer file: a text file that names the artifact to run.
//!
//! Deploy scripts and people write it: with `echo` in cmd (trailing blank, CRLF), with PowerShell
//! (`>` writes UTF-16 with a byte order mark), in quotes, with `%VAR%` in it.

use std::path::{Path, PathBuf};

use super::text::{decode, trim};
use crate::release::{Digest, InvalidDigest};

/// The content of a pointer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Path of the artifact; absolute, or relative to the pointer's folder when written.
    pub path: PathBuf,
    /// `sha256=…`: digest that proves that the artifact is complete.
    pub digest: Option<Digest>,
    /// `id=…`: name of the release.
    pub id: Option<String>,
}

/// The reason why a pointer file names no artifact.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// The file is empty or blank.
    #[error("is empty: its first line should be the path of an artifact")]
    Empty,
    /// The file is neither UTF-8 nor UTF-16.
    #[error("is not text: expected UTF-8 or UTF-16")]
    NotText,
    /// The path contains a `%VAR%` that is not set.
    #[error("names %{0}%, which is not set in handoff's environment")]
    UnknownVariable(String),
    /// The value after `sha256=` is not a digest.
    #[error("says sha256=…, but {0}")]
    Digest(#[from] InvalidDigest),
}

// === impl Pointer ===

impl Pointer {
    /// Parses the content of a pointer file that lies in `folder`.
    ///
    /// # Errors
    /// [`PointerError`] when it names no artifact.
    pub fn parse(
        content: &[u8],
        folder: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, PointerError> {
        let text = decode(content).ok_or(PointerError::NotText)?;
        let mut lines = text.lines().map(trim).filter(|line| !line.is_empty());
        let path = unquote(lines.next().ok_or(PointerError::Empty)?);
        let path = folder.join(expand(path, variable)?);
        let (mut digest, mut id) = (None, None);
        for (key, value) in lines.filter_map(|line| line.split_once('=')) {
            let value = unquote(trim(value));
            match trim(key) {
                "sha256" => digest = Some(Digest::parse(value)?),
                "id" if !value.is_empty() => id = Some(value.to_owned()),
                // Newer tools may write more keys.
                _ => {}
            }
        }
        Ok(Self { path, digest, id })
    }
}

/// Returns the content of a pointer file.
pub fn content(path: &Path, digest: Digest, id: &str) -> String {
    format!("{}\nsha256={}\nid={id}\n", path.display(), digest.hex())
}

fn unquote(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .map_or(text, trim)
}

/// Replaces `%VAR%`. A lone percent sign stays, since file names may contain it.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, PointerError> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "_()".contains(c))
    };
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        expanded.push_str(before);
        match after.split_once('%') {
            Some((name, after)) if is_name(name) => {
                let unknown = || PointerError::UnknownVariable(name.to_owned());
                expanded.push_str(&variable(name).ok_or_else(unknown)?);
                rest = after;
            }
            _ => {
                expanded.push('%');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(content: &[u8]) -> Result<Pointer, PointerError> {
        Pointer::parse(content, Path::new("/site"), |name| {
            (name == "HOME").then(|| "/home".to_owned())
        })
    }

    fn path(content: &[u8]) -> Result<PathBuf, PointerError> {
        parse(content).map(|pointer| pointer.path)
    }

    #[test]
    fn the_first_line_is_the_path_however_it_was_written() {
        let expected = Ok(PathBuf::from("/site/app v1"));
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let powershell: Vec<u8> = utf16("\u{feff}app v1\r\n");
        for content in [
            b"app v1".as_slice(),
            b"app v1\n",
            b"app v1 \r\n",
            b"\n\n  app v1\t\n",
            b"\"app v1\"\r\n",
            b"'app v1'",
            b"\xef\xbb\xbfapp v1\n",
            b"app v1\0\0",
            b"/site/app v1",
            &powershell,
        ] {
            assert_eq!(path(content), expected, "{content:?}");
        }
    }

    #[test]
    fn variables_are_replaced_and_lone_percent_signs_are_not() {
        assert_eq!(path(b"%HOME%/app"), Ok("/home/app".into()));
        assert_eq!(path(b"100%/50% off"), Ok("/site/100%/50% off".into()));
        let unknown = PointerError::UnknownVariable("NOPE".into());
        assert_eq!(path(b"%NOPE%/app"), Err(unknown));
    }

    #[test]
    fn further_lines_say_the_digest_and_the_name() {
        let hex = "ab".repeat(32);
        let content = format!("app\r\nsha256={hex}\nid = v7 \nlater=more\nnonsense");
        let pointer = parse(content.as_bytes()).unwrap();
        assert_eq!(pointer.digest.unwrap().hex(), hex);
        assert_eq!(pointer.id.unwrap(), "v7");
    }

    #[test]
    fn what_names_nothing_says_why() {
        assert_eq!(path(b""), Err(PointerError::Empty));
        assert_eq!(path(b" \r\n"), Err(PointerError::Empty));
        assert_eq!(path(b"\xff\xfea"), Err(PointerError::NotText));
        assert_eq!(path(b"a\0b"), Err(PointerError::NotText));
        assert!(matches!(
            path(b"app\nsha256=12"),
            Err(PointerError::Digest(_))
        ));
    }

    proptest! {
        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = parse(&content);
        }

        #[test]
        fn any_plain_name_is_read_as_it_is(name in "[a-zA-Z0-9._-]{1,40}") {
            prop_assert_eq!(path(name.as_bytes()), Ok(Path::new("/site").join(name)));
        }
    }
}

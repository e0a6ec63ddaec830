//! The checksum file `NAME.sha256` beside an artifact.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::text::{decode, trim};
use crate::release::Digest;

/// Returns the path of the checksum file of an artifact.
pub fn path_for(artifact: &Path) -> PathBuf {
    artifact.with_added_extension("sha256")
}

/// Begin of the comment that names the deployment of an artifact. `sha256sum --check` skips it.
const DEPLOYED_FOR: &str = "# deployed for ";

/// Returns the content of the checksum file of the artifact `name`, as `sha256sum` writes it, with a
/// comment that names the `deployment` for which it was copied there.
pub fn content(name: &str, digest: Digest, deployment: Option<&str>) -> String {
    let mut content = format!("{}  {name}\n", digest.hex());
    if let Some(deployment) = deployment {
        // Writing to a string cannot fail.
        let _ = writeln!(content, "{DEPLOYED_FOR}{deployment}");
    }
    content
}

/// Returns the deployment that the content of a checksum file names.
pub fn deployment_of(content: &[u8]) -> Option<String> {
    let text = decode(content)?;
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix(DEPLOYED_FOR));
    named.map(str::to_owned)
}

/// Returns the digest of the artifact `name` in the content of a checksum file, as `sha256sum`,
/// `shasum`, `openssl`, BSD's `sha256` and PowerShell's `Get-FileHash` write it; `None` while it
/// has none.
///
/// A single digest counts, whatever name it has: artifacts are renamed. Of several digests, the one
/// with this name counts.
pub fn digest_of(name: &str, content: &[u8]) -> Option<Digest> {
    let text = decode(content)?;
    let lines = text.lines().filter_map(|line| parse_line(trim(line)));
    let digests: Vec<(Digest, &str)> = lines.collect();
    match digests[..] {
        [(digest, _)] => Some(digest),
        _ => {
            let named = |&&(_, of): &&(Digest, &str)| of.rsplit(['/', '\\']).next() == Some(name);
            digests.iter().find(named).map(|(digest, _)| *digest)
        }
    }
}

/// Parses `DIGEST`, `DIGEST  NAME`, `DIGEST *NAME`, `SHA256 (NAME) = DIGEST`, `SHA256 DIGEST NAME` or
/// `Hash : DIGEST`.
fn parse_line(line: &str) -> Option<(Digest, &str)> {
    if let Some((before, digest)) = line.rsplit_once('=')
        && let Ok(digest) = Digest::parse(trim(digest))
    {
        let name = before
            .split_once('(')
            .and_then(|(_, of)| of.rsplit_once(')'));
        return Some((digest, name.map_or("", |(name, _)| name)));
    }
    // `sha256sum` marks a name with an escaped character by a backslash.
    let line = line.strip_prefix('\\').unwrap_or(line);
    let (digest, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let name = name.trim_start();
    if let Ok(digest) = Digest::parse(digest) {
        return Some((digest, name.strip_prefix('*').unwrap_or(name)));
    }
    // `Get-FileHash` writes a table, and a list if it is asked to.
    let (label, rest) = (digest, name.strip_prefix(": ").unwrap_or(name));
    let (digest, name) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let is_label = label.eq_ignore_ascii_case("SHA256") || label.eq_ignore_ascii_case("Hash");
    let digest = Digest::parse(digest).ok().filter(|_| is_label)?;
    Some((digest, trim(name)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34";

    fn read(content: &[u8]) -> Option<String> {
        digest_of("app.zip", content).map(|digest| digest.hex())
    }

    #[test]
    fn a_digest_is_read_however_it_was_written() {
        let upper = A.to_uppercase();
        let utf16: Vec<u8> = format!("\u{feff}{upper}\r\n")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for content in [
            A.to_owned(),
            format!("{A}\n"),
            format!("{A}  app.zip\n"),
            format!("{A} *app.zip\r\n"),
            format!("{upper}  app.zip\r\n"),
            format!("\u{feff}{A}  app.zip"),
            format!("\\{A}  a\\\\b"),
            format!("{A}  build/renamed since.zip"),
            format!("SHA256 (app.zip) = {A}\n"),
            format!("SHA2-256(app.zip)= {A}\n"),
            format!("sha256:{A}"),
            format!("# made by a build\n{A}  app.zip\n"),
            format!(
                "\r\nAlgorithm       Hash      Path\r\n---------       ----      ----\r\n\
                 SHA256          {upper}   C:\\build\\app.zip\r\n\r\n"
            ),
            format!("\r\nAlgorithm : SHA256\r\nHash      : {upper}\r\nPath      : C:\\app.zip\r\n"),
        ] {
            assert_eq!(read(content.as_bytes()).as_deref(), Some(A), "{content:?}");
        }
        assert_eq!(read(&utf16).as_deref(), Some(A));
    }

    #[test]
    fn of_several_digests_the_one_with_the_artifacts_name_counts() {
        let of = |name: &str| format!("{B}  other.zip\n{A}  ./{name}\n");
        assert_eq!(read(of("app.zip").as_bytes()).as_deref(), Some(A));
        assert_eq!(read(of("third.zip").as_bytes()), None);
    }

    #[test]
    fn the_deployment_is_named_by_a_comment() {
        let digest = Digest::parse(A).unwrap();
        for deployment in [Some("\"shop.txt\""), None] {
            let content = content("app.zip", digest, deployment);
            assert_eq!(read(content.as_bytes()).as_deref(), Some(A));
            assert_eq!(deployment_of(content.as_bytes()).as_deref(), deployment);
        }
    }

    #[test]
    fn what_is_half_written_is_no_digest() {
        for content in ["", "\n", &A[..63], "no digest"] {
            assert_eq!(read(content.as_bytes()), None, "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn no_content_panics(content: Vec<u8>) {
            let _ = read(&content);
        }
    }
}

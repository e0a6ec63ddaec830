//! What exactly is tested.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::binaries::workspace;

/// Its short name, marked when files differ from it; none where there is no repository.
pub fn current() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    let name = name.trim();
    (output.status.success() && !name.is_empty()).then(|| name.to_owned())
}

/// The start of the digest of these programs: two states of the files may have one commit's name.
///
/// # Errors
/// One cannot be read.
pub fn programs(files: &[PathBuf]) -> io::Result<String> {
    let mut all = Sha256::new();
    for file in files {
        all.update(Sha256::digest(fs::read(file)?));
    }
    let digest = all.finalize();
    Ok(digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let of = |content: [&str; 2]| {
            for (file, content) in files.iter().zip(content) {
                fs::write(file, content).unwrap();
            }
            programs(&files).unwrap()
        };
        assert_eq!(of(["1", "2"]), of(["1", "2"]));
        assert_ne!(of(["1", "2"]), of(["12", ""]));
        assert_eq!(of(["1", "2"]).len(), 12);
    }
}

//! The revision of what is tested: commit, programs and compiler.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::units::hex;

/// Returns the folder of the workspace.
pub fn workspace() -> PathBuf {
    // `cargo run` says where the package is now; the folder may have moved since it was compiled.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("..")
}

/// Returns the short name of the commit, marked when files differ from it.
pub fn commit() -> Option<String> {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--exclude", "*"]))
}

/// Returns the version of the compiler that builds what is tested.
pub fn rustc() -> Option<String> {
    first_line(Command::new("rustc").arg("--version"))
}

/// Returns the start of the digest of these programs: a commit's name does not tell two states of
/// the files apart.
pub fn programs(files: &[PathBuf]) -> io::Result<String> {
    let mut all = Sha256::new();
    for file in files {
        all.update(Sha256::digest(fs::read(file)?));
    }
    Ok(hex(&all.finalize()[..6]))
}

fn first_line(command: &mut Command) -> Option<String> {
    command.current_dir(workspace());
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
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

//! Which commit is tested.

use std::process::{Command, Stdio};

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

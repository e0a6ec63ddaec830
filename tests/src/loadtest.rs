//! Running `loadtest`, for the tests of it.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binaries;

/// The outcome of one run.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub said: String,
    /// Its standard error.
    pub complaint: String,
    /// The JSON that `--json` wrote; null if it wrote none.
    pub json: Value,
}

/// Runs it to its end, and prints what it says.
pub fn loadtest<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("json");
    let mut command = Command::new(binaries::loadtest());
    command
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = binaries::spawn(&mut command).expect("loadtest");
    let output = child.wait_with_output().expect("loadtest");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    println!("{said}{complaint}");
    let json = fs::read(json).unwrap_or_default();
    Ran {
        code: output.status.code(),
        said,
        complaint,
        json: serde_json::from_slice(&json).unwrap_or_default(),
    }
}

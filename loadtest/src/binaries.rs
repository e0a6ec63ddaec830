//! Builds what is tested, so that one command does everything, and finds what was built.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

use crate::system::System;

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    #[error("run {program}: {source}")]
    Cargo {
        program: String,
        source: std::io::Error,
    },
    #[error("build {packages}: cargo ended with {status}")]
    Build {
        packages: String,
        status: ExitStatus,
    },
    #[error("find the binary of {0} in what cargo built")]
    NotBuilt(String),
    #[error("find {0}; build it or leave out --binaries")]
    Missing(PathBuf),
}

/// The part of cargo's messages that says where a binary is.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The binaries of these packages for `system`, in their order: from `folder`, else built in release
/// mode.
///
/// # Errors
/// One is missing or does not build; cargo has said why.
pub fn provide(
    packages: &[&str],
    system: &System,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>, BinariesError> {
    let arguments: Vec<&str> = packages.iter().flat_map(|name| ["-p", name]).collect();
    provide_that(packages, &arguments, system, folder)
}

/// The same for programs of one package, of which they do not have the name.
///
/// # Errors
/// As [`provide`].
#[cfg(target_os = "linux")]
pub fn provide_of(
    package: &str,
    programs: &[&str],
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>, BinariesError> {
    let mut arguments = vec!["-p", package];
    arguments.extend(programs.iter().flat_map(|name| ["--bin", name]));
    provide_that(programs, &arguments, &System::Native, folder)
}

fn provide_that(
    programs: &[&str],
    arguments: &[&str],
    system: &System,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>, BinariesError> {
    match folder {
        None => build(programs, arguments, system),
        Some(folder) => programs
            .iter()
            .map(|program| in_folder(folder, program, system))
            .collect(),
    }
}

fn in_folder(folder: &Path, package: &str, system: &System) -> Result<PathBuf, BinariesError> {
    let file = system.executable(folder, package);
    // A relative path would be looked up in PATH.
    std::path::absolute(&file)
        .ok()
        .filter(|file| file.is_file())
        .ok_or(BinariesError::Missing(file))
}

fn build(
    programs: &[&str],
    arguments: &[&str],
    system: &System,
) -> Result<Vec<PathBuf>, BinariesError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args([
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
    ]);
    command.args(system.cargo_arguments());
    command.args(arguments);
    // Cargo tells a person what it compiles on standard error, and us the paths on standard output.
    command.current_dir(workspace()).stderr(Stdio::inherit());
    let named = programs.join(" and ");
    eprintln!("Building {named} in release mode");
    let output = command.output().map_err(|source| BinariesError::Cargo {
        program: cargo.to_string_lossy().into_owned(),
        source,
    })?;
    if !output.status.success() {
        return Err(BinariesError::Build {
            packages: named,
            status: output.status,
        });
    }
    programs
        .iter()
        .map(|program| {
            find(&output.stdout, program)
                .ok_or_else(|| BinariesError::NotBuilt((*program).to_owned()))
        })
        .collect()
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    // `cargo run` says where the package is now; the folder may have moved since it was compiled.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("..")
}

/// The executable named `name` in cargo's messages, one JSON object a line.
fn find(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| {
            message
                .target
                .as_ref()
                .is_some_and(|target| target.name == name)
        })
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_in_what_cargo_says() {
        let messages = br#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"handoff"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"handoff"},"executable":"/t/release/handoff"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(find(messages, "handoff"), Some("/t/release/handoff".into()));
        assert_eq!(find(messages, "sample-app"), None);
    }

    #[test]
    fn a_missing_binary_is_named() {
        let error =
            provide(&["handoff"], &System::Native, Some(Path::new("/no/such"))).unwrap_err();
        assert!(error.to_string().contains("handoff"), "{error}");
    }
}

//! The programs under test: built in the profile of loadtest itself, by one cargo invocation.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

use super::revision::workspace;
use super::system::System;

/// An error that fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    #[error("run {program}: {source}")]
    Cargo {
        program: String,
        source: std::io::Error,
    },
    #[error("build {programs}: cargo ended with {status}")]
    Build {
        programs: String,
        status: ExitStatus,
    },
    #[error("find the binary of {0} in what cargo built")]
    NotBuilt(String),
    #[error("find {0}; build it or leave out --binaries")]
    Missing(PathBuf),
}

/// A cargo profile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    name: String,
    /// Target folder, if loadtest runs from it.
    target: Option<PathBuf>,
}

/// The part of a cargo message that names a binary.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Returns the binaries of `programs` for `system`, in their order: from `folder`, or else built.
pub fn provide(
    programs: &[&str],
    system: &System,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>, BinariesError> {
    let profile = Profile::of_this_program();
    provide_in(&profile, programs, system, folder)
}

/// Returns the binaries as built in this profile.
pub fn provide_in(
    profile: &Profile,
    programs: &[&str],
    system: &System,
    folder: Option<&Path>,
) -> Result<Vec<PathBuf>, BinariesError> {
    let Some(folder) = folder else {
        return build(profile, programs, system);
    };
    let in_folder = |program: &&str| {
        let file = system.executable(folder, program);
        // A relative path would be looked up in PATH.
        std::path::absolute(&file)
            .ok()
            .filter(|file| file.is_file())
            .ok_or(BinariesError::Missing(file))
    };
    programs.iter().map(in_folder).collect()
}

/// Warns that figures of a dev build tell nothing about handoff.
pub fn warn_of_dev_build() {
    if cfg!(debug_assertions) {
        eprintln!(
            "loadtest: this is a dev build, whose figures say nothing about handoff's speed; for \
             figures, run `cargo run --release -p loadtest`"
        );
    }
}

// === impl Profile ===

impl Profile {
    /// Returns the profile for figures.
    pub fn release() -> Self {
        Self {
            name: "release".to_owned(),
            target: None,
        }
    }

    /// Returns the profile that this program was built in.
    pub fn of_this_program() -> Self {
        let program = env::current_exe().ok();
        let found = program.as_deref().and_then(Self::of);
        found.unwrap_or_else(|| Self {
            name: if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            }
            .to_owned(),
            target: None,
        })
    }

    /// Finds the profile in the path of a program: `target[/TRIPLE]/PROFILE/PROGRAM`.
    fn of(program: &Path) -> Option<Self> {
        let folder = program.parent()?;
        let name = match folder.file_name()?.to_str()? {
            "debug" => "dev",
            name => name,
        };
        let above = [folder.parent()?, folder.parent()?.parent()?];
        let target = above
            .into_iter()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
        Some(Self {
            name: name.to_owned(),
            target: Some(target.to_owned()),
        })
    }
}

fn build(
    profile: &Profile,
    programs: &[&str],
    system: &System,
) -> Result<Vec<PathBuf>, BinariesError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--profile", &profile.name]);
    if let Some(target) = &profile.target {
        command.arg("--target-dir").arg(target);
    }
    command.args(system.cargo_arguments());
    // With loadtest among the packages, the dependencies have the features with which they were
    // built for loadtest, and are not compiled again.
    command.args(["-p", "loadtest", "-p", "handoff", "-p", "sample-app"]);
    if programs.iter().any(|program| !is_package(program)) {
        command.args(["-p", "tests"]);
    }
    command.args(programs.iter().flat_map(|program| ["--bin", program]));
    // Progress goes to standard error, and the paths of binaries to standard output.
    command.arg("--message-format=json-render-diagnostics");
    command.current_dir(workspace()).stderr(Stdio::inherit());
    let named = programs.join(" and ");
    eprintln!("Building {named} (profile {})", profile.name);
    let output = command.output().map_err(|source| BinariesError::Cargo {
        program: cargo.to_string_lossy().into_owned(),
        source,
    })?;
    if !output.status.success() {
        return Err(BinariesError::Build {
            programs: named,
            status: output.status,
        });
    }
    let found = |program: &&str| {
        find(&output.stdout, program).ok_or_else(|| BinariesError::NotBuilt((*program).to_owned()))
    };
    programs.iter().map(found).collect()
}

/// Tells whether the program is named like its package; the others belong to `tests`.
fn is_package(program: &str) -> bool {
    ["handoff", "sample-app"].contains(&program)
}

/// Finds the executable `name` in the messages of cargo, one JSON object a line.
fn find(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.target.as_ref().is_some_and(|t| t.name == name))
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
        let folder = Some(Path::new("/no/such"));
        let error = provide(&["handoff"], &System::Native, folder).unwrap_err();
        assert!(error.to_string().contains("handoff"), "{error}");
    }

    #[test]
    fn the_profile_is_that_of_the_folder_in_which_the_program_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("CACHEDIR.TAG"), "").unwrap();
        let profile = |path: &str| Profile::of(&folder.path().join(path));
        for (path, name) in [
            ("debug/loadtest", "dev"),
            ("release/loadtest", "release"),
            ("x86_64-pc-windows-gnu/profiling/loadtest", "profiling"),
        ] {
            let expected = Profile {
                name: name.to_owned(),
                target: Some(folder.path().to_owned()),
            };
            assert_eq!(profile(path), Some(expected));
        }
        assert_eq!(profile("elsewhere/bin/x/loadtest"), None);
    }
}

//! The programs under test: built once per test process, in the profile of the tests.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};

/// A child that is forked while another thread has an executable open for writing inherits it so,
/// and until that child has become another program, nobody can run that executable.
static WRITE_OR_SPAWN: Mutex<()> = Mutex::new(());

/// Held while an artifact is written or a process is started.
pub fn write_or_spawn() -> MutexGuard<'static, ()> {
    WRITE_OR_SPAWN.lock()
}

/// `handoff`.
pub fn handoff() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| find("handoff"));
    &FOUND
}

/// `sample-app`, without an overlay.
pub fn sample_app() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| find("sample-app"));
    &FOUND
}

/// `loadtest`, which only the check of itself needs.
pub fn loadtest() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| find("loadtest"));
    &FOUND
}

/// The folder in which all programs have been built.
pub fn all() -> &'static Path {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(build);
    &BUILT
}

fn find(name: &str) -> PathBuf {
    let path = all().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{path:?} has not been built");
    path
}

/// `target/<profile>`: cargo runs tests from `deps` in it.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.parent().expect("the test's folder");
    if folder.ends_with("deps") {
        folder.parent().expect("the profile's folder").to_owned()
    } else {
        folder.to_owned()
    }
}

/// Returns the folder of the programs. Where the tests run on Windows there need not be a compiler:
/// they were built elsewhere.
#[cfg(windows)]
fn build() -> PathBuf {
    profile_folder()
}

/// Builds all packages at once: the features of what they depend on are those with which the tests
/// were built, so that nothing of it is compiled a second time.
#[cfg(unix)]
fn build() -> PathBuf {
    use std::process::Stdio;

    let folder = profile_folder();
    let target = folder.parent().expect("the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--workspace", "--bins", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let cargo = spawn(&mut command).and_then(Child::wait_with_output);
    let cargo = cargo.expect("cargo can be run");
    let said = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "what is tested must build:\n{said}");
    folder
}

/// Starts a process when no other thread writes an executable.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _alone = write_or_spawn();
    command.spawn()
}

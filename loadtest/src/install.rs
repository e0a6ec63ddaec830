//! Finds programs of others, fetches what is missing, and lets none of it start by itself.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Debian packages; each has a program of its name.
const PACKAGES: [&str; 3] = ["nginx", "haproxy", "caddy"];

/// Package scripts ask this program whether they may start their service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Removed when dropped.
struct NoServices;

/// What Go fetches and builds, where there is Go; it may be none of a distribution's packages.
const KAMAL_PROXY: &str = "github.com/basecamp/kamal-proxy/cmd/kamal-proxy@latest";

/// Where a program is: in PATH, where Debian keeps servers, or where Go puts what it builds.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .chain(std::env::home_dir().map(|home| home.join("go/bin")))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Where programs keep what is theirs: set to a folder of ours, they leave nothing of it elsewhere.
pub const HOMES: [&str; 6] = [
    "HOME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// What a program says of itself.
pub async fn first_line(program: &Path, argument: &str) -> String {
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let Ok(output) = output else {
        return String::new();
    };
    // nginx says it on standard error.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or_default().trim().to_owned()
}

/// Builds kamal-proxy where it is missing and Go is there.
pub async fn kamal_proxy() {
    if find("kamal-proxy").is_some() {
        return;
    }
    let Some(go) = find("go") else {
        return;
    };
    eprintln!("Building kamal-proxy");
    let mut command = Command::new(go);
    command.args(["install", KAMAL_PROXY]).stdin(Stdio::null());
    match command.stdout(Stdio::null()).status().await {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("loadtest: go install {KAMAL_PROXY} failed: {status}"),
        Err(error) => eprintln!("loadtest: go install {KAMAL_PROXY} failed: {error}"),
    }
}

/// Installs what is missing. What cannot be had is said and will be missing from the figures.
pub async fn proxies() {
    let missing: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    eprintln!("Installing {}", missing.join(", "));
    let guard = match NoServices::begin() {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("loadtest: failed to write {POLICY}, so nothing is installed: {error}");
            return;
        }
    };
    apt_get(&["update", "-qq"]).await;
    // One by one: a distribution may lack one of them.
    for package in missing {
        apt_get(&["install", "-qq", "-y", "--no-install-recommends", package]).await;
        // Nor shall it start with the machine. Without systemd there is nothing to disable.
        let mut disable = Command::new("systemctl");
        disable.args(["disable", "--quiet", package]);
        let _ = disable.stderr(Stdio::null()).status().await;
    }
    drop(guard);
}

async fn apt_get(arguments: &[&str]) {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let trouble = match command.status().await {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!(
        "loadtest: apt-get {} failed: {trouble}",
        arguments.join(" ")
    );
}

// === impl NoServices ===

impl NoServices {
    /// None when the machine has a policy already: it is not ours to change.
    fn begin() -> io::Result<Option<Self>> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(Path::new(POLICY));
        match file {
            Ok(mut file) => {
                let guard = Self;
                io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")?;
                Ok(Some(guard))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(POLICY) {
            eprintln!("loadtest: failed to remove {POLICY}; no service can start: {error}");
        }
    }
}

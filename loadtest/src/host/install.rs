//! Programs of others: found, or installed without starting any service.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Proxies: a program and its Debian package.
pub const PROXIES: &[(&str, &str)] = &[
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("caddy", "caddy"),
];

/// Tools that measure: a program and its Debian package.
pub const TOOLS: &[(&str, &str)] = &[
    ("wrk", "wrk"),
    ("ab", "apache2-utils"),
    ("h2load", "nghttp2-client"),
    ("valgrind", "valgrind"),
];

/// Program that package scripts ask whether they may start their service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A policy against services, removed when dropped.
struct NoServices;

/// Go package of kamal-proxy, which no distribution packages.
const KAMAL_PROXY: &str = "github.com/basecamp/kamal-proxy/cmd/kamal-proxy@latest";

/// Finds a program in PATH, in Debian's folders of servers, or in those of Go.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .chain(std::env::home_dir().map(|home| home.join("go/bin")))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Returns the first line that a program writes about itself.
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
    // nginx writes it to standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Builds kamal-proxy if it is missing and Go is installed.
pub async fn build_kamal_proxy() {
    let (None, Some(go)) = (find("kamal-proxy"), find("go")) else {
        return;
    };
    eprintln!("Building kamal-proxy");
    let mut command = Command::new(go);
    command.args(["install", KAMAL_PROXY]);
    run(command, "go install").await;
}

/// Installs the missing ones of these programs. A failure is reported; the program then is missing
/// from the figures.
pub async fn install(programs: &[&[(&str, &str)]]) {
    let missing = programs.iter().flat_map(|programs| programs.iter());
    let missing: Vec<&str> = missing
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
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
        // It must not start with the machine either. Without systemd there is nothing to disable.
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
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(command, &format!("apt-get {}", arguments.join(" "))).await;
}

async fn run(mut command: Command, line: &str) {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let how = match command.status().await {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("loadtest: {line} failed: {how}");
}

// === impl NoServices ===

impl NoServices {
    /// Writes the policy; none if the machine has one already, which is not ours to change.
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

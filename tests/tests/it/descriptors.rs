//! Descriptors: as many as there may be, and always some that clients cannot take.
#![cfg(unix)] // Windows has no such limit for a process.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;
use tests::{Running, Site};

/// A handoff that starts under the limit that this command of a shell sets.
fn under(limit: &str, folder: &TempDir) -> Site {
    let program = folder.path().join("handoff");
    let handoff = tests::binaries::handoff().display().to_string();
    let script = format!("#!/bin/sh\n{limit}\nexec '{handoff}' \"$@\"\n");
    let _guard = tests::binaries::write_or_spawn();
    fs::write(&program, script).expect("a script");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, executable).expect("a script");
    Site::watching_a_pointer().with_program(program)
}

/// Opens connections, each with one request.
fn connect_all(site: &Running, number: usize, target: &str) -> Vec<TcpStream> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let open = |_| {
        let mut client = TcpStream::connect(site.address()).expect("no connection is refused");
        // It may have been closed for another one.
        let _ = client.write_all(request.as_bytes());
        client
    };
    (0..number).map(open).collect()
}

#[test]
fn handoff_raises_its_limit_and_the_app_has_the_one_that_handoff_was_started_with() {
    let folder = TempDir::new().unwrap();
    let script = r#"ulimit -Sn > "$1/soft"; ulimit -Hn > "$1/hard"; exec "$0" -port "$2""#;
    let site = under("ulimit -Sn 321", &folder)
        .running(&["sh", "-c", script, "{artifact}", "{shared}", "{port}"])
        .start("v1");
    let all = getrlimit(Resource::Nofile).maximum;
    assert_eq!(soft_limit(site.pid()), all);
    let app = |name| fs::read_to_string(site.shared().join(name)).unwrap();
    assert_eq!(app("soft").trim(), "321");
    assert_eq!(app("hard").trim().parse().ok(), all);
}

/// See proc_pid_limits(5).
fn soft_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[test]
fn clients_cannot_take_what_a_deploy_needs() {
    let folder = TempDir::new().unwrap();
    for target in ["/version", "/slow?ms=3600000"] {
        let site = under("ulimit -n 256", &folder)
            .with("--admin", "127.0.0.1:0")
            .with("--drain-timeout", "1s")
            .start("v1");
        let clients = connect_all(&site, 400, target);
        site.deploy("v2");
        site.await_active("v2");
        assert_eq!(site.look("/healthz").status, 200);
        drop(clients);
        site.await_version("v2");
    }
}

#[test]
fn it_is_said_that_fewer_connections_fit_than_are_allowed() {
    let folder = TempDir::new().unwrap();
    let site = under("ulimit -n 256", &folder).start("v1");
    site.await_log("connections_limited");
}

//! The process that answers on an app's port has to be the app.
#![cfg(unix)]

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use tests::binaries::spawn;
use tests::tools::{has, skip};
use tests::{Running, Site, app, eventually};

/// A program whose listener has left the tree of what was started, without its mark.
const ANOTHER: &str = r#"
    trap 'kill -9 $(cat "$2/pid.$$"); exit' TERM
    (env -u HANDOFF_SIDECAR setsid "$0" -port "$1" > /dev/null 2>&1 & echo $! > "$2/pid.$$")
    while :; do sleep 0.1; done"#;
const COMMAND: [&str; 6] = ["sh", "-c", ANOTHER, "{artifact}", "{port}", "{shared}"];

/// An app that says its port, waits until it may go on, and listens on the other loopback address.
const ON_V6: &str = r#"
    echo "$1" > "$2/port.new"; mv "$2/port.new" "$2/port"
    while [ ! -e "$2/go" ]; do sleep 0.05; done
    exec "$0" -port "$1" --host ::1"#;
const ON_V6_COMMAND: [&str; 6] = ["sh", "-c", ON_V6, "{artifact}", "{port}", "{shared}"];
/// Listens on 127.0.0.1, as soon as the port is free, and answers everything with 200.
const FORGER: &str = r#"
import select, socket, sys, threading
def listen():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(sys.argv[1])))
        listener.listen(64)
        return listener
    except OSError:
        listener.close()
while not (listener := listen()): select.select([], [], [], 0.001)
print("listening", end="", flush=True)
def serve():
    while True:
        stream, _ = listener.accept()
        stream.recv(65536)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nforged")
        stream.close()
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
"#;
/// A user whom nobody else is.
const STRANGER: u32 = 54_321;

#[test]
fn another_program_on_its_port_is_warned_about() {
    let site = Site::watching_a_pointer().running(&COMMAND).start("v1");
    // It serves at once, and the other program is named when it has been found.
    let status = site.wait_until("it is warned about", |status| {
        let active = status.active.as_ref();
        active.is_some_and(|active| active.warning.is_some())
    });
    let warning = status.active.clone().expect("an active one").warning;
    let warning = warning.expect("a warning");
    assert!(warning.contains("which it has not started"), "{warning}");
    assert!(warning.contains("answers process"), "{warning}");
    site.await_log("port_suspect");
}

#[test]
fn a_daemon_that_the_app_has_started_is_no_other_program() {
    let daemon = ANOTHER.replace("env -u HANDOFF_SIDECAR", "");
    let command = ["sh", "-c", &daemon, "{artifact}", "{port}", "{shared}"];
    let site = Site::watching_a_pointer()
        .running(&command)
        .with("--health-identity", "require")
        .start("v1");
    site.await_version("v1");
    let active = site.await_active("v1").active.clone();
    assert_eq!(active.expect("an active one").warning, None);
}

/// Listens as another user on 127.0.0.1 and answers everything with 200, until its input ends.
fn listen_as_a_stranger(port: &str) -> Child {
    let mut command = Command::new("python3");
    command
        .args(["-c", FORGER, port])
        .uid(STRANGER)
        .gid(STRANGER);
    command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut forger = spawn(&mut command).expect("python3 can be run as another user");
    let mut said = [0; 9];
    let stdout = forger.stdout.as_mut().expect("its output");
    stdout.read_exact(&mut said).expect("it listens");
    forger
}

/// An app on `::1`, and another user's program on 127.0.0.1, which is asked first.
fn nothing_is_routed_to_a_stranger(mode: &str) {
    if !geteuid().is_root() || TcpListener::bind("[::1]:0").is_err() {
        return skip("root and IPv6");
    }
    if !has("python3") {
        return;
    }
    let site = Site::watching_a_pointer()
        .running(&ON_V6_COMMAND)
        .with("--health-identity", mode);
    let site = site.launch("v1");
    let port = || fs::read_to_string(site.shared().join("port")).ok();
    let port = eventually(|| "the app says its port".to_owned(), port);
    let mut forger = listen_as_a_stranger(port.trim());
    site.await_log("which it has not started");
    let failed = site.wait_until("the launch has failed", |s| s.last_failure.is_some());
    let failure = failed.last_failure.clone().expect("a failure");
    let whose = format!("of user {STRANGER}");
    assert!(failure.reason.contains(&whose), "{failure:#?}");
    // With another port the release is as good as before.
    fs::write(site.shared().join("go"), "").expect("it may go on");
    site.await_version("v1");
    let active = site.await_active("v1").active.clone();
    let address = active
        .and_then(|active| active.address)
        .expect("its address");
    assert!(address.is_ipv6(), "{address}");
    assert_eq!(site.status().refused.len(), 0);
    drop(forger.stdin.take());
    forger.wait().expect("it ends");
}

#[test]
fn another_users_program_on_its_port_gets_no_request() {
    nothing_is_routed_to_a_stranger("warn");
}

#[test]
fn nor_does_it_where_its_own_listener_is_required() {
    nothing_is_routed_to_a_stranger("require");
}

/// An app that says its port, and closes its listener after the first request for `/close`.
const FICKLE: &str = r#"
import os, signal, socket, sys
port, shared = int(sys.argv[1]), sys.argv[2]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
with open(shared + "/port.new", "w") as file: file.write(str(port))
os.rename(shared + "/port.new", shared + "/port")
while True:
    stream, _ = listener.accept()
    is_last = False
    try:
        is_last = stream.recv(65536).startswith(b"GET /close ")
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\napp")
    except OSError: pass
    stream.close()
    if is_last:
        listener.close()
        while True: signal.pause()
"#;
const FICKLE_COMMAND: [&str; 5] = ["python3", "-c", FICKLE, "{port}", "{shared}"];

#[test]
fn another_user_who_takes_the_port_of_an_active_instance_gets_no_request() {
    if !geteuid().is_root() {
        return skip("root");
    }
    if !has("python3") {
        return;
    }
    let site = Site::watching_a_pointer()
        .running(&FICKLE_COMMAND)
        .with("--live-interval", "200ms")
        .start("v1");
    let first = site.await_active("v1").active.clone().expect("active");
    let port = fs::read_to_string(site.shared().join("port")).expect("its port");
    let forging = std::thread::spawn(move || listen_as_a_stranger(port.trim()));
    assert_eq!(site.get("/close").body, b"app");
    let mut forger = forging.join().expect("it listens");
    // The request waits for the next instance.
    assert_eq!(site.get("/").body, b"app");
    site.wait_until("it is replaced", |status| {
        let active = status.active.as_ref();
        active.is_some_and(|active| active.generation > first.generation)
    });
    drop(forger.stdin.take());
    forger.wait().expect("it ends");
}

#[test]
fn where_that_is_required_it_is_not_ready() {
    let site = Site::watching_a_pointer()
        .running(&COMMAND)
        .with("--health-identity", "require")
        .with("--start-timeout", "2s");
    let site = site.launch("v1");
    let status = site.wait_until("it has failed", |status| status.last_failure.is_some());
    let failure = status.last_failure.clone().expect("a failure");
    assert!(
        failure.reason.contains("which it has not started"),
        "{failure:#?}"
    );
    assert!(status.active.is_none());
}

#[test]
fn where_nobody_asks_nothing_is_said() {
    let site = Site::watching_a_pointer()
        .running(&COMMAND)
        .with("--health-identity", "off");
    let site = site.start("v1");
    let status = site.await_active("v1");
    assert_eq!(status.active.clone().expect("an active one").warning, None);
}

#[test]
fn a_listener_that_others_may_reach_is_noted_and_not_warned_about() {
    let site = Site::watching_a_pointer().with("--health-identity", "require");
    let site = site.start(app("v1").that("--host=0.0.0.0"));
    let active = || site.status().active.clone().expect("an active one");
    site.await_active("v1");
    let note = active().note.expect("a note");
    assert!(note.contains("0.0.0.0"), "{note}");
    assert_eq!(active().warning, None);
    assert!(!site.log().contains("WARN"), "{}", site.log());
    site.deploy("v2");
    site.await_active("v2");
    assert_eq!((active().warning, active().note), (None, None));
}

/// A deployment of v1, run by a script that gets the artifact, its port, its further port, the
/// shared folder and its release.
fn with_further_port(script: &str) -> Running {
    let command = [
        "sh",
        "-c",
        script,
        "{artifact}",
        "{port}",
        "{port:admin}",
        "{shared}",
        "{release}",
    ];
    let site = Site::watching_a_pointer().running(&command);
    site.with("--port-name", "admin").start("v1")
}

#[test]
fn a_further_port_is_told_by_argument_and_by_environment() {
    let script = r#"echo "$2 $PORT_ADMIN" > "$3/seen"; exec "$0" -port "$1""#;
    let site = with_further_port(script);
    let seen = fs::read_to_string(site.shared().join("seen")).expect("what it was told");
    let (argument, variable) = seen.trim().split_once(' ').expect("two");
    assert_eq!(argument, variable);
    assert!(argument.parse::<u16>().is_ok_and(|port| port > 0), "{seen}");
}

/// An app that meets another program on its further port, once.
const WITHOUT_ITS_PORT: &str = r#"
    if [ -e "$3/waits" ]; then
        rm "$3/waits"; echo "$2" > "$3/port.new"; mv "$3/port.new" "$3/port"
        while [ ! -e "$3/go" ]; do sleep 0.05; done
        echo "bind: Address already in use"; exit 1
    fi
    exec "$0" -port "$1""#;

#[test]
fn a_release_whose_further_port_was_taken_is_launched_again() {
    let site = with_further_port(WITHOUT_ITS_PORT);
    let shared = site.shared();
    fs::write(shared.join("waits"), "").unwrap();
    site.deploy("v2");
    let port = eventually(
        || site.log(),
        || fs::read_to_string(shared.join("port")).ok(),
    );
    let port = port.trim().parse().expect("a port");
    let _another = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    fs::write(shared.join("go"), "").unwrap();
    site.await_version("v2");
    site.await_log("was taken by another program");
    let refused = site.await_active("v2").refused.clone();
    assert!(refused.is_empty(), "{refused:?}");
}

/// An app whose daemon listens on its further port, and that fails then, as v2.
const WITH_A_DAEMON: &str = r#"
    case "$4" in v2*)
        setsid "$0" -port "$2" > "$3/daemon" 2>&1 &
        while ! grep -q "listening on" "$3/daemon"; do sleep 0.05; done
        exit 1;;
    esac
    exec "$0" -port "$1""#;

#[test]
fn a_release_whose_own_daemon_has_its_further_port_is_refused() {
    let site = with_further_port(WITH_A_DAEMON);
    site.deploy("v2");
    site.wait_until("v2 is refused", |status| !status.refused.is_empty());
    site.await_version("v1");
}

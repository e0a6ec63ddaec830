//! handoff as a service of systemd, whose sockets this test plays: `NOTIFY_SOCKET` and
//! `LISTEN_FDS`.
#![cfg(unix)]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;
use tests::wait::DEADLINE;
use tests::{Connection, Running, Site, app, binaries, file};

/// The socket on which systemd listens.
struct Notified {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Notified {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        Self { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// Waits for a message with this in it; gives what came before.
    #[track_caller]
    fn await_message(&self, part: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let received = self.socket.recv(&mut buffer);
            let length = received.unwrap_or_else(|error| panic!("{part:?}: {error}: {before:?}"));
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if said.contains(part) {
                return before;
            }
            before.push(said);
        }
    }
}

#[test]
fn systemd_hears_that_the_port_is_bound_and_then_what_goes_on() {
    let notified = Notified::new();
    let site = Site::watching_a_pointer()
        .with_variable("NOTIFY_SOCKET", &notified.path())
        .launch(app("v1").that("--ready-after=1s"));
    // Held until the app is ready: systemd knows before.
    let mut waiting = site.begin("/version");
    let before = notified.await_message("READY=1");
    assert!(
        before.iter().all(|said| !said.contains("serves")),
        "{before:?}"
    );
    notified.await_message("STATUS=nothing serves, v1-");
    assert_eq!(waiting.answer().unwrap().text(), "v1");
    notified.await_message("STATUS=v1-");
    site.deploy("v2");
    notified.await_message("STATUS=v2-");
    site.ask_to_stop();
    notified.await_message("STOPPING=1");
    assert!(site.await_exit().success());
    let before = site.log();
    assert!(
        !before.contains("cannot notify the service manager"),
        "{before}"
    );
}

#[test]
fn systemd_hears_as_often_as_it_wants_that_handoff_is_alive() {
    let notified = Notified::new();
    let _site = Site::watching_a_pointer()
        .with_variable("NOTIFY_SOCKET", &notified.path())
        .with_variable("WATCHDOG_USEC", "400000")
        .start("v1");
    for _ in 0..5 {
        notified.await_message("WATCHDOG=1");
    }
}

#[test]
fn a_service_manager_that_hangs_holds_up_nothing() {
    let notified = Notified::new();
    let site = Site::watching_a_pointer()
        .with_variable("NOTIFY_SOCKET", &notified.path())
        .with_variable("WATCHDOG_USEC", "20000")
        .start("v1");
    // Nobody reads: the queue of a datagram socket is soon full.
    site.deploy("v2");
    site.await_version("v2");
    site.ask_to_stop();
    assert!(site.await_exit().success());
}

#[test]
fn the_app_hears_nothing_of_it() {
    let notified = Notified::new();
    let script = "#!/bin/sh\nenv\nexit 3\n";
    let site = Site::watching_a_pointer()
        .with_variable("NOTIFY_SOCKET", &notified.path())
        .with_variable("WATCHDOG_USEC", "60000000")
        .with_variable("LISTEN_FDNAMES", "web")
        .launch(file("env", script.as_bytes()));
    site.await_log("PORT=");
    site.wait_until("it has ended", |status| status.last_failure.is_some());
    for name in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"] {
        assert!(!site.log().contains(name), "{name}: {}", site.log());
    }
}

/// The socket unit: it listens, whether handoff runs or not.
struct Unit {
    listener: TcpListener,
    /// Starts handoff as systemd does, with the socket as descriptor 3.
    program: PathBuf,
    _folder: TempDir,
}

impl Unit {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).expect("inheritance");
        let program = folder.path().join("as-a-service");
        let script = format!(
            "#!/usr/bin/env bash\nexec 3<&{}\nLISTEN_FDS=1 LISTEN_PID=$$ exec {} \"$@\"\n",
            listener.as_raw_fd(),
            binaries::handoff().display(),
        );
        fs::write(&program, script).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a script");
        Self {
            listener,
            program,
            _folder: folder,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a port")
    }

    fn site(&self) -> Site {
        Site::watching_a_pointer().with_program(self.program.clone())
    }
}

fn version(site: &Running) -> String {
    site.get("/version").text().to_owned()
}

#[test]
fn a_passed_socket_outlives_handoff_and_nobody_is_refused() {
    let unit = Unit::new();
    let mut site = unit.site().start("v1");
    assert_eq!(site.address(), unit.address(), "not what --listen says");
    assert_eq!(version(&site), "v1");
    site.ask_to_stop();
    site.await_exit();
    let mut meanwhile = Connection::open(unit.address()).unwrap();
    meanwhile.send("GET", "/version", "");
    site.start_again();
    assert_eq!(meanwhile.answer().unwrap().text(), "v1");
}

#[test]
fn the_app_does_not_inherit_the_socket() {
    let unit = Unit::new();
    let script = "#!/bin/sh\nls -l /proc/$$/fd\nenv\nexit 3\n";
    let site = unit.site().launch(file("fds", script.as_bytes()));
    site.await_log("PORT=");
    site.wait_until("it has ended", |status| status.last_failure.is_some());
    let log = site.log();
    assert!(log.contains("0 -> "), "{log}");
    // The test's own, by its number there, is inherited all the way.
    assert!(
        !log.contains(" 3 -> socket:") && !log.contains("LISTEN_"),
        "{log}"
    );
}

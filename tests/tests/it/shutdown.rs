//! The end, when it is asked for.

use std::io::ErrorKind;

#[cfg(unix)]
use tests::load::Load;
use tests::status::Phase;
use tests::websocket::WebSocket;
use tests::{Connection, Running, Site, app, eventually};

fn stops_cleanly(site: &Running) {
    assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
}

#[test]
fn a_shutdown_finishes_requests_and_answers_new_ones_meanwhile() {
    // Long enough to look at it: what is accepted is looked at as long as it lasts.
    let site = Site::watching_a_pointer()
        .with("--shutdown-delay", "10s")
        .with("--shutdown-timeout", "120s");
    let site = site.start("v1");
    let mut kept = site.connect();
    assert_eq!(kept.get("/version").unwrap().header("connection"), None);
    let upload = site.begin_upload("/upload");

    site.ask_to_stop();
    site.wait_until("it shuts down", |status| status.phase == Phase::Stopping);

    for mut connection in [site.connect(), kept] {
        let answer = connection.get("/version").unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v1"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest(), b"", "and then it is closed");
    }
    let address = site.address();
    eventually(
        || "the port is closed".to_owned(),
        || Connection::open(address).err(),
    );
    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v1"));
    stops_cleanly(&site);
}

#[test]
fn an_idle_connection_does_not_keep_it_from_ending() {
    let site = Site::watching_a_pointer().start("v1");
    let mut idle = site.connect();
    assert_eq!(idle.get("/version").unwrap().status, 200);
    let _silent = site.connect();
    site.ask_to_stop();
    stops_cleanly(&site);
    let refused = Connection::open(site.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // Wine lets no process into the console of an app, so that it has to be killed there.
    if cfg!(unix) {
        let log = site.log();
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
    }
}

#[test]
fn what_waits_in_the_backlog_when_the_port_is_closed_is_answered() {
    let site = Site::watching_a_pointer()
        .with("--workers", "1")
        .with("--max-connections", "1")
        .start("v1");
    let mut only = site.connect();
    assert_eq!(only.get("/version").unwrap().status, 200);
    let waiting: Vec<_> = (0..200).map(|_| site.begin("/version")).collect();
    site.ask_to_stop();
    for mut client in waiting {
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "v1"));
    }
    stops_cleanly(&site);
}

#[cfg(unix)]
#[test]
fn ctrl_c_is_a_shutdown_like_any_other() {
    let site = Site::watching_a_pointer().start("v1");
    tests::processes::signal(site.status().pid, rustix::process::Signal::INT);
    stops_cleanly(&site);
    site.await_log("SIGINT");
}

#[cfg(unix)]
#[test]
fn signals_that_ask_for_no_end_end_nothing() {
    use rustix::process::Signal;

    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    let load = Load::offer(site.address(), 200);
    let pid = site.status().pid;
    for (signal, name) in [
        (Signal::HUP, "event=\"reload_requested\""),
        (Signal::USR1, "event=\"log_files_reopened\""),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::STKFLT, "SIGSTKFLT"),
        // They stop a program in the background that uses its terminal.
        (Signal::TTIN, ""),
        (Signal::TTOU, ""),
        (Signal::XFSZ, ""),
        (Signal::PIPE, ""),
        (Signal::URG, ""),
    ] {
        tests::processes::signal(pid, signal);
        site.await_log(name);
    }
    // A real-time signal, which rustix cannot name.
    let kill = format!("kill -50 {pid}");
    let sent = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(sent.expect("a shell").success());
    site.await_log("signal 50");
    site.await_version("v1");
    let active = site.status().active.clone().expect("an app");
    let app = active.pid.expect("its process");
    let status = std::fs::read_to_string(format!("/proc/{app}/status")).expect("its status");
    let blocked = status.lines().find(|line| line.starts_with("SigBlk:"));
    assert_eq!(blocked, Some("SigBlk:\t0000000000000000"));
    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v1"));
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

/// Receives what handoff tells the service manager, up to the first message that begins like this.
#[cfg(unix)]
fn await_notification(manager: &std::os::unix::net::UnixDatagram, begin: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = manager.recv(&mut buffer).expect("a notification");
        let message = String::from_utf8_lossy(&buffer[..length]);
        if message.starts_with(begin) {
            return message.into_owned();
        }
    }
}

#[cfg(unix)]
#[test]
fn sighup_reloads_and_tells_the_service_manager_when_that_is_done() {
    use std::os::unix::net::UnixDatagram;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    // Without events, and long before the next poll, only the signal can make it look.
    let site = Site::watching_a_pointer()
        .with_variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .with_variable("HANDOFF_NO_EVENTS", "true")
        .with("--poll", "1h")
        .start("v1");
    await_notification(&manager, "READY=1");
    site.deploy("v2");
    let upload = site.begin_upload("/upload");

    tests::processes::signal(site.status().pid, rustix::process::Signal::HUP);

    let reloading = await_notification(&manager, "RELOADING=1");
    let since = reloading.split_once("MONOTONIC_USEC=").expect("the time").1;
    assert!(since.trim().parse::<u64>().unwrap() > 0, "{reloading}");
    await_notification(&manager, "READY=1");
    site.await_version("v2");
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[cfg(unix)]
#[test]
fn sigquit_is_a_shutdown_like_any_other() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    tests::processes::signal(site.status().pid, rustix::process::Signal::QUIT);
    site.await_log("SIGQUIT");
    let answer = upload.finish().unwrap();
    assert_eq!((answer.status, answer.release()), (200, "v1"));
    stops_cleanly(&site);
}

#[test]
fn the_shutdown_timeout_bounds_it_all() {
    let site = Site::watching_a_pointer().with("--shutdown-timeout", "2s");
    let site = site.start(app("v1").that("--ignore-stop"));
    let _upload = site.begin_upload("/upload");
    let (_socket, _) = WebSocket::open(site.connect());
    site.ask_to_stop();
    stops_cleanly(&site);
}

#[test]
fn a_shutdown_before_the_first_release_is_ready_ends_at_once() {
    let site = Site::watching_a_pointer().launch(app("v1").that("--never-ready"));
    let mut held = site.begin("/version");
    site.wait_until("it is held", |status| status.held == 1);
    site.ask_to_stop();
    let answer = held.answer().unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("connection"), Some("close"));
    stops_cleanly(&site);
}

#[test]
fn a_shutdown_in_the_middle_of_a_handoff_serves_until_its_end() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy("v2");
    site.await_active("v2");
    site.deploy(app("v3").that("--never-ready"));
    site.wait_until("v3 starts", |status| status.is_candidate("v3"));
    site.ask_to_stop();
    site.wait_until("the candidate is not waited for", |status| {
        status.phase == Phase::Stopping && status.candidate.is_none()
    });
    assert_eq!(upload.finish().unwrap().release(), "v1");
    stops_cleanly(&site);
}

#[test]
fn the_status_file_goes_with_its_sidecar() {
    let site = Site::watching_a_pointer().start("v1");
    let sidecars = site.shared().with_file_name("sidecars");
    let count = || std::fs::read_dir(&sidecars).unwrap().count();
    assert_eq!(count(), 1);
    site.ask_to_stop();
    stops_cleanly(&site);
    assert_eq!(count(), 0);
}

//! The simulator does what is known of the module, shown with an app that it runs directly.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tests::platform::{Event, Home, Iis, Look, Module};
use tests::websocket::WebSocket;

fn home(arguments: &str, attributes: &str) -> Home {
    Home::of_sample_app(arguments, attributes, "")
}

fn app(attributes: &str) -> Home {
    home("-port %HTTP_PLATFORM_PORT% --version-name v1", attributes)
}

fn is_start(event: &Event) -> bool {
    matches!(event, Event::Started { .. })
}

fn is_crash(event: &Event) -> bool {
    matches!(event, Event::Crashed { .. })
}

#[test]
fn nothing_is_started_before_the_first_request() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    assert!(iis.processes().is_empty());
    assert_eq!(iis.get("/version").text(), "v1");
    let (_, port) = iis.started()[0];
    assert!((1026..=48_000).contains(&port), "{port}");
    // In the site's root, with one file for what it writes.
    fs::write(home.wwwroot().join("file.txt"), "from the root").unwrap();
    assert_eq!(iis.get("/file.txt").text(), "from the root");
    assert!(home.log().contains(&port.to_string()), "{}", home.log());
}

#[test]
fn variables_are_set_with_the_port_in_them() {
    let variable = r#"<environmentVariables>
        <environmentVariable name="PORT" value="%HTTP_PLATFORM_PORT%" />
      </environmentVariables>"#;
    let home = Home::of_sample_app("--version-name v1", "", variable);
    let iis = Iis::start(&home, Module::v1());
    assert_eq!(iis.get("/version").text(), "v1");
}

#[test]
fn a_file_that_changes_ends_what_depends_on_it() {
    let files = r#"<recycleOnFileChange><file path=".\watched.txt" /></recycleOnFileChange>"#;
    let home = Home::of_sample_app("-port %HTTP_PLATFORM_PORT%", "", files);
    let iis = Iis::start(&home, Module::v1());
    assert_eq!(iis.get("/").status, 200);
    fs::write(home.wwwroot().join("other.txt"), "1").unwrap();
    fs::write(home.wwwroot().join("watched.txt"), "1").unwrap();
    iis.waits_for(1, "it has changed", |event| *event == Event::Reconfigured);
    iis.await_no_processes();
    assert_eq!(iis.get("/").status, 200);
    assert_eq!(iis.starts(), 2);
}

#[test]
fn a_start_that_fails_is_tried_again_and_then_answered_with_502() {
    let home = home("--exit-code 3", r#"startupRetryCount="2""#);
    let iis = Iis::start(&home, Module::v1());
    let answer = iis.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("502.5"), "{}", answer.text());
    assert_eq!(iis.starts(), 3);
}

#[test]
fn what_never_listens_is_killed_after_the_startup_time_limit() {
    let home = home(
        "--never-bind",
        r#"startupTimeLimit="3600" startupRetryCount="0""#,
    );
    let iis = Iis::start(&home, Module::v1());
    let mut waiting = iis.connect();
    waiting.send("GET", "/", "");
    iis.waits_for(1, "it starts", is_start);
    iis.clock().advance(Duration::from_secs(3600));
    assert_eq!(waiting.answer().unwrap().status, 502);
    iis.await_no_processes();
}

#[cfg_attr(windows, ignore = "Wine: does not say which process listens where")]
#[test]
fn a_port_that_a_stranger_listens_on_counts_for_azure_only() {
    for (module, status) in [(Module::v1(), 502), (Module::azure(), 200)] {
        let limits = r#"startupTimeLimit="3600" startupRetryCount="0""#;
        let home = home("--never-bind", limits);
        let iis = Iis::start(&home, module);
        let mut waiting = iis.connect();
        waiting.send("GET", "/", "");
        iis.waits_for(1, "it starts", is_start);
        let stranger = TcpListener::bind(("127.0.0.1", iis.started()[0].1)).unwrap();
        thread::spawn(move || {
            for mut stream in stranger.incoming().flatten() {
                // What is unread when it closes would reset the connection.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        assert_eq!(waiting.answer().unwrap().status, status, "{module:?}");
    }
}

#[cfg(unix)] // A shell that starts many.
#[test]
fn more_than_sixteen_processes_are_too_many() {
    let home = home("", r#"startupRetryCount="0""#);
    let app = tests::binaries::sample_app().display();
    let script = format!(
        "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 600 & done\n\
         exec '{app}' -port $HTTP_PLATFORM_PORT\n"
    );
    let file = home.path().join("script");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    home.install(&file);
    let iis = Iis::start(&home, Module::v1());
    let answer = iis.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("17 processes"), "{}", answer.text());
    iis.await_no_processes();
}

#[test]
fn after_too_many_ends_in_a_minute_nothing_is_started_until_it_is_over() {
    let home = home(
        "--exit-code 3",
        r#"startupRetryCount="0" rapidFailsPerMinute="2""#,
    );
    let iis = Iis::start(&home, Module::v1());
    for _ in 0..5 {
        assert_eq!(iis.get("/").status, 502);
    }
    assert_eq!(iis.starts(), 3);
    iis.clock().advance(Duration::from_secs(60));
    assert_eq!(iis.get("/").status, 502);
    assert_eq!(iis.starts(), 4);
}

#[test]
fn a_crash_is_seen_and_the_next_request_starts_it_anew() {
    for module in [Module::v1(), Module::azure(), Module::v2()] {
        let home = app("");
        let iis = Iis::start(&home, module);
        assert_eq!(iis.get("/version").text(), "v1");
        iis.kill(iis.started()[0].0);
        iis.waits_for(1, "the crash is seen", is_crash);
        assert_eq!(iis.starts(), 1, "only on demand");
        assert_eq!(iis.get("/version").text(), "v1");
        assert_eq!(iis.starts(), 2);
    }
}

#[test]
fn a_descendant_that_ends_while_the_port_answers_is_overlooked() {
    let home = home("-port %HTTP_PLATFORM_PORT% --leak-child", "");
    let iis = Iis::start(&home, Module::v1());
    assert_eq!(iis.get("/").status, 200);
    let (root, _) = iis.started()[0];
    let others: Vec<u32> = iis
        .processes()
        .into_iter()
        .filter(|&pid| pid != root)
        .collect();
    iis.kill(others[0]);
    iis.waits_for(
        1,
        "it is overlooked",
        |event| matches!(event, Event::Overlooked { pid } if *pid == others[0]),
    );
    assert_eq!(iis.get("/").status, 200);
    assert_eq!(iis.starts(), 1);
}

#[test]
fn a_stop_ends_what_is_known() {
    for module in [Module::v1(), Module::azure(), Module::v2()] {
        let home = home("-port %HTTP_PLATFORM_PORT% --leak-child", "");
        let iis = Iis::start(&home, module);
        assert_eq!(iis.get("/").status, 200);
        // On Windows a console's host may be a third.
        assert!(iis.processes().len() >= 2);
        iis.stop();
        iis.await_no_processes();
    }
}

#[cfg(unix)] // A test has no console to send a signal by.
#[test]
fn version_two_asks_before_it_kills() {
    for (arguments, killed) in [("", false), (" --ignore-stop", true)] {
        let home = home(&format!("-port %HTTP_PLATFORM_PORT%{arguments}"), "");
        let iis = Iis::start(&home, Module::v2());
        assert_eq!(iis.get("/").status, 200);
        let (pid, _) = iis.started()[0];
        thread::scope(|scope| {
            scope.spawn(|| iis.stop());
            let asked = Event::Asked { pid, by: "signal" };
            iis.waits_for(1, "it is asked", |event| *event == asked);
            if killed {
                iis.clock().advance(Duration::from_secs(10));
            }
        });
        assert_eq!(iis.events().last(), Some(&Event::Stopped { pid, killed }));
    }
}

#[test]
fn processes_take_turns() {
    let home = app(r#"processesPerApplication="3""#);
    let iis = Iis::start(&home, Module::v1());
    for _ in 0..6 {
        assert_eq!(iis.get("/version").status, 200);
    }
    assert_eq!(iis.starts(), 3);
}

#[test]
fn a_changed_web_config_ends_what_runs_and_a_broken_one_is_answered_with_its_fault() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    assert_eq!(iis.get("/version").text(), "v1");
    home.configure("<configuration />");
    iis.waits_for(1, "it is read again", |event| *event == Event::Reconfigured);
    iis.await_no_processes();
    let answer = iis.get("/version");
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("no <system.webServer>"),
        "{}",
        answer.text()
    );
}

#[test]
fn an_overlapped_recycle_finishes_what_is_in_flight() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    assert_eq!(iis.get("/version").text(), "v1");
    let mut slow = iis.connect();
    slow.send("POST", "/upload", "Content-Length: 2\r\n");
    slow.write(b"a");
    iis.await_in_flight(1);
    iis.recycle();
    iis.waits_for(1, "another worker", |event| *event == Event::Recycled);
    assert_eq!(iis.get("/version").text(), "v1");
    assert_eq!(iis.starts(), 2);
    assert_eq!(
        iis.count(|event| matches!(event, Event::WorkerEnded { .. })),
        0
    );
    slow.write(b"b");
    assert_eq!(slow.answer().unwrap().status, 200);
    iis.waits_for(1, "the old one ends", |event| {
        *event == Event::WorkerEnded { cut: 0 }
    });
}

#[test]
fn a_recycle_waits_ninety_seconds_and_no_longer() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    let (mut socket, _) = WebSocket::open(iis.connect());
    assert_eq!(socket.echo("a").unwrap(), "a");
    iis.recycle();
    iis.waits_for(1, "another worker", |event| *event == Event::Recycled);
    assert_eq!(socket.echo("b").unwrap(), "b");
    iis.clock().advance(Duration::from_secs(90));
    iis.waits_for(1, "the old one ends", |event| {
        *event == Event::WorkerEnded { cut: 1 }
    });
    assert!(socket.echo("c").is_err());
}

#[test]
fn azure_looks_by_connecting() {
    assert_eq!(Module::azure().look, Look::Connect);
    let home = app("");
    let iis = Iis::start(&home, Module::azure());
    assert_eq!(iis.get("/version").text(), "v1");
}

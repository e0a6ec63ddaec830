//! The faults that the app can be told to have.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::running::{Release, await_fact, connect, get, start};

#[test]
fn ready_after_answers_503_until_then() {
    let begin = Instant::now();
    let (_app, address) = start(&["--ready-after", "400ms"]);

    assert_eq!(get(address, "/version").status, 200);
    await_fact("/health answers 200", || {
        get(address, "/health").status == 200
    });

    assert!(
        begin.elapsed() >= Duration::from_millis(400),
        "ready after {:?}",
        begin.elapsed()
    );
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn never_ready_answers_503_for_ever_and_the_rest_as_ever() {
    let not_yet = ["--ready-after", "1h"];
    let too_long = ["--ready-after", "500000000000years"];
    for flags in [&["--never-ready"][..], &not_yet, &too_long] {
        let (_app, address) = start(flags);

        assert_eq!(get(address, "/health").status, 503, "{flags:?}");
        assert_eq!(get(address, "/").status, 503, "{flags:?}");
        assert_eq!(get(address, "/version").text(), "v1");
        assert_eq!(get(address, "/slow?ms=0").status, 200);
    }
}

#[test]
fn never_bind_runs_and_does_not_listen() {
    // To listen on a port that is taken would be its end.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();

    let mut app = Release::new("v1", &["--never-bind"]).spawn(&["--port", &port]);

    app.stdout.wait_for("v1 never listens");
    app.assert_running();
}

#[test]
fn crash_after_ends_the_app_in_the_middle_of_a_request() {
    let (mut app, address) = start(&["--crash-after", "1500ms", "--exit-code", "7"]);
    let mut connection = connect(address);
    connection.send("GET", "/stream?events=1000000&every=3600000", "");

    let cut_off = connection.answer();

    assert!(cut_off.is_err(), "{cut_off:?}");
    app.stderr
        .wait_for("v1 crashes with 7, as told by --crash-after");
    assert_eq!(app.await_exit().code(), Some(7));
}

#[test]
fn crash_after_has_an_exit_code_of_its_own() {
    let mut app = Release::new("v1", &["--crash-after", "1ms", "--never-bind"]).spawn(&[]);

    assert_eq!(app.await_exit().code(), Some(1));
}

#[test]
fn exit_code_ends_the_app_at_once_and_says_why() {
    let mut app = Release::new("v1", &["--exit-code", "3"]).spawn(&["--port", "0"]);

    app.stderr
        .wait_for("v1 exits at once with 3, as told by --exit-code");
    assert_eq!(app.await_exit().code(), Some(3));
}

#[cfg(unix)]
#[test]
fn ignore_stop_goes_on_serving() {
    use rustix::process::Signal;

    let (mut app, address) = start(&["--ignore-stop"]);

    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
    ] {
        app.signal(signal);
        app.stderr.wait_for(&format!("ignores {name}"));
    }

    assert_eq!(get(address, "/version").text(), "v1");
    app.assert_running();
}

#[cfg(target_os = "linux")]
mod leak_child {
    use rustix::process::{Pid, Signal, kill_process};

    use super::super::running::Running;
    use super::*;

    /// Ended at the latest with this value.
    struct Leaked(Pid);

    impl Leaked {
        fn of(app: &Running) -> Self {
            let line = app.stderr.wait_for("v1 leaks child ");
            let pid = line.rsplit_once(' ').and_then(|(_, pid)| pid.parse().ok());
            Self(Pid::from_raw(pid.expect("a pid")).expect("a pid"))
        }

        fn file(&self, name: &str) -> String {
            std::fs::read_to_string(format!("/proc/{}/{name}", self.0)).unwrap_or_default()
        }

        fn is_running(&self) -> bool {
            !self.file("cmdline").is_empty()
        }
    }

    impl Drop for Leaked {
        fn drop(&mut self) {
            // It may have ended by itself.
            let _ = kill_process(self.0, Signal::KILL);
        }
    }

    #[test]
    fn outlives_the_app() {
        let (mut app, _) = Release::new("v1", &["--leak-child"]).listen(&[]);
        let child = Leaked::of(&app);

        app.signal(Signal::TERM);
        assert_eq!(app.await_exit().code(), Some(0));

        let parent = format!("PPid:\t{}", app.pid());
        assert!(child.is_running());
        assert!(!child.file("status").contains(&parent));
        assert_eq!(
            child.file("cmdline").split('\0').nth(1),
            Some("--leaked-child")
        );
    }

    #[test]
    fn ends_when_it_is_asked_to() {
        let (app, _) = Release::new("v1", &["--leak-child"]).listen(&[]);
        let child = Leaked::of(&app);

        await_fact("the child listens for signals", || {
            // Bit 14 of the mask is signal 15.
            let status = child.file("status");
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:\t"));
            caught.is_some_and(|mask| u64::from_str_radix(mask, 16).unwrap_or(0) & (1 << 14) != 0)
        });
        kill_process(child.0, Signal::TERM).unwrap();

        // The next thing said by anyone: it has not leaked a child in its turn.
        assert_eq!(
            app.stderr.wait_for("sample-app "),
            "sample-app stops on SIGTERM"
        );
        // The app does not wait for its child, so what is left of it is a zombie.
        await_fact("the child has ended", || !child.is_running());
    }
}

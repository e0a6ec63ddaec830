//! A handoff between two ends that a test plays byte by byte: its clients, and its app.
//!
//! ```text
//! test as client ── Wire ──▶ handoff ──▶ puppet ──▶ Wire ── test as app
//! ```
//! Every test has a handoff of its own: what another test does with a kept connection cannot be
//! seen, and when it ends, everything that ever reached the app is known.

use std::fmt::Write as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use tempfile::TempDir;

use crate::deployment::{Running, Site};
use crate::release::file;
use crate::wait::eventually;

mod wire;

pub use wire::{End, Wire};

/// The stage: a running handoff whose app is this test.
#[derive(Debug)]
pub struct Stage {
    site: Running,
    apps: TcpListener,
    /// Folder of the file that lets the app be ready.
    gate: Option<TempDir>,
}

/// An answer that is as short as they get.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// [`OK`] as a client gets it, without the date.
pub const OK_PASSED_ON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
/// A request that is as short as they get.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// [`GET`] as the app gets it.
pub const GET_PASSED_ON: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

// === impl Stage ===

impl Stage {
    /// Starts it with defaults, but for the fields about the client, which most tests are not
    /// about, and one worker: each has its own connections to the app.
    #[expect(clippy::new_without_default, reason = "it starts processes")]
    #[track_caller]
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Starts it with these options.
    #[track_caller]
    pub fn with(options: &[(&str, &str)]) -> Self {
        let stage = Self::launch(options, &[]);
        let what = "the app serves";
        stage
            .site
            .wait_until(what, |status| status.active.is_some());
        stage
    }

    /// Starts it with these options, and does not wait for the app, all of which the test plays: also
    /// the answers to the readiness probe, unless they are those of HTTP/1.
    #[track_caller]
    pub fn launching(options: &[(&str, &str)]) -> Self {
        Self::launch(options, &[])
    }

    /// The listener at which the connections to the app arrive.
    pub fn apps(&self) -> TcpListener {
        self.apps.try_clone().expect("a listener")
    }

    /// Starts it with an app that is not ready before [`Stage::make_ready`].
    #[track_caller]
    pub fn starting() -> Self {
        Self::starting_with(&[])
    }

    /// Starts it so with these options.
    #[track_caller]
    pub fn starting_with(options: &[(&str, &str)]) -> Self {
        let gate = TempDir::new().expect("a folder");
        let file = gate.path().join("ready");
        let mut stage = Self::launch(options, &["--ready-file", file.to_str().expect("a path")]);
        stage.gate = Some(gate);
        stage
    }

    /// Lets the app be ready, and waits until handoff knows: a probe that it gives up when it is
    /// asked to stop may be a connection without a byte, which the test would take for its own.
    pub fn make_ready(&self) {
        let gate = self.gate.as_ref().expect("an app that starts");
        std::fs::write(gate.path().join("ready"), "").expect("a file");
        self.site
            .wait_until("it is ready", |status| status.active.is_some());
    }

    #[track_caller]
    fn launch(options: &[(&str, &str)], more: &[&str]) -> Self {
        let apps = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = apps.local_addr().expect("a port").port().to_string();
        let puppet = puppet();
        let mut command = vec![
            puppet.to_str().expect("a path"),
            "--port",
            "{port}",
            "--test",
            &port,
            "--stop",
            "stdin",
        ];
        command.extend(more);
        let defaults = [
            ("--forwarded", "keep"),
            ("--workers", "1"),
            ("--health-path", "/handoff-ready"),
            ("--settle", "1ms"),
            ("--stop", "stdin"),
        ];
        let options = defaults.iter().chain(options);
        let site = options
            .fold(Site::overwritten_in_place(), |site, (option, value)| {
                // A switch has no value, which the environment's has.
                if option.starts_with("--") {
                    site.with(option, value)
                } else {
                    site.with_variable(option, value)
                }
            })
            .running(&command)
            .launch(file("puppet", b"1"));
        Self {
            site,
            apps,
            gate: None,
        }
    }

    /// The deployment.
    pub fn site(&self) -> &Running {
        &self.site
    }

    /// Starts the app once more, as a new release, and waits until that gets the requests.
    #[track_caller]
    pub fn swap(&self) {
        let before = self.site.status().handoffs.len();
        let content = format!("{}", before + 2);
        self.site.deploy(file("puppet", content.as_bytes()));
        self.site.wait_until("the new release is active", |status| {
            status.handoffs.len() > before && status.candidate.is_none()
        });
    }

    /// A new client.
    #[track_caller]
    pub fn client(&self) -> Wire {
        let stream = TcpStream::connect(self.site.address());
        Wire::new(stream.expect("a connection to handoff"))
    }

    /// A new client that connects to this address of the machine.
    #[track_caller]
    pub fn client_at(&self, address: IpAddr) -> Wire {
        let stream = TcpStream::connect((address, self.site.address().port()));
        Wire::new(stream.expect("a connection to handoff"))
    }

    /// A new client that has sent this.
    #[track_caller]
    pub fn client_sends(&self, bytes: impl AsRef<[u8]>) -> Wire {
        let mut client = self.client();
        client.send(bytes);
        client
    }

    /// The next connection that handoff has opened to its app.
    #[track_caller]
    pub fn app(&self) -> Wire {
        self.apps.set_nonblocking(true).expect("a listener");
        let accepted = eventually(
            || format!("handoff connects to the app; its log:\n{}", self.site.log()),
            || self.apps.accept().ok(),
        );
        accepted.0.set_nonblocking(false).expect("a socket");
        Wire::new(accepted.0)
    }

    /// A client that has had one answer, and the connection to the app that it left behind.
    #[track_caller]
    pub fn kept(&self) -> (Wire, Wire) {
        let mut client = self.client();
        let app = self.serve_on_new_connection(&mut client);
        (client, app)
    }

    /// Sends one more request, which has to arrive on a new connection to the app, and answers it.
    #[track_caller]
    pub fn serve_on_new_connection(&self, client: &mut Wire) -> Wire {
        client.send(GET);
        let mut app = self.app();
        app.expect(GET_PASSED_ON);
        app.send(OK);
        client.expect_answer(OK_PASSED_ON, "ok");
        app
    }

    /// Ends handoff, and is sure then that nothing more has reached the app: neither on these of
    /// its connections nor on another one.
    #[track_caller]
    pub fn assert_nothing_more_reaches(self, apps: impl IntoIterator<Item = Wire>) {
        let Self {
            site, apps: others, ..
        } = self;
        site.ask_to_stop();
        site.await_exit();
        for mut app in apps {
            let (rest, _) = app.rest();
            assert_eq!(rest, "", "no more than this reaches the app");
        }
        others.set_nonblocking(true).expect("a listener");
        if let Ok((stream, _)) = others.accept() {
            stream.set_nonblocking(false).expect("a socket");
            let (rest, _) = Wire::new(stream).rest();
            panic!("no more than this reaches the app, but on another connection: {rest:?}");
        }
    }
}

/// Built with the tests, beside them.
fn puppet() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let mut folders = test.ancestors().skip(1);
    let found = folders.find_map(|folder| {
        let path = folder.join(format!("puppet{}", std::env::consts::EXE_SUFFIX));
        path.is_file().then_some(path)
    });
    found.expect("the puppet has been built")
}

/// The first field of this name, which is in lower case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// All fields of this name.
pub fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let named = |line: &'a str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().filter_map(named).collect()
}

/// Each byte as a character.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A body in chunks of this size.
pub fn chunked(body: &str, size: usize) -> String {
    let mut chunks = String::new();
    for chunk in body.as_bytes().chunks(size) {
        let _ = write!(chunks, "{:x}\r\n{}\r\n", chunk.len(), text(chunk));
    }
    chunks + "0\r\n\r\n"
}

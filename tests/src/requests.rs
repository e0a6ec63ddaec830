//! A running deployment as its clients see it.

use std::io;

use crate::client::{Answer, Connection};
use crate::deployment::Running;
use crate::wait::eventually;

/// A request whose end the client decides: its body's last byte has not been sent.
#[derive(Debug)]
pub struct Unfinished(Connection);

// === impl Running ===

impl Running {
    /// Waits until clients get this version of `sample-app`; whatever they get before, it is 200.
    #[track_caller]
    pub fn await_version(&self, version: &str) {
        self.await_shown("/version", version);
    }

    /// Waits until this is what clients get; whatever they get before, it is 200.
    #[track_caller]
    pub fn await_shown(&self, target: &str, text: &str) {
        let mut last = String::new();
        eventually(
            || self.failure(&format!("GET {target} is {text:?}")),
            || {
                let answer = self.get(target);
                assert_eq!(
                    answer.status,
                    200,
                    "{}",
                    self.failure("every answer is 200")
                );
                answer.text().trim_end().clone_into(&mut last);
                (last == text).then_some(())
            },
        );
    }

    /// A new connection, which is never refused.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        let connection = Connection::open(self.address());
        connection.unwrap_or_else(|error| {
            let what = format!("a connection is accepted, not: {error}");
            panic!("{}", self.failure(&what))
        })
    }

    /// A GET on a new connection, its answer not yet read.
    #[track_caller]
    pub fn begin(&self, target: &str) -> Connection {
        let mut connection = self.connect();
        connection.send("GET", target, "");
        connection
    }

    /// A GET on a new connection.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        let answer = self.begin(target).answer();
        answer.unwrap_or_else(|error| {
            let what = format!("GET {target} is answered, not: {error}");
            panic!("{}", self.failure(&what))
        })
    }

    /// Begins a POST that stays in flight, and waits until it is.
    #[track_caller]
    pub fn begin_upload(&self, target: &str) -> Unfinished {
        let mut connection = self.connect();
        connection.send("POST", target, "Content-Length: 8\r\n");
        connection.write(b"handoff");
        self.wait_until("the upload is in flight", |status| status.in_flight() > 0);
        Unfinished(connection)
    }
}

// === impl Unfinished ===

impl Unfinished {
    /// Sends the last byte and reads the answer.
    pub fn finish(mut self) -> io::Result<Answer> {
        self.0.try_write(b"!")?;
        self.0.answer()
    }
}

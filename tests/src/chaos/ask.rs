//! The requests of the load: what is asked, and whether the answer is right.

use std::fmt::Write as _;

use fastrand::Rng;
use sample_app::answers;

use super::ledger::Outcome;
use crate::client::Answer;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// GET, a short answer.
    Version,
    /// An answer of so many bytes after so many milliseconds.
    Slow(&'static str, u64, usize),
    /// PUT, as many bytes back.
    Echo(usize),
    /// POST, the digest of so many bytes back.
    Upload(usize),
    /// GET, so many events.
    Stream(usize),
}

// === impl Ask ===

impl Ask {
    /// Any.
    pub fn draw(rng: &mut Rng) -> Self {
        Self(match rng.u8(0..10) {
            0..=3 => Kind::Version,
            4 => Kind::Slow("GET", rng.u64(0..300), rng.usize(0..40_000)),
            5 => Kind::Slow("POST", rng.u64(0..300), rng.usize(0..40_000)),
            6 => Kind::Echo(rng.usize(0..60_000)),
            7 | 8 => Kind::Upload(rng.usize(0..60_000)),
            _ => Kind::Stream(rng.usize(1..6)),
        })
    }

    /// Its method.
    pub fn method(self) -> &'static str {
        match self.0 {
            Kind::Version | Kind::Stream(_) => "GET",
            Kind::Slow(method, ..) => method,
            Kind::Echo(_) => "PUT",
            Kind::Upload(_) => "POST",
        }
    }

    /// All of it, under this id.
    pub fn bytes(self, id: &str) -> Vec<u8> {
        let method = self.method();
        let target = match self.0 {
            Kind::Version => "/version".to_owned(),
            Kind::Slow(_, ms, bytes) => format!("/slow?ms={ms}&bytes={bytes}"),
            Kind::Echo(_) => "/echo".to_owned(),
            Kind::Upload(_) => "/upload".to_owned(),
            Kind::Stream(events) => format!("/stream?events={events}&every=20"),
        };
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: app\r\nX-Request-ID: {id}\r\n");
        let body = self.body(id);
        if method != "GET" {
            // Writing to a string cannot fail.
            let _ = write!(bytes, "Content-Length: {}\r\n", body.len());
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend(body);
        bytes
    }

    /// Judges a whole answer.
    pub fn judge(self, id: &str, answer: &Answer) -> Outcome {
        match answer.status {
            200 => {}
            status @ 502..=504 => return Outcome::Failed(format!("status {status}")),
            status => return Outcome::Wrong(format!("{self:?}: status {status}")),
        }
        let release = answer.release();
        let of = answer.header("x-request-id");
        if of != Some(id) {
            return Outcome::Wrong(format!("an answer to {of:?}"));
        }
        let expected = match self.0 {
            Kind::Version => release.as_bytes().to_vec(),
            Kind::Slow(_, _, bytes) => vec![b'.'; bytes],
            Kind::Echo(_) => self.body(id),
            Kind::Upload(_) => answers::receipt_of(&self.body(id)).into_bytes(),
            Kind::Stream(events) => streamed(events as u64, release).into_bytes(),
        };
        if answer.body != expected {
            let (got, expected) = (answer.body.len(), expected.len());
            return Outcome::Wrong(format!("{self:?}: {got} bytes, not these {expected}"));
        }
        Outcome::Answered(release.to_owned())
    }

    /// Returns a body that no other request has, if it is not empty.
    fn body(self, id: &str) -> Vec<u8> {
        let length = match self.0 {
            Kind::Echo(bytes) | Kind::Upload(bytes) => bytes,
            Kind::Version | Kind::Slow(..) | Kind::Stream(_) => 0,
        };
        id.bytes().chain([b' ']).cycle().take(length).collect()
    }
}

fn streamed(events: u64, release: &str) -> String {
    let event = |number| answers::event(number, events, release);
    (1..=events).map(event).collect()
}

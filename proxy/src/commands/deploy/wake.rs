//! Wakes a site that sleeps until it receives a request.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time from the end of one request to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// Requests a URL, again and again, until it is dropped.
///
/// It uses `curl`, which Kudu, Windows and most Linux systems have: a TLS library for this one
/// request would be a third of handoff's size.
#[derive(Debug)]
pub(super) struct Wake {
    url: String,
    curl: Option<Child>,
    ended: Option<Instant>,
    /// Result of the last request that ended.
    state: String,
    /// True if no request can be made.
    pub(super) is_hopeless: bool,
}

// === impl Wake ===

impl Wake {
    /// Creates a waker that has not requested anything.
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            curl: None,
            ended: None,
            state: "no answer yet".to_owned(),
            is_hopeless: false,
        }
    }

    /// Returns the result of the last request, in words.
    pub(super) fn state(&self) -> &str {
        &self.state
    }

    /// Starts a request if none is in progress.
    pub(super) fn go_on(&mut self) {
        match &mut self.curl {
            Some(curl) => {
                if let Ok(Some(status)) = curl.try_wait() {
                    let mut said = String::new();
                    if let Some(stderr) = &mut curl.stderr {
                        let _ = stderr.read_to_string(&mut said);
                    }
                    self.state = if status.success() {
                        "it answers, but no sidecar has come up".to_owned()
                    } else {
                        format!("{} ({status})", said.trim())
                    };
                    self.curl = None;
                    self.ended = Some(Instant::now());
                }
            }
            None if self.ended.is_some_and(|ended| ended.elapsed() < PAUSE) => {}
            None => match self.request() {
                Ok(curl) => self.curl = Some(curl),
                Err(error) => {
                    self.state = format!("curl cannot be run: {error}");
                    self.is_hopeless = true;
                }
            },
        }
    }

    fn request(&self) -> std::io::Result<Child> {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "230"])
            .args(["--user-agent", "handoff-wake", "--"])
            .arg(&self.url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(curl) = &mut self.curl {
            let _ = curl.kill();
            let _ = curl.wait();
        }
    }
}

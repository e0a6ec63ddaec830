//! Output of an instance: written to the log line by line, and its last lines kept for reports.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinSet;

use crate::os::thread::EXIT_GRACE;
use crate::release::{Generation, ReleaseId};

/// Maximum number of last lines that are kept: the message of a stack trace may be far above its end.
const KEPT_LINES: usize = 200;
/// Maximum number of bytes that are kept.
const KEPT_BYTES: usize = 32 * 1024;
/// Maximum length of a line in bytes. A longer one is logged in pieces, which bounds the buffer.
const MAX_LINE: usize = 64 * 1024;
/// Number of bytes that are kept of a line.
const KEPT_LENGTH: usize = 4 * 1024;

/// Target of the log events that are lines of apps: the log formats these differently.
const APP_TARGET: &str = "app";

/// A stream to which apps write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The origin of an app's line.
#[derive(Clone, Debug)]
pub struct LineOrigin {
    /// Launch number of the instance.
    pub generation: Generation,
    /// Release that it runs.
    pub release: ReleaseId,
    /// Stream to which it wrote the line.
    pub stream: OutputStream,
}

/// A receiver of the lines of apps in place of the log. It never blocks.
#[derive(Clone)]
pub struct AppLog(Rc<LineHandler>);

/// A function that receives a line without its end, and its origin.
type LineHandler = dyn Fn(&LineOrigin, &[u8]);

/// The output of one instance.
#[derive(Debug)]
pub(super) struct Output {
    tail: Rc<RefCell<OutputTail>>,
    readers: JoinSet<()>,
    generation: Generation,
    release: ReleaseId,
    log: Option<AppLog>,
}

/// The last lines.
#[derive(Debug, Default)]
struct OutputTail {
    lines: VecDeque<String>,
    bytes: usize,
}

// === impl OutputStream ===

impl OutputStream {
    /// Returns its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

// === impl AppLog ===

impl AppLog {
    /// Returns one that passes each line to `handler`.
    pub fn new(handler: impl Fn(&LineOrigin, &[u8]) + 'static) -> Self {
        Self(Rc::new(handler))
    }
}

impl fmt::Debug for AppLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppLog").finish_non_exhaustive()
    }
}

// === impl Output ===

impl Output {
    pub(super) fn new(generation: Generation, release: ReleaseId, log: Option<AppLog>) -> Self {
        Self {
            tail: Rc::default(),
            readers: JoinSet::new(),
            generation,
            release,
            log,
        }
    }

    /// Logs the lines that come from `pipe` until it is closed: a full pipe would block the app.
    pub(super) fn follow(
        &mut self,
        mut pipe: impl AsyncRead + Unpin + 'static,
        stream: OutputStream,
    ) {
        let tail = Rc::clone(&self.tail);
        let origin = LineOrigin {
            generation: self.generation,
            release: self.release.clone(),
            stream,
        };
        let log = self.log.clone();
        let mut handle = move |line: &[u8]| {
            match &log {
                Some(AppLog(handler)) => handler(&origin, line),
                None => tracing::info!(
                    target: APP_TARGET,
                    generation = origin.generation.0,
                    release = %origin.release,
                    stream = origin.stream.name(),
                    "{}",
                    String::from_utf8_lossy(line)
                ),
            }
            tail.borrow_mut().keep(line);
        };
        self.readers.spawn_local(async move {
            let mut lines = Lines::default();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
                lines.push(&buffer[..n], &mut handle);
            }
            lines.finish(handle);
        });
    }

    /// Waits until all that the tree wrote has been read, and returns the last lines. Stops waiting
    /// after [`EXIT_GRACE`]: a process that left the tree may keep the pipe open.
    pub(super) async fn last_lines(&mut self) -> VecDeque<String> {
        let all_read = async { while self.readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(EXIT_GRACE, all_read).await;
        self.lines_so_far()
    }

    /// Returns the last lines that have been read so far.
    pub(super) fn lines_so_far(&self) -> VecDeque<String> {
        self.tail.borrow().lines.clone()
    }
}

// === impl OutputTail ===

impl OutputTail {
    fn keep(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(&line[..line.len().min(KEPT_LENGTH)]);
        self.bytes += line.len();
        self.lines.push_back(line.into_owned());
        while self.lines.len() > KEPT_LINES || self.bytes > KEPT_BYTES {
            let oldest = self.lines.pop_front().unwrap_or_default();
            self.bytes -= oldest.len();
        }
    }
}

/// A splitter of bytes into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            line(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
            self.partial.clear();
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= MAX_LINE {
            line(&self.partial);
            self.partial.clear();
        }
    }

    fn finish(&self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut take = |line: &[u8]| seen.push(String::from_utf8_lossy(line).into_owned());
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, &mut take);
        }
        lines.finish(&mut take);
        seen
    }

    #[test]
    fn lines_are_put_together_from_whatever_pieces_come() {
        assert_eq!(lines(&[b"a", b"b\nc\r", b"\n\nd"]), ["ab", "c", "", "d"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn the_last_lines_are_kept_up_to_a_number_and_a_size() {
        let mut tail = OutputTail::default();
        for number in 0..2 * KEPT_LINES {
            tail.keep(number.to_string().as_bytes());
        }
        assert_eq!(tail.lines.len(), KEPT_LINES);
        assert_eq!(tail.lines[0], KEPT_LINES.to_string());
        for _ in 0..2 * KEPT_LINES {
            tail.keep(&[b'x'; 2 * KEPT_LENGTH]);
        }
        assert_eq!(tail.lines.len(), KEPT_BYTES / KEPT_LENGTH);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let seen = lines(&[&[b'x'; 3 * MAX_LINE], b"y\n"]);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], "y");
    }
}

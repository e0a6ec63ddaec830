//! What an instance writes, line by line into the log, and its last lines kept for the verdict.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinSet;

use crate::release::{Generation, ReleaseId};

const KEPT_LINES: usize = 20;
/// A longer line is logged in pieces: no app can make the log buffer without bound.
const MAX_LINE: usize = 64 * 1024;
/// Of a line so much is kept.
const KEPT_LENGTH: usize = 4 * 1024;
/// A process that left the tree may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes the lines of apps instead of the log, and never makes anybody wait.
#[derive(Clone)]
pub struct AppLog(Rc<Take>);

/// What is done with a line: of which launch, of what, and the line without its end.
type Take = dyn Fn(Generation, &ReleaseId, &[u8]);

/// The output of one instance.
#[derive(Debug)]
pub(super) struct Output {
    tail: Rc<RefCell<VecDeque<String>>>,
    readers: JoinSet<()>,
    generation: Generation,
    release: ReleaseId,
    log: Option<AppLog>,
}

// === impl AppLog ===

impl AppLog {
    /// What is to be done with a line.
    pub fn new(take: impl Fn(Generation, &ReleaseId, &[u8]) + 'static) -> Self {
        Self(Rc::new(take))
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

    /// Logs what comes from `pipe`, always reading on: a full pipe would block the app.
    pub(super) fn follow(&mut self, mut pipe: impl AsyncRead + Unpin + 'static) {
        let tail = Rc::clone(&self.tail);
        let (generation, release) = (self.generation, self.release.clone());
        let log = self.log.clone();
        let mut take = move |line: &[u8]| {
            match &log {
                Some(AppLog(take)) => take(generation, &release, line),
                None => {
                    let line = String::from_utf8_lossy(line);
                    tracing::info!(target: "app", %generation, %release, "{line}");
                }
            }
            keep(&tail, line);
        };
        self.readers.spawn_local(async move {
            let mut lines = Lines::default();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
                lines.push(&buffer[..n], &mut take);
            }
            lines.finish(take);
        });
    }

    /// The last lines, once all that the tree wrote has been read.
    pub(super) async fn last_lines(&mut self) -> VecDeque<String> {
        let all_read = async { while self.readers.join_next().await.is_some() {} };
        // On a timeout what has been read so far is what there is to show.
        let _ = tokio::time::timeout(LAST_WORDS, all_read).await;
        self.so_far()
    }

    pub(super) fn so_far(&self) -> VecDeque<String> {
        self.tail.borrow().clone()
    }
}

fn keep(tail: &RefCell<VecDeque<String>>, line: &[u8]) {
    let line = String::from_utf8_lossy(&line[..line.len().min(KEPT_LENGTH)]);
    let mut tail = tail.borrow_mut();
    if tail.len() == KEPT_LINES {
        tail.pop_front();
    }
    tail.push_back(line.into_owned());
}

/// Splits bytes into lines.
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
    fn a_line_without_end_comes_in_pieces() {
        let seen = lines(&[&[b'x'; 3 * MAX_LINE], b"y\n"]);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], "y");
    }
}

//! The last lines of the log, for the status page.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

use super::queue::Queue;

/// Number of lines that are kept.
const LINES: usize = 200;
/// Number of bytes that are kept of a line.
const LENGTH: usize = 2048;

/// The last lines of the log, as text.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<TailInner>);

#[derive(Debug, Default)]
struct TailInner {
    lines: Mutex<LastLines>,
    queues: Mutex<Vec<(&'static str, Queue)>>,
}

#[derive(Debug, Default)]
struct LastLines {
    /// Number of lines before the first one that is kept.
    before: u64,
    kept: VecDeque<String>,
}

// === impl Tail ===

impl Tail {
    /// Returns the kept lines after the first `seen` of all lines, and the number of all lines.
    pub fn since(&self, seen: u64) -> (Vec<String>, u64) {
        let lines = self.0.lines.lock();
        let skip = usize::try_from(seen.saturating_sub(lines.before)).unwrap_or(usize::MAX);
        let new = lines.kept.iter().skip(skip).cloned().collect();
        (new, lines.before + lines.kept.len() as u64)
    }

    /// Adds a line.
    pub fn push(&self, line: &[u8]) {
        let text = &line[..line.len().min(LENGTH)];
        let text = String::from_utf8_lossy(text).trim_end().to_owned();
        let mut lines = self.0.lines.lock();
        if lines.kept.len() == LINES {
            lines.kept.pop_front();
            lines.before += 1;
        }
        lines.kept.push_back(text);
    }

    /// Returns the number of dropped lines of each log.
    pub fn dropped_lines(&self) -> Vec<(&'static str, u64)> {
        let queues = self.0.queues.lock();
        let dropped = queues.iter().map(|(name, queue)| (*name, queue.dropped()));
        dropped.collect()
    }

    /// Includes the queue of a log in [`Tail::dropped_lines`].
    pub fn watch_queue(&self, name: &'static str, queue: &Queue) {
        self.0.queues.lock().push((name, queue.clone()));
    }
}

/// Takes each buffer for a line.
impl io::Write for &Tail {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Tail {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn who_looks_again_sees_what_is_new_and_no_more_than_is_kept() {
        let tail = Tail::default();
        assert_eq!(tail.since(0), (Vec::new(), 0));
        (&tail).write_all(b"one\n").unwrap();
        (&tail).write_all(b"two\n").unwrap();
        let (lines, seen) = tail.since(0);
        assert_eq!((lines, seen), (vec!["one".into(), "two".into()], 2));
        for number in 0..LINES {
            (&tail).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let (lines, now) = tail.since(seen);
        assert_eq!((lines.len(), now), (LINES, 2 + LINES as u64));
        assert_eq!(lines[0], "0", "the first two are gone");
        assert_eq!(tail.since(now), (Vec::new(), now));
        (&tail).write_all(&[b'x'; 2 * LENGTH]).unwrap();
        assert_eq!(tail.since(now).0[0].len(), LENGTH);
    }
}

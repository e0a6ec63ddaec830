//! The last lines of the log, for who looks on.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use super::Queue;

/// So many lines are kept.
const LINES: usize = 200;
/// Of each line, so many bytes: what is shown is not the place to read a longer one.
const LENGTH: usize = 2048;

/// The last lines of the log, as text.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    queues: Mutex<Vec<(&'static str, Queue)>>,
}

#[derive(Debug, Default)]
struct Lines {
    /// How many lines there were before the first that is kept.
    before: u64,
    kept: VecDeque<String>,
}

// === impl Tail ===

impl Tail {
    /// The lines that are kept of those after the first `seen`, and how many there have been in all.
    pub fn since(&self, seen: u64) -> (Vec<String>, u64) {
        let lines = self.lines();
        let skip = usize::try_from(seen.saturating_sub(lines.before)).unwrap_or(usize::MAX);
        let new = lines.kept.iter().skip(skip).cloned().collect();
        (new, lines.before + lines.kept.len() as u64)
    }

    /// Keeps a line that is in no log.
    pub fn push(&self, line: &[u8]) {
        let text = &line[..line.len().min(LENGTH)];
        let text = String::from_utf8_lossy(text).trim_end().to_owned();
        let mut lines = self.lines();
        if lines.kept.len() == LINES {
            lines.kept.pop_front();
            lines.before += 1;
        }
        lines.kept.push_back(text);
    }

    /// How many lines of each log could not be written in time.
    pub fn dropped_lines(&self) -> Vec<(&'static str, u64)> {
        let queues = self.0.queues.lock();
        let queues = queues.unwrap_or_else(PoisonError::into_inner);
        let dropped = queues.iter().map(|(of, queue)| (*of, queue.dropped()));
        dropped.collect()
    }

    /// Who counts those of one log.
    pub fn ask(&self, of: &'static str, queue: &Queue) {
        let queues = self.0.queues.lock();
        let mut queues = queues.unwrap_or_else(PoisonError::into_inner);
        queues.push((of, queue.clone()));
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each buffer is a line.
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

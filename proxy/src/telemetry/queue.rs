//! A queue of lines that a thread of its own writes.
//!
//! Pushing a line never blocks, even if a pipe is full or a network share hangs: lines that cannot be
//! written in time are dropped, the oldest first. The last lines before a failure explain it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

use crate::os::thread::JoinOnDrop;

/// Usual maximum number of queued bytes.
pub(super) const MAX_QUEUED: usize = 4 << 20;

/// A queue of lines, to which any thread can push.
#[derive(Clone, Debug)]
pub struct Queue(Arc<QueueInner>);

/// The thread that writes the lines of a queue. Dropping it writes those that are still queued.
#[derive(Debug)]
pub struct QueueWriter {
    queue: Queue,
    /// Joined after the queue has been closed.
    _thread: JoinOnDrop,
}

/// A function that is called with the number of dropped lines. Its result is written in their place.
type OnDropped = fn(u64) -> Option<String>;

#[derive(Debug)]
struct QueueInner {
    state: Mutex<QueueState>,
    changed: Condvar,
    /// Maximum number of queued bytes.
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Text and number of its lines.
    queued: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    dropped: u64,
    is_closed: bool,
}

// === impl Queue ===

impl Queue {
    /// Starts a thread that writes whole lines to `sink`.
    pub fn start(
        name: &str,
        max_bytes: usize,
        on_dropped: OnDropped,
        sink: impl Write + Send + 'static,
    ) -> io::Result<(Self, QueueWriter)> {
        let queue = Self(Arc::new(QueueInner {
            state: Mutex::default(),
            changed: Condvar::new(),
            max_bytes,
        }));
        let written = queue.clone();
        let thread = JoinOnDrop::spawn(name, move || written.write_all(on_dropped, sink))?;
        let writer = QueueWriter {
            queue: queue.clone(),
            _thread: thread,
        };
        Ok((queue, writer))
    }

    /// Appends text that consists of this number of lines with their ends. Never blocks.
    pub fn push(&self, text: Vec<u8>, lines: u64) {
        let mut state = self.0.state.lock();
        state.bytes += size_in_memory(&text);
        state.queued.push_back((text, lines));
        while state.bytes > self.0.max_bytes
            && state.queued.len() > 1
            && let Some((text, lines)) = state.queued.pop_front()
        {
            state.bytes -= size_in_memory(&text);
            state.dropped += lines;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Returns the number of lines that have been dropped.
    pub fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    fn write_all(&self, on_dropped: OnDropped, mut sink: impl Write) {
        let mut reported = 0;
        loop {
            let mut state = self.0.state.lock();
            while state.queued.is_empty() && !state.is_closed {
                self.0.changed.wait(&mut state);
            }
            if state.queued.is_empty() {
                return;
            }
            let lines = std::mem::take(&mut state.queued);
            state.bytes = 0;
            let dropped = state.dropped;
            drop(state);
            if dropped > reported {
                if let Some(line) = on_dropped(dropped - reported) {
                    let _ = sink.write_all(line.as_bytes());
                }
                reported = dropped;
            }
            for (text, _) in lines {
                // An error cannot be reported: this may be the log.
                let _ = sink.write_all(&text);
            }
            let _ = sink.flush();
        }
    }
}

impl Drop for QueueWriter {
    fn drop(&mut self) {
        self.queue.0.state.lock().is_closed = true;
        self.queue.0.changed.notify_all();
    }
}

/// Returns the number of bytes that a text takes in the queue: an empty line is more than nothing.
fn size_in_memory(text: &[u8]) -> usize {
    /// Of the entry in the queue and of the allocator.
    const OVERHEAD: usize = 64;
    text.len() + OVERHEAD
}

/// Takes each buffer for a line.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec(), 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn here(lines: u64) -> Option<String> {
        Some(format!("{lines} are missing\n"))
    }

    /// A sink that sends what it gets to a channel, and returns when another channel allows it.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _ = self.1.send(String::from_utf8_lossy(text).into_owned());
            let _ = self.0.recv();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_says_something_never_waits_and_the_last_lines_stay() {
        let (go_on, may) = mpsc::channel();
        let (tell, written) = mpsc::channel();
        let room = 10 * size_in_memory(b"000000000\n");
        let (queue, writing) = Queue::start("test", room, here, Slow(may, tell)).unwrap();
        queue.push(b"first\n".to_vec(), 1);
        // It is being written: the lines that follow are queued.
        assert_eq!(written.recv().unwrap(), "first\n");
        for number in 0..1000 {
            queue.push(format!("{number:09}\n").into_bytes(), 1);
        }
        let dropped = queue.dropped();
        assert!((980..=992).contains(&dropped), "{dropped}");
        drop(go_on);
        drop(writing);
        let written: Vec<String> = written.iter().collect();
        assert_eq!(written.last().unwrap(), "000000999\n");
        let missing = format!("{dropped} are missing\n");
        assert!(written.contains(&missing), "{written:?}");
        assert!(written.len() <= 13, "{written:?}");
    }

    #[test]
    fn what_hangs_is_not_waited_for_for_ever() {
        let (_go_on, may) = mpsc::channel();
        let (tell, _written) = mpsc::channel();
        let (queue, writing) = Queue::start("test", 100, here, Slow(may, tell)).unwrap();
        queue.push(b"never\n".to_vec(), 1);
        drop(writing);
    }
}

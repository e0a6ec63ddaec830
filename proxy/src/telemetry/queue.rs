//! Lines that wait for a thread of their own to write them.
//!
//! Who says something never waits for a full pipe or a share that hangs: what cannot be written in
//! time is dropped, the oldest first. The last lines before an end are the ones that tell of it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::os::thread::JoinOnDrop;

/// Takes lines.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

/// Writes them, as long as it lives; what waits then is written before it is gone.
#[derive(Debug)]
pub struct Writing {
    queue: Queue,
    /// Waited for when the queue has been told that it is over.
    _thread: JoinOnDrop,
}

/// Says that so many lines are missing: what it returns is written where they would be.
type Missing = fn(u64) -> Option<String>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that may wait.
    room: usize,
}

#[derive(Debug, Default)]
struct State {
    /// With how many lines each is.
    waiting: VecDeque<(Vec<u8>, u64)>,
    bytes: usize,
    dropped: u64,
    is_over: bool,
}

// === impl Queue ===

impl Queue {
    /// Starts a thread that writes to `sink`, which gets whole lines.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        name: &str,
        room: usize,
        missing: Missing,
        sink: impl Write + Send + 'static,
    ) -> io::Result<(Self, Writing)> {
        let queue = Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            room,
        }));
        let writing = queue.clone();
        let thread = JoinOnDrop::spawn(name, move || writing.write_all(missing, sink))?;
        let writing = Writing {
            queue: queue.clone(),
            _thread: thread,
        };
        Ok((queue, writing))
    }

    /// Adds so many lines, with the ends of each; never waits.
    pub fn push(&self, text: Vec<u8>, lines: u64) {
        let mut state = self.state();
        state.bytes += text.len();
        state.waiting.push_back((text, lines));
        while state.bytes > self.0.room
            && state.waiting.len() > 1
            && let Some((text, lines)) = state.waiting.pop_front()
        {
            state.bytes -= text.len();
            state.dropped += lines;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn write_all(&self, missing: Missing, mut sink: impl Write) {
        let mut told = 0;
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.is_over {
                let woken = self.0.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            if state.waiting.is_empty() {
                return;
            }
            let lines = std::mem::take(&mut state.waiting);
            state.bytes = 0;
            let dropped = state.dropped;
            drop(state);
            if dropped > told {
                if let Some(line) = missing(dropped - told) {
                    let _ = sink.write_all(line.as_bytes());
                }
                told = dropped;
            }
            for (text, _) in lines {
                // There is nobody left to tell.
                let _ = sink.write_all(&text);
            }
            let _ = sink.flush();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.queue.state().is_over = true;
        self.queue.0.changed.notify_all();
    }
}

/// Each buffer is a line.
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

    /// Tells what it gets, and has taken it only when it may.
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
        let (queue, writing) = Queue::start("test", 100, here, Slow(may, tell)).unwrap();
        queue.push(b"first\n".to_vec(), 1);
        // It is being written: what comes now waits.
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

//! Threads that have ended before the process does.
//!
//! A process may never end when its end cuts off a thread that holds a lock of the system's: so says
//! the documentation of Windows' ExitProcess, and one end in several hundred shows it under Wine.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// For an end: what hangs for longer, as on a share that does, goes with the process.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// A thread. When this is dropped it has to be on its way to its end, and is waited for, for
/// [`LAST_WORDS`].
#[derive(Debug)]
pub struct JoinOnDrop {
    /// Nothing is ever sent: that the sender is gone is the message.
    running: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl JoinOnDrop {
    /// Starts a thread.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (ended, running) = channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            let _ended = ended;
            run();
        })?;
        Ok(Self {
            running,
            thread: Some(thread),
        })
    }
}

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        let hangs = self.running.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout);
        if !hangs && let Some(thread) = self.thread.take() {
            // It has said itself what it died of.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_waited_for() {
        let (tell, told) = channel();
        let thread = JoinOnDrop::spawn("test", move || {
            thread::sleep(Duration::from_millis(50));
            tell.send(()).unwrap();
        });
        drop(thread);
        told.try_recv().unwrap();
    }

    #[test]
    fn what_hangs_is_not() {
        let (_go_on, may) = channel::<()>();
        drop(JoinOnDrop::spawn("test", move || {
            may.recv().unwrap_or_default()
        }));
    }
}

//! Threads that end before the process does, and thread priorities.
//!
//! A process whose exit cuts off a thread that holds a lock of the system may never end: the
//! documentation of Windows' ExitProcess says it, and one exit in several hundred shows it under Wine.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Maximum time to wait for a thread or a pipe that has to end before the process exits. One that
/// hangs for longer, as on a network share, ends with the process.
pub const EXIT_GRACE: Duration = Duration::from_secs(1);

/// A thread that is joined when this is dropped, unless it takes longer than [`EXIT_GRACE`]. It has
/// to be asked to end before that.
#[derive(Debug)]
pub struct JoinOnDrop {
    /// Channel on which nothing is sent: it is closed when the thread ends.
    running: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl JoinOnDrop {
    /// Starts a thread.
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

    /// Returns true if the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.running.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        let hangs = self.running.recv_timeout(EXIT_GRACE) == Err(RecvTimeoutError::Timeout);
        if !hangs && let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic.
            let _ = thread.join();
        }
    }
}

/// Lets this thread run only when others are idle, as far as the system permits.
#[cfg(unix)]
pub fn lower_priority() {
    // On Linux a nice value belongs to the thread (setpriority(2), notes).
    let _ = rustix::process::nice(10);
}

/// Lets this thread run only when others are idle, as far as the system permits.
#[cfg(windows)]
#[expect(unsafe_code, reason = "thread priorities have no safe interface")]
pub fn lower_priority() {
    use windows_sys::Win32::System::Threading::{
        GetCurrentThread, SetThreadPriority, THREAD_PRIORITY_BELOW_NORMAL,
    };

    // SAFETY: the pseudo handle of the calling thread is always valid.
    unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL) };
}

/// Gives a helper of a thread of low priority the same one. On Linux it has that from its start.
#[cfg(unix)]
pub fn keep_low_priority() {}

/// Gives a helper of a thread of low priority the same one.
#[cfg(windows)]
pub fn keep_low_priority() {
    lower_priority();
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

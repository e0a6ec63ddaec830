//! Threads that end before the process does, and thread priorities.
//!
//! A process whose exit cuts off a thread that holds a lock of the system may never end: the
//! documentation of Windows' ExitProcess says it, and one exit in several hundred shows it under Wine.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Maximum number of looks that hang at a time.
const MAX_LOOKS: usize = 8;

/// Runs `look` on a thread of its own, and returns its result; `None` if it takes longer than `limit`.
///
/// A look at a file of another machine, or at what lies behind it, may take hours. There it is not
/// tried again until it has ended.
pub fn within<T: Send + 'static>(
    limit: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    within_of(&LOOKS, limit, look)
}

/// Does the same; `looks` is the number of looks that have not ended.
fn within_of<T: Send + 'static>(
    looks: &'static AtomicUsize,
    limit: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (found, result) = channel();
    let run = move || {
        let seen = look();
        looks.fetch_sub(1, Ordering::Relaxed);
        // Nobody may be waiting any more.
        let _ = found.send(seen);
    };
    let is_free = looks.fetch_add(1, Ordering::Relaxed) < MAX_LOOKS;
    let thread = thread::Builder::new().name("look".to_owned());
    if !is_free || thread.spawn(run).is_err() {
        looks.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    result.recv_timeout(limit).ok()
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
    fn a_look_that_hangs_is_given_up_and_few_hang_at_a_time() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        assert_eq!(within_of(&LOOKS, long, || 1), Some(1));
        let goes_on: Vec<_> = (0..2 * MAX_LOOKS)
            .map(|_| {
                let (go_on, may) = channel::<()>();
                assert_eq!(within_of(&LOOKS, short, move || may.recv().is_ok()), None);
                go_on
            })
            .collect();
        assert_eq!(LOOKS.load(Ordering::Relaxed), MAX_LOOKS);
        assert_eq!(within_of(&LOOKS, long, || 1), None);
        drop(goes_on);
        while within_of(&LOOKS, long, || 1).is_none() {
            thread::sleep(short);
        }
    }

    #[test]
    fn what_hangs_is_not() {
        let (_go_on, may) = channel::<()>();
        drop(JoinOnDrop::spawn("test", move || {
            may.recv().unwrap_or_default()
        }));
    }
}

//! What an app must not inherit on Windows: our connections, our port, our output.
//!
//! A child inherits *every* handle that is marked so, and a socket is closed for its peer when the
//! last handle to it is: a client whose connection an app has inherited waits for its end until the
//! app ends. Handles that we make are not marked, with two exceptions: what `accept` gives, and what
//! our own parent gave us. On Unix the standard library leaves nothing open for children.

pub use os::{alone, keep_output_private, keep_private};

#[cfg(unix)]
mod os {
    use std::io;

    /// Does it: nothing has to be kept apart.
    pub fn alone<T>(act: impl FnOnce() -> T) -> T {
        act()
    }

    /// Nothing to do: standard input, output and errors are replaced in each child.
    pub fn keep_output_private() {}

    /// Nothing to do: accepted with `SOCK_CLOEXEC`.
    ///
    /// # Errors
    /// None.
    pub fn keep_private<S>(_: &S) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(windows)]
#[expect(unsafe_code, reason = "inheritance has no safe interface")]
mod os {
    use std::io;
    use std::os::windows::io::{AsRawHandle as _, AsRawSocket, RawHandle};
    use std::ptr;
    use std::sync::{Mutex, PoisonError};

    use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};

    static MAKE_OR_SPAWN: Mutex<()> = Mutex::new(());

    /// Starts a child, or makes a handle that is marked at first and unmarks it: one at a time.
    ///
    /// It costs each accepted connection an uncontended lock and a system call, as one worker
    /// accepts on Windows; and that one waits while a process is started, a few milliseconds.
    pub fn alone<T>(act: impl FnOnce() -> T) -> T {
        let _alone = MAKE_OR_SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// Keeps the standard handles, which our parent gave us, from the apps: they get pipes of ours
    /// instead, and would hold our log open.
    pub fn keep_output_private() {
        let handles = [
            io::stdin().as_raw_handle(),
            io::stdout().as_raw_handle(),
            io::stderr().as_raw_handle(),
        ];
        for handle in handles {
            // There may be none, and a console's is no kernel object before Windows 8.
            let _ = unmark(handle);
        }
    }

    /// Keeps a socket from the apps.
    ///
    /// # Errors
    /// What the system said.
    pub fn keep_private<S: AsRawSocket>(socket: &S) -> io::Result<()> {
        let address = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
        unmark(ptr::without_provenance_mut(address))
    }

    fn unmark(handle: RawHandle) -> io::Result<()> {
        // SAFETY: whoever passes the handle has it open; others are refused.
        match unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

//! Inheritance of handles: apps must not inherit connections, the port or the output on Windows.
//!
//! A child inherits *every* handle that is marked inheritable, and a socket is closed for its peer
//! only with the last handle to it: a client whose connection an app has inherited waits until the
//! app ends. Handles are created without the mark, with two exceptions: the sockets that `accept`
//! returns, and the handles that the parent of this process passed on. On Unix the standard library
//! leaves nothing open for children.

pub use os::{keep_output_private, keep_private, with_spawn_lock};

#[cfg(unix)]
mod os {
    use std::io;

    /// Calls `act`: Unix needs no lock.
    pub fn with_spawn_lock<T>(act: impl FnOnce() -> T) -> T {
        act()
    }

    /// Does nothing: standard input, output and error are replaced in each child.
    pub fn keep_output_private() {}

    /// Does nothing: sockets are accepted with `SOCK_CLOEXEC`.
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

    use parking_lot::Mutex;
    use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};

    static SPAWN_LOCK: Mutex<()> = Mutex::new(());

    /// Calls `act`, which starts a child or creates a handle that is inheritable until it is
    /// unmarked, under a lock: a child that is started in between would inherit the handle.
    ///
    /// It costs each accepted connection an uncontended lock and a system call, as one worker
    /// accepts on Windows; that worker waits a few milliseconds while a process is started.
    pub fn with_spawn_lock<T>(act: impl FnOnce() -> T) -> T {
        let _guard = SPAWN_LOCK.lock();
        act()
    }

    /// Keeps the standard handles, which the parent passed on, from the apps. Those get pipes instead,
    /// and would otherwise keep the log file of the platform open.
    pub fn keep_output_private() {
        let handles = [
            io::stdin().as_raw_handle(),
            io::stdout().as_raw_handle(),
            io::stderr().as_raw_handle(),
        ];
        for handle in handles {
            // There may be none, and a console's handle is no kernel object before Windows 8.
            let _ = unmark(handle);
        }
    }

    /// Keeps a socket from the apps.
    pub fn keep_private<S: AsRawSocket>(socket: &S) -> io::Result<()> {
        let address = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
        unmark(ptr::without_provenance_mut(address))
    }

    fn unmark(handle: RawHandle) -> io::Result<()> {
        // SAFETY: takes a handle and integers; a handle that is not open is refused.
        match unsafe { SetHandleInformation(handle, HANDLE_FLAG_INHERIT, 0) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

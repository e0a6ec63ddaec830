//! Access tokens that modules of IIS leave in this process.
//!
//! With `forwardWindowsAuthToken` the module duplicates a handle to the user's token into the process
//! that listens, and names it in a field of the request. The number alone proves nothing: any client
//! may send one, of any handle. So a handle is used only after it has proved to be a token, and none
//! is taken over twice.

use std::io;

/// The token of a user, taken over from the module; closed when dropped.
#[derive(Debug)]
pub struct AccessToken(os::Token);

/// The process of an app, opened to receive tokens.
#[derive(Debug)]
pub struct Recipient(os::Process);

// === impl AccessToken ===

impl AccessToken {
    /// Takes over the token with this handle, in hexadecimal digits; `None` if it is not a token.
    pub fn take(handle: &[u8]) -> Option<Self> {
        os::Token::take(handle_value(handle)?).map(Self)
    }

    /// Duplicates the token into `process`, and returns the handle that it has there.
    ///
    /// # Errors
    /// The process has ended, or may not receive it.
    pub fn give_to(&self, process: &Recipient) -> io::Result<String> {
        let handle = self.0.give_to(&process.0)?;
        Ok(format!("{handle:x}"))
    }
}

// === impl Recipient ===

impl Recipient {
    /// Opens the process with this id.
    ///
    /// # Errors
    /// There is no such process, or it may not be opened.
    pub fn open(pid: u32) -> io::Result<Self> {
        os::Process::open(pid).map(Self)
    }
}

/// Parses a handle: a small multiple of four. Negative values mean the calling process, its thread or
/// its own token, none of which may be given away.
fn handle_value(text: &[u8]) -> Option<usize> {
    // `from_str_radix` accepts a sign.
    let is_hex = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_hex)?;
    let value = usize::from_str_radix(text, 16).ok()?;
    let is_handle = value > 0 && value.is_multiple_of(4) && i32::try_from(value).is_ok();
    is_handle.then_some(value)
}

#[cfg(unix)]
mod os {
    use std::io;

    /// A token, of which there are none on Unix.
    #[derive(Debug)]
    pub(super) enum Token {}

    #[derive(Debug)]
    pub(super) struct Process;

    impl Token {
        pub(super) fn take(_: usize) -> Option<Self> {
            None
        }

        pub(super) fn give_to(&self, _: &Process) -> io::Result<usize> {
            match *self {}
        }
    }

    impl Process {
        pub(super) fn open(_: u32) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(windows)]
#[expect(unsafe_code, reason = "handles by number have no safe interface")]
mod os {
    use std::collections::BTreeSet;
    use std::io;
    use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
    use std::ptr;

    use parking_lot::Mutex;
    use windows_sys::Win32::Foundation::{
        CloseHandle, DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE,
    };
    use windows_sys::Win32::Security::{GetTokenInformation, TOKEN_TYPE, TokenType};
    use windows_sys::Win32::System::Threading::{
        GetCurrentProcess, OpenProcess, PROCESS_DUP_HANDLE,
    };

    /// Handles that have been taken over. They are tokens, so a second request that names one would
    /// pass the check: closing it twice could close another object that has got the same handle.
    static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

    #[derive(Debug)]
    pub(super) struct Token(usize);

    #[derive(Debug)]
    pub(super) struct Process(OwnedHandle);

    impl Token {
        pub(super) fn take(handle: usize) -> Option<Self> {
            let mut taken = TAKEN.lock();
            let is_free = !taken.contains(&handle);
            (is_free && is_token(handle)).then(|| {
                taken.insert(handle);
                Self(handle)
            })
        }

        pub(super) fn give_to(&self, process: &Process) -> io::Result<usize> {
            let mut given: HANDLE = ptr::null_mut();
            // SAFETY: the handles are open, and there is room for the new one.
            let duplicated = unsafe {
                DuplicateHandle(
                    GetCurrentProcess(),
                    handle_of(self.0),
                    process.0.as_raw_handle(),
                    &raw mut given,
                    0,
                    0,
                    DUPLICATE_SAME_ACCESS,
                )
            };
            match duplicated {
                0 => Err(io::Error::last_os_error()),
                _ => Ok(given.addr()),
            }
        }
    }

    impl Drop for Token {
        fn drop(&mut self) {
            // Closed under the lock: the next token with this handle is taken over afterwards.
            let mut taken = TAKEN.lock();
            // SAFETY: the handle has proved to be a token, which nothing in this process opens but the
            // module, and it was taken over once.
            unsafe { CloseHandle(handle_of(self.0)) };
            taken.remove(&self.0);
        }
    }

    impl Process {
        pub(super) fn open(pid: u32) -> io::Result<Self> {
            // SAFETY: takes integers.
            let process = unsafe { OpenProcess(PROCESS_DUP_HANDLE, 0, pid) };
            if process.is_null() {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the handle was just made and has no other owner.
            Ok(Self(unsafe { OwnedHandle::from_raw_handle(process) }))
        }
    }

    /// Returns whether a handle is a token's: the system reports others as invalid here.
    fn is_token(handle: usize) -> bool {
        let mut kind: TOKEN_TYPE = 0;
        let mut length = 0;
        // SAFETY: the buffer has the given length; a number that is no handle is an error.
        let queried = unsafe {
            GetTokenInformation(
                handle_of(handle),
                TokenType,
                (&raw mut kind).cast(),
                size_of::<TOKEN_TYPE>() as u32,
                &raw mut length,
            )
        };
        queried != 0
    }

    fn handle_of(value: usize) -> HANDLE {
        ptr::without_provenance_mut(value)
    }

    #[cfg(test)]
    mod tests {
        use std::net::TcpListener;
        use std::os::windows::io::AsRawSocket as _;

        use windows_sys::Win32::Foundation::GetHandleInformation;
        use windows_sys::Win32::Security::TOKEN_QUERY;
        use windows_sys::Win32::System::Threading::OpenProcessToken;

        use super::*;
        use crate::process::access_token::{AccessToken, Recipient};

        /// Lock of tests that compare handles: another test's new handle may have the same number.
        static SERIAL: Mutex<()> = Mutex::new(());

        /// Opens a token, and returns its handle as the module does.
        fn left_by_the_module() -> usize {
            let mut token: HANDLE = ptr::null_mut();
            // SAFETY: there is room for the handle.
            let opened =
                unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) };
            assert_ne!(opened, 0, "{}", io::Error::last_os_error());
            token.addr()
        }

        fn take(handle: usize) -> Option<AccessToken> {
            AccessToken::take(format!("{handle:x}").as_bytes())
        }

        fn is_open(handle: usize) -> bool {
            let mut flags = 0;
            // SAFETY: a number that is no handle is an error.
            unsafe { GetHandleInformation(handle_of(handle), &raw mut flags) != 0 }
        }

        #[test]
        fn a_token_is_closed_once_it_is_dropped_and_taken_over_once() {
            let _guard = SERIAL.lock();
            let handle = left_by_the_module();
            let token = take(handle).unwrap();
            assert!(take(handle).is_none(), "another request names the same");
            assert!(is_open(handle));
            drop(token);
            assert!(!is_token(handle));
        }

        #[test]
        fn a_handle_of_anything_else_stays_open() {
            let _guard = SERIAL.lock();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let file = tempfile::tempfile().unwrap();
            let socket = listener.as_raw_socket() as usize;
            for handle in [socket, file.as_raw_handle().addr()] {
                assert!(take(handle).is_none());
                assert!(is_open(handle));
            }
        }

        #[test]
        fn ten_thousand_tokens_leave_no_handle_behind() {
            let _guard = SERIAL.lock();
            // Numbers are used again: only what stays open lets them grow.
            let highest = (0..10_000).map(|_| {
                let handle = left_by_the_module();
                drop(take(handle).unwrap());
                handle
            });
            let highest = highest.max().unwrap();
            assert!(highest < 4 * 5_000, "handle {highest:#x}");
        }

        #[test]
        fn a_process_is_given_a_token_of_its_own() {
            let _guard = SERIAL.lock();
            let app = Recipient::open(std::process::id()).unwrap();
            let token = take(left_by_the_module()).unwrap();
            let given = token.give_to(&app).unwrap();
            drop(token);
            // The app is this very process.
            assert!(AccessToken::take(given.as_bytes()).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_a_small_multiple_of_four_in_hexadecimal() {
        assert_eq!(handle_value(b"4"), Some(4));
        assert_eq!(handle_value(b"1a4"), Some(0x1a4));
        assert_eq!(handle_value(b"000001A4"), Some(0x1a4));
        for text in [
            "",
            "0",
            "1a5",
            "0x1a4",
            "+1a4",
            "-4",
            " 1a4",
            "1a4 ",
            "80000000",
            "fffffffc",
            "fffffffffffffffc",
            "11111111111111111111111114",
            "handle",
        ] {
            assert_eq!(handle_value(text.as_bytes()), None, "{text:?}");
        }
    }
}

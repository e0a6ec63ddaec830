//! Users' access tokens, as IIS's modules leave them in the process that listens.

#![expect(
    unsafe_code,
    reason = "handles of other processes have no safe interface"
)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE};
use windows_sys::Win32::Security::{
    GetTokenInformation, TOKEN_DUPLICATE, TOKEN_QUERY, TOKEN_TYPE, TokenType,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_DUP_HANDLE,
};

/// Leaves a token in this process, and says which of its handles that is.
pub fn leave_one_in(pid: u32) -> usize {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: there is room for the handle.
    let opened = unsafe {
        let access = TOKEN_QUERY | TOKEN_DUPLICATE;
        OpenProcessToken(GetCurrentProcess(), access, &raw mut token)
    };
    assert_ne!(opened, 0, "a token: {}", io::Error::last_os_error());
    // SAFETY: the handle was just made, and nobody else has it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let process = process(pid);
    // SAFETY: nothing; the pseudo handle of this process is always valid.
    let here = unsafe { GetCurrentProcess() };
    let left = duplicate(here, token.as_raw_handle(), process.as_raw_handle());
    left.expect("a handle in the other process").addr()
}

/// Returns whether this is the handle of a token in this process.
pub fn is_one_of(pid: u32, handle: usize) -> bool {
    let process = process(pid);
    let handle = ptr::without_provenance_mut(handle);
    // SAFETY: nothing; the pseudo handle of this process is always valid.
    let here = unsafe { GetCurrentProcess() };
    let Ok(copy) = duplicate(process.as_raw_handle(), handle, here) else {
        return false;
    };
    // SAFETY: the handle was just made, and nobody else has it.
    let copy = unsafe { OwnedHandle::from_raw_handle(copy) };
    let mut kind: TOKEN_TYPE = 0;
    let mut length = 0;
    // SAFETY: the buffer is as long as is said.
    let told = unsafe {
        GetTokenInformation(
            copy.as_raw_handle(),
            TokenType,
            (&raw mut kind).cast(),
            size_of::<TOKEN_TYPE>() as u32,
            &raw mut length,
        )
    };
    told != 0
}

fn process(pid: u32) -> OwnedHandle {
    // SAFETY: no memory is passed.
    let process = unsafe { OpenProcess(PROCESS_DUP_HANDLE, 0, pid) };
    assert!(!process.is_null(), "{pid}: {}", io::Error::last_os_error());
    // SAFETY: the handle was just made, and nobody else has it.
    unsafe { OwnedHandle::from_raw_handle(process) }
}

/// Another handle in `to` to what `handle` is in `from`.
fn duplicate(from: HANDLE, handle: HANDLE, to: HANDLE) -> io::Result<HANDLE> {
    let mut given: HANDLE = ptr::null_mut();
    // SAFETY: both processes are open, there is room for the handle, and a number that is none is an
    // error.
    let duplicated = unsafe {
        DuplicateHandle(
            from,
            handle,
            to,
            &raw mut given,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    };
    match duplicated {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(given),
    }
}

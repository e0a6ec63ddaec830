//! Memory that this process no longer uses.

/// Gives memory that was freed back to the system, on a thread of its own: it takes some
/// milliseconds for each hundred megabytes.
///
/// The allocator of glibc keeps what lies below a block that is still in use: after thousands of
/// connections nearly all (malloc_trim(3), notes).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator has no safe interface")]
pub fn give_back_unused_memory() {
    let trim = || {
        // SAFETY: takes an integer; the allocator locks what it changes.
        unsafe { libc::malloc_trim(0) };
    };
    // Without a thread the memory stays for now.
    let _ = std::thread::Builder::new()
        .name("trim".to_owned())
        .spawn(trim);
}

/// Does nothing: other allocators give memory back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_unused_memory() {}

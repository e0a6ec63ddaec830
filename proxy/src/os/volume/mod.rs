//! Facts about the volume that a file is on, in twins that export the same names.

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use os::{has_reliable_events, open_in_place, write_at};

//! This machine: the programs that are built, installed and run on it.

pub mod binaries;
#[cfg(target_os = "linux")]
pub mod install;
pub mod interrupt;
pub mod process;
pub mod revision;
pub mod system;
#[cfg(target_os = "linux")]
pub mod usage;

//! handoff

pub mod app;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod files;
pub mod process;
pub mod release;
pub mod router;
pub mod signal;
pub mod telemetry;

//! The configuration files, which the watcher polls beside the artifact.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::SupervisorSettings;

/// A source of settings that may change while handoff runs.
pub trait ConfigSource: fmt::Debug + Send {
    /// Reads the files if they have changed.
    fn poll(&mut self) -> ConfigReload;

    /// Returns the files to watch, which need not exist.
    fn files(&self) -> Vec<PathBuf>;
}

/// The result of a poll.
#[derive(Debug)]
pub enum ConfigReload {
    /// Nothing has changed.
    Unchanged,
    /// A file is changing: poll again after this time, and accept no artifact before.
    Changing(Duration),
    /// There are new settings.
    Settings(Box<SupervisorSettings>),
    /// The files cannot be used, for this reason.
    Problem(String),
}

/// Settings without any file, which never change.
#[derive(Debug)]
pub struct FixedConfig;

impl ConfigSource for FixedConfig {
    fn poll(&mut self) -> ConfigReload {
        ConfigReload::Unchanged
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

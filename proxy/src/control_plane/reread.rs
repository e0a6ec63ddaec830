//! What else the watcher looks at: how to run, beside what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::SupervisorSettings;

/// Files that say how to run.
pub trait Reread: fmt::Debug + Send {
    /// Looks whether they have changed, and reads them if so.
    fn look(&mut self) -> News;

    /// The folders in which a change may mean news.
    fn folders(&self) -> Vec<PathBuf>;
}

/// What a look tells.
#[derive(Debug)]
pub enum News {
    /// Nothing has changed.
    None,
    /// Something changes at the moment: look again after so long, and at nothing else before.
    Soon(Duration),
    /// These are to be used from now on.
    Settings(Box<SupervisorSettings>),
    /// They cannot be used, and why.
    Problem(String),
}

/// Nothing but the command line says how to run.
#[derive(Debug)]
pub struct Never;

impl Reread for Never {
    fn look(&mut self) -> News {
        News::None
    }

    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

//! There is no anchor on Windows yet.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitStatus;

use tokio::process::{ChildStderr, ChildStdout, Command};

use super::{Inheritance, Input, ReplacementOrder};

/// The anchor of this process: there is none.
#[derive(Clone, Debug)]
pub struct Anchor(Infallible);

/// A child of the anchor: there is none.
#[derive(Debug)]
pub(in crate::process) struct AnchoredChild(Infallible);

/// The replacement of this process: there is none.
#[derive(Debug)]
pub struct Replacement(Infallible);

/// Processes that have been replaced: there are none.
#[derive(Debug, Default)]
pub struct LeavingProcesses;

/// Returns false: the configuration refuses `--anchor on`.
#[must_use]
pub fn is_to_anchor(_: bool) -> bool {
    false
}

/// Returns false.
#[must_use]
pub fn is_anchor() -> bool {
    false
}

/// Does nothing.
pub fn become_anchor() {}

/// Refuses to run.
///
/// # Errors
/// Always.
pub fn run() -> io::Result<u8> {
    Err(io::ErrorKind::Unsupported.into())
}

// === impl Anchor ===

impl Anchor {
    /// Returns none.
    ///
    /// # Errors
    /// None.
    pub fn open() -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub fn say_hello(&self) -> io::Result<Inheritance> {
        match self.0 {}
    }

    pub fn pid(&self) -> u32 {
        match self.0 {}
    }

    pub fn keep_listener(&self, _: &TcpListener) -> io::Result<()> {
        match self.0 {}
    }

    pub fn keep_admin(&self, _: &TcpListener) -> io::Result<()> {
        match self.0 {}
    }

    pub fn report_unable(&self, _: &str) {
        match self.0 {}
    }

    pub fn replace(&self, _: &Path, _: u64) -> io::Result<Replacement> {
        match self.0 {}
    }

    pub fn release_listener(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::process) fn keep<T>(&self, _: &str, _: &T) -> io::Result<()> {
        match self.0 {}
    }

    pub fn keep_record(&self, _: &str) -> io::Result<()> {
        match self.0 {}
    }

    pub fn keep_sidecar(&self, _: &str) -> io::Result<()> {
        match self.0 {}
    }

    pub fn report_serving(&self, _: Option<u64>) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::process) fn spawn(
        &self,
        _: &Command,
        _: Input,
        _: &str,
    ) -> io::Result<AnchoredChild> {
        match self.0 {}
    }
}

// === impl Replacement ===

impl Replacement {
    pub async fn next(&self) -> io::Result<ReplacementOrder> {
        match self.0 {}
    }

    pub fn report_still(&self, _: usize) -> io::Result<()> {
        match self.0 {}
    }

    pub fn report_busy(&self) -> io::Result<()> {
        match self.0 {}
    }
}

// === impl LeavingProcesses ===

impl LeavingProcesses {
    /// Returns true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Returns at once.
    ///
    /// # Errors
    /// None.
    pub async fn ended(self) -> io::Result<()> {
        Ok(())
    }
}

// === impl AnchoredChild ===

impl AnchoredChild {
    pub(super) fn id(&self) -> Option<u32> {
        match self.0 {}
    }

    #[expect(clippy::needless_pass_by_ref_mut, reason = "the same as on Unix")]
    pub(super) fn take_output(&mut self) -> io::Result<(Option<ChildStdout>, Option<ChildStderr>)> {
        match self.0 {}
    }

    pub(super) fn close_input(&self) -> io::Result<()> {
        match self.0 {}
    }

    #[expect(clippy::needless_pass_by_ref_mut, reason = "the same as on Unix")]
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        match self.0 {}
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        match self.0 {}
    }
}

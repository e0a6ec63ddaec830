//! A request to read everything at once.

use std::sync::Weak;
use std::sync::mpsc::SyncSender;

use tokio::sync::oneshot;

use super::WatchRequest;

/// A handle that makes the watching thread read everything at once.
#[derive(Clone, Debug)]
pub struct Reloader(Weak<SyncSender<WatchRequest>>);

// === impl Reloader ===

impl Reloader {
    pub(super) fn new(wake: Weak<SyncSender<WatchRequest>>) -> Self {
        Self(wake)
    }

    /// Ends the thread, after what it is about.
    pub fn end(&self) {
        if let Some(wake) = self.0.upgrade() {
            // A full channel is no loss: the thread ends with the process.
            let _ = wake.try_send(WatchRequest::End);
        }
    }

    /// Lets the thread read the configuration and look for a new artifact. Returns once the
    /// configuration has been read, or when the thread is too busy or has ended.
    pub async fn reload(&self) {
        let (done, is_done) = oneshot::channel();
        if let Some(wake) = self.0.upgrade() {
            // A refused request drops its sender.
            let _ = wake.try_send(WatchRequest::Reload(done));
        }
        let _ = is_done.await;
    }
}

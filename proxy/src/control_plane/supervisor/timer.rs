//! Tasks that end with their handle.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::Message;

/// A local task that is aborted when this handle is dropped or replaced.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<AbortHandle>);

// === impl Timer ===

impl Timer {
    /// Runs `task`.
    pub(super) fn run(task: impl Future<Output = ()> + 'static) -> Self {
        Self(Some(tokio::task::spawn_local(task).abort_handle()))
    }

    /// Sends `message` after `delay`.
    pub(super) fn send_after(
        delay: Duration,
        messages: &UnboundedSender<Message>,
        message: Message,
    ) -> Self {
        let messages = messages.clone();
        Self::run(async move {
            tokio::time::sleep(delay).await;
            let _ = messages.send(message);
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

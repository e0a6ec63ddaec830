//! Time that a test can let pass.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The platform's clock: the system's, plus what a test has added.
#[derive(Clone, Debug)]
pub struct Clock(Arc<watch::Sender<Duration>>);

impl Clock {
    /// The system's time.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Duration::ZERO)))
    }

    /// Lets time pass, at once.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|added| *added += by);
    }

    pub(super) fn now(&self) -> Instant {
        Instant::now() + *self.0.borrow()
    }

    /// Completes when so much has passed, one way or the other.
    pub(super) async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    pub(super) async fn sleep_until(&self, deadline: Instant) {
        let mut added = self.0.subscribe();
        loop {
            added.mark_unchanged();
            let left = deadline.saturating_duration_since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The sender lives in `self`.
                _ = added.changed() => {}
            }
        }
    }
}

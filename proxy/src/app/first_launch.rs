//! The delay of the first launch, until a request waits.

use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use crate::control_plane::watcher::WatchEvent;
use crate::router::Router;

/// Forwards events once a request waits, or after `delay`: until then nothing is launched.
///
/// The platform starts handoff because of a request, so that no client waits longer for it, while a
/// connection that only tests the port launches no app.
pub(super) fn delay_first_launch(
    mut found: mpsc::UnboundedReceiver<WatchEvent>,
    router: Arc<Router>,
    delay: Duration,
) -> mpsc::UnboundedReceiver<WatchEvent> {
    tracing::info!(
        event = "first_launch_delayed",
        delay = %format_duration(delay),
        "the first request launches the app, or the end of the delay"
    );
    let latest = Instant::now() + delay;
    let (sender, forwarded) = mpsc::unbounded_channel();
    spawn_local(async move {
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                () = router.wait_for_request() => break,
                () = sleep_until(latest) => break,
                Some(found) = found.recv() => keep(&mut kept, found),
            }
        }
        // The receiver ends only with the whole process.
        for found in kept {
            let _ = sender.send(found);
        }
        while let Some(found) = found.recv().await {
            let _ = sender.send(found);
        }
    });
    forwarded
}

/// Keeps an event for later: only the newest release is launched.
fn keep(kept: &mut Vec<WatchEvent>, found: WatchEvent) {
    if matches!(found, WatchEvent::Release { .. }) {
        kept.retain(|earlier| {
            !matches!(earlier, WatchEvent::Release { .. } | WatchEvent::Problem(_))
        });
    }
    kept.push(found);
}

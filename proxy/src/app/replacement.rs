//! The replacement of this process by another one: `handoff upgrade`.
//!
//! The anchor starts the next process. Before that takes over, this one stands still: it forwards
//! requests, and no task of its control plane runs. Then it serves its connections to their end, or it
//! goes on as if nothing had happened.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use super::RunningSidecar;
use crate::control_plane::settings::SupervisorSettings;
use crate::control_plane::supervisor::{UpgradeEnd, UpgradeOrder};
use crate::control_plane::watcher::Reloader;
use crate::deployment::status::Status;
use crate::process::anchor::{Anchor, Replacement, ReplacementOrder};
use crate::router::Class;

/// Maximum time for the last connections to end before they are cut: tunnels are closed meanwhile.
const END_PERIOD: Duration = Duration::from_secs(3);

/// Reason without one of the anchor.
const NO_ANSWER: &str = "the anchor does not respond";

/// The part of a sidecar with an anchor that lets another process take its place.
#[derive(Debug)]
pub(super) struct Replaceable {
    pub(super) anchor: Anchor,
    pub(super) requested: mpsc::UnboundedReceiver<UpgradeOrder>,
    pub(super) published: watch::Receiver<Status>,
    pub(super) watcher: Reloader,
    pub(super) drain: DrainLimits,
    /// Completes when the processes before this one have ended.
    pub(super) leaving: Option<JoinHandle<()>>,
    pub(super) under_way: Option<UnderWay>,
}

/// Maximum times for what is in flight when another process has taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainLimits {
    requests: Duration,
    tunnels: Duration,
}

/// A replacement for which the next process has been started.
#[derive(Debug)]
pub(super) struct UnderWay {
    replacement: Replacement,
    end: UpgradeEnd,
    ended: oneshot::Sender<UpgradeEnd>,
}

/// The end of a standstill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standstill {
    /// Another process serves.
    Replaced,
    /// This process goes on.
    Over,
}

// === impl Replaceable ===

impl Replaceable {
    /// Carries out orders until the next process waits for this one to stand still. Cancel safe.
    pub(super) async fn wait_for_next(&mut self) {
        loop {
            let Some(under_way) = &mut self.under_way else {
                match self.requested.recv().await {
                    Some(order) => self.begin(order),
                    // The supervisor has ended, as at a shutdown.
                    None => std::future::pending().await,
                }
                continue;
            };
            match under_way.replacement.next().await {
                Ok(ReplacementOrder::StandStill) => {
                    if self.published.borrow().busy_with().is_none() {
                        return;
                    }
                    under_way.end = UpgradeEnd::Busy;
                    // The next message says that the anchor has not received it.
                    let _ = under_way.replacement.report_busy();
                }
                Ok(ReplacementOrder::GoOn { reason }) => self.end(reason),
                Ok(ReplacementOrder::Leave) | Err(_) => self.end(NO_ANSWER.to_owned()),
            }
        }
    }

    fn begin(&mut self, order: UpgradeOrder) {
        let UpgradeOrder {
            program,
            serial,
            ended,
        } = order;
        match self.anchor.replace(&program, serial) {
            Ok(replacement) => {
                self.under_way = Some(UnderWay {
                    replacement,
                    end: UpgradeEnd::Refused(String::new()),
                    ended,
                });
            }
            Err(error) => {
                let reason = format!("{}: {error}", program.display());
                // The receiver ends only with the process.
                let _ = ended.send(UpgradeEnd::Refused(reason));
            }
        }
    }

    /// Reports the reason for which there is no next process.
    fn end(&mut self, reason: String) {
        if let Some(UnderWay { end, ended, .. }) = self.under_way.take() {
            let _ = ended.send(match end {
                UpgradeEnd::Busy => end,
                UpgradeEnd::Refused(_) => UpgradeEnd::Refused(reason),
            });
        }
    }

    /// Lets the public port close with this process, and returns the task that waits for the processes
    /// before it.
    pub(super) fn release(&mut self) -> Option<JoinHandle<()>> {
        // Otherwise the port would stay open. Without its anchor, this process is about to end.
        let _ = self.anchor.release_listener();
        self.leaving.take()
    }
}

// === impl DrainLimits ===

impl From<&SupervisorSettings> for DrainLimits {
    fn from(settings: &SupervisorSettings) -> Self {
        Self {
            requests: settings.drain_timeout,
            tunnels: settings.tunnel_drain_timeout.min(settings.drain_timeout),
        }
    }
}

impl RunningSidecar {
    /// Stands still until the next process serves, or cannot.
    pub(super) async fn stand_still(&mut self) -> Standstill {
        let Some(replaceable) = &mut self.replaceable else {
            return Standstill::Over;
        };
        let Some(under_way) = &mut replaceable.under_way else {
            return Standstill::Over;
        };
        let Some(turn) = self.status_writer.stand_still() else {
            let _ = under_way.replacement.report_busy();
            return Standstill::Over;
        };
        let upstream = self.router.routed_upstream();
        // Without this one and that of the router.
        let in_flight = upstream.map_or(0, |it| Arc::strong_count(&it).saturating_sub(2));
        // An error shows in the next message.
        let _ = under_way.replacement.report_still(in_flight);
        match under_way.replacement.next().await {
            Ok(ReplacementOrder::Leave) => {
                // The file belongs to the next process.
                std::mem::forget(turn);
                return Standstill::Replaced;
            }
            Ok(ReplacementOrder::GoOn { reason }) => replaceable.end(reason),
            Ok(ReplacementOrder::StandStill) | Err(_) => replaceable.end(NO_ANSWER.to_owned()),
        }
        Standstill::Over
    }

    /// Serves the connections to their end, as another process accepts.
    pub(super) async fn leave(mut self, shutdown: impl Future<Output = &'static str>) {
        tracing::info!(
            event = "leaving_began",
            "another process of handoff serves: this one serves its connections to their end"
        );
        let limits = self.replaceable.as_ref().map(|replaceable| {
            replaceable.watcher.end();
            replaceable.drain
        });
        let DrainLimits { requests, tunnels } = limits.unwrap_or(DrainLimits {
            requests: Duration::ZERO,
            tunnels: Duration::ZERO,
        });
        self.router.leave();
        let begin = Instant::now();
        let router = &self.router;
        let upstream = router.routed_upstream();
        let upstream = upstream.map(|upstream| Arc::downgrade(&upstream));
        let time_limit = async {
            if let Some(upstream) = upstream {
                router.close_tunnels(&upstream, tunnels);
                sleep_until(begin + tunnels).await;
                router.evict(&upstream, Class::Tunnel);
            }
            sleep_until(begin + requests).await;
        };
        let shutdown_timeout = self.shutdown.timeout;
        let shutdown = async {
            shutdown.await;
            // The rest is the app's, to stop.
            sleep(shutdown_timeout / 2).await;
        };
        let is_done = tokio::select! {
            () = self.data_plane.leave() => true,
            () = time_limit => false,
            () = shutdown => false,
        };
        if !is_done && timeout(END_PERIOD, self.data_plane.drain()).await.is_err() {
            tracing::warn!(
                event = "connections_cut",
                "connections are cut: the time to end after the upgrade of handoff is over"
            );
        }
        self.data_plane.cut().await;
        tracing::info!(
            event = "leaving_ended",
            "the process of handoff before the upgrade has ended"
        );
        // It would remove the file.
        std::mem::forget(self.status_writer);
    }
}

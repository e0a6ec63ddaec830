//! Sessions at superseded instances: `--sticky`.

use std::sync::Arc;

use tokio::time::Instant;

use super::instances::InstanceState;
use super::journal::Change;
use super::timer::Timer;
use super::{Message, Supervisor};
use crate::control_plane::lifecycle::Event;
use crate::control_plane::settings::SessionSettings;
use crate::deployment::status::Status;
use crate::process::Launch;
use crate::release::Generation;
use crate::router::Router;

impl<L: Launch> Supervisor<L> {
    /// Lets clients whose sessions began at the instance go on reaching it. The router does so since
    /// the promotion.
    pub(super) fn pin(&mut self, generation: Generation) {
        let Some(sessions) = self.settings.sessions else {
            return;
        };
        let Some(instance) = self.instances.get_mut(generation) else {
            return;
        };
        let from = instance.enter(InstanceState::Pinned);
        let change = (Some(from), Some(InstanceState::Pinned));
        self.journal
            .log_change(generation, &instance.release, change, &Change::Pinned);
        let router = Arc::clone(&self.router);
        let messages = self.messages.clone();
        instance.eviction = Timer::run(async move {
            wait_for_end(&router, generation, sessions).await;
            let _ = messages.send(Message::Lifecycle(Event::SessionsEnded(generation)));
        });
    }

    /// Adds the sessions that are left at superseded instances to a status.
    pub(super) fn show_sessions(&self, status: &mut Status) {
        let Some(sessions) = self.settings.sessions else {
            return;
        };
        for instance in &mut status.draining {
            let left = self
                .router
                .sessions_left(instance.generation, sessions.idle);
            instance.sessions = left.map(|left| left.clients);
            instance.sessions_until_ms = left.map(|_| instance.since_ms.after(sessions.timeout));
        }
    }
}

/// Waits until no client has a session at this generation, or none may have one any longer.
async fn wait_for_end(router: &Router, generation: Generation, sessions: SessionSettings) {
    let SessionSettings { timeout, idle } = sessions;
    let end = Instant::now() + timeout;
    while let Some(left) = router.sessions_left(generation, idle) {
        let rest = idle.saturating_sub(left.quiet);
        if left.are_none || rest.is_zero() || Instant::now() >= end {
            return;
        }
        tokio::time::sleep_until(end.min(Instant::now() + rest)).await;
    }
}

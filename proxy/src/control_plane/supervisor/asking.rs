//! What somebody asks for through `desired.json`.

use std::time::{Duration, SystemTime};

use super::super::lifecycle::Event;
use super::{Message, Supervisor};
use crate::deployment::desired::{ControlCommand, Desired};
use crate::deployment::status::{Paused, UnixMillis};
use crate::process::Launch;
use crate::release::{Digest, ReleaseId};

impl<L: Launch> Supervisor<L> {
    pub(super) fn desired(&mut self, desired: Desired, at_start: bool) {
        let before = match at_start {
            true => None,
            false => Some(self.desired.take().unwrap_or_default()),
        };
        let (wishes, problem) = desired.commands_since(before.as_ref(), SystemTime::now());
        self.status.desired_problem = problem;
        for wish in wishes {
            tracing::info!(command = %wish, serial = desired.serial, "asked for");
            self.fulfil(wish);
        }
        self.status.desired_serial = Some(desired.serial);
        self.desired = Some(desired);
    }

    fn fulfil(&mut self, wish: ControlCommand) {
        match wish {
            ControlCommand::Retry(digest) => {
                self.memory.forgive(digest);
                if let Some(id) = self.with_digest(digest) {
                    self.on(Event::RetryAsked(id));
                }
            }
            ControlCommand::Rollback(None) => {
                self.status.rollback_to = self.lifecycle.before_the_latest();
                self.on(Event::RollbackAsked(None));
            }
            ControlCommand::Rollback(Some(name)) => match self.named(&name) {
                Some(id) => {
                    if let Some(accepted) = self.releases.get(&id) {
                        self.memory.forgive(accepted.release.digest);
                    }
                    self.status.rollback_to = Some(id.clone());
                    self.on(Event::RollbackAsked(Some(id)));
                }
                None => self.cannot(format!(
                    "cannot go back to {name:?}: no such release is kept here; {}",
                    self.kept()
                )),
            },
            ControlCommand::Restart => self.on(Event::RestartAsked),
            ControlCommand::Pause(period) => self.pause_for(period),
            ControlCommand::Resume => self.on(Event::PauseOver),
        }
    }

    fn pause_for(&mut self, period: Duration) {
        self.on(Event::PauseAsked);
        if !self.lifecycle.is_paused() {
            return;
        }
        self.pause = self.later(period, Message::Happened(Event::PauseOver));
        self.status.paused = Some(Paused {
            until_ms: UnixMillis::from(SystemTime::now() + period),
            in_flight: 0,
        });
    }

    pub(super) fn nothing_to_go_back_to(&mut self) {
        let kept = self.kept();
        self.cannot(format!("there is no release to go back to; {kept}"));
    }

    fn cannot(&mut self, reason: String) {
        tracing::warn!(%reason, "cannot be done");
        self.status.desired_problem = Some(reason);
    }

    fn kept(&self) -> String {
        let earlier: Vec<_> = self.lifecycle.earlier().map(ReleaseId::as_str).collect();
        match earlier.is_empty() {
            true => "no earlier one is kept".to_owned(),
            false => format!("these are: {}", earlier.join(", ")),
        }
    }

    fn with_digest(&self, digest: Digest) -> Option<ReleaseId> {
        let mut releases = self.releases.values().map(|accepted| &accepted.release);
        let release = releases.find(|release| release.digest == digest)?;
        Some(release.id.clone())
    }

    /// By its full name, by its digest, or by its artifact's name: then the latest that served, or
    /// else what was left by going back, as long as there is only one such.
    fn named(&self, name: &str) -> Option<ReleaseId> {
        if let Some((id, _)) = self.releases.iter().find(|(id, _)| id.as_str() == name) {
            return Some(id.clone());
        }
        if let Ok(digest) = Digest::parse(name) {
            return self.with_digest(digest);
        }
        let is_named = |id: &&ReleaseId| {
            let artifact = id.as_str().rsplit_once('-').map(|(artifact, _)| artifact);
            artifact == Some(name)
        };
        let earlier: Vec<_> = self.lifecycle.earlier().collect();
        let latest = earlier.into_iter().rev().find(is_named);
        let only = || {
            let mut kept = self.releases.keys().filter(is_named);
            kept.next().filter(|_| kept.next().is_none())
        };
        latest.or_else(only).cloned()
    }
}

//! Changes the channel, and goes from group to group until all machines run the release.
//!
//! Whoever runs it swaps the next step in; who loses a swap reads again. So several at once do no
//! harm, one that ends leaves everything standing, and another one goes on.

use std::time::Instant;

use handoff::cli::output::{eprint_line, print_line};
use handoff::commands::ExitStatus;
use handoff::commands::rollout::bake::Bake;
use handoff::commands::rollout::next::{Next, next};
use handoff::deployment::rollout::Rollout;

use crate::channel::{CHANNEL, Channel, FleetRelease};
use crate::cli::Pace;
use crate::clock;
use crate::machines::{Machines, Tally};
use crate::store::{Store, StoreError, Version};
use crate::trouble::Trouble;

/// Tries to be the writer that changes the channel.
const TRIES: usize = 10;

/// One command's wait for the machines.
struct Drive<'a> {
    store: &'a Store,
    channel: Channel,
    version: Option<Version>,
    machines: Machines,
    bake: Bake,
    /// Time at which a group has begun.
    begun: Instant,
    /// Machines that have not finished, with the reason.
    late: Vec<(String, String)>,
}

/// Changes the channel to what `next` makes of it, and returns that; `None` if it makes nothing of it.
///
/// # Errors
/// [`StoreError`] when the store cannot be used, others were always first, or `next` fails.
pub async fn change(
    store: &Store,
    next: impl Fn(Option<&Channel>) -> Result<Option<Channel>, StoreError>,
) -> Result<Option<Channel>, StoreError> {
    for _ in 0..TRIES {
        let now = store.read::<Channel>(CHANNEL).await?;
        let Some(next) = next(now.as_ref().map(|(channel, _)| channel))? else {
            return Ok(None);
        };
        match store
            .swap(CHANNEL, &next, now.as_ref().map(|(_, version)| version))
            .await
        {
            Ok(_) => return Ok(Some(next)),
            Err(StoreError::Lost) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Lost)
}

/// Waits until all machines run what `channel` says, and names one group of them after another if it
/// is a staged roll-out.
///
/// # Errors
/// [`StoreError`] when the channel cannot be changed. One that cannot be read is only reported.
pub async fn drive(store: &Store, channel: Channel, pace: &Pace) -> Result<ExitStatus, StoreError> {
    let mut drive = Drive {
        store,
        channel,
        version: None,
        machines: Machines::default(),
        bake: Bake::default(),
        begun: clock::now(),
        late: Vec::new(),
    };
    let mut trouble = Trouble::default();
    loop {
        clock::sleep(pace.poll).await;
        let error = match drive.step().await {
            Ok(Some(ended)) => return Ok(ended),
            // Another writer was first: the next look shows what it has written.
            Ok(None) | Err(StoreError::Lost) => None,
            // The machines go on without this command.
            Err(error) => Some(error),
        };
        if let Some(news) = trouble.note(error.as_ref(), "the store can be used again") {
            eprint_line(format_args!("handoff-fleet: {news}"));
        }
        if clock::now().saturating_duration_since(drive.begun) >= pace.timeout {
            for (machine, reason) in &drive.late {
                eprint_line(format_args!(
                    "handoff-fleet: {machine} does not run it yet: {reason}"
                ));
            }
            if let Some(lasts) = trouble.lasts() {
                eprint_line(format_args!(
                    "handoff-fleet: the store could not be used for the last {lasts}"
                ));
            }
            eprint_line("handoff-fleet: not in time: what is deployed stays");
            return Ok(ExitStatus::Timeout);
        }
    }
}

// === impl Drive ===

impl Drive<'_> {
    /// Takes the next step, and returns how all ended if it has.
    async fn step(&mut self) -> Result<Option<ExitStatus>, StoreError> {
        if !self.read().await? {
            eprint_line("handoff-fleet: another deploy took its place");
            return Ok(Some(ExitStatus::Refused));
        }
        self.machines.refresh(self.store).await?;
        let tally = self.machines.tally(&self.channel);
        if tally.members.is_empty() {
            if self.channel.rollout.is_some() {
                self.swap(self.channel.with_rollout(None)).await?;
            }
            return Ok(Some(finish(&tally, self.release())));
        }
        let all = Rollout {
            may: tally.members.keys().map(ToString::to_string).collect(),
            ..Rollout::default()
        };
        let rollout = self.channel.rollout.as_ref().unwrap_or(&all);
        match next(rollout, &tally.members, self.bake.is_over(rollout)) {
            Next::Wait if rollout.stopped => {
                eprint_line("handoff-fleet: the roll-out was stopped");
                return Ok(Some(ExitStatus::Timeout));
            }
            Next::Wait => {}
            Next::Bake => {
                if self.bake.begin() {
                    let bake = rollout.bake();
                    eprint_line(format_args!(
                        "handoff-fleet: the first machines run it: waiting {}",
                        humantime::format_duration(bake)
                    ));
                    self.begun = clock::now() + bake;
                }
            }
            Next::Name(ids) => {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                eprint_line(format_args!(
                    "handoff-fleet: {} of {} machines run it; next: {}",
                    tally.runs.len(),
                    tally.members.len(),
                    ids.join(", ")
                ));
                let mut rollout = rollout.clone();
                rollout.may.extend(ids);
                self.swap(self.channel.with_rollout(Some(rollout))).await?;
                self.begun = clock::now();
            }
            Next::GoBack => return self.go_back(&tally).await.map(Some),
            Next::Complete => {
                if self.channel.rollout.is_some() {
                    self.swap(self.channel.with_rollout(None)).await?;
                }
                return Ok(Some(finish(&tally, self.release())));
            }
        }
        self.late = tally.late;
        Ok(None)
    }

    /// Reads the channel again. Returns false if it says something else.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let known = self.version.as_ref();
        if let Some((channel, version)) = self.store.read_unless(CHANNEL, known).await? {
            if channel_of(&channel) != channel_of(&self.channel) {
                return Ok(false);
            }
            self.channel = channel;
            self.version = Some(version);
        }
        Ok(true)
    }

    async fn swap(&mut self, channel: Channel) -> Result<(), StoreError> {
        let known = self.version.as_ref();
        let version = self.store.swap(CHANNEL, &channel, known).await?;
        self.channel = channel;
        self.version = Some(version);
        Ok(())
    }

    async fn go_back(&mut self, tally: &Tally) -> Result<ExitStatus, StoreError> {
        let release = self.release().clone();
        for (machine, reason) in &tally.refused {
            eprint_line(format_args!(
                "handoff-fleet: {machine} refused {release}: {reason}"
            ));
        }
        let reasons = tally.refused.iter();
        let reasons = reasons.map(|(machine, reason)| format!("{machine}: {reason}"));
        let reason = reasons.take(1).collect();
        match self.channel.going_back(reason) {
            Some(back) => {
                self.swap(back).await?;
                let before = self.release();
                eprint_line(format_args!("handoff-fleet: all return to {before}"));
            }
            None => eprint_line("handoff-fleet: there is nothing to return to: it stays"),
        }
        Ok(ExitStatus::Refused)
    }

    /// Returns the release that all are to run in the end.
    fn release(&self) -> &FleetRelease {
        let Channel { order, back, .. } = &self.channel;
        let before = order.before.as_ref().filter(|_| back.is_some());
        before.unwrap_or(&order.release)
    }
}

/// Returns what stays the same while the machines follow one order.
fn channel_of(channel: &Channel) -> (u64, &FleetRelease) {
    (channel.since, &channel.order.release)
}

fn finish(tally: &Tally, release: &FleetRelease) -> ExitStatus {
    for (machine, reason) in &tally.refused {
        eprint_line(format_args!(
            "handoff-fleet: {machine} refused it, which is tolerated: {reason}"
        ));
    }
    for machine in &tally.silent {
        eprint_line(format_args!(
            "handoff-fleet: {machine} is silent: it follows when it is back"
        ));
    }
    for machine in &tally.idle {
        eprint_line(format_args!("handoff-fleet: {machine} has no live sidecar"));
    }
    if tally.runs.is_empty() {
        eprint_line("handoff-fleet: no machine with a live sidecar follows the channel");
        return ExitStatus::Idle;
    }
    print_line(format_args!("{release} runs on {}", tally.runs.join(", ")));
    ExitStatus::Done
}

//! `deploy`: changes the channel, and waits for the machines.

use std::time::{Duration, Instant, SystemTime};

use handoff::cli::output::{eprint_line, print_line};
use handoff::commands::ExitStatus;

use crate::artifact;
use crate::channel::{CHANNEL, Channel, FleetRelease, MEMBERS, Member, MemberState};
use crate::cli::DeployOptions;
use crate::mirror::HEARTBEAT;
use crate::store::{Listed, Store, StoreError};

/// Time between two looks at the machines.
const POLL: Duration = Duration::from_secs(2);
/// Time in which a machine that lives has read the channel: longer than its longest wait.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Tries to be the writer that changes the channel.
const TRIES: usize = 10;

/// The machines of a channel, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    runs: Vec<String>,
    refused: Option<(String, String)>,
    /// Those that have not finished, with the last failure.
    going: Vec<(String, Option<String>)>,
    idle: Vec<String>,
    /// Those that have not read the channel.
    unread: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the artifact or the store cannot be used.
pub async fn run(store: &Store, options: &DeployOptions) -> Result<ExitStatus, StoreError> {
    let release = artifact::upload(store, &options.artifact).await?;
    eprint_line(format_args!("handoff-fleet: uploaded {release}"));
    let channel = change(store, |now| {
        Some(Channel::after(now, release.clone(), None))
    })
    .await?;
    let Some(channel) = channel else {
        return Ok(ExitStatus::Refused);
    };
    let since = store.modified(CHANNEL).await?;
    let begun = Instant::now();
    let mut last = None;
    loop {
        tokio::time::sleep(POLL).await;
        match look(store, &channel, since).await {
            Ok(Some(tally)) => last = Some(tally),
            Ok(None) => {
                eprint_line("handoff-fleet: another deploy took its place");
                return Ok(ExitStatus::Refused);
            }
            // The machines go on without this command.
            Err(error) => eprint_line(format_args!("handoff-fleet: {error}")),
        }
        if let Some(Tally {
            refused: Some((id, reason)),
            ..
        }) = &last
        {
            eprint_line(format_args!(
                "handoff-fleet: {id} refused {release}: {reason}"
            ));
            return go_back(store, &channel, format!("{id}: {reason}")).await;
        }
        let is_done = |tally: &&Tally| {
            tally.going.is_empty() && (tally.unread.is_empty() || begun.elapsed() >= READ_TIMEOUT)
        };
        if let Some(tally) = last.as_ref().filter(is_done) {
            return Ok(finish(tally, &release));
        }
        if begun.elapsed() >= options.timeout {
            give_up(&last.unwrap_or_default());
            return Ok(ExitStatus::Timeout);
        }
    }
}

fn give_up(tally: &Tally) {
    for (id, reason) in &tally.going {
        let reason = reason.as_deref().unwrap_or("it still starts");
        eprint_line(format_args!(
            "handoff-fleet: {id} does not run it yet: {reason}"
        ));
    }
    for id in &tally.unread {
        eprint_line(format_args!("handoff-fleet: {id} has not read the channel"));
    }
    eprint_line("handoff-fleet: not in time: what is deployed stays");
}

fn finish(tally: &Tally, release: &FleetRelease) -> ExitStatus {
    for id in &tally.unread {
        eprint_line(format_args!(
            "handoff-fleet: {id} is silent: it follows when it is back"
        ));
    }
    for id in &tally.idle {
        eprint_line(format_args!("handoff-fleet: {id} has no live sidecar"));
    }
    if tally.runs.is_empty() {
        eprint_line("handoff-fleet: no machine with a live sidecar follows the channel");
        return ExitStatus::Idle;
    }
    print_line(format_args!("{release} runs on {}", tally.runs.join(", ")));
    ExitStatus::Done
}

async fn go_back(
    store: &Store,
    refused: &Channel,
    reason: String,
) -> Result<ExitStatus, StoreError> {
    let Some(before) = refused.before.clone() else {
        eprint_line("handoff-fleet: nothing was deployed before: it stays");
        return Ok(ExitStatus::Refused);
    };
    let is_ours = |now: Option<&Channel>| now.is_some_and(|now| now.nonce == refused.nonce);
    let back = change(store, |now| {
        let back = Channel::after(now, before.clone(), Some(reason.clone()));
        is_ours(now).then_some(back)
    });
    match back.await? {
        Some(_) => eprint_line(format_args!("handoff-fleet: all return to {before}")),
        None => eprint_line("handoff-fleet: another deploy took its place"),
    }
    Ok(ExitStatus::Refused)
}

/// Changes the channel to what `next` makes of it, and returns that; `None` if it makes nothing of it.
async fn change(
    store: &Store,
    next: impl Fn(Option<&Channel>) -> Option<Channel>,
) -> Result<Option<Channel>, StoreError> {
    for _ in 0..TRIES {
        let now = store.read::<Channel>(CHANNEL).await?;
        let Some(next) = next(now.as_ref().map(|(channel, _)| channel)) else {
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

/// Returns the machines, or `None` if the channel is another one.
async fn look(
    store: &Store,
    channel: &Channel,
    since: SystemTime,
) -> Result<Option<Tally>, StoreError> {
    let now = store.read::<Channel>(CHANNEL).await?;
    if now.is_none_or(|(now, _)| now.nonce != channel.nonce) {
        return Ok(None);
    }
    let mut members = Vec::new();
    for Listed { path, modified } in store.list(MEMBERS).await? {
        // Both times are the store's.
        if modified + 2 * HEARTBEAT >= since
            && let Some((member, _)) = store.read::<Member>(&path).await?
        {
            members.push(member);
        }
    }
    Ok(Some(Tally::of(members, channel.serial)))
}

// === impl Tally ===

impl Tally {
    fn of(members: impl IntoIterator<Item = Member>, serial: u64) -> Self {
        let mut tally = Self::default();
        for member in members {
            let name = match &member.host {
                Some(host) => format!("{host} ({})", member.id),
                None => member.id,
            };
            match member.state {
                _ if member.serial < serial => tally.unread.push(name),
                MemberState::Runs => tally.runs.push(name),
                MemberState::Refused(reason) => tally.refused = Some((name, reason)),
                MemberState::Going(reason) => tally.going.push((name, member.problem.or(reason))),
                MemberState::Idle => tally.idle.push(name),
            }
        }
        tally
    }
}

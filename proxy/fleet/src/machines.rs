//! The machines of a channel, as those who deploy see them.
//!
//! Only a clock of the deployer's own counts, and only while the store answers: a machine lives as
//! long as its object is seen to change. A store that was away makes nobody silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use handoff::commands::rollout::next::{self, Members};

use crate::channel::{Channel, MEMBERS, Member, MemberState};
use crate::clock;
use crate::mirror::HEARTBEAT;
use crate::store::{Listed, Store, StoreError};

/// Time in which a machine that lives has read the channel: longer than its longest wait.
pub const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Time after which a machine that has begun to start the release and is silent counts as one that has
/// refused it. It speaks every fifteen seconds meanwhile.
pub const LOST_AFTER: Duration = Duration::from_secs(120);
/// Time after which any other silent machine is passed over.
const SILENT_AFTER: Duration = Duration::from_secs(2 * HEARTBEAT.as_secs());
/// Maximum time that passes between two answers of the store.
const MAX_PASSED: Duration = Duration::from_secs(10);
/// Number of objects that are read at the same time.
const AT_ONCE: usize = 64;

/// The machines of a channel.
#[derive(Debug, Default)]
pub struct Machines {
    known: BTreeMap<String, Machine>,
    /// Time in which the store has answered.
    clock: Duration,
    refreshed: Option<Instant>,
}

#[derive(Debug)]
struct Machine {
    member: Member,
    /// Tag and time of the object that was read.
    object: (Option<String>, SystemTime),
    /// Time at which its object was seen to change; longer ago in the first look, by the store's clock.
    seen: Duration,
    /// Silence before the first look.
    silent_before: Duration,
    /// Time at which it was seen to be named, and not to have read that.
    named: Option<Duration>,
    /// True once it has begun to start the release, until it has ended that.
    has_begun: bool,
}

/// The machines of a channel at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that take part, by their ids.
    pub members: Members,
    /// Names of those that run it.
    pub runs: Vec<String>,
    /// Those that have refused it, with their reasons.
    pub refused: Vec<(String, String)>,
    /// Those that are to run it and have not finished, with the reason.
    pub late: Vec<(String, String)>,
    /// Those without a live sidecar.
    pub idle: Vec<String>,
    /// Those that do not speak, and take no part.
    pub silent: Vec<String>,
}

// === impl Machines ===

impl Machines {
    /// Reads what has changed in the store.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub async fn refresh(&mut self, store: &Store) -> Result<(), StoreError> {
        let listed = store.list(MEMBERS).await?;
        let is_news = |one: &&Listed| {
            let known = self.known.get(&one.path);
            known.is_none_or(|known| known.object != (one.tag.clone(), one.modified))
        };
        let news: Vec<_> = listed.iter().filter(is_news).collect();
        let read: Vec<_> = stream::iter(news)
            .map(async |one| Ok::<_, StoreError>((one, store.read::<Member>(&one.path).await?)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let passed = self
            .refreshed
            .map_or(Duration::ZERO, |at| clock::now() - at);
        self.refreshed = Some(clock::now());
        let newest = listed.iter().map(|one| one.modified).max();
        let read = read.into_iter().filter_map(|(one, read)| {
            let (member, _) = read?;
            let age = newest.and_then(|newest| newest.duration_since(one.modified).ok());
            Some((one.clone(), member, age.unwrap_or_default()))
        });
        self.observe(passed, read);
        self.known
            .retain(|path, _| listed.iter().any(|one| one.path == *path));
        Ok(())
    }

    /// Returns what each machine said of itself last, and when, by the store's clock.
    pub fn all(&self) -> impl Iterator<Item = (&Member, SystemTime)> {
        let known = self.known.values();
        known.map(|machine| (&machine.member, machine.object.1))
    }

    /// Takes in the objects that have changed, each with its age.
    pub(crate) fn observe(
        &mut self,
        passed: Duration,
        changed: impl IntoIterator<Item = (Listed, Member, Duration)>,
    ) {
        self.clock += passed.min(MAX_PASSED);
        for (listed, member, age) in changed {
            let object = (listed.tag, listed.modified);
            let before = self.known.get(&listed.path);
            let same_order = before.filter(|known| known.member.serial == member.serial);
            let had_begun = same_order.is_some_and(|known| known.has_begun);
            let has_begun = match member.state {
                MemberState::Going(_) => true,
                // A sidecar may have died in the start.
                MemberState::Idle => had_begun,
                MemberState::Waits | MemberState::Runs | MemberState::Refused(_) => false,
            };
            let is_lost = member.state == MemberState::Idle && had_begun;
            let (seen, silent_before) = match before {
                Some(known) if is_lost => (known.seen, known.silent_before),
                Some(_) => (self.clock, Duration::ZERO),
                None => (self.clock, age),
            };
            let named = same_order.and_then(|known| known.named);
            let machine = Machine {
                member,
                object,
                seen,
                silent_before,
                named,
                has_begun,
            };
            self.known.insert(listed.path, machine);
        }
    }

    /// Returns the machines' states with what the channel says.
    pub fn tally(&mut self, channel: &Channel) -> Tally {
        let mut tally = Tally::default();
        let clock = self.clock;
        for machine in self.known.values_mut() {
            machine.add_to(&mut tally, channel, clock);
        }
        tally
    }
}

// === impl Machine ===

impl Machine {
    fn add_to(&mut self, tally: &mut Tally, channel: &Channel, clock: Duration) {
        let Member {
            id, host, problem, ..
        } = &self.member;
        let name = match host {
            Some(host) => format!("{host} ({id})"),
            None => id.clone(),
        };
        let problem = |otherwise: &str| problem.clone().unwrap_or_else(|| otherwise.to_owned());
        let silent = clock - self.seen;
        let is_silent = silent + self.silent_before > SILENT_AFTER;
        let is_named = channel.is_named(id);
        let has_read = self.member.serial >= channel.since
            && !(is_named && self.member.state == MemberState::Waits);
        self.named = self.named.filter(|_| is_named && !has_read);
        let state = match &self.member.state {
            MemberState::Idle if has_read && !self.has_begun => return tally.idle.push(name),
            _ if !is_named && is_silent => return tally.silent.push(name),
            _ if !is_named => next::MemberState::Waits,
            _ if !has_read => {
                if clock - *self.named.get_or_insert(clock) > READ_TIMEOUT {
                    return tally.silent.push(name);
                }
                tally
                    .late
                    .push((name, problem("it has not read the channel")));
                next::MemberState::Waits
            }
            MemberState::Going(_) | MemberState::Idle if silent > LOST_AFTER => {
                let reason = "it fell silent while the release started".to_owned();
                tally.refused.push((name, reason));
                next::MemberState::Failed
            }
            MemberState::Refused(reason) => {
                tally.refused.push((name, reason.clone()));
                next::MemberState::Failed
            }
            MemberState::Runs if is_silent => return tally.silent.push(name),
            MemberState::Runs => {
                tally.runs.push(name);
                next::MemberState::Runs
            }
            MemberState::Going(reason) => {
                let reason = reason.as_deref().unwrap_or("it still starts");
                tally.late.push((name, problem(reason)));
                next::MemberState::Starts
            }
            MemberState::Idle | MemberState::Waits => {
                tally.late.push((name, problem("its sidecar has ended")));
                next::MemberState::Starts
            }
        };
        tally.members.insert(Arc::from(id.as_str()), state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use handoff::deployment::rollout::Rollout;

    use super::*;
    use crate::channel::FleetRelease;

    const TICK: Duration = Duration::from_secs(10);

    fn channel(named: &[&str]) -> Channel {
        let release = |name: &str| FleetRelease {
            name: name.to_owned(),
            sha256: "ab".repeat(32),
            size: 1,
        };
        let before = Channel::deploying(None, release("one"), None);
        let rollout = Rollout {
            may: named.iter().map(ToString::to_string).collect(),
            ..Rollout::default()
        };
        Channel::deploying(Some(&before), release("two"), Some(rollout))
    }

    fn says(id: &str, serial: u64, state: MemberState) -> (Listed, Member, Duration) {
        let member = Member::new(id, serial, state);
        let listed = Listed {
            path: id.to_owned(),
            modified: UNIX_EPOCH,
            tag: None,
        };
        (listed, member, Duration::ZERO)
    }

    /// Lets time pass in which only these speak.
    fn pass(machines: &mut Machines, time: Duration, state: &MemberState, ids: &[&str]) {
        for _ in 0..time.as_secs() / TICK.as_secs() {
            machines.observe(TICK, ids.iter().map(|id| says(id, 2, state.clone())));
        }
    }

    #[test]
    fn absent_is_not_lost() {
        let channel = channel(&["absent", "lost", "ended"]);
        let mut machines = Machines::default();
        let going = MemberState::Going(None);
        machines.observe(
            Duration::ZERO,
            [
                says("absent", 1, MemberState::Runs),
                says("lost", 2, going.clone()),
                says("ended", 2, going),
                says("other", 2, MemberState::Waits),
            ],
        );
        let before = machines.tally(&channel);
        assert_eq!(before.late.len(), 3);
        assert_eq!(before.members["lost"], next::MemberState::Starts);
        // The mirror goes on, and says that no sidecar lives.
        pass(&mut machines, 2 * TICK, &MemberState::Idle, &["ended"]);
        assert_eq!(machines.tally(&channel).members, before.members);
        pass(&mut machines, READ_TIMEOUT, &MemberState::Idle, &["ended"]);
        let after = machines.tally(&channel);
        assert_eq!(after.silent, ["absent"]);
        let refused: Vec<_> = after.refused.iter().map(|(name, _)| name).collect();
        assert_eq!(refused, ["ended", "lost"]);
        assert_eq!(after.members["other"], next::MemberState::Waits);
        // It is back.
        machines.observe(TICK, [says("absent", 2, MemberState::Runs)]);
        assert_eq!(machines.tally(&channel).runs, ["absent"]);
    }

    #[test]
    fn a_store_that_was_away_makes_nobody_silent() {
        let channel = channel(&["a"]);
        let mut machines = Machines::default();
        machines.observe(Duration::ZERO, [says("a", 2, MemberState::Going(None))]);
        let before = machines.tally(&channel);
        machines.observe(Duration::from_secs(3600), []);
        assert_eq!(machines.tally(&channel), before);
    }

    #[test]
    fn one_that_waits_and_is_silent_for_long_takes_no_part() {
        let channel = channel(&[]);
        let mut machines = Machines::default();
        let long_ago = |id| {
            let (listed, member, _) = says(id, 1, MemberState::Runs);
            (listed, member, SILENT_AFTER + TICK)
        };
        let now = says("b", 1, MemberState::Runs);
        machines.observe(Duration::ZERO, [long_ago("a"), now, long_ago("c")]);
        machines.observe(TICK, [says("c", 2, MemberState::Waits)]);
        let tally = machines.tally(&channel);
        assert_eq!(tally.silent, ["a"]);
        assert_eq!(tally.members.len(), 2);
        assert_eq!(tally.members["c"], next::MemberState::Waits);
    }
}

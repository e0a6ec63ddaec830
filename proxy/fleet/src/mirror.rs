//! `mirror`: brings what the channel says to a folder, and the state of its sidecars back.
//!
//! Whatever the store does, the folder stays as it is until a later channel and its whole artifact
//! have arrived: a missing, unreadable or older channel is never an order.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handoff::cli::output::eprint_line;
use handoff::commands::ExitStatus;
use handoff::commands::sidecars::Sidecars;
use handoff::deployment::desired::ControlCommand;
use handoff::deployment::names::release_id;
use handoff::deployment::pending_command::write_command;
use handoff::deployment::{Source, notes, pointer};
use handoff::os::files;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::channel::{CHANNEL, Channel, FleetRelease, MEMBERS, Member, MemberState, SCHEMA};
use crate::cli::MirrorOptions;
use crate::clock;
use crate::requests::Sent;
use crate::sidecars;
use crate::signature::TrustedKey;
use crate::store::{Store, StoreError, Version};
use crate::trouble::Trouble;

/// Time between two looks at the sidecars, which are files of this machine.
const LOCAL_POLL: Duration = Duration::from_secs(1);
/// Maximum time between two looks at the channel while a release starts.
pub(crate) const BUSY_POLL: Duration = Duration::from_secs(2);
/// The same while a staged roll-out has not reached this machine.
pub(crate) const ANNOUNCED_POLL: Duration = Duration::from_secs(5);
/// Maximum time between two looks at the channel while the store does not answer.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Time after which the member is written although nothing has changed.
pub const HEARTBEAT: Duration = Duration::from_secs(300);
/// The same while a release starts.
pub(crate) const BUSY_HEARTBEAT: Duration = Duration::from_secs(15);
/// Minimum time between two writes of the member.
const MIN_WRITE: Duration = Duration::from_secs(2);

/// Time between two reports of the requests that were sent.
const REPORT: Duration = Duration::from_hours(1);

/// Name of the mirror's own folder beside the pointer file. It is none that handoff itself looks into.
const ARTIFACTS: &str = "fleet";
/// Name of the mirror's own file in the state folder.
const MEMORY: &str = "fleet.json";
/// Name of its note in the state folder.
const NAME: &str = "handoff-fleet mirror";

/// Memory of a mirror across its restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Memory {
    /// Random id of the machine.
    id: String,
    /// Serial of the last channel that was read.
    serial: u64,
    /// Serial of the last order that was read.
    #[serde(default)]
    order: u64,
    /// Goal that was brought to the folder.
    goal: Option<Goal>,
}

/// Release that the machine is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Goal {
    /// Serial of the write that has made it the goal of all machines, or of some.
    since: u64,
    release: FleetRelease,
}

struct Mirror {
    store: Store,
    url: String,
    poll: Duration,
    trust: Option<TrustedKey>,
    pointer: PathBuf,
    artifacts: PathBuf,
    state: PathBuf,
    sidecars: Sidecars,
    memory: Memory,
    channel: Option<(Channel, Version)>,
    /// Serial of the command to try the release again.
    retry: Option<u64>,
    /// Reason why the channel cannot be followed.
    trouble: Trouble,
    /// Reason why the member cannot be written.
    untold: Trouble,
    /// Version of the member's object, once it was written.
    written: Option<Version>,
    told: Option<(Member, Instant)>,
    /// Requests that were sent until the last report of that, and its time.
    reported: (Sent, Instant),
}

/// Runs until the process is ended.
///
/// # Errors
/// [`StoreError`] when the state folder cannot be used. The store's errors are only reported.
pub async fn run(store: Store, options: &MirrorOptions) -> Result<ExitStatus, StoreError> {
    let mut mirror = Mirror::open(store, options)?;
    let mut look_at = clock::now();
    let mut failures = 0;
    loop {
        let haste = mirror.haste();
        if clock::now() >= look_at {
            let looked = mirror.look().await;
            failures = if looked.is_ok() { 0 } else { failures + 1 };
            let over = "the channel can be followed again";
            if let Some(news) = mirror.trouble.note(looked.as_ref().err(), over) {
                print(&news);
                mirror.put_note();
            }
            look_at = clock::now() + vary(mirror.interval(failures));
        }
        mirror.tell().await;
        mirror.report(haste);
        clock::sleep(LOCAL_POLL.min(options.poll)).await;
    }
}

// === impl Mirror ===

impl Mirror {
    fn open(store: Store, options: &MirrorOptions) -> Result<Self, StoreError> {
        let pointer = handoff::deployment::source::absolute(options.pointer.clone());
        let folder = pointer.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let default = || {
            Source::Pointer {
                file: pointer.clone(),
                folder: None,
            }
            .default_state()
        };
        let state = options.state.clone().unwrap_or_else(default);
        files::make_folder(&folder)?;
        files::make_folder(&state)?;
        let file = state.join(MEMORY);
        let known = files::read_small(&file).ok();
        let memory = match known.and_then(|content| serde_json::from_slice(&content).ok()) {
            Some(memory) => memory,
            None => {
                let memory = Memory {
                    id: new_id(),
                    serial: 0,
                    order: 0,
                    goal: None,
                };
                remember(&state, &memory)?;
                memory
            }
        };
        let trust = options.trust.as_deref().map(TrustedKey::read).transpose()?;
        if trust.is_none() {
            eprint_line(
                "handoff-fleet: without --trust, whoever may write to the store can run code here",
            );
        }
        // That of a mirror that was killed.
        notes::write(&state, NAME, None)?;
        Ok(Self {
            reported: (store.sent(), clock::now()),
            store,
            url: options.store.clone(),
            poll: options.poll,
            trust,
            artifacts: folder.join(ARTIFACTS),
            pointer,
            sidecars: Sidecars::of(&state),
            state,
            memory,
            channel: None,
            retry: None,
            trouble: Trouble::default(),
            untold: Trouble::default(),
            written: None,
            told: None,
        })
    }

    /// Reads the channel, and follows it.
    async fn look(&mut self) -> Result<(), StoreError> {
        self.read_channel().await?;
        let goal = self.goal();
        let Some(to) = goal.clone().filter(|_| goal != self.memory.goal) else {
            return Ok(());
        };
        // Deployers learn that it has begun before the artifact arrives.
        self.tell().await;
        let digest = to.release.check().map_err(unusable)?;
        let path = artifact::fetch(&self.store, &to.release, &self.artifacts).await?;
        // Fetching may have taken long: the pointer follows the channel of now.
        self.read_channel().await?;
        if self.goal() != goal {
            return Ok(());
        }
        self.sidecars.refresh();
        let live: Vec<_> = self.sidecars.live().collect();
        self.retry = if let MemberState::Refused(_) = sidecars::state_of(&live, digest, None) {
            let command = write_command(&self.state, ControlCommand::Retry(digest))?;
            Some(command.serial())
        } else {
            None
        };
        let id = release_id(None, &path, digest);
        let folder = self.pointer.parent().unwrap_or_else(|| Path::new(""));
        let shown = path.strip_prefix(folder).unwrap_or(&path);
        let content = pointer::content(shown, digest, id.as_str());
        files::write_atomically(&self.pointer, content.as_bytes())?;
        eprint_line(format_args!("handoff-fleet: deployed {}", to.release));
        self.memory.goal = goal;
        remember(&self.state, &self.memory)?;
        if let Some((Channel { order, .. }, _)) = &self.channel {
            let kept = std::iter::once(&order.release).chain(&order.before);
            artifact::remove_all_but(&self.artifacts, kept);
        }
        Ok(())
    }

    /// Returns the release that the channel has for this machine.
    fn goal(&self) -> Option<Goal> {
        let (channel, _) = self.channel.as_ref()?;
        Some(Goal {
            since: channel.since,
            release: channel.goal(&self.memory.id).clone(),
        })
    }

    async fn read_channel(&mut self) -> Result<(), StoreError> {
        let known = self.channel.as_ref().map(|(_, version)| version);
        let read = self.store.read_unless::<Channel>(CHANNEL, known).await?;
        let Some((channel, version)) = read else {
            return Ok(());
        };
        if channel.schema != SCHEMA {
            let schema = channel.schema;
            return Err(unusable(format!(
                "it has schema {schema}: this version knows {SCHEMA}"
            )));
        }
        let (now, seen) = (&channel, &self.memory);
        if now.serial < seen.serial || now.order.serial < seen.order {
            return Err(unusable(format!(
                "its serial {} (of the order: {}) is lower than {} ({}), which was seen before; if the \
                 channel was made anew, remove {}",
                now.serial,
                now.order.serial,
                seen.serial,
                seen.order,
                self.state.join(MEMORY).display()
            )));
        }
        if let Some(trust) = &self.trust {
            trust.check(&self.url, &channel).map_err(unusable)?;
        }
        if channel.serial > self.memory.serial {
            self.memory.serial = channel.serial;
            self.memory.order = channel.order.serial;
            remember(&self.state, &self.memory)?;
        }
        self.channel = Some((channel, version));
        Ok(())
    }

    /// Writes what this machine says of itself, if that has changed or is old.
    async fn tell(&mut self) {
        self.sidecars.refresh();
        let member = self.member();
        if let Some((told, at)) = &self.told {
            let is_same = Member {
                nonce: told.nonce,
                ..member.clone()
            } == *told;
            let is_busy = matches!(member.state, MemberState::Going(_));
            let pause = match (is_same, is_busy) {
                _ if self.untold.text().is_some() => BUSY_HEARTBEAT,
                (false, _) => MIN_WRITE.min(self.poll),
                (true, true) => BUSY_HEARTBEAT,
                (true, false) => HEARTBEAT,
            };
            if clock::now() - *at < pause {
                return;
            }
        }
        let path = format!("{MEMBERS}/{}.json", member.id);
        let written = self.write(&path, &member).await;
        self.told = Some((member, clock::now()));
        let error = match written {
            Ok(()) => None,
            Err(StoreError::Lost) => {
                // Another machine has the same id, as the copy of a disk has.
                self.memory.id = new_id();
                self.written = None;
                self.told = None;
                remember(&self.state, &self.memory).err()
            }
            Err(error) => Some(error),
        };
        let over = "the state of this machine can be written again";
        if let Some(news) = self.untold.note(error.as_ref(), over) {
            print(&news);
            self.put_note();
        }
    }

    /// Says in the state folder what keeps it from its work, for `handoff status`.
    fn put_note(&self) {
        let text = self.trouble.text().or_else(|| self.untold.text());
        // It is printed, too.
        let _ = notes::write(&self.state, NAME, text);
    }

    async fn write(&mut self, path: &str, member: &Member) -> Result<(), StoreError> {
        let known = self.written.take();
        let mut written = self.store.swap(path, member, known.as_ref()).await;
        // This machine has written it before. It is not read first: S3 forbids that while it is missing,
        // unless the machine may list objects.
        if let (Err(StoreError::Lost), None) = (&written, known) {
            let found = self.store.read::<serde_json::Value>(path).await?;
            let known = found.map(|(_, version)| version);
            written = self.store.swap(path, member, known.as_ref()).await;
        }
        self.written = Some(written?);
        Ok(())
    }

    fn member(&self) -> Member {
        let sidecars: Vec<_> = self.sidecars.live().collect();
        let mut runs: Vec<_> = sidecars
            .iter()
            .filter_map(|status| Some(status.active.as_ref()?.release.to_string()))
            .collect();
        runs.dedup();
        let goal = self.goal();
        let is_there = goal == self.memory.goal;
        let digest = goal.and_then(|goal| goal.release.check().ok());
        let channel = self.channel.as_ref().map(|(channel, _)| channel);
        let state = match (channel, digest) {
            _ if sidecars.is_empty() => MemberState::Idle,
            (Some(channel), _) if !channel.is_named(&self.memory.id) => MemberState::Waits,
            (Some(_), Some(digest)) if is_there => {
                sidecars::state_of(&sidecars, digest, self.retry)
            }
            _ => MemberState::Going(None),
        };
        Member {
            schema: SCHEMA,
            nonce: fastrand::u64(..),
            id: self.memory.id.clone(),
            host: sidecars.iter().find_map(|status| status.host.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serial: channel.map_or(0, |channel| channel.since),
            state,
            runs,
            problem: self.trouble.text().map(str::to_owned),
        }
    }

    fn interval(&self, failures: u32) -> Duration {
        let poll = self.poll;
        if failures > 0 {
            return (poll * 2u32.saturating_pow(failures.min(6))).min(MAX_BACK_OFF.max(poll));
        }
        self.haste().map_or(poll, |haste| poll.min(haste))
    }

    /// Returns the maximum time between two looks at the channel in a roll-out, if there is one.
    fn haste(&self) -> Option<Duration> {
        let told = self.told.as_ref();
        let is_busy = told.is_some_and(|(told, _)| matches!(told.state, MemberState::Going(_)));
        let is_announced = |(channel, _): &(Channel, Version)| channel.rollout.is_some();
        if is_busy {
            Some(BUSY_POLL)
        } else if self.channel.as_ref().is_some_and(is_announced) {
            Some(ANNOUNCED_POLL)
        } else {
            None
        }
    }

    /// Prints the number of requests that were sent, once an hour, and where a roll-out begins or ends:
    /// `haste` is as it was until now.
    fn report(&mut self, haste: Option<Duration>) {
        let (before, since) = self.reported;
        let time = clock::now() - since;
        if haste.is_some() == self.haste().is_some() && time < REPORT {
            return;
        }
        let sent = self.store.sent();
        let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
        let when = if haste.is_some() {
            "in a roll-out"
        } else {
            "at rest"
        };
        let number = sent.since(before);
        eprint_line(format_args!(
            "handoff-fleet: sent in {time}, {when}: {number}"
        ));
        self.reported = (sent, clock::now());
    }
}

fn print(news: &str) {
    eprint_line(format_args!("handoff-fleet: {news}"));
}

/// Returns the interval, changed by a fifth at most: machines that were started together do not stay
/// together.
fn vary(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * fastrand::f64())
}

fn unusable(reason: String) -> StoreError {
    StoreError::Content(CHANNEL.to_owned(), reason)
}

fn new_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

fn remember(state: &Path, memory: &Memory) -> Result<(), StoreError> {
    let content = serde_json::to_vec_pretty(memory).map_err(std::io::Error::from)?;
    Ok(files::write_atomically(&state.join(MEMORY), &content)?)
}

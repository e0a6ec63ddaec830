//! A simulation of many machines: the real next step, the real view of the machines and the real goal
//! of a machine, with networks, stores, deployers and machines that fail.

use std::time::{Duration, UNIX_EPOCH};

use fastrand::Rng;
use handoff::commands::rollout::next::{Next, next};
use handoff::deployment::rollout::{AtMost, Rollout};

use crate::channel::{Channel, FleetRelease, Member, MemberState, SCHEMA};
use crate::machines::Machines;
use crate::mirror::{ANNOUNCED_POLL, BUSY_HEARTBEAT, BUSY_POLL, HEARTBEAT};
use crate::store::Listed;

const BAKE: u64 = 120;

/// The faults of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Calm,
    AllRefuse,
    /// Of a hundred machines thirty crash within 90 seconds of the promotion.
    ManyCrash,
    /// Networks are cut, answers lost, machines suspended or gone, deployers end, the store is away.
    AllGoesWrong,
}

/// One machine: its mirror and its app.
#[derive(Debug)]
struct Machine {
    member: Member,
    /// The channel that it has read last.
    known: Option<Channel>,
    poll_at: u64,
    /// End of the fetch; then the channel is read again.
    fetched_at: Option<u64>,
    ready_at: Option<u64>,
    crash_at: Option<u64>,
    /// Its network is cut, or it is suspended.
    cut_until: u64,
    suspended_until: u64,
    is_gone: bool,
    written: Option<(Member, u64)>,
}

/// The figures of one roll-out.
#[derive(Debug, Default)]
struct Figures {
    seconds: u64,
    is_complete: bool,
    most_starting: usize,
    have_launched: usize,
    channel_writes: u64,
    reads: u64,
    /// Most reads of the channel in one second.
    most_reads: u64,
    writes: u64,
}

struct World {
    rng: Rng,
    case: Case,
    now: u64,
    channel: Channel,
    machines: Vec<Machine>,
    figures: Figures,
}

fn release(name: &str) -> FleetRelease {
    FleetRelease {
        name: name.to_owned(),
        sha256: "ab".repeat(32),
        size: 1,
    }
}

impl World {
    fn new(seed: u64, count: usize, at_most: usize, case: Case) -> Self {
        let mut rng = Rng::with_seed(seed);
        let policy = Rollout {
            at_most: AtMost::Count(at_most),
            first: 1,
            bake_ms: BAKE * 1000,
            tolerate: if case == Case::AllGoesWrong {
                count / 10
            } else {
                0
            },
            ..Rollout::default()
        };
        let before = Channel::deploying(None, release("one"), None);
        let machine = |n| Machine {
            member: Member {
                schema: SCHEMA,
                nonce: 0,
                id: format!("{n:05}"),
                host: None,
                version: String::new(),
                serial: before.since,
                state: MemberState::Runs,
                runs: Vec::new(),
                problem: None,
            },
            known: Some(before.clone()),
            poll_at: 0,
            fetched_at: None,
            ready_at: None,
            crash_at: None,
            cut_until: 0,
            suspended_until: 0,
            is_gone: false,
            written: None,
        };
        let mut machines: Vec<_> = (0..count).map(machine).collect();
        for machine in &mut machines {
            machine.poll_at = rng.u64(0..15);
            machine.written = Some((machine.member.clone(), 0));
        }
        Self {
            channel: Channel::deploying(Some(&before), release("two"), Some(policy)),
            rng,
            case,
            now: 0,
            machines,
            figures: Figures::default(),
        }
    }

    fn is_away(&self) -> bool {
        self.case == Case::AllGoesWrong && (200..380).contains(&self.now)
    }

    /// Lets every machine act for a second.
    fn act(&mut self) {
        let (is_away, now, wild) = (self.is_away(), self.now, self.case == Case::AllGoesWrong);
        let mut starting = 0;
        let before = self.figures.reads;
        for machine in &mut self.machines {
            if wild && self.rng.u32(0..600) == 0 {
                machine.cut_until = now + 90;
            }
            if machine.is_gone || machine.suspended_until > now {
                continue;
            }
            let is_cut = is_away || machine.cut_until > now || wild && self.rng.u32(0..100) == 0;
            let reads = machine.poll_at <= now || machine.fetched_at == Some(now);
            if reads && !is_cut {
                self.figures.reads += 1;
                machine.read(&self.channel);
            }
            machine.go_on(now, is_cut, &mut self.rng, self.case, &mut self.figures);
            if reads {
                let poll = machine.poll().as_secs();
                machine.poll_at = now + self.rng.u64(poll * 4 / 5..=poll * 6 / 5);
            }
            if !is_cut && machine.is_to_write(now) {
                machine.member.nonce = self.rng.u64(..);
                machine.written = Some((machine.member.clone(), now));
                self.figures.writes += 1;
            }
            starting += usize::from(machine.ready_at.is_some());
        }
        self.figures.most_starting = self.figures.most_starting.max(starting);
        let reads = self.figures.reads - before;
        self.figures.most_reads = self.figures.most_reads.max(reads);
    }

    /// Runs deployers until the roll-out ends.
    fn run(mut self) -> Figures {
        let mut view = Machines::default();
        let (mut baked_at, mut away_until, mut looked) = (None, 0, 0);
        while self.now < 20_000 {
            self.now += 1;
            self.act();
            if self.case == Case::AllGoesWrong && self.now.is_multiple_of(600) {
                // The deployer is killed, and somebody calls the command again.
                (view, baked_at, away_until, looked) =
                    (Machines::default(), None, self.now + 45, 0);
            }
            let is_due = self.now.is_multiple_of(2) && self.now >= away_until;
            if !is_due || self.is_away() {
                continue;
            }
            let passed = if looked == 0 { 0 } else { self.now - looked };
            let changed = self.machines.iter().enumerate().filter_map(|(n, machine)| {
                let (member, at) = machine.written.as_ref()?;
                let listed = Listed {
                    path: n.to_string(),
                    modified: UNIX_EPOCH,
                    tag: None,
                };
                let age = Duration::from_secs(self.now - at);
                (looked == 0 || *at >= looked).then(|| (listed, member.clone(), age))
            });
            view.observe(Duration::from_secs(passed), changed);
            looked = self.now;
            let tally = view.tally(&self.channel);
            let rollout = self.channel.rollout.clone().expect("a roll-out");
            self.check(&rollout);
            let has_baked = baked_at.is_some_and(|at| self.now >= at);
            let changed = match next(&rollout, &tally.members, has_baked) {
                Next::Wait => continue,
                Next::Bake => {
                    baked_at.get_or_insert(self.now + BAKE);
                    continue;
                }
                Next::Name(ids) => {
                    let mut rollout = rollout;
                    rollout.may.extend(ids.iter().map(ToString::to_string));
                    self.channel.with_rollout(Some(rollout))
                }
                Next::Complete => self.channel.with_rollout(None),
                Next::GoBack => {
                    let back = self.channel.going_back("refused".to_owned());
                    back.expect("a release before")
                }
            };
            // A request that fails, or is done and its answer lost: the next look shows it.
            if self.case == Case::AllGoesWrong && self.rng.u32(0..100) == 0 && self.rng.bool() {
                continue;
            }
            self.channel = changed;
            self.figures.channel_writes += 1;
            if self.channel.rollout.is_none() {
                return self.end();
            }
        }
        panic!("it does not end: {:?}", self.figures);
    }

    /// Asserts that no more start it than the limit, but for those that were silent for long.
    fn check(&self, rollout: &Rollout) {
        let starting = self.machines.iter().filter(|machine| {
            let silent_until = machine.cut_until.max(machine.suspended_until);
            let was_heard = silent_until == 0 || silent_until + 120 < self.now;
            was_heard && machine.ready_at.is_some() && !machine.is_gone
        });
        let (starting, limit) = (starting.count(), rollout.at_most.of(usize::MAX));
        assert!(starting <= limit, "{starting} start it, at most {limit}");
        for machine in &self.machines {
            let has_begun = machine.ready_at.is_some() || machine.fetched_at.is_some();
            let is_named = rollout.may.contains(&machine.member.id);
            assert!(!has_begun || is_named, "{machine:?}");
        }
    }

    /// Lets the machines follow what the channel says in the end.
    fn end(mut self) -> Figures {
        self.figures.is_complete = self.channel.back.is_none();
        let goal = self.channel.goal("any").clone();
        for _ in 0..3_600 {
            self.now += 1;
            self.act();
            let is_there = |machine: &Machine| {
                let known = machine.known.as_ref().map(|known| known.serial);
                machine.is_gone || known == Some(self.channel.serial) && machine.ready_at.is_none()
            };
            if self.machines.iter().all(is_there) {
                break;
            }
        }
        for machine in self.machines.iter().filter(|machine| !machine.is_gone) {
            let known = machine.known.as_ref().expect("a channel");
            assert_eq!(known.goal(&machine.member.id), &goal, "{machine:?}");
        }
        self.figures.seconds = self.now;
        self.figures
    }
}

impl Machine {
    /// Reads the channel.
    fn read(&mut self, channel: &Channel) {
        if self.known.as_ref() == Some(channel) {
            return;
        }
        let id = self.member.id.clone();
        let had = self
            .known
            .as_ref()
            .map(|known| (known.since, known.goal(&id).clone()));
        let has = (channel.since, channel.goal(&id).clone());
        self.member.serial = channel.since;
        self.known = Some(channel.clone());
        if !channel.is_named(&id) {
            self.member.state = MemberState::Waits;
        } else if had != Some(has.clone()) {
            // An instance that still starts is abandoned.
            self.ready_at = None;
            self.fetched_at = None;
            self.crash_at = None;
            let is_new = has.1.name == "two";
            self.member.state = if is_new {
                MemberState::Going(None)
            } else {
                MemberState::Runs
            };
        }
    }

    fn go_on(&mut self, now: u64, is_cut: bool, rng: &mut Rng, case: Case, figures: &mut Figures) {
        let is_going = matches!(self.member.state, MemberState::Going(_));
        if is_going && self.fetched_at.is_none() && self.ready_at.is_none() {
            self.fetched_at = Some(now + rng.u64(1..4));
        } else if self.fetched_at.is_some_and(|at| at <= now) {
            if is_cut {
                // The channel cannot be read again: later.
                self.fetched_at = Some(now + 2);
                return;
            }
            self.fetched_at = None;
            figures.have_launched += 1;
            let slow = if rng.u32(0..50) == 0 { 4 } else { 1 };
            self.ready_at = Some(now + slow * rng.u64(4..=12));
            if case == Case::AllGoesWrong {
                match rng.u32(0..100) {
                    0 => self.is_gone = true,
                    1 => self.suspended_until = now + 400,
                    _ => {}
                }
            }
        } else if self.ready_at.is_some_and(|at| at <= now) {
            self.ready_at = None;
            let refused = || MemberState::Refused("it refuses".to_owned());
            self.member.state = if case == Case::AllRefuse {
                refused()
            } else {
                MemberState::Runs
            };
            if case == Case::ManyCrash && rng.u32(0..100) < 30 {
                self.crash_at = Some(now + rng.u64(1..90));
            }
        } else if self.crash_at.is_some_and(|at| at <= now) {
            self.crash_at = None;
            self.member.state = MemberState::Refused("it crashed".to_owned());
        }
    }

    fn poll(&self) -> Duration {
        if matches!(self.member.state, MemberState::Going(_)) {
            BUSY_POLL
        } else if self
            .known
            .as_ref()
            .is_some_and(|known| known.rollout.is_some())
        {
            ANNOUNCED_POLL
        } else {
            Duration::from_secs(15)
        }
    }

    fn is_to_write(&self, now: u64) -> bool {
        let Some((written, at)) = &self.written else {
            return true;
        };
        let is_busy = matches!(self.member.state, MemberState::Going(_));
        let pause = match (*written == self.member, is_busy) {
            (false, _) => 2,
            (true, true) => BUSY_HEARTBEAT.as_secs(),
            (true, false) => HEARTBEAT.as_secs(),
        };
        now - at >= pause
    }
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

/// Runs a case with many seeds, and prints a row of the manual's table.
fn row(count: usize, at_most: usize, case: Case, seeds: u64) -> Vec<Figures> {
    let all: Vec<_> = (0..seeds)
        .map(|seed| World::new(seed, count, at_most, case).run())
        .collect();
    let of = |figure: fn(&Figures) -> u64| {
        let all: Vec<_> = all.iter().map(figure).collect();
        (median(all.clone()), all.into_iter().max().unwrap_or(0))
    };
    let (seconds, worst) = of(|it| it.seconds);
    println!(
        "| {count}, {at_most} | {case:?} | {seconds} ({worst}) | {} | {} | {} | {:.1} | {:.1} | {}, {} |",
        of(|it| it.most_starting as u64).1,
        of(|it| it.have_launched as u64).0,
        of(|it| it.channel_writes).0,
        of(|it| it.reads).0 as f64 / count as f64,
        of(|it| it.writes).0 as f64 / count as f64,
        of(|it| it.reads / it.seconds.max(1)).0,
        of(|it| it.most_reads).1,
    );
    all
}

#[test]
fn whatever_fails_the_limit_holds_and_it_ends() {
    for figures in row(100, 5, Case::Calm, 5) {
        assert!(figures.is_complete, "{figures:?}");
        assert_eq!(figures.have_launched, 100, "{figures:?}");
    }
    for figures in row(100, 5, Case::AllRefuse, 5) {
        assert!(!figures.is_complete, "{figures:?}");
        assert_eq!(figures.have_launched, 1, "{figures:?}");
    }
    for figures in row(100, 5, Case::ManyCrash, 5) {
        assert!(!figures.is_complete, "{figures:?}");
    }
    for figures in row(100, 5, Case::AllGoesWrong, 5) {
        assert!(figures.is_complete, "{figures:?}");
    }
}

/// The table of the manual: `cargo test --release -p handoff-fleet -- --ignored --nocapture table`.
#[test]
#[ignore = "runs for minutes"]
fn table() {
    for case in [
        Case::Calm,
        Case::AllRefuse,
        Case::ManyCrash,
        Case::AllGoesWrong,
    ] {
        row(1_000, 50, case, 30);
    }
    for case in [Case::Calm, Case::AllGoesWrong] {
        row(10_000, 500, case, 3);
    }
}

//! The steps done to a deployment, drawn from a seed: the same seed gives the same steps.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// One thing to do, and how long to let things be afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The action of the step.
    pub action: Action,
    /// Then.
    pub pause: Duration,
}

/// An event in the life of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A new release, and whether to wait until it serves.
    DeployGood(Good, bool),
    /// One that must not serve, or not for long; and whether to wait until handoff has told why.
    DeployBad(Bad, bool),
    /// The newest artifact becomes another one in so many pieces.
    OverwriteSlowly(usize),
    /// `kill -9` of the active instance.
    KillApp,
    /// The active instance does nothing for so many milliseconds, and meanwhile this happens.
    HaltApp(u64, Meanwhile),
    /// `kill -9` of handoff; so many milliseconds later it is started again.
    KillHandoff(u64),
    /// The disk of the private copies is full for so many milliseconds.
    FillDisk(u64, Meanwhile),
    /// The watched folder is not there for so many milliseconds.
    DeleteFolder(u64, Meanwhile),
    /// handoff may open no more files for so many milliseconds.
    ExhaustDescriptors(u64, Meanwhile),
    /// A command, and what happens while it is carried out.
    Command(Command, Meanwhile),
    /// An outgoing connection takes the port of the next instance, before that can.
    TakePort,
    /// A new release, which somebody opens for writing again and again, for so many milliseconds.
    OpenForWriting(u64),
    /// The other deployment on the cache gets a new release.
    DeployNeighbour,
    /// Something about the other deployment's folder changes, but its content.
    TouchNeighbour(Touch),
}

/// A command of handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// `handoff rollback`
    Rollback,
    /// `handoff restart`
    Restart,
    /// `handoff pause`, and `handoff resume`
    Pause,
}

/// A change of a folder that is none of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Other rights.
    Modes,
    /// Other times.
    Times,
    /// A file has another name, too.
    HardLink,
    /// An empty folder comes into it.
    NewFolder,
}

/// Ways in which a release is good, and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Good {
    /// A good release.
    Plain,
    /// A good release with its digest beside it.
    Proven,
    /// Ready only after a while.
    Slow,
    /// It ignores every request to stop.
    Stubborn,
    /// It leaves a child behind.
    Leaking,
    /// It listens only after a while.
    Late,
}

/// Ways in which a release is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// It exits at once.
    Exits,
    /// It listens, and is never ready.
    NeverReady,
    /// It never listens.
    NeverBinds,
    /// It ends before it is ready.
    CrashesEarly,
    /// It ends when it serves, again and again.
    CrashesLate,
    /// It is no program.
    NoProgram,
    /// It is not what the digest beside it says.
    WrongDigest,
    /// An archive, the end of which is missing.
    CutArchive,
}

/// A second event while something is amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meanwhile {
    /// Nothing.
    Nothing,
    /// A new release is deployed.
    Deploy,
    /// `kill -9` of the active instance.
    KillApp,
    /// `kill -9` of handoff, which is started again.
    KillHandoff,
    /// A command.
    Command(Command),
}

/// Endless steps, in rounds: each has every action in it, in an order of its own.
#[derive(Clone, Debug)]
pub struct Schedule {
    rng: Rng,
}

const GOOD: [Good; 5] = [
    Good::Plain,
    Good::Proven,
    Good::Slow,
    Good::Stubborn,
    Good::Leaking,
];
const BAD: [Bad; 8] = [
    Bad::Exits,
    Bad::NeverReady,
    Bad::NeverBinds,
    Bad::CrashesEarly,
    Bad::CrashesLate,
    Bad::NoProgram,
    Bad::WrongDigest,
    Bad::CutArchive,
];
const COMMANDS: [Command; 3] = [Command::Rollback, Command::Restart, Command::Pause];
const TOUCHES: [Touch; 4] = [
    Touch::Modes,
    Touch::Times,
    Touch::HardLink,
    Touch::NewFolder,
];
const MEANWHILE: [Meanwhile; 7] = [
    Meanwhile::Nothing,
    Meanwhile::Deploy,
    Meanwhile::KillApp,
    Meanwhile::KillHandoff,
    Meanwhile::Command(Command::Rollback),
    Meanwhile::Command(Command::Restart),
    Meanwhile::Command(Command::Pause),
];

// === impl Schedule ===

impl Schedule {
    /// The steps of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
        }
    }

    /// The next round.
    pub fn round(&mut self) -> Vec<Step> {
        let rng = &mut self.rng;
        let mut actions = Vec::new();
        for bad in BAD {
            actions.push(Action::DeployBad(bad, rng.bool()));
        }
        for good in GOOD {
            actions.push(Action::DeployGood(good, rng.bool()));
        }
        for _ in 0..2 {
            actions.push(Action::OverwriteSlowly(rng.usize(2..12)));
            actions.push(Action::KillApp);
        }
        actions.push(Action::KillHandoff(rng.u64(0..300)));
        actions.push(Action::HaltApp(rng.u64(100..2_000), meanwhile(rng)));
        actions.push(Action::FillDisk(rng.u64(100..1_500), meanwhile(rng)));
        actions.push(Action::DeleteFolder(rng.u64(100..1_500), meanwhile(rng)));
        actions.push(Action::ExhaustDescriptors(
            rng.u64(100..1_500),
            meanwhile(rng),
        ));
        for command in COMMANDS {
            actions.push(Action::Command(command, meanwhile(rng)));
        }
        for touch in TOUCHES {
            actions.push(Action::TouchNeighbour(touch));
        }
        actions.push(Action::DeployNeighbour);
        actions.push(Action::TakePort);
        actions.push(Action::OpenForWriting(rng.u64(100..1_500)));
        rng.shuffle(&mut actions);
        let mut step = |action| Step {
            action,
            pause: Duration::from_millis(rng.u64(0..400)),
        };
        actions.into_iter().map(&mut step).collect()
    }
}

fn meanwhile(rng: &mut Rng) -> Meanwhile {
    MEANWHILE[rng.usize(..MEANWHILE.len())]
}

// === impl Action ===

impl Action {
    /// Returns the name under which it is counted.
    pub fn kind(self) -> String {
        match self {
            Self::DeployGood(..) => "deploy good".to_owned(),
            Self::DeployBad(bad, _) => format!("deploy bad: {bad:?}"),
            Self::OverwriteSlowly(_) => "overwrite in place".to_owned(),
            Self::KillApp => "kill app".to_owned(),
            Self::HaltApp(..) => "halt app".to_owned(),
            Self::KillHandoff(_) => "kill handoff".to_owned(),
            Self::FillDisk(..) => "fill disk".to_owned(),
            Self::DeleteFolder(..) => "delete folder".to_owned(),
            Self::ExhaustDescriptors(..) => "exhaust descriptors".to_owned(),
            Self::Command(command, _) => format!("command: {command:?}"),
            Self::TakePort => "take port".to_owned(),
            Self::OpenForWriting(_) => "open for writing".to_owned(),
            Self::DeployNeighbour => "deploy neighbour".to_owned(),
            Self::TouchNeighbour(touch) => format!("touch neighbour: {touch:?}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, then {:?}", self.action, self.pause)
    }
}

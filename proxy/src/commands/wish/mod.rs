//! `handoff rollback`, `restart`, `pause` and `resume`: what all sidecars of a deployment are asked
//! for, and what each makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, json};

pub use self::options::{Pause, Restart, Resume, Rollback};
use super::desired::{self, Ask, Asked};
use super::follow::{Following, LOOK, Outcome, Report, SidecarReport, Step, Steps};
use super::place::{PlaceError, Where};
use super::progress::Progress;
use super::{ELSEWHERE, Ending, count};
use crate::deployment::status::Status;
use crate::release::Generation;

mod options;

/// For all to be resumed, after a pause that came to nothing.
const RESUMING: Duration = Duration::from_secs(10);

/// Goes back to another release.
pub fn rollback(options: &Rollback) -> Ending {
    let ask = Ask::Rollback(options.release.as_deref());
    let follow = &options.follow;
    run(&follow.place, ask, follow.timeout, follow.json)
}

/// Hands off to a new instance.
pub fn restart(options: &Restart) -> Ending {
    let follow = &options.follow;
    run(&follow.place, Ask::Restart, follow.timeout, follow.json)
}

/// Holds new requests until no other is in flight.
pub fn pause(options: &Pause) -> Ending {
    let timeout = options.timeout.unwrap_or(options.max).min(options.max);
    run(
        &options.place,
        Ask::Pause(options.max),
        timeout,
        options.json,
    )
}

/// Ends a pause.
pub fn resume(options: &Resume) -> Ending {
    let follow = &options.follow;
    run(&follow.place, Ask::Resume, follow.timeout, follow.json)
}

/// Why nothing was asked for.
#[derive(Debug, thiserror::Error)]
enum WishError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot write desired.json in {state:?}: {source}")]
    Write { state: PathBuf, source: io::Error },
}

fn run(place: &Where, ask: Ask<'_>, timeout: Duration, json: bool) -> Ending {
    let mut progress = Progress::new();
    let report = place
        .state()
        .map_err(WishError::from)
        .and_then(|state| Asking::new(state, ask, timeout).run(&mut progress));
    progress.end();
    let report = report.unwrap_or_else(|error| {
        let ending = match error {
            WishError::Place(_) => Ending::Usage,
            WishError::Write { .. } => Ending::Refused,
        };
        Report::failed(ending, &error)
    });
    report.print(json);
    report.ending
}

/// One wish under way.
struct Asking<'a> {
    state: PathBuf,
    ask: Ask<'a>,
    timeout: Duration,
    following: Following,
    /// The last launch of each sidecar before.
    launches: BTreeMap<Arc<str>, Generation>,
    /// What served in each before.
    active: BTreeMap<Arc<str>, Generation>,
}

/// What following them came to.
enum Verdict {
    Done,
    Refused,
    Superseded,
    Timeout,
    Idle,
}

impl<'a> Asking<'a> {
    fn new(state: PathBuf, ask: Ask<'a>, timeout: Duration) -> Self {
        Self {
            following: Following::of(&state),
            state,
            ask,
            timeout,
            launches: BTreeMap::new(),
            active: BTreeMap::new(),
        }
    }

    fn run(&mut self, progress: &mut Progress) -> Result<Report, WishError> {
        let deadline = Instant::now() + self.timeout;
        let is_live = self.following.finds_live();
        // A sidecar that starts later takes up a pause that it finds, and nothing else.
        if !is_live && !matches!(self.ask, Ask::Resume) {
            return Ok(self.report(&Verdict::Idle, &Steps::new()));
        }
        self.launches = self.following.launches();
        self.active = self
            .following
            .sidecars
            .live()
            .map(|status| {
                let active = status.active.as_ref().map(|active| active.generation);
                (Arc::clone(&status.sidecar), active.unwrap_or(Generation(0)))
            })
            .collect();
        let asked = self.write(&self.ask)?;
        if !is_live {
            return Ok(self.report(&Verdict::Idle, &Steps::new()));
        }
        let (verdict, steps) = self.follow(&asked, deadline, progress);
        if matches!((&verdict, self.ask), (Verdict::Timeout, Ask::Pause(_))) {
            self.take_back(&asked, progress)?;
        }
        Ok(self.report(&verdict, &steps))
    }

    fn write(&self, ask: &Ask<'_>) -> Result<Asked, WishError> {
        desired::ask(&self.state, ask).map_err(|source| WishError::Write {
            state: self.state.clone(),
            source,
        })
    }

    fn follow(
        &mut self,
        asked: &Asked,
        deadline: Instant,
        progress: &mut Progress,
    ) -> (Verdict, Steps) {
        loop {
            self.following.sidecars.look();
            let mut steps = self.following.steps(|status| self.step(status, asked));
            if matches!(self.ask, Ask::Rollback(_) | Ask::Restart) {
                // One that has started since runs what it shall anyway.
                steps.retain(|sidecar, _| self.active.contains_key(sidecar));
            }
            self.following.tell(&steps, progress);
            let is_over = |step: &Step| self.is_done(step) || step.refusal().is_some();
            if !steps.is_empty() && steps.values().all(is_over) {
                let verdict = match steps.values().all(|step| self.is_done(step)) {
                    true => Verdict::Done,
                    false => Verdict::Refused,
                };
                return (verdict, steps);
            }
            if !asked.holds(&self.state) {
                return (Verdict::Superseded, steps);
            }
            if Instant::now() >= deadline {
                return match steps.is_empty() {
                    true => (Verdict::Idle, steps),
                    false => (Verdict::Timeout, steps),
                };
            }
            sleep(LOOK);
        }
    }

    /// How far this sidecar is.
    fn step(&self, status: &Status, asked: &Asked) -> Step {
        if status.desired_serial < Some(asked.serial) {
            return Step::Waiting { problem: None };
        }
        if status.desired_serial == Some(asked.serial)
            && let Some(problem) = &status.desired_problem
        {
            return Step::impossible(problem);
        }
        let none = Generation(0);
        let of = |all: &BTreeMap<_, _>| all.get(&status.sidecar).copied().unwrap_or(none);
        let before = of(&self.launches);
        match (&self.ask, &status.rollback_to) {
            (Ask::Restart, _) => Step::of_restart(status, of(&self.active), before),
            (Ask::Rollback(_), Some(to)) => Step::of_rollback(status, to, before),
            (Ask::Rollback(_), None) => Step::Waiting { problem: None },
            (Ask::Pause(_) | Ask::Resume | Ask::Retry(_), _) => Step::of_pause(status),
        }
    }

    fn is_done(&self, step: &Step) -> bool {
        match self.ask {
            Ask::Pause(_) => *step == Step::Paused,
            Ask::Resume => *step == Step::Resumed,
            Ask::Rollback(_) | Ask::Restart | Ask::Retry(_) => step.is_active(),
        }
    }

    /// Ends the pause that this command has begun, unless somebody else has begun another.
    fn take_back(&mut self, asked: &Asked, progress: &mut Progress) -> Result<(), WishError> {
        if !asked.holds(&self.state) {
            return Ok(());
        }
        let resumed = self.write(&Ask::Resume)?;
        let until = Instant::now() + RESUMING;
        let is_paused = |status: &Status| {
            status.desired_serial < Some(resumed.serial) || status.paused.is_some()
        };
        loop {
            self.following.sidecars.look();
            if !self.following.sidecars.live().any(is_paused) || Instant::now() >= until {
                break;
            }
            sleep(LOOK);
        }
        let left = self.following.sidecars.live();
        let left = left.filter(|status| is_paused(status)).count();
        match left {
            0 => progress.say("  all is resumed"),
            left => {
                let left = count(left, "sidecar");
                progress.say(&format!("  {left} asked to resume, but not known to have"));
            }
        }
        Ok(())
    }

    fn report(&self, verdict: &Verdict, steps: &Steps) -> Report {
        let (outcome, ending) = match verdict {
            Verdict::Done => (Outcome::Done, Ending::Done),
            Verdict::Refused => (Outcome::Refused, Ending::Refused),
            Verdict::Superseded => (Outcome::Superseded, Ending::Refused),
            Verdict::Timeout => (Outcome::Timeout, Ending::Timeout),
            Verdict::Idle => (Outcome::Idle, Ending::Idle),
        };
        let releases = json!(self.releases(steps));
        let steps = steps.clone();
        Report {
            outcome,
            ending,
            message: self.message(verdict, &steps),
            sidecars: steps.into_iter().map(SidecarReport::from).collect(),
            more: Map::from_iter([("releases".to_owned(), releases)]),
        }
    }

    /// What serves now where they are done.
    fn releases(&self, steps: &Steps) -> BTreeSet<String> {
        let is_done = |status: &&Status| {
            let step = steps.get(&status.sidecar);
            step.is_some_and(|step| self.is_done(step))
        };
        let done = self.following.sidecars.live().filter(is_done);
        done.filter_map(|status| status.active.as_ref())
            .map(|active| active.release.to_string())
            .collect()
    }

    fn message(&self, verdict: &Verdict, steps: &Steps) -> String {
        let all = count(steps.len(), "sidecar");
        let releases: Vec<_> = self.releases(steps).into_iter().collect();
        let releases = releases.join(" and ");
        let mut text = match (verdict, self.ask) {
            (Verdict::Done, Ask::Rollback(_)) => {
                return format!("{releases} serves again in {all}");
            }
            (Verdict::Done, Ask::Restart) => {
                return format!("{releases} serves from a new instance in {all}");
            }
            (Verdict::Done, Ask::Pause(_)) => {
                let left = humantime::format_duration(self.pause_left());
                return format!(
                    "{all} paused, with no request in flight; the pause ends in {left}, or with \
                     `handoff resume`"
                );
            }
            (Verdict::Done, Ask::Resume | Ask::Retry(_)) => return format!("{all} not paused"),
            (Verdict::Idle, ask) => {
                let state = &self.state;
                let end = match ask {
                    Ask::Resume => "a pause is not asked for any more",
                    Ask::Retry(_) | Ask::Rollback(_) | Ask::Restart | Ask::Pause(_) => {
                        "there is nothing to do"
                    }
                };
                return format!("no sidecar runs (none is alive in {state:?}; {ELSEWHERE}): {end}");
            }
            (Verdict::Superseded, _) => format!(
                "another command has asked for something else meanwhile, in {:?}",
                self.state
            ),
            (Verdict::Refused, Ask::Rollback(_)) => "not all have gone back".to_owned(),
            (Verdict::Refused, _) => "not all have done it".to_owned(),
            (Verdict::Timeout, Ask::Pause(_)) => {
                "not all were paused in time with no request in flight, so none shall be any more"
                    .to_owned()
            }
            (Verdict::Timeout, _) => {
                let timeout = humantime::format_duration(self.timeout);
                format!("not all have done it after {timeout}")
            }
        };
        for (id, step) in steps {
            // Writing to a string cannot fail.
            let _ = match step.refusal() {
                Some(refusal) => write!(text, "\n  sidecar {id} refused: {refusal}"),
                None => write!(text, "\n  sidecar {id}: {step}"),
            };
        }
        text
    }

    /// In whole seconds; the first of them ends the pause for some.
    fn pause_left(&self) -> Duration {
        let now = crate::deployment::status::UnixMillis::now();
        let left = |status: &Status| {
            let until = status.paused.as_ref()?.until_ms;
            Some(until.0.saturating_sub(now.0) / 1000)
        };
        let left = self.following.sidecars.live().filter_map(left).min();
        Duration::from_secs(left.unwrap_or(0))
    }
}

//! The runs of `--before-start`, once for each content: `<state>/before-start/DIGEST.…`.
//!
//! ```text
//! DIGEST.running    the claim of the sidecar that runs the command; created exclusively
//! DIGEST.json       the outcome
//! ```
//! The outcome is written before the claim is removed, and whoever gets a claim looks for an outcome
//! once more: so a content is never run twice. Nobody but its owner changes a claim. The others see
//! for themselves that an owner is dead; only a deploy of that content removes what it left.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::status::UnixMillis;
use crate::os::files;
use crate::os::machine::{is_gone, shared_pid_namespace};
use crate::release::Digest;

/// Interval between two signs of life of a claim's owner.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time without one after which the owner counts as dead: shares may be slow.
const SILENCE: Duration = Duration::from_secs(30);

/// Age from which a claim of another content counts for nothing, by the clocks of both owners, in
/// milliseconds: what a machine that went down has left would delay every later run.
const FORGOTTEN: u64 = 10 * 60 * 1000;

/// The folder of a deployment's runs.
#[derive(Clone, Debug)]
pub struct BeforeStartRuns {
    folder: PathBuf,
}

/// The claim of the sidecar that runs the command. Its owner may not have written it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunClaim {
    /// Id of the sidecar.
    pub sidecar: Arc<str>,
    /// Its process, and the machine on which that has a meaning.
    pid: Option<u32>,
    machine: Option<String>,
    /// Time at which the run was claimed.
    since_ms: UnixMillis,
    /// Time of the last sign of life.
    heartbeat_ms: UnixMillis,
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// Id of the sidecar that ran the command.
    pub sidecar: Arc<str>,
    /// Time of the end.
    pub at_ms: UnixMillis,
    /// Reason for which it has failed, in one line; none if it has succeeded.
    pub failure: Option<String>,
    /// Last lines of its output, if it has failed.
    #[serde(default)]
    pub output: VecDeque<String>,
}

/// The state of a content's run.
#[derive(Debug, PartialEq, Eq)]
pub enum RunState {
    /// It has ended.
    Ended(RunOutcome),
    /// Another sidecar runs it.
    Taken(RunClaim),
    /// Nobody has run it, or this sidecar has claimed it now.
    Free,
}

/// The life of a claim's owner, as far as it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerLife {
    /// It has given a sign of life.
    Alive,
    /// It has not given one yet, and has time to.
    Unknown,
    /// Its process is gone, or it has given none for too long.
    Dead,
}

/// A view of another's claim over time.
#[derive(Debug, Default)]
pub struct ClaimWatch {
    last: Option<(RunClaim, Instant)>,
    has_moved: bool,
}

// === impl BeforeStartRuns ===

impl BeforeStartRuns {
    /// Returns those of the deployment with this state folder.
    pub fn of(state: &Path) -> Self {
        Self {
            folder: state.join("before-start"),
        }
    }

    /// Returns the state of a content's run.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn look(&self, digest: Digest) -> io::Result<RunState> {
        let claim = self.read_claim(&self.claim_of(digest))?;
        // After the claim: it may have been removed because of an outcome.
        Ok(match (self.outcome(digest)?, claim) {
            (Some(outcome), _) => RunState::Ended(outcome),
            (None, Some(claim)) => RunState::Taken(claim),
            (None, None) => RunState::Free,
        })
    }

    /// Claims the run of a content for `sidecar`: it has to run the command if the state is `Free`.
    ///
    /// # Errors
    /// The claim cannot be written, or another's cannot be read.
    pub fn claim(&self, digest: Digest, sidecar: &Arc<str>) -> io::Result<RunState> {
        match self.look(digest)? {
            RunState::Free => {}
            other @ (RunState::Ended(_) | RunState::Taken(_)) => return Ok(other),
        }
        files::make_folder(&self.folder)?;
        let path = self.claim_of(digest);
        let now = UnixMillis::now();
        let claim = RunClaim {
            sidecar: Arc::clone(sidecar),
            pid: Some(std::process::id()),
            machine: shared_pid_namespace(),
            since_ms: now,
            heartbeat_ms: now,
        };
        if !files::create_atomically(&path, &serde_json::to_vec(&claim)?)? {
            return self.look(digest);
        }
        // The run of another may have ended between the look and the claim.
        match self.outcome(digest)? {
            Some(outcome) => {
                let _ = fs::remove_file(&path);
                Ok(RunState::Ended(outcome))
            }
            None => Ok(RunState::Free),
        }
    }

    /// Writes a sign of life into the claim of `sidecar`. Returns false if it has no claim any more.
    ///
    /// # Errors
    /// The claim cannot be written.
    pub fn beat(&self, digest: Digest, sidecar: &str) -> io::Result<bool> {
        let path = self.claim_of(digest);
        let claim = self.read_claim(&path)?;
        let Some(mut claim) = claim.filter(|claim| &*claim.sidecar == sidecar) else {
            return Ok(false);
        };
        claim.heartbeat_ms = UnixMillis::now();
        files::write_atomically(&path, &serde_json::to_vec(&claim)?)?;
        Ok(true)
    }

    /// Returns a claim of another content that was made before the one of `digest` and whose owner
    /// lives: one command runs at a time. `watches` holds what has been seen of each.
    pub fn earlier(
        &self,
        digest: Digest,
        watches: &mut BTreeMap<PathBuf, ClaimWatch>,
    ) -> Option<RunClaim> {
        let own = self.claim_of(digest);
        let since = self.read_claim(&own).ok()??.since_ms;
        let others = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut earlier = others.filter_map(|entry| {
            let path = entry.path();
            let is_claim = path.extension().is_some_and(|it| it == "running");
            if !is_claim || path == own || path.with_extension("json").exists() {
                return None;
            }
            let claim = self.read_claim(&path).ok()??;
            let is_earlier = (claim.since_ms, &path) < (since, &own);
            let is_forgotten = claim.heartbeat_ms.0.saturating_add(FORGOTTEN) < since.0;
            (is_earlier && !is_forgotten).then_some((path, claim))
        });
        let living = earlier.find(|(path, claim)| {
            let watch = watches.entry(path.clone()).or_default();
            watch.judge(claim) != OwnerLife::Dead
        });
        living.map(|(_, claim)| claim)
    }

    /// Records the outcome of this sidecar's run, and removes its claim.
    ///
    /// # Errors
    /// The outcome cannot be written: the claim stays.
    pub fn finish(&self, digest: Digest, outcome: &RunOutcome) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(outcome)?;
        files::write_atomically(&self.outcome_of(digest), &json)?;
        self.release(digest)
    }

    /// Removes the claim of this sidecar: the command has not been started.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn release(&self, digest: Digest) -> io::Result<()> {
        remove(&self.claim_of(digest))
    }

    /// Forgets a run that has failed or whose owner is dead, so that it is run again. Returns false
    /// while that cannot be known.
    ///
    /// # Errors
    /// A file cannot be read or removed.
    pub fn forget_failed(&self, digest: Digest, watch: &mut ClaimWatch) -> io::Result<bool> {
        match self.look(digest)? {
            RunState::Ended(outcome) if outcome.failure.is_some() => {
                self.release(digest)?;
                remove(&self.outcome_of(digest))?;
            }
            RunState::Taken(claim) => match watch.judge(&claim) {
                OwnerLife::Alive => {}
                OwnerLife::Unknown => return Ok(false),
                OwnerLife::Dead => self.release(digest)?,
            },
            RunState::Ended(_) | RunState::Free => {}
        }
        Ok(true)
    }

    fn claim_of(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex()).with_extension("running")
    }

    fn outcome_of(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex()).with_extension("json")
    }

    fn outcome(&self, digest: Digest) -> io::Result<Option<RunOutcome>> {
        match files::read_small(&self.outcome_of(digest)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_claim(&self, path: &Path) -> io::Result<Option<RunClaim>> {
        match files::read_small(path) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json).unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

// === impl ClaimWatch ===

impl ClaimWatch {
    /// Judges by this reading of the claim and those before.
    pub fn judge(&mut self, claim: &RunClaim) -> OwnerLife {
        let is_here = claim.machine.is_some() && claim.machine == shared_pid_namespace();
        if is_here && claim.pid.is_some_and(is_gone) {
            return OwnerLife::Dead;
        }
        match &self.last {
            Some((last, since)) if last == claim => {
                if since.elapsed() >= SILENCE {
                    return OwnerLife::Dead;
                }
            }
            last => {
                self.has_moved = last.is_some();
                self.last = Some((claim.clone(), Instant::now()));
            }
        }
        if self.has_moved {
            OwnerLife::Alive
        } else {
            OwnerLife::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(content: &str) -> Digest {
        Digest::finish(Sha256::new_with_prefix(content))
    }

    fn runs() -> (tempfile::TempDir, BeforeStartRuns) {
        let state = tempfile::tempdir().unwrap();
        let runs = BeforeStartRuns::of(state.path());
        (state, runs)
    }

    fn outcome(failure: Option<&str>) -> RunOutcome {
        RunOutcome {
            sidecar: "a".into(),
            at_ms: UnixMillis::now(),
            failure: failure.map(str::to_owned),
            output: VecDeque::new(),
        }
    }

    /// Lets the owner of the claim be a process that has ended.
    fn kill_owner(runs: &BeforeStartRuns, digest: Digest) {
        let program = if cfg!(windows) { "cmd" } else { "true" };
        let mut child = std::process::Command::new(program);
        let mut child = child.args(["/c", "exit"]).spawn().unwrap();
        child.wait().unwrap();
        let path = runs.claim_of(digest);
        let mut claim = runs.read_claim(&path).unwrap().unwrap();
        claim.pid = Some(child.id());
        fs::write(&path, serde_json::to_vec(&claim).unwrap()).unwrap();
    }

    #[test]
    fn one_of_many_that_claim_a_run_at_once_gets_it() {
        let (_state, runs) = runs();
        for round in 0..20 {
            let digest = digest(&round.to_string());
            let start = Barrier::new(8);
            let claim = &|number: usize| {
                start.wait();
                let state = runs.claim(digest, &number.to_string().into()).unwrap();
                if state == RunState::Free {
                    // At once, so that others may find nothing but the outcome.
                    runs.finish(digest, &outcome(None)).unwrap();
                }
                state == RunState::Free
            };
            let claimed = thread::scope(|scope| {
                let all = (0..8).map(|number| scope.spawn(move || claim(number)));
                let all: Vec<_> = all.collect();
                let claimed = all.into_iter().map(|claim| claim.join().unwrap());
                claimed.filter(|has_claimed| *has_claimed).count()
            });
            assert_eq!(claimed, 1);
        }
    }

    #[test]
    fn what_has_succeeded_is_never_run_again_and_what_has_failed_only_if_it_is_forgotten() {
        let (_state, runs) = runs();
        let (good, bad) = (digest("good"), digest("bad"));
        for (digest, failure) in [(good, None), (bad, Some("no"))] {
            assert_eq!(runs.claim(digest, &"a".into()).unwrap(), RunState::Free);
            runs.finish(digest, &outcome(failure)).unwrap();
            let again = runs.claim(digest, &"b".into()).unwrap();
            assert!(matches!(again, RunState::Ended(it) if it.failure.as_deref() == failure));
            assert!(
                runs.forget_failed(digest, &mut ClaimWatch::default())
                    .unwrap()
            );
        }
        let claim = |digest| runs.claim(digest, &"b".into()).unwrap();
        assert!(matches!(claim(good), RunState::Ended(_)));
        assert_eq!(claim(bad), RunState::Free);
    }

    #[test]
    fn the_claim_of_a_dead_owner_stays_until_it_is_forgotten() {
        let (_state, runs) = runs();
        let digest = digest("x");
        assert_eq!(runs.claim(digest, &"a".into()).unwrap(), RunState::Free);
        let taken = |watch: &mut ClaimWatch| match runs.claim(digest, &"b".into()).unwrap() {
            RunState::Taken(claim) => watch.judge(&claim),
            other @ (RunState::Ended(_) | RunState::Free) => panic!("{other:?}"),
        };
        let mut watch = ClaimWatch::default();
        assert_eq!(taken(&mut watch), OwnerLife::Unknown);
        assert!(
            !runs
                .forget_failed(digest, &mut ClaimWatch::default())
                .unwrap()
        );
        thread::sleep(Duration::from_millis(2));
        assert!(runs.beat(digest, "a").unwrap());
        assert_eq!(taken(&mut watch), OwnerLife::Alive);
        assert!(!runs.beat(digest, "b").unwrap(), "not its own");
        if shared_pid_namespace().is_some() {
            kill_owner(&runs, digest);
            assert_eq!(taken(&mut watch), OwnerLife::Dead);
            assert!(
                runs.forget_failed(digest, &mut ClaimWatch::default())
                    .unwrap()
            );
            assert_eq!(runs.claim(digest, &"b".into()).unwrap(), RunState::Free);
        }
    }

    #[test]
    fn a_claim_that_has_not_been_written_or_is_left_behind_changes_no_verdict() {
        let (_state, runs) = runs();
        let digest = digest("x");
        fs::create_dir_all(&runs.folder).unwrap();
        fs::write(runs.claim_of(digest), "").unwrap();
        let state = runs.claim(digest, &"b".into()).unwrap();
        assert_eq!(state, RunState::Taken(RunClaim::default()));
        runs.finish(digest, &outcome(None)).unwrap();
        // Its owner was killed between the outcome and the end of the claim.
        fs::write(runs.claim_of(digest), "").unwrap();
        let state = runs.claim(digest, &"b".into()).unwrap();
        assert!(matches!(state, RunState::Ended(_)));
    }

    #[test]
    fn a_later_claim_awaits_the_end_of_an_earlier_one_of_another_content() {
        let (_state, runs) = runs();
        let [first, second] = ["1", "2"].map(digest);
        runs.claim(first, &"a".into()).unwrap();
        thread::sleep(Duration::from_millis(2));
        runs.claim(second, &"b".into()).unwrap();
        let earlier = |digest| runs.earlier(digest, &mut BTreeMap::new());
        assert_eq!(&*earlier(second).unwrap().sidecar, "a");
        assert_eq!(earlier(first), None);
        // What nobody has written is of no age.
        fs::write(runs.claim_of(digest("3")), "").unwrap();
        assert_eq!(&*earlier(second).unwrap().sidecar, "a");
        runs.finish(first, &outcome(None)).unwrap();
        assert_eq!(earlier(second), None);
    }
}

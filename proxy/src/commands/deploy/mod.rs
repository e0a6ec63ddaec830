//! `handoff deploy`: puts an artifact into a deployment, and waits until its sidecars run it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use self::error::DeployError;
use self::original::Original;
use self::outcome::DeployOutcome;
use self::upload::{UploadFolder, Uploaded};
use self::wake::Wake;
use super::ExitStatus;
use super::deployment_paths::{DeploymentPaths, UnknownDeployment};
use super::follow::{CommandOutcome, Follower, LaunchesBefore, POLL_INTERVAL, Report, Step, Steps};
use super::progress::Progress;
use super::rollout::{Driver, Progression};
use crate::cli::deploy::{DeployArgs, Wait};
use crate::cli::output::OutputFormat;
use crate::deployment::DropFolder;
use crate::deployment::artifact_names::is_artifact;
use crate::deployment::desired::StageCommand;
use crate::deployment::digest::digest;
use crate::deployment::names::{ArchiveFormat, release_id};
use crate::deployment::pointer::Pointer;
use crate::deployment::source::absolute;
use crate::deployment::status::Status;
use crate::release::{Digest, ReleaseId};

mod error;
mod go_back;
mod in_place;
mod original;
mod outcome;
mod pointer;
mod report;
mod retry;
mod rollout;
mod stage;
mod upload;
mod wake;

/// Maximum time for a woken sidecar to serve the release before.
const WAKING: Duration = Duration::from_secs(60);

/// Deploys an artifact, and prints the result.
pub fn run(deploy: &DeployArgs) -> ExitStatus {
    let mut progress = Progress::new();
    let report = match DeployRun::prepare(deploy, &mut progress) {
        Ok(mut deploying) => deploying.run(&mut progress),
        Err(error) => Err(error),
    };
    progress.end();
    let report = report.unwrap_or_else(|error| Report::failed(error.exit_status(), &error));
    report.print(OutputFormat::from_flag(deploy.json));
    report.exit_status
}

/// One execution of the command.
struct DeployRun<'a> {
    options: &'a DeployArgs,
    place: DeploymentPaths,
    original: Original,
    digest: Digest,
    /// The digest as the sidecars' files contain it.
    digest_text: String,
    follower: Follower,
    /// The launches of each sidecar before this deploy.
    before: BTreeMap<Arc<str>, LaunchesBefore>,
    deadline: Instant,
    /// Reason why no sidecar was woken.
    asleep: Option<String>,
    /// The staged roll-out, if this is one.
    rollout: Option<Driver>,
    /// Request to stage the release, with `--stage`.
    stage: Option<StageCommand>,
}

/// The changes that a deploy has made.
struct DeployChanges {
    release: ReleaseId,
    uploaded: Uploaded,
    pointer: Option<pointer::WrittenPointer>,
    in_place: Option<in_place::ReplacedArtifact>,
}

impl<'a> DeployRun<'a> {
    fn prepare(options: &'a DeployArgs, progress: &mut Progress) -> Result<Self, DeployError> {
        let deadline = Instant::now() + *options.timeout + stage::time_of_canary(options);
        let DeployArgs {
            pointer,
            to,
            state,
            in_place,
            named_by,
            ..
        } = options.clone();
        let place = DeploymentPaths::find(pointer, to, in_place, state, &named_by)?;
        let original = Original::new(absolute(options.artifact.clone()));
        let digest = original.digest(progress)?;
        // Most of the time it reads what sidecars publish.
        place
            .rights_over(&place.state)
            .take_on()
            .map_err(UnknownDeployment::from)?;
        Ok(Self {
            options,
            follower: Follower::of(&place.state),
            place,
            original,
            digest,
            digest_text: digest.to_string(),
            before: BTreeMap::new(),
            deadline,
            asleep: None,
            rollout: None,
            stage: (options.stage || options.canary.is_some())
                .then(|| stage::request(options, digest))
                .transpose()?,
        })
    }

    fn run(&mut self, progress: &mut Progress) -> Result<Report, DeployError> {
        let is_live = self.find_live(progress);
        if is_live && self.is_deployed(progress) {
            let outcome = self.follow(None, progress);
            return Ok(self.report(&outcome, CommandOutcome::Unchanged, None));
        }
        self.check_stage()?;
        self.before = self.follower.launches();
        self.plan_rollout(progress)?;
        let changes = self.write(progress)?;
        let outcome = if is_live {
            self.follow(Some(&changes), progress)
        } else {
            DeployOutcome::Idle
        };
        match &outcome {
            DeployOutcome::Active | DeployOutcome::Staged | DeployOutcome::Idle => {
                self.prune(&changes);
            }
            DeployOutcome::Refused(sidecar, refusal) => {
                progress.say(&format!("sidecar {sidecar} refused it: {}", refusal.reason));
                self.go_back(&changes, progress);
            }
            DeployOutcome::Superseded | DeployOutcome::Timeout | DeployOutcome::Stopped => {}
        }
        let report = self.report(&outcome, CommandOutcome::Promoted, Some(&changes));
        // An artifact that was replaced is removed.
        let _ = self.on_site(|| {
            drop(changes);
            Ok(())
        });
        Ok(report)
    }

    /// Looks for live sidecars, and requests the `--wake` URL until there is one.
    fn find_live(&mut self, progress: &mut Progress) -> bool {
        if self.follower.await_live() {
            return true;
        }
        let Some(url) = &self.options.wake else {
            return false;
        };
        progress.say(&format!("no sidecar runs: requesting {url}"));
        let mut wake = Wake::new(url);
        let mut found = None;
        while Instant::now() < self.deadline && !wake.is_hopeless {
            wake.go_on();
            self.follower.sidecars.refresh();
            // A sidecar needs a release to return to before it receives a new one.
            let knows = |status: &Status| {
                status.active.is_some()
                    || status.artifact_problem.is_some()
                    || status.last_failure.is_some()
            };
            let mut live = self.follower.sidecars.live().peekable();
            if live.peek().is_some() {
                let found = found.get_or_insert_with(Instant::now);
                if live.all(knows) || found.elapsed() >= WAKING {
                    return true;
                }
            }
            if progress.is_due() {
                progress.say(&format!("  waking {url}: {}", wake.state()));
            }
            sleep(POLL_INTERVAL);
        }
        let is_live = self.follower.sidecars.live().next().is_some();
        self.asleep = (!is_live).then(|| format!("requesting {url} woke none: {}", wake.state()));
        is_live
    }

    /// Works with the rights over the folder that the artifact goes to.
    fn on_site<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.place.rights_over(&self.place.uploads).apply(work)
    }

    /// Works with the rights over the folder of the pointer file, or over a link in its place.
    fn at_pointer<T>(&self, file: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let folder = file.parent().filter(|_| !file.is_symlink());
        self.place.rights_over(folder.unwrap_or(file)).apply(work)
    }

    /// Returns the present content of the pointer file, if it can be understood.
    fn pointed(&self, file: &Path) -> Option<Pointer> {
        self.at_pointer(file, || Ok(pointer::read(file))).ok()?
    }

    /// Returns true if the files and all sidecars have this artifact already.
    fn is_deployed(&self, progress: &mut Progress) -> bool {
        let mut named = None;
        // Without the rights to look, it is deployed, which explains it.
        let _ = self.on_site(|| {
            named = self.named(progress);
            Ok(())
        });
        let has_it = |status: &Status| {
            let active = status.active.as_ref();
            active.is_some_and(|active| active.digest == self.digest_text)
        };
        named == Some(self.digest) && self.follower.sidecars.live().all(has_it)
    }

    /// Returns the digest of the artifact that the sidecars are to run now, if it is known.
    fn named(&self, progress: &mut Progress) -> Option<Digest> {
        match (&self.place.pointer, &self.place.in_place) {
            (Some(file), _) => self.pointed(file)?.digest,
            (None, Some(path)) => digest(path).ok(),
            (None, None) => {
                let newest = DropFolder::default().newest(&self.place.uploads, None);
                newest.ok().flatten().and_then(|newest| {
                    let reading = format!("reading {newest:?}");
                    let digest = progress.show_during(&reading, || digest(&newest));
                    digest.ok()
                })
            }
        }
    }

    fn write(&mut self, progress: &mut Progress) -> Result<DeployChanges, DeployError> {
        let DeploymentPaths {
            pointer,
            in_place,
            uploads,
            state,
            ..
        } = &self.place.clone();
        if let Some(path) = in_place {
            return self.replace(path, progress);
        }
        let id = self.options.id.as_deref();
        let (stem, suffix) = upload::name(&self.original, id, self.digest);
        let name = format!("{stem}{suffix}");
        if stem.is_empty() || !is_artifact(name.as_ref()) {
            return Err(DeployError::Name(name));
        }
        let target = uploads.join(&name);
        progress.say(&format!("copying {:?} to {target:?}", self.original.path));
        self.ask_for_retry(state, progress)?;
        let folder = UploadFolder::of(&self.place);
        let uploaded =
            self.on_site(|| upload::upload(&self.original, self.digest, &folder, &name, progress));
        let uploaded = uploaded.map_err(|source| DeployError::Upload {
            path: uploads.clone(),
            source,
        })?;
        self.begin_rollout()?;
        let written = match pointer {
            None => None,
            Some(file) => {
                let written = self.at_pointer(file, || {
                    pointer::write(file, &uploaded.path, self.digest, &stem)
                });
                Some(written.map_err(|source| {
                    let _ = self.on_site(|| upload::take_back(&uploaded));
                    DeployError::Pointer {
                        path: file.clone(),
                        source,
                    }
                })?)
            }
        };
        self.end_other_rollout();
        let id = written.as_ref().map(|_| stem.as_str());
        Ok(DeployChanges {
            release: release_id(id, &uploaded.path, self.digest),
            uploaded,
            pointer: written,
            in_place: None,
        })
    }

    /// Replaces the artifact that the sidecars run in place.
    fn replace(
        &mut self,
        path: &Path,
        progress: &mut Progress,
    ) -> Result<DeployChanges, DeployError> {
        let format = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ArchiveFormat::of(&name).map(|(format, _)| format)
        };
        if self.options.id.is_some() {
            return Err(DeployError::NoName(path.to_owned()));
        }
        if !self.original.is_folder && format(&self.original.path) != format(path) {
            let artifact = self.original.path.clone();
            return Err(DeployError::Format(path.to_owned(), artifact));
        }
        progress.say(&format!("replacing {path:?} by {:?}", self.original.path));
        self.ask_for_retry(&self.place.state.clone(), progress)?;
        let replaced =
            self.on_site(|| in_place::replace(&self.original, self.digest, path, progress));
        let replaced = replaced.map_err(|source| DeployError::Upload {
            path: path.to_owned(),
            source,
        })?;
        Ok(DeployChanges {
            release: release_id(None, path, self.digest),
            uploaded: Uploaded {
                path: path.to_owned(),
                is_new: false,
            },
            pointer: None,
            in_place: Some(replaced),
        })
    }

    fn follow(
        &mut self,
        changes: Option<&DeployChanges>,
        progress: &mut Progress,
    ) -> DeployOutcome {
        loop {
            self.follower.sidecars.refresh();
            let steps = self.steps();
            self.follower.tell(&steps, progress);
            if let Some(driver) = &mut self.rollout {
                match driver.advance(&self.follower, &self.before, progress) {
                    Ok(Progression::Going) => {}
                    Ok(end) => return end.into(),
                    // A share may be away for a moment.
                    Err(error) if progress.is_due() => {
                        progress.say(&format!("  cannot go on with the roll-out: {error}"));
                    }
                    Err(_) => {}
                }
                sleep(POLL_INTERVAL);
                continue;
            }
            if let Some((id, refusal)) = steps
                .iter()
                .find_map(|(id, step)| Some((id, step.refusal()?)))
            {
                return DeployOutcome::Refused(Arc::clone(id), refusal.clone());
            }
            let enough = |step: &Step| match self.options.wait {
                Wait::Promoted => step.is_active(),
                Wait::Drained => *step == Step::Done,
            };
            if !steps.is_empty() && steps.values().all(enough) {
                return DeployOutcome::Active;
            }
            let waits = |step: &Step| *step == Step::Staged || step.is_active();
            if self.options.stage && !steps.is_empty() && steps.values().all(waits) {
                return DeployOutcome::Staged;
            }
            if let (Some(file), Some(changes)) = (&self.place.pointer, changes)
                && let Some(written) = &changes.pointer
                && !self
                    .at_pointer(file, || Ok(written.is_current(file)))
                    .unwrap_or(true)
            {
                return DeployOutcome::Superseded;
            }
            if let Some(replaced) = changes.and_then(|changes| changes.in_place.as_ref())
                && !self.on_site(|| Ok(replaced.is_current())).unwrap_or(true)
            {
                return DeployOutcome::Superseded;
            }
            if Instant::now() >= self.deadline {
                return if steps.is_empty() {
                    DeployOutcome::Idle
                } else {
                    DeployOutcome::Timeout
                };
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn steps(&self) -> Steps {
        self.follower.steps(|status| {
            let before = self.before.get(&status.sidecar).copied();
            Step::of(
                status,
                &self.digest_text,
                before.unwrap_or_else(LaunchesBefore::none),
            )
        })
    }

    fn prune(&self, changes: &DeployChanges) {
        if changes.in_place.is_some() {
            return;
        }
        let mut named = vec![changes.uploaded.path.clone()];
        if let (Some(file), Some(written)) = (&self.place.pointer, &changes.pointer) {
            named.extend(
                [written.before(file), self.pointed(file), self.instead(file)]
                    .into_iter()
                    .flatten()
                    .map(|pointer| pointer.path),
            );
        }
        let used: Vec<&str> = self
            .follower
            .sidecars
            .all()
            .flat_map(|status| {
                let one = [
                    &status.active,
                    &status.candidate,
                    &status.staged,
                    &status.standby,
                ];
                let one = one.into_iter().flatten();
                one.chain(&status.draining).chain(&status.stopping)
            })
            .map(|instance| instance.digest.as_str())
            .collect();
        let is_needed = |path: &Path, digest: Option<Digest>| {
            let is_used = |digest: Digest| used.contains(&digest.to_string().as_str());
            named.iter().any(|named| named == path) || digest.is_some_and(is_used)
        };
        // What is not removed now is removed by the next deploy.
        let _ = self.on_site(|| {
            upload::prune(&UploadFolder::of(&self.place), self.options.keep, is_needed);
            Ok(())
        });
    }
}

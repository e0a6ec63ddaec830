//! The state that a sidecar leaves to its next process, if this one is killed: `--anchor`.
//!
//! The instances go on running. The next process goes on with the active one as if nothing had
//! happened. All others are stopped: what was in flight to them ended with the process that is gone,
//! and a release that was starting starts anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::instances::{Instance, InstanceState};
use super::journal::{Cause, Change};
use super::releases::Accepted;
use super::{Message, Supervisor};
use crate::control_plane::desired_file::{DesiredChange, DesiredFile};
use crate::control_plane::instance;
use crate::control_plane::lifecycle::LifecycleRecord;
use crate::deployment::path_serde::exact;
use crate::deployment::status::{GaveWay, Outcome, UnixMillis};
use crate::process::variables::Variables;
use crate::process::{AdoptedProcess, Adoption, Launch, Process as _};
use crate::release::{Digest, Generation, Release, ReleaseId};
use crate::router::{AppProtocol, SessionToken};

/// The reason of a launch that has not come to its end.
const INTERRUPTED: &str = "handoff was interrupted while it started";

/// The active instance, as the next process has to know it.
#[derive(Debug, Serialize, Deserialize)]
struct ActiveRecord {
    generation: Generation,
    release: ReleaseId,
    digest: String,
    shape: String,
    #[serde(with = "exact")]
    artifact: PathBuf,
    #[serde(with = "exact")]
    dir: PathBuf,
    source: Option<PathBuf>,
    launched_shape: Option<String>,
    address: SocketAddr,
    user: Option<u32>,
    warning: Option<String>,
    note: Option<String>,
    since_ms: UnixMillis,
    session: Option<SessionToken>,
    environment: Variables,
    #[serde(default)]
    protocol: AppProtocol,
    #[serde(default)]
    decided: LifecycleRecord,
    #[serde(default)]
    gave_way: Option<GaveWay>,
}

impl<L: Launch> Supervisor<L> {
    /// Goes on with the instances of an earlier process of this sidecar, if there was one.
    pub fn adopt(&mut self, desired: &mut DesiredFile) {
        let Adoption { record, processes } = self.launcher.adopt(&self.settings.stop);
        let launches = self.journal.memory.own_launches();
        if launches.is_empty() && processes.is_empty() {
            return;
        }
        self.journal.cause = Cause::now("another process of the sidecar went on".to_owned());
        self.journal.status.handoffs = launches.into();
        for handoff in &mut self.journal.status.handoffs {
            if handoff.outcome == Outcome::Starting {
                handoff.outcome = Outcome::Abandoned;
                handoff.reason = Some(INTERRUPTED.to_owned());
            }
        }
        // Before requests reach the app: there may be a pause or a maintenance.
        if let Some(DesiredChange::Content { desired, at_start }) = desired.poll() {
            self.desired(*desired, at_start);
        }
        let record = record.and_then(|record| serde_json::from_str::<ActiveRecord>(&record).ok());
        let decided = record.as_ref().map(ActiveRecord::decided);
        let mut decided = decided.unwrap_or_default();
        let mut record = record.and_then(ActiveRecord::into_parts);
        for adopted in processes {
            match record.take_if(|(generation, ..)| *generation == adopted.generation) {
                Some((_, accepted, instance)) => {
                    self.go_on_with(adopted, accepted, *instance);
                    self.restore(std::mem::take(&mut decided));
                }
                None => self.stop_adopted(adopted),
            }
        }
        let launches = self.journal.status.handoffs.iter();
        let launched = launches.map(|handoff| handoff.generation).max();
        self.lifecycle.skip_launches(launched);
        self.publish();
    }

    /// Keeps what the next process of this sidecar has to know of the active instance.
    pub(super) fn keep_record(&self, generation: Generation) {
        let instance = self.instances.get(generation);
        let record = instance.and_then(|instance| {
            let accepted = self.releases.get(&instance.release)?;
            let mut record = ActiveRecord::of(generation, instance, accepted)?;
            record.decided = self.lifecycle.record();
            record.gave_way.clone_from(&self.journal.status.gave_way);
            Some(record)
        });
        let json = record.and_then(|record| serde_json::to_string(&record).ok());
        self.launcher.keep_record(&json.unwrap_or_default());
    }

    /// Keeps the record again if what the lifecycle remembers has changed.
    pub(super) fn renew_record(&mut self) {
        if !self.upgrade.is_possible() {
            return;
        }
        let decided = self.lifecycle.record();
        if let Some((generation, _)) = self.instances.active()
            && self.kept != decided
        {
            self.kept = decided;
            self.keep_record(generation);
        }
    }

    /// Lets the lifecycle go on from a record.
    fn restore(&mut self, (decided, gave_way): (LifecycleRecord, Option<GaveWay>)) {
        self.journal.status.gave_way = gave_way;
        for action in self.lifecycle.restore(decided) {
            self.perform(action);
        }
        self.known = self.lifecycle.wanted().cloned();
    }

    /// Routes requests to an instance that was active.
    fn go_on_with(
        &mut self,
        adopted: AdoptedProcess<L::Process>,
        accepted: Accepted,
        mut instance: Instance,
    ) {
        let AdoptedProcess {
            generation,
            release,
            process,
        } = adopted;
        instance.pid = Some(process.pid());
        instance.state_file = process.state_file();
        if !self.releases.contains(&release) {
            self.releases.insert(accepted);
        }
        let since = instance.since;
        self.follow_adopted(generation, process, instance);
        self.lifecycle.adopt_active(generation, release);
        self.begin_service(generation);
        if let Some(instance) = self.instances.get_mut(generation) {
            instance.since = since;
        }
        self.log_adopted(generation, InstanceState::Active);
    }

    /// Stops an instance that was not active.
    fn stop_adopted(&mut self, adopted: AdoptedProcess<L::Process>) {
        let AdoptedProcess {
            generation,
            release,
            process,
        } = adopted;
        let accepted = self.releases.get(&release);
        let artifact = accepted.map(|accepted| accepted.release.artifact.clone());
        let mut instance = Instance::adopted(release, artifact.unwrap_or_default());
        instance.pid = Some(process.pid());
        instance.state_file = process.state_file();
        instance.enter(InstanceState::Stopping);
        self.follow_adopted(generation, process, instance);
        if let Some(instance) = self.instances.get(generation) {
            instance.stop_by(Instant::now() + self.settings.stop_timeout);
        }
        self.lifecycle.adopt_stopping(generation);
        self.log_adopted(generation, InstanceState::Stopping);
    }

    fn follow_adopted(&mut self, generation: Generation, process: L::Process, instance: Instance) {
        let stop_time = instance.stop_time();
        self.instances.insert(generation, instance);
        let messages = self.messages.clone();
        let report = move |event| {
            // The supervisor outlives every instance.
            let _ = messages.send(Message::Instance(generation, event));
        };
        let stop_timeout = self.settings.stop_timeout;
        let follow = instance::follow_adopted(process, stop_timeout, stop_time, report);
        tokio::task::spawn_local(follow);
    }

    fn log_adopted(&self, generation: Generation, state: InstanceState) {
        if let Some(instance) = self.instances.get(generation) {
            let pid = instance.pid.unwrap_or_default();
            let change = Change::Adopted { pid };
            let states = (None, Some(state));
            self.journal
                .log_change(generation, &instance.release, states, &change);
        }
    }
}

// === impl ActiveRecord ===

impl ActiveRecord {
    fn of(generation: Generation, instance: &Instance, accepted: &Accepted) -> Option<Self> {
        Some(Self {
            generation,
            release: instance.release.clone(),
            digest: accepted.release.digest.to_string(),
            shape: accepted.release.shape.clone(),
            artifact: instance.artifact.clone(),
            dir: accepted.release.dir.clone(),
            source: accepted.source.clone(),
            launched_shape: accepted.launched_shape.clone(),
            address: instance.address?,
            user: instance.user,
            warning: instance.warning.clone(),
            note: instance.note.clone(),
            since_ms: instance.since,
            session: instance.session,
            environment: instance.environment.clone(),
            protocol: instance.protocol,
            decided: LifecycleRecord::default(),
            gave_way: None,
        })
    }

    fn decided(&self) -> (LifecycleRecord, Option<GaveWay>) {
        (self.decided.clone(), self.gave_way.clone())
    }

    /// Returns the launch number, the release and the instance, whose process is not known yet.
    fn into_parts(self) -> Option<(Generation, Accepted, Box<Instance>)> {
        let mut instance = Instance::adopted(self.release.clone(), self.artifact.clone());
        instance.address = Some(self.address);
        instance.user = self.user;
        instance.warning = self.warning;
        instance.note = self.note;
        instance.since = self.since_ms;
        instance.session = self.session;
        instance.environment = self.environment;
        instance.protocol = self.protocol;
        let accepted = Accepted {
            release: Release {
                id: self.release,
                digest: Digest::parse(&self.digest).ok()?,
                shape: self.shape,
                artifact: self.artifact,
                dir: self.dir,
            },
            source: self.source,
            launched_shape: self.launched_shape,
            detected: SystemTime::now(),
            copied: SystemTime::now(),
        };
        Some((self.generation, accepted, Box::new(instance)))
    }
}

//! The deployment that all of it is done to, and how it is done.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::artifacts::Artifacts;
use super::clients::Moment;
use super::ledger::{Kill, Victim};
use super::neighbour::Neighbour;
use super::schedule::{Action, Bad, Good, Meanwhile, Step};
use super::vitals::Vitals;
use crate::client::Connection;
use crate::deployment::{Running, Site};
use crate::mount::Mount;
use crate::processes;
use crate::wait::{self, eventually};

/// A release that crashes so often is given up.
const RAPID_FAILS: usize = 2;
/// More than handoff may open when it may open no more.
const SPARE_DESCRIPTORS: usize = 3;
/// Number of connections that want descriptors at once then.
const CROWD: usize = 30;
/// Number of starts of a handoff that cannot start in the circumstances.
const TRIES: usize = 100;

/// One deployment, and what was done to it.
#[derive(Debug)]
pub struct Scene {
    pub(super) site: Running,
    /// The second deployment on the same cache.
    pub neighbour: Neighbour,
    /// File system of the private copies; it outlives what runs from it.
    disk: Option<Mount>,
    pub(super) artifacts: Artifacts,
    moment: Moment,
    /// The kills so far.
    pub kills: Vec<Kill>,
    /// Versions that must never be promoted.
    pub bad: Vec<String>,
    /// Steps that were not done, and why.
    pub skipped: Vec<&'static str>,
    /// handoff ended by itself when it was started.
    pub failed_starts: usize,
    /// Number of outcomes: of commands by their exit codes, and of attempts to take a port.
    pub outcomes: BTreeMap<String, usize>,
}

// === impl Scene ===

impl Scene {
    /// A deployment that serves.
    pub fn set(moment: Moment, bakes: bool) -> Self {
        let disk = Mount::tmpfs("size=24m,nr_inodes=1000");
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut site = Site::watching_a_folder()
            .running(&[
                "{artifact}",
                "-port",
                "{port}",
                "--journal",
                "{shared}/journal",
            ])
            .with("--listen", &listen.to_string())
            .with("--deploy-timeout", "3s")
            .with("--stop-timeout", "2s")
            .with("--rapid-fails", &RAPID_FAILS.to_string())
            // Nothing is to be cut that was not killed.
            .with("--max-draining", "100");
        if bakes {
            site = site.with("--bake", "1s");
        }
        if let Some(disk) = &disk {
            let path = disk.path().to_str().expect("a path in UTF-8");
            site = site.with("--cache", path);
        }
        let site = site.launch_empty();
        let artifacts = Artifacts::new(site.site().join("releases"));
        let cache = site.cache();
        let cache = disk.as_ref().map_or(&*cache, Mount::path);
        let mut scene = Self {
            neighbour: Neighbour::set(moment.clone(), cache),
            site,
            disk,
            artifacts,
            moment,
            kills: Vec::new(),
            bad: Vec::new(),
            skipped: Vec::new(),
            failed_starts: 0,
            outcomes: BTreeMap::new(),
        };
        scene.recover();
        scene
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> SocketAddr {
        self.site.address()
    }

    /// Does it.
    pub fn act(&mut self, step: &Step) {
        match step.action {
            Action::DeployGood(good, waits) => {
                let version = self.artifacts.good(good);
                if waits {
                    self.await_version(&version);
                }
            }
            Action::DeployBad(Bad::CrashesLate, _) => self.deploy_one_that_crashes(),
            Action::DeployBad(bad, waits) => {
                let version = self.artifacts.bad(bad);
                if waits {
                    self.await_refusal(&version);
                }
                self.bad.push(version);
            }
            Action::OverwriteSlowly(pieces) => {
                let version = self.artifacts.overwrite(pieces);
                self.await_version(&version);
            }
            Action::KillApp => self.kill_app(),
            Action::HaltApp(ms, meanwhile) => self.halt_app(ms, meanwhile),
            Action::KillHandoff(ms) => {
                self.kill_handoff();
                pass(ms);
                self.minds();
            }
            Action::FillDisk(ms, meanwhile) => self.fill_disk(ms, meanwhile),
            Action::DeleteFolder(ms, meanwhile) => {
                self.artifacts.delete_folder();
                // There is nowhere to deploy to.
                if meanwhile != Meanwhile::Deploy {
                    self.disturb(meanwhile);
                }
                pass(ms);
                self.artifacts.make_folder();
                self.minds();
                self.recover();
            }
            Action::ExhaustDescriptors(ms, meanwhile) => self.exhaust_descriptors(ms, meanwhile),
            Action::Command(command, meanwhile) => self.command(command, meanwhile),
            Action::TakePort => self.take_port(),
            Action::OpenForWriting(ms) => self.open_for_writing(ms),
            Action::DeployNeighbour => self.neighbour.deploy(),
            Action::TouchNeighbour(touch) => self.neighbour.touch(touch),
        }
        wait::sleep_for(step.pause, "a pause of the schedule");
    }

    /// A new release serves: whatever there was is over.
    pub fn recover(&mut self) {
        let version = self.artifacts.good(Good::Plain);
        self.await_version(&version);
    }

    /// Waits until nothing moves any more, and says what handoff holds then.
    pub fn await_rest(&self, base: Option<Vitals>) -> Vitals {
        let site = &self.site;
        let status = site.wait_until("nothing moves", |status| {
            status.is_at_rest() && status.standby.is_none()
        });
        let active = status
            .active
            .clone()
            .and_then(|active| active.pid)
            .expect("one that serves");
        let strays = || -> Vec<u32> {
            let group = processes::group(active);
            let mut all = processes::from(&site.deployment().site());
            all.retain(|pid| !group.contains(pid));
            all
        };
        let only = || format!("only {active} and its own run, not {:?}", strays());
        eventually(
            || site.failure(&only()),
            || strays().is_empty().then_some(()),
        );
        let now = || Vitals::of(site.pid()).unwrap_or_default();
        eventually(
            || site.failure(&format!("back at {base:?}, not at {:?}", now())),
            || {
                let now = now();
                base.is_none_or(|base| now.are_back_at(base)).then_some(now)
            },
        )
    }

    /// Ends it, and nothing is left. What it leaves in writing: the log, and the apps' journal.
    pub fn end(&self) -> (String, PathBuf) {
        self.site.ask_to_stop();
        self.site.await_exit();
        self.site.await_no_processes();
        (self.site.log(), self.site.shared().join("journal"))
    }

    /// The version of what handoff calls so, if that was ever deployed.
    pub fn version_of(&self, release: &str) -> Option<&str> {
        self.artifacts.version_of(release)
    }

    /// Counts an outcome.
    pub(super) fn count(&mut self, outcome: String) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// Each of its instances is killed as soon as it serves, until it is given up.
    fn deploy_one_that_crashes(&mut self) {
        let version = self.artifacts.bad(Bad::CrashesLate);
        loop {
            let status = self
                .site
                .wait_until(&format!("{version} serves, or not"), |status| {
                    status.is_active(&version) || status.has_given_up(&version)
                });
            if status.is_active(&version) {
                self.kill_app()
            } else {
                return;
            }
        }
    }

    fn kill_app(&mut self) {
        let Some((generation, pid)) = self.active() else {
            return;
        };
        let before = self.site.log().len();
        let (from, was_there, to) = self.moment.killing(|| {
            let was_there = kill_process(process(pid), Signal::KILL).is_ok();
            eventually(
                || {
                    self.site
                        .failure(&format!("{pid} is gone, and handoff knows"))
                },
                || {
                    let log = self.site.log();
                    let knows = knows_of_the_end(&log[before..], generation);
                    (processes::is_reaped(pid) && knows).then_some(())
                },
            );
            was_there
        });
        if was_there {
            self.kills.push(Kill {
                victim: Victim::App(pid),
                from,
                to,
            });
        }
    }

    fn halt_app(&mut self, ms: u64, meanwhile: Meanwhile) {
        let halted = self.active().map(|(_, pid)| pid);
        if let Some(pid) = halted {
            let _ = kill_process(process(pid), Signal::STOP);
        }
        self.disturb(meanwhile);
        pass(ms);
        if let Some(pid) = halted.filter(|pid| self.is_ours(*pid)) {
            let _ = kill_process(process(pid), Signal::CONT);
        }
        self.minds();
    }

    fn kill_handoff(&mut self) {
        let (from, (), to) = self.moment.killing(|| self.site.kill());
        self.kills.push(Kill {
            victim: Victim::Handoff,
            from,
            to,
        });
    }

    /// Restarts handoff when it has ended, as its service manager would.
    pub(super) fn minds(&mut self) {
        for _ in 0..TRIES {
            if self.site.tries_to_start_again() {
                return;
            }
            self.failed_starts += 1;
            pass(100);
        }
        panic!("{}", self.site.failure("handoff starts again"));
    }

    fn fill_disk(&mut self, ms: u64, meanwhile: Meanwhile) {
        let Some(disk) = &self.disk else {
            return self
                .skipped
                .push("fill disk: needs the right to mount a file system");
        };
        let filler = disk.path().join("filler");
        fs::create_dir(&filler).expect("a folder");
        let mut file = File::create(filler.join("large")).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        // Not even an empty file or folder can be made.
        let mut names = (0..).map(|number: u32| filler.join(number.to_string()));
        while names.next().is_some_and(|name| File::create(name).is_ok()) {}
        self.disturb(meanwhile);
        pass(ms);
        fs::remove_dir_all(filler).expect("the folder");
        self.minds();
        self.recover();
    }

    fn exhaust_descriptors(&mut self, ms: u64, meanwhile: Meanwhile) {
        let pid = self.site.pid();
        let Some(vitals) = Vitals::of(pid) else {
            return;
        };
        limit(pid, Some((vitals.descriptors + SPARE_DESCRIPTORS) as u64));
        let crowd = [(); CROWD].map(|()| TcpStream::connect(self.address()));
        self.disturb(meanwhile);
        pass(ms);
        drop(crowd);
        // Killed meanwhile, it has no limit any more.
        if self.site.pid() == pid {
            limit(pid, None);
        }
        self.minds();
        self.recover();
    }

    pub(super) fn disturb(&mut self, meanwhile: Meanwhile) {
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Deploy => {
                self.artifacts.good(Good::Proven);
            }
            Meanwhile::KillApp => self.kill_app(),
            Meanwhile::KillHandoff => {
                self.kill_handoff();
                if !self.site.tries_to_start_again() {
                    self.failed_starts += 1;
                }
            }
            Meanwhile::Command(command) => self.command_in_trouble(command),
        }
    }

    /// Waits until it is known why this version is not launched, or not again.
    fn await_refusal(&self, version: &str) {
        self.site
            .wait_until(&format!("{version} is refused"), |status| {
                let problem = status.artifact_problem.as_deref();
                let is_refused = status.refusal(version).is_some();
                is_refused || problem.is_some_and(|problem| problem.contains(version))
            });
    }

    /// Waits until clients are answered by this version.
    pub(super) fn await_version(&self, version: &str) {
        let address = self.address();
        eventually(
            || self.site.failure(&format!("{version} serves")),
            || {
                let answer = Connection::open(address).and_then(|mut new| new.get("/version"));
                answer
                    .is_ok_and(|answer| answer.release() == version)
                    .then_some(())
            },
        );
    }

    /// The active instance and its process, if it is one of ours.
    fn active(&self) -> Option<(u64, u32)> {
        let active = self.site.published()?.active.clone()?;
        let pid = active.pid.filter(|pid| self.is_ours(*pid))?;
        Some((active.generation.0, pid))
    }

    fn is_ours(&self, pid: u32) -> bool {
        processes::from(&self.site.deployment().site()).contains(&pid)
    }
}

/// Returns whether the log says that this one has ended, and what follows: until then requests may
/// be sent to it.
fn knows_of_the_end(log: &str, generation: u64) -> bool {
    let (failed, stopped) = (
        format!(" event=\"instance_failed\" generation={generation} "),
        format!(" event=\"instance_gone\" generation={generation} "),
    );
    let Some(told) = log.find(&failed).or_else(|| log.find(&stopped)) else {
        return false;
    };
    let (line, after) = log[told..].split_once('\n').unwrap_or_default();
    let follows = ["nothing is active", " promoted "];
    !line.contains("while it was active") || follows.iter().any(|words| after.contains(words))
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("a process id")
}

/// Gives a process so many descriptors at most; without a number, as many as there may be.
fn limit(pid: u32, descriptors: Option<u64>) {
    let all = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: descriptors.or(all.current),
        maximum: all.maximum,
    };
    // It may have ended.
    let _ = prlimit(Some(process(pid)), Resource::Nofile, limit);
}

pub(super) fn pass(ms: u64) {
    wait::sleep_for(Duration::from_millis(ms), "a pause of the schedule");
}

/// Returns a free port: not one that the system gives to whoever connects: while handoff is away,
/// nobody else may get it.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let mut ports = (first..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    ports.next().expect("a free port")
}

//! A second deployment on the same cache. It runs a folder in place; nothing of what is done to the
//! first one, or to the folder without changing its content, may reach its clients.

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sample_app::journal;

use super::clients::{Clients, Moment, Toll};
use super::ledger::{Account, Ledger};
use super::schedule::Touch;
use crate::command;
use crate::deployment::{Running, Site};
use crate::program::handoff;
use crate::release::{Release, folder};
use crate::{binaries, wait::eventually};

/// Number of its connections.
const CLIENTS: usize = 4;
/// Makes the seed of its clients another one.
const OTHER: u64 = 0x5eed;

/// The second deployment.
#[derive(Debug)]
pub struct Neighbour {
    site: Running,
    moment: Moment,
    ledger: Ledger,
    toll: Toll,
    /// Launches that it was asked for.
    launches: usize,
    touches: usize,
}

// === impl Neighbour ===

impl Neighbour {
    /// A deployment that serves.
    pub fn set(moment: Moment, cache: &Path) -> Self {
        let site = Site::overwritten_in_place()
            .running(&[
                "sh",
                "run",
                "-port",
                "{port}",
                "--journal",
                "{shared}/journal",
            ])
            .with("--cache", cache.to_str().expect("a path in UTF-8"))
            .with("--stop-timeout", "2s")
            .launch(release(1));
        let mut neighbour = Self {
            site,
            moment,
            ledger: Ledger {
                connections: CLIENTS,
                ..Ledger::default()
            },
            toll: Toll::default(),
            launches: 0,
            touches: 0,
        };
        neighbour.await_launch();
        neighbour
    }

    /// Starts its load.
    pub fn load(&self, round: usize, seed: u64) -> Clients {
        let address = self.site.address();
        Clients::start(CLIENTS, address, &self.moment, round, seed ^ OTHER)
    }

    /// Adds the result of its load.
    pub fn add(&mut self, toll: Toll) {
        self.toll.add(toll);
    }

    /// Deploys the next release with `handoff deploy`.
    pub fn deploy(&mut self) {
        let build = self.site.deployment().build(release(self.launches + 1));
        let mut command = handoff();
        command.arg("deploy").arg(build);
        command.arg("--artifact").arg(self.folder());
        command.arg("--state").arg(self.site.deployment().state());
        command::start(command).end().with(0);
        self.await_launch();
    }

    /// Changes something about its folder, but its content.
    pub fn touch(&mut self, touch: Touch) {
        self.touches += 1;
        let folder = self.folder();
        let run = folder.join("run");
        let done = match touch {
            Touch::Modes => {
                let mode = 0o700 + (self.touches % 8) as u32;
                let permissions = Permissions::from_mode(mode);
                fs::set_permissions(&folder, permissions.clone())
                    .and_then(|()| fs::set_permissions(run, permissions))
            }
            Touch::Times => [folder, run].iter().try_for_each(|path| {
                let times = FileTimes::new().set_modified(SystemTime::now());
                fs::File::open(path)?.set_times(times)
            }),
            Touch::HardLink => {
                let backup = format!("backup-{}", self.touches);
                fs::hard_link(run, self.site.site().join(backup))
            }
            Touch::NewFolder => fs::create_dir(folder.join(format!("tmp-{}", self.touches))),
        };
        done.expect("the folder can be changed");
    }

    /// Ends it; returns the account of its clients.
    pub fn end(&mut self) -> Account {
        let site = &self.site;
        let status = site.wait_until("nothing moves", |status| status.is_at_rest());
        assert_eq!(
            status.generation(),
            Some(self.launches as u64),
            "{}",
            site.failure("only a deploy launches")
        );
        let pid = status.active.as_ref().and_then(|active| active.pid);
        let pid = pid.expect("a process");
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).expect("a working directory");
        assert!(
            works_in.is_dir(),
            "{}",
            site.failure(&format!("{works_in:?} is there"))
        );
        site.ask_to_stop();
        site.await_exit();
        site.await_no_processes();
        let journal = site.shared().join("journal");
        self.ledger.journal = journal::read(&journal).expect("a journal");
        self.ledger.seen = std::mem::take(&mut self.toll.seen);
        self.ledger.settle()
    }

    /// Waits until the release that has been deployed last serves.
    fn await_launch(&mut self) {
        let began = self.moment.now();
        self.launches += 1;
        let version = version(self.launches);
        eventually(
            || self.site.failure(&format!("{version} serves")),
            || (self.site.get("/version").release() == version).then_some(()),
        );
        let earliest = began.saturating_sub(Duration::from_secs(1));
        self.ledger.promoted.insert(version, earliest);
    }

    fn folder(&self) -> PathBuf {
        self.site.site().join("app")
    }
}

fn version(number: usize) -> String {
    format!("n{number}")
}

fn release(number: usize) -> Release {
    let app = binaries::sample_app().display();
    let version = version(number);
    let run = format!("#!/bin/sh\nexec {app} --version-name {version} \"$@\"\n");
    folder("app", &[("run", &run), ("data", &version)])
}

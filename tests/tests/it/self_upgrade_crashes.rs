//! `handoff upgrade`, and a process that is killed in each step of it: what is lost was in flight in the
//! killed process, and afterwards everything runs, or nothing does.
#![cfg(target_os = "linux")] // There is no anchor on Windows yet; only Linux tells of processes.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::command::Command;
use tests::load::Load;
use tests::processes::{children, connections, is_alive, is_halted, is_reaped, signal};
use tests::requests::Unfinished;
use tests::{Running, Status, command, eventually};

use crate::self_upgrade::{anchored, app_pid};

/// The steps of an upgrade, in their order, and the process that comes to them.
const STEPS: [(&str, Halted); 8] = [
    ("Ordered", Halted::Old),
    ("Configured", Halted::New),
    ("StoodStill", Halted::Old),
    ("StandsStill", Halted::Old),
    ("Welcomed", Halted::New),
    ("Served", Halted::New),
    ("Serves", Halted::New),
    ("Leaves", Halted::Old),
];

/// Index of the first step at which the anchor may have made the new process the one that serves.
const FIRST_OF_NEW: usize = 6;

/// Number of uploads that are in flight in the old process throughout.
const UPLOADS: usize = 3;

/// The process that comes to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halted {
    Old,
    New,
}

/// An upgrade that is halted at a step, under load.
struct HaltedUpgrade {
    site: Running,
    before: Status,
    load: Load,
    uploads: Vec<Unfinished>,
    command: Command,
    anchor: u32,
    old: u32,
    /// None before it is started.
    new: Option<u32>,
    halted: u32,
    _folder: TempDir,
}

/// The end of an upgrade.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Upgraded,
    Refused,
}

// === impl HaltedUpgrade ===

impl HaltedUpgrade {
    /// Begins an upgrade, and waits until one of the processes comes to the step.
    #[track_caller]
    fn at(step: &str, halted: Halted) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let marker: PathBuf = folder.path().join("step");
        let site = anchored()
            .with_variable("HANDOFF_TEST_HALT", marker.to_str().expect("a path"))
            .start("v1");
        let before = site.status();
        let anchor = site.pid();
        let old = before.anchored.as_ref().expect("an anchor").pid;
        let load = Load::offer(site.address(), 100);
        let upload = || site.begin_upload("/upload");
        let uploads: Vec<_> = std::iter::repeat_with(upload).take(UPLOADS).collect();
        site.wait_until("they are in flight", |status| status.in_flight() >= UPLOADS);
        fs::write(&marker, step).expect("the step");
        let mut command = tests::program::handoff();
        command.arg("upgrade").args(site.deployment().place());
        command.args(["--timeout", "1h"]);
        let command = command::start(command);
        let app = app_pid(&before);
        let new = || {
            let mut others = children(anchor).into_iter();
            others.find(|&pid| pid != old && pid != app)
        };
        let halted = eventually(
            || format!("a process comes to the step {step}: {}", site.log()),
            || {
                match halted {
                    Halted::Old => Some(old),
                    Halted::New => new(),
                }
                .filter(|&pid| is_halted(pid))
            },
        );
        // The next process goes on there.
        fs::remove_file(&marker).expect("the step");
        let new = new();
        Self {
            site,
            before,
            load,
            uploads,
            command,
            anchor,
            old,
            new,
            halted,
            _folder: folder,
        }
    }

    /// Waits until the anchor has read that the new process serves, if the step comes after that message.
    fn await_order_to_leave(&self, step: &str) {
        if step == "Serves" {
            self.site.await_log("leaving_began");
        }
    }

    /// Kills a process, lets the other one go on, and returns the number of connections that may be lost.
    fn kill(&self, victim: u32) -> usize {
        if victim != self.halted {
            signal(victim, Signal::STOP);
            eventually(
                || "it is halted".to_owned(),
                || is_halted(victim).then_some(()),
            );
        }
        let port = self.site.address().port();
        let mut count = connections(victim, port);
        // Without the old process the anchor may end the new one, which may have accepted some as well.
        if victim == self.old && victim != self.halted {
            count += connections(self.halted, port);
        }
        signal(victim, Signal::KILL);
        if victim != self.halted && victim != self.anchor {
            // The anchor has seen its end, and may have killed the other one too.
            eventually(
                || "it is reaped".to_owned(),
                || is_reaped(victim).then_some(()),
            );
            let halted = Pid::from_raw(self.halted.cast_signed()).expect("a process id");
            let _ = kill_process(halted, Signal::CONT);
        }
        count
    }

    /// Checks that everything runs, that no more than so many requests are lost, and that the uploads are
    /// or are not. Returns what became of the upgrade, and the number of crashes.
    #[track_caller]
    fn assert_runs(
        self,
        step: &str,
        (victim, connections): (u32, usize),
        are_cut: bool,
    ) -> (End, u32) {
        let Self {
            site,
            before,
            load,
            uploads,
            command,
            ..
        } = self;
        let ended = command.end();
        let after = site.wait_until("one of both serves", |status| {
            let anchored = status.anchored.as_ref();
            let is_told = anchored.is_some_and(|it| it.crashes + it.upgrades > 0);
            let is_new = anchored.is_some_and(|it| it.pid != victim);
            status.active.is_some() && is_new && (is_told || status.desired_problem.is_some())
        });
        let anchored = after.anchored.clone().expect("an anchor");
        let end = if anchored.upgrades > 0 {
            ended.with(0);
            End::Upgraded
        } else {
            // By what happened, and not by the timeout of an hour.
            ended.with(1).saying(&["refused: handoff"]);
            End::Refused
        };
        assert_eq!(app_pid(&after), app_pid(&before), "{step}: the app goes on");
        let uploads = uploads.into_iter().map(Unfinished::finish);
        let cut = uploads.filter(Result::is_err).count();
        assert_eq!(cut, if are_cut { UPLOADS } else { 0 }, "{step}");
        assert_eq!(site.get("/version").text(), "v1");
        let tally = load.end();
        let is_lost = |kind: &String| kind.starts_with("reset") || kind.starts_with("truncated");
        assert!(tally.failed.keys().all(is_lost), "{step}: {tally}");
        let lost = tally.lost() + cut;
        let facts = format!("{step}: {end:?}, {lost} lost of {connections} in flight, {tally}");
        assert!(lost <= connections, "{facts}");
        println!("{facts}");
        let load = Load::offer(site.address(), 100);
        site.deployment().run_command("upgrade", &[]).with(0);
        site.deploy("v2");
        site.await_active("v2");
        let tally = load.end();
        assert_eq!(tally.lost(), 0, "{step}: {tally}");
        (end, anchored.crashes)
    }

    /// Checks that nothing runs.
    #[track_caller]
    fn assert_all_ended(self, step: &str) {
        let Self {
            site,
            before,
            old,
            new,
            load,
            command,
            ..
        } = self;
        site.await_exit();
        let processes = [Some(old), new, Some(app_pid(&before))];
        eventually(
            || format!("{step}: all processes have ended"),
            || {
                processes
                    .iter()
                    .flatten()
                    .all(|&pid| !is_alive(pid))
                    .then_some(())
            },
        );
        eventually(
            || format!("{step}: the port is free"),
            || TcpListener::bind(before.listen).ok(),
        );
        site.await_no_processes();
        let ended = command.end();
        let step_of = |it: &(&str, Halted)| it.0 == step;
        let may_be_over =
            step == "StandsStill" || STEPS.iter().position(step_of) >= Some(FIRST_OF_NEW);
        let is_over = may_be_over && ended.code == 0;
        assert!(is_over || ended.code == 4, "{step}: {ended:?}");
        load.end();
    }
}

#[test]
fn the_old_process_may_be_killed_at_each_step() {
    for (index, (step, halted)) in STEPS.into_iter().enumerate() {
        let upgrade = HaltedUpgrade::at(step, halted);
        upgrade.await_order_to_leave(step);
        let old = upgrade.old;
        let connections = upgrade.kill(old);
        let (end, crashes) = upgrade.assert_runs(step, (old, connections), true);
        // The new process goes on, if it serves: then it is no crash.
        assert_eq!(crashes, u32::from(end == End::Refused), "{step}: {end:?}");
        if step != "StandsStill" {
            assert_eq!(
                end == End::Upgraded,
                index >= FIRST_OF_NEW,
                "{step}: {end:?}"
            );
        }
    }
}

#[test]
fn the_new_process_may_be_killed_at_each_step() {
    // There is none at the first one.
    for (index, (step, halted)) in STEPS.into_iter().enumerate().skip(1) {
        let upgrade = HaltedUpgrade::at(step, halted);
        upgrade.await_order_to_leave(step);
        let new = upgrade.new.expect("it has started");
        let connections = upgrade.kill(new);
        let (end, crashes) = upgrade.assert_runs(step, (new, connections), false);
        // If it has served, its program follows the crash.
        assert_eq!(crashes, u32::from(end == End::Upgraded), "{step}: {end:?}");
        if step != "StandsStill" {
            assert_eq!(
                end == End::Upgraded,
                index >= FIRST_OF_NEW,
                "{step}: {end:?}"
            );
        }
    }
}

#[test]
fn with_the_anchor_all_ends_at_each_step() {
    for (step, halted) in STEPS {
        let upgrade = HaltedUpgrade::at(step, halted);
        upgrade.kill(upgrade.anchor);
        upgrade.assert_all_ended(step);
    }
}

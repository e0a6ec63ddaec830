//! Staged roll-outs over the machines of a store.

use std::thread;
use std::time::Duration;

use tests::command::{self, Ended};
use tests::load::Load;
use tests::{Release, Running, Site, app, eventually};

use crate::store::{Store, launches, refused};

/// Machines that serve `v1`, deployed by the store.
struct Fleet {
    store: Store,
    mirrors: Vec<command::Command>,
    sites: Vec<Running>,
}

impl Fleet {
    /// Starts so many machines, of which the last refuses what [`tests::refused_where_set`] gives.
    fn start(machines: usize) -> Option<Self> {
        let store = Store::start()?;
        let site = |n| {
            let site = Site::watching_a_pointer();
            if n + 1 == machines {
                site.with_variable("REFUSES", "1").start("v0")
            } else {
                site.start("v0")
            }
        };
        let sites: Vec<_> = (0..machines).map(site).collect();
        let mirrors = sites.iter().map(|site| store.mirror(site)).collect();
        store.await_members(machines);
        let fleet = Self {
            store,
            mirrors,
            sites,
        };
        fleet.deploy("v1", &[]).with(0);
        Some(fleet)
    }

    fn deploy(&self, release: impl Into<Release>, options: &[&str]) -> Ended {
        self.store.deploy_with(&self.sites[0], release, options)
    }

    fn begin_deploy(&self, release: impl Into<Release>, options: &[&str]) -> command::Command {
        let path = self.sites[0].deployment().build(release);
        self.store.begin_deploy(&path, options)
    }

    /// Begins a roll-out whose first machine bakes for long.
    fn begin_baking(&self, release: &str) -> command::Command {
        let options = ["--at-most", "1", "--first", "1", "--bake", "1h"];
        let deploy = self.begin_deploy(release, &options);
        deploy.await_stderr("waiting 1h");
        deploy
    }

    fn running(&self, version: &str) -> usize {
        let sites = self.sites.iter();
        sites
            .filter(|site| site.status().is_active(version))
            .count()
    }

    fn await_running(&self, count: usize, version: &str) {
        eventually(
            || format!("{count} run {version}: {}", self.store.status()),
            || (self.running(version) == count).then_some(()),
        );
    }
}

#[test]
fn at_most_holds_and_no_request_is_lost() {
    let Some(fleet) = Fleet::start(3) else { return };
    let sites = fleet.sites.iter();
    let loads: Vec<_> = sites.map(|site| Load::offer(site.address(), 20)).collect();
    let release = app("v2").that("--ready-after=600ms");
    let options = ["--at-most", "1", "--first", "1", "--bake", "1s"];
    let mut most = 0;
    thread::scope(|scope| {
        let deploy = scope.spawn(|| fleet.deploy(release, &options).with(0));
        while !deploy.is_finished() {
            let sites = fleet.sites.iter();
            let starting = sites.filter(|site| site.status().candidate.is_some());
            most = most.max(starting.count());
            thread::sleep(Duration::from_millis(20));
        }
        let deployed = deploy.join().expect("a deploy");
        deployed.saying(&["0 of 3 machines run it", "waiting 1s", "2 of 3", "runs on"]);
    });
    assert_eq!(most, 1);
    assert_eq!(fleet.running("v2"), 3);
    for load in loads {
        let tally = load.end();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
    let status = fleet.store.status();
    assert!(status["channel"]["rollout"].is_null(), "{status}");
}

#[test]
fn a_release_that_the_first_refuses_is_launched_by_no_other() {
    let Some(fleet) = Fleet::start(3) else { return };
    let options = ["--at-most", "2", "--first", "1"];
    fleet.deploy(refused("v2"), &options).with(1).saying(&[
        "refused v2",
        "exit status: 3",
        "all return to v1",
    ]);
    let launched = fleet.sites.iter().filter(|site| launches(site, "v2") > 0);
    assert_eq!(launched.count(), 1);
    assert_eq!(fleet.running("v1"), 3);
}

#[test]
fn all_return_when_a_later_one_refuses_and_not_when_that_is_tolerated() {
    let Some(fleet) = Fleet::start(2) else { return };
    let bad = tests::refused_where_set("v2");
    fleet
        .deploy(&bad, &["--at-most", "1"])
        .with(1)
        .saying(&["refused v2"]);
    fleet.await_running(2, "v1");
    let options = ["--at-most", "1", "--tolerate", "1"];
    fleet
        .deploy(&bad, &options)
        .with(0)
        .saying(&["which is tolerated"]);
    fleet.await_running(1, "v2");
}

#[test]
fn nothing_moves_without_its_deploy_and_the_same_command_goes_on() {
    let Some(mut fleet) = Fleet::start(2) else {
        return;
    };
    fleet
        .store
        .rollout("show")
        .with(2)
        .saying(&["no staged roll-out is under way"]);
    drop(fleet.begin_baking("v2"));
    // A machine that comes up meanwhile runs what the others run.
    let late = Site::watching_a_pointer().start("v0");
    fleet.mirrors.push(fleet.store.mirror(&late));
    late.await_active("v1");
    fleet.sites.push(late);
    assert_eq!((fleet.running("v2"), fleet.running("v1")), (1, 2));
    fleet
        .store
        .rollout("show")
        .with(0)
        .saying(&["3 machines: 1 run it", "awaits its turn"]);
    let options = ["--at-most", "1", "--first", "1"];
    fleet.deploy("v2", &options).with(0);
    assert_eq!(fleet.running("v2"), 3);
}

#[test]
fn an_operator_stops_a_roll_out_continues_it_and_takes_it_back() {
    let Some(fleet) = Fleet::start(2) else { return };
    let deploy = fleet.begin_baking("v2");
    fleet
        .store
        .rollout("stop")
        .with(0)
        .saying(&["it is stopped"]);
    deploy.end().with(3).saying(&["was stopped"]);
    let metrics = command::start(fleet.store.fleet(&["status", "--metrics"]));
    metrics.end().with(0).saying(&[
        "handoff_fleet_machines{state=\"waits\"} 1\n",
        "handoff_fleet_machines{state=\"runs\"} 1\n",
        "handoff_fleet_rollout_named 1\n",
        "handoff_fleet_rollout_stopped 1\n",
        "handoff_fleet_returning 0\n# EOF",
    ]);
    fleet.store.rollout("back").with(0).saying(&["v1"]);
    assert_eq!(fleet.running("v1"), 2);
    // It names the first group, and waits for nobody.
    let options = ["--at-most", "1", "--timeout", "0s"];
    fleet
        .deploy("v3", &options)
        .with(3)
        .saying(&["not in time"]);
    fleet
        .store
        .rollout("continue")
        .with(0)
        .saying(&["v3", "runs on"]);
    assert_eq!(fleet.running("v3"), 2);
}

#[test]
fn another_artifact_takes_the_place_of_one_that_stands_still() {
    let Some(fleet) = Fleet::start(2) else { return };
    let deploy = fleet.begin_baking("v2");
    fleet.deploy("v3", &["--at-most", "2"]).with(0);
    deploy
        .end()
        .with(1)
        .saying(&["another deploy took its place"]);
    assert_eq!(fleet.running("v3"), 2);
}

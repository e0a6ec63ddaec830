//! Staged roll-outs: `handoff deploy --at-most` and `handoff rollout`, with several sidecars on one
//! deployment.

use std::path::Path;
use std::thread;

use tests::command::{self, Command, Ended};
use tests::load::Load;
use tests::{Deployment, Running, Site, Status, app, eventually};

/// Sidecars of one deployment, each with a cache of its own, as on machines of their own.
struct Fleet {
    sidecars: Vec<Running>,
}

impl Fleet {
    fn serving(release: &str, sidecars: usize) -> Self {
        let site = || Site::watching_a_pointer().with("--admin", "127.0.0.1:0");
        let mut all = vec![site().start(release)];
        for _ in 1..sidecars {
            let site = site().launch_in(all[0].deployment());
            site.await_active(release);
            all.push(site);
        }
        Self { sidecars: all }
    }

    fn deployment(&self) -> &Deployment {
        self.sidecars[0].deployment()
    }

    fn statuses(&self) -> Vec<Status> {
        self.sidecars.iter().map(Running::status).collect()
    }

    /// The number of sidecars for which something holds.
    fn count(&self, is_so: impl Fn(&Status) -> bool) -> usize {
        self.statuses()
            .iter()
            .filter(|status| is_so(status))
            .count()
    }

    #[track_caller]
    fn await_count(&self, count: usize, what: &str, is_so: impl Fn(&Status) -> bool) {
        eventually(
            || format!("{count} sidecars: {what}: {:#?}", self.statuses()),
            || (self.count(&is_so) == count).then_some(()),
        );
    }

    /// Waits until the sidecars have these values of a metric, whichever has which.
    #[track_caller]
    fn await_metric<const N: usize>(&self, name: &str, expected: [f64; N]) {
        let values = || {
            let sidecars = self.sidecars.iter();
            let values = sidecars.map(|site| site.metrics().value(name, &[]).expect(name));
            let mut values: Vec<_> = values.collect();
            values.sort_by(f64::total_cmp);
            values
        };
        eventually(
            || format!("{name} is {expected:?}: {:?}", values()),
            || (values() == expected).then_some(()),
        );
    }

    /// Runs `handoff rollout` with this action.
    fn rollout(&self, action: &str) -> Ended {
        let place = self.deployment().place();
        let mut args = vec!["rollout", action];
        args.extend(place.iter().map(String::as_str));
        command::run(&args)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The first one's folder is the deployment of all: it ends last.
        while self.sidecars.pop().is_some() {}
    }
}

fn launches(status: &Status, release: &str) -> usize {
    let is_of = |release: &str, id: &str| id.starts_with(&format!("{release}-"));
    let handoffs = status.handoffs.iter();
    handoffs
        .filter(|handoff| is_of(release, handoff.release.as_str()))
        .count()
}

#[test]
fn no_more_than_the_limit_start_at_the_same_time_and_no_request_is_lost() {
    let fleet = Fleet::serving("v1", 4);
    let loads: Vec<_> = fleet
        .sidecars
        .iter()
        .map(|one| Load::offer(one.address(), 20))
        .collect();
    let release = app("v2").that("--ready-after=600ms");
    let mut most = 0;
    let options = ["--at-most", "2", "--first", "1"];
    thread::scope(|scope| {
        let deploy = scope.spawn(|| fleet.deployment().run_deploy(release, &options).with(0));
        while !deploy.is_finished() {
            most = most.max(fleet.count(|status| status.candidate.is_some()));
        }
        let deployed = deploy.join().expect("a deploy");
        deployed.saying(&[
            "0 of 4 sidecars run it",
            "1 of 4",
            "is active in 4 sidecars",
        ]);
    });
    assert!((1..=2).contains(&most), "{most} at the same time");
    fleet.await_count(4, "v2 is active", |status| status.is_active("v2"));
    for load in loads {
        let tally = load.end();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
    // It is over: the next one that comes up runs what is deployed.
    fleet
        .rollout("show")
        .with(2)
        .saying(&["no staged roll-out is under way"]);
}

#[test]
fn a_release_that_the_first_refuses_is_launched_by_no_other() {
    let fleet = Fleet::serving("v1", 3);
    let before = fleet.deployment().pointer();
    let bad = app("v2").that("--exit-code=3");
    let options = ["--at-most", "2", "--first", "1"];
    let deployed = fleet.deployment().run_deploy(bad, &options).with(1);
    deployed.saying(&["was refused by sidecar", "v2 exits at once with 3"]);
    assert_eq!(fleet.count(|status| launches(status, "v2") > 0), 1);
    assert_eq!(fleet.deployment().pointer(), before);
    // A deploy of the same artifact to all of them is another try.
    fleet.deployment().run_deploy("v3", &[]).with(0);
    fleet.await_count(3, "v3 is active", |status| status.is_active("v3"));
}

#[cfg(unix)]
#[test]
fn all_return_when_a_later_one_refuses_and_not_when_that_is_tolerated() {
    let mut fleet = Fleet::serving("v1", 2);
    let refuses = Site::watching_a_pointer().with_variable("REFUSES", "1");
    let refuses = refuses.launch_in(fleet.deployment());
    refuses.await_active("v1");
    fleet.sidecars.push(refuses);
    let bad = tests::refused_where_set("v2");
    let deployed = fleet
        .deployment()
        .run_deploy(&bad, &["--at-most", "1"])
        .with(1);
    deployed.saying(&["was refused by sidecar", "it refuses"]);
    fleet.await_count(3, "v1 is active", |status| status.is_active("v1"));

    let options = ["--at-most", "1", "--tolerate", "1"];
    fleet.deployment().run_deploy(&bad, &options).with(0);
    fleet.await_count(2, "v2 is active", |status| status.is_active("v2"));
}

/// Begins a roll-out whose first sidecar bakes for long.
fn baking(fleet: &Fleet) -> Command {
    let options = ["--at-most", "1", "--first", "1", "--bake", "1h"];
    let deploy = fleet.deployment().begin_deploy("v2", &options);
    deploy.await_stderr("the first sidecars run it");
    fleet.await_count(1, "v2 is active", |status| status.is_active("v2"));
    deploy
}

#[test]
fn nothing_moves_without_its_deploy_and_the_same_command_goes_on() {
    let mut fleet = Fleet::serving("v1", 2);
    drop(baking(&fleet));
    // One that comes up meanwhile runs what the others run.
    let late = Site::watching_a_pointer().launch_in(fleet.deployment());
    late.await_active("v1");
    fleet.sidecars.push(late);
    fleet.await_count(2, "it is not their turn", |status| status.awaits_turn);
    fleet
        .rollout("show")
        .with(0)
        .saying(&["1 of 3 sidecars run", "has not reached it"]);

    let options = ["--at-most", "1", "--first", "1", "--bake", "1s"];
    fleet.deployment().run_deploy("v2", &options).with(0);
    fleet.await_count(3, "v2 is active", |status| status.is_active("v2"));
}

#[test]
fn an_operator_stops_it_continues_it_and_takes_it_back() {
    let fleet = Fleet::serving("v1", 2);
    let before = fleet.deployment().pointer();
    let deploy = baking(&fleet);
    fleet.await_metric("handoff_rollout_named", [1.0, 1.0]);
    fleet.await_metric("handoff_awaits_turn", [0.0, 1.0]);
    fleet
        .rollout("stop")
        .with(0)
        .saying(&["the roll-out is stopped: 1 of 2"]);
    fleet.await_metric("handoff_rollout_stopped", [1.0, 1.0]);
    deploy.end().with(3).saying(&["was stopped"]);
    fleet
        .rollout("back")
        .with(0)
        .saying(&["all sidecars run what was deployed before"]);
    fleet.await_count(2, "v1 is active", |status| status.is_active("v1"));
    assert_eq!(fleet.deployment().pointer(), before);
    fleet.await_metric("handoff_rollout_named", [0.0, 0.0]);

    let options = ["--at-most", "1", "--timeout", "1s"];
    let slow = app("v3").that("--ready-after=4s");
    let late = fleet.deployment().run_deploy(slow, &options).with(3);
    late.saying(&["stands still"]);
    fleet
        .rollout("continue")
        .with(0)
        .saying(&["the roll-out is complete: 2 of 2"]);
    fleet.await_count(2, "v3 is active", |status| status.is_active("v3"));
}

#[test]
fn another_artifact_takes_the_place_of_one_that_stands_still() {
    let fleet = Fleet::serving("v1", 2);
    let deploy = baking(&fleet);
    fleet
        .deployment()
        .run_deploy("v3", &["--at-most", "1"])
        .with(0);
    fleet.await_count(2, "v3 is active", |status| status.is_active("v3"));
    deploy
        .end()
        .with(1)
        .saying(&["another deploy came in between"]);
}

#[test]
fn a_sidecar_that_would_not_wait_and_a_folder_without_pointer_are_refused() {
    let site = Site::watching_a_pointer().start("v1");
    let statuses = site.deployment().state().join("sidecars");
    let file = statuses.join(format!("{}.json", site.status().sidecar));
    let content = std::fs::read(file).expect("a status");
    let mut older: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&content).expect("an object");
    older.remove("follows_rollouts");
    older.insert("sidecar".to_owned(), "0lder".into());
    older.insert("version".to_owned(), "0.0.9".into());
    write(
        &statuses.join("0lder.json"),
        &serde_json::to_string(&older).expect("JSON"),
    );
    let options = ["--at-most", "1"];
    let refused = site.deployment().run_deploy("v2", &options).with(2);
    refused.saying(&["--at-most: sidecar 0lder is handoff 0.0.9"]);
    assert!(site.status().is_active("v1"));

    let site = Site::watching_a_folder().start("v1");
    let to = site.site().join("releases").display().to_string();
    let state = site.deployment().state().display().to_string();
    let build = site.deployment().build("v2").display().to_string();
    let args = [
        "deploy",
        &build,
        "--to",
        &to,
        "--state",
        &state,
        "--at-most",
        "1",
    ];
    command::run(&args)
        .with(2)
        .saying(&["--at-most needs a pointer file"]);
    command::run(&["deploy", "x", "--at-most", "0%"])
        .with(2)
        .saying(&["such as 25%"]);
}

fn write(file: &Path, content: &str) {
    std::fs::write(file, content).expect("a file");
}

//! A command before the first start of a release, once for all sidecars: `--before-start`.
#![cfg(unix)] // The commands are lines of a shell.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use tests::processes::signal;
use tests::shared::files;
use tests::status::Outcome;
use tests::{Deployment, Running, Site, Status, eventually};

/// A sidecar whose releases are prepared by this line of a shell, which `runs` counts.
fn prepared_by(line: &str) -> Site {
    let command = format!("sh -c 'echo \"$RELEASE\" >> {{shared}}/runs; {line}'");
    Site::watching_a_pointer()
        .with("--before-start", &command)
        .with("--poll", "200ms")
}

/// Returns how often the command has been run for a release.
fn runs(site: &Running, release: &str) -> usize {
    let runs = fs::read_to_string(site.shared().join("runs")).unwrap_or_default();
    runs.lines().filter(|run| run.starts_with(release)).count()
}

/// Starts so many sidecars more on the deployment.
fn siblings(count: usize, of: &Running, line: &str) -> Vec<Running> {
    (0..count)
        .map(|_| prepared_by(line).launch_in(of.deployment()))
        .collect()
}

#[track_caller]
fn await_refused(site: &Running, release: &str) -> String {
    let status = site.wait_until(&format!("{release} is refused"), |status| {
        status.has_outcome(release, Outcome::Refused)
    });
    assert!(status.is_active("v1"), "{status:#?}");
    status.last_failure.clone().expect("a failure").reason
}

/// Returns the files of the runs whose names end so.
fn run_files(deployment: &Deployment, end: &str) -> Vec<PathBuf> {
    let folder = deployment.state().join("before-start");
    let mut all = if folder.is_dir() {
        files(&folder)
    } else {
        Default::default()
    };
    all.retain(|file| file.to_string_lossy().ends_with(end));
    all.into_iter().collect()
}

/// Returns the sidecar that has claimed a run, once one has.
fn await_owner<'a>(all: &[&'a Running]) -> &'a Running {
    eventually(
        || "a sidecar has claimed the run".to_owned(),
        || {
            let claims = run_files(all[0].deployment(), ".running");
            let claim = fs::read(claims.first()?).ok()?;
            let claim: serde_json::Value = serde_json::from_slice(&claim).ok()?;
            let pid = claim["pid"].as_u64()?;
            all.iter()
                .copied()
                .find(|site| u64::from(site.pid()) == pid)
        },
    )
}

#[test]
fn twenty_sidecars_run_it_once_and_all_await_its_outcome() {
    let line = "case $RELEASE in v1*) ;; *) sleep 1;; esac; \
                case $RELEASE in v3*) echo the column exists already; exit 4;; esac";
    let first = prepared_by(line).start("v1");
    assert_eq!(runs(&first, "v1"), 1);
    let rest = siblings(19, &first, line);
    for site in &rest {
        site.await_active("v1");
    }
    assert_eq!(
        runs(&first, "v1"),
        1,
        "they start with what has been prepared"
    );

    let load = tests::load::Load::offer(first.address(), 50);
    first.deploy("v2");
    for site in rest.iter().chain([&first]) {
        site.await_active("v2");
    }
    assert_eq!(runs(&first, "v2"), 1);
    first.deploy("v3");
    for site in rest.iter().chain([&first]) {
        let status = site.wait_until("v3 is refused", |status| {
            status.has_outcome("v3", Outcome::Refused)
        });
        let failure = status.last_failure.clone().expect("a failure");
        let reason = "--before-start failed (exit status: 4): the column exists already";
        assert_eq!(failure.reason, reason);
        assert_eq!(failure.output, ["the column exists already"]);
        assert!(status.is_active("v2"));
    }
    assert_eq!(runs(&first, "v3"), 1);
    let tally = load.end();
    assert_eq!(tally.lost(), 0, "{tally}");
}

#[test]
fn an_owner_that_is_killed_has_interrupted_it_and_only_a_deploy_runs_it_again() {
    let line = "case $RELEASE in v2*) until [ -e {shared}/go ]; do sleep 0.05; done;; esac";
    let mut first = prepared_by(line).start("v1");
    let rest = siblings(19, &first, line);
    for site in &rest {
        site.await_active("v1");
    }
    let v2 = first.deployment().build("v2");
    first.deploy("v2");
    let owner = {
        let all: Vec<_> = rest.iter().chain([&first]).collect();
        let owner = await_owner(&all);
        eventually(
            || "the command runs".to_owned(),
            || (runs(&first, "v2") == 1).then_some(()),
        );
        owner.kill();
        owner.pid()
    };
    for site in rest
        .iter()
        .chain([&first])
        .filter(|site| site.pid() != owner)
    {
        let reason = await_refused(site, "v2");
        assert!(
            reason.contains("--before-start was interrupted"),
            "{reason}"
        );
    }
    if first.pid() == owner {
        // It does not run it again either.
        first.start_again();
        first.await_active("v1");
        await_refused(&first, "v2");
    }
    assert_eq!(runs(&first, "v2"), 1, "never again unasked");

    fs::write(first.shared().join("go"), "").expect("a file");
    let v2 = v2.to_str().expect("a path");
    let place = first.deployment().place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    tests::command::run(&[&["deploy", v2], &place[..]].concat()).with(0);
    first.await_active("v2");
    assert_eq!(runs(&first, "v2"), 2);
}

#[test]
fn what_a_killed_owner_has_left_of_it_ends_before_it_is_run_again() {
    let cache = tempfile::tempdir().expect("a folder");
    let cache = cache.path().to_str().expect("a path");
    // The work is done by a process that does not end with handoff.
    let line = "case $RELEASE in v2*) sh {shared}/work {shared};; esac; true";
    let sidecar = || prepared_by(line).with("--cache", cache);
    let first = sidecar().start("v1");
    let second = sidecar().launch_in(first.deployment());
    second.await_active("v1");
    let work = "until [ -e $1/go ]; do echo $$ >> $1/steps; sleep 0.05; done";
    fs::write(first.shared().join("work"), work).expect("a script");
    let steps = || {
        let steps = fs::read_to_string(first.shared().join("steps")).unwrap_or_default();
        steps.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let v2 = first.deployment().build("v2");
    first.deploy("v2");
    let owner = await_owner(&[&first, &second]);
    let left = eventually(|| "it works".to_owned(), || steps().first().cloned());
    owner.kill();
    let other = [&first, &second]
        .into_iter()
        .find(|it| it.pid() != owner.pid());
    await_refused(other.expect("another"), "v2");

    let of_others = || steps().into_iter().skip_while(|step| *step == left);
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| {
            let place = first.deployment().place();
            let mut command = vec!["deploy", v2.to_str().expect("a path")];
            command.extend(place.iter().map(String::as_str));
            tests::command::run(&command).with(0);
        });
        eventually(
            || "it works again".to_owned(),
            || (of_others().count() > 5).then_some(()),
        );
        fs::write(first.shared().join("go"), "").expect("a file");
        deploy.join().expect("a deploy");
    });
    assert!(of_others().all(|step| step != left), "{:?}", steps());
}

#[test]
fn an_owner_may_be_killed_at_any_moment() {
    let line = "case $RELEASE in v1*) ;; *) sleep 0.2;; esac";
    let mut first = prepared_by(line).start("v1");
    let second = prepared_by(line).launch_in(first.deployment());
    second.await_active("v1");
    for (round, pause) in [0, 30, 80, 150, 220, 300, 400].into_iter().enumerate() {
        let release = format!("v{}", round + 2);
        first.deploy(release.as_str());
        eventually(
            || "somebody has claimed it".to_owned(),
            || {
                let claimed = !run_files(first.deployment(), ".running").is_empty();
                (claimed || runs(&first, &release) > 0).then_some(())
            },
        );
        let pause = std::time::Duration::from_millis(pause);
        tests::wait::sleep_for(pause, "the owner is at another step in each round");
        first.kill();
        let status = second.wait_until("a verdict", |status| {
            status.is_active(&release) || status.has_outcome(&release, Outcome::Refused)
        });
        let reason = status.last_failure.clone().map(|failure| failure.reason);
        assert!(
            status.is_active(&release)
                || reason.is_some_and(|reason| reason.contains("was interrupted")),
            "{status:#?}"
        );
        first.start_again();
        first.wait_until("the same verdict", |now| {
            let same = |status: &Status| status.is_active(&release);
            now.active.is_some() && (same(now) == same(&status))
        });
        assert!(runs(&first, &release) <= 1, "{}", runs(&first, &release));
    }
}

#[test]
fn it_does_not_run_for_a_restart_a_rollback_or_a_crash() {
    let site = prepared_by("true").start("v1");
    site.deploy("v2");
    let status = site.await_active("v2");
    site.deployment().run_command("restart", &[]).with(0);
    let before = site.status().generation();
    assert_ne!(before, status.generation());
    let app = site.status().active.clone().expect("an active one").pid;
    signal(app.expect("its process"), Signal::KILL);
    site.wait_until("v2 serves again", |status| {
        status.is_active("v2") && status.generation() > before
    });
    site.deployment().run_command("rollback", &[]).with(0);
    site.await_active("v1");
    assert_eq!((runs(&site, "v1"), runs(&site, "v2")), (1, 1));
}

#[test]
fn one_that_takes_too_long_is_killed_and_the_release_refused() {
    let site = prepared_by("case $RELEASE in v2*) echo locked; sleep 3600 & wait;; esac")
        .with("--before-start-timeout", "1s")
        .start("v1");
    site.deploy("v2");
    assert_eq!(
        await_refused(&site, "v2"),
        "--before-start was killed: it took longer than 1s: locked"
    );
}

#[test]
fn a_newer_release_waits_for_the_end_of_a_command_that_runs() {
    let line = "echo begun $RELEASE >> {shared}/steps; \
                case $RELEASE in v2*) until [ -e {shared}/go ]; do sleep 0.05; done;; esac; \
                echo ended $RELEASE >> {shared}/steps";
    let site = prepared_by(line).start("v1");
    site.deploy("v2");
    eventually(
        || "the command runs for v2".to_owned(),
        || (runs(&site, "v2") == 1).then_some(()),
    );
    site.deploy("v3");
    site.wait_until("v3 waits", |status| {
        let candidate = status.candidate.as_ref();
        let probe = candidate.and_then(|candidate| candidate.probe.as_deref());
        probe.is_some_and(|probe| probe.contains("for another release"))
    });
    fs::write(site.shared().join("go"), "").expect("a file");
    site.await_active("v3");
    let steps = fs::read_to_string(site.shared().join("steps")).expect("steps");
    let steps: Vec<_> = steps.lines().map(|step| &step[..8]).collect();
    assert_eq!(steps.len(), 6, "{steps:?}");
    assert_eq!(steps[2..], ["begun v2", "ended v2", "begun v3", "ended v3"]);
}

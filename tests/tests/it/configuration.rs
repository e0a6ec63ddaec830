//! `handoff.toml` and the app's variables.

use std::fs;
#[cfg(unix)]
use std::path::Path;

#[cfg(unix)]
use tests::Running;
use tests::program::handoff;
#[cfg(unix)]
use tests::shared::files;
use tests::{Site, app, command};

#[test]
fn commands_find_the_deployment_by_the_file() {
    let site = Site::watching_a_pointer().start("v1");
    let state = site.deployment().state();
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("state = '{}'", state.display());
    fs::write(folder.path().join("handoff.toml"), toml).unwrap();
    fs::create_dir(folder.path().join("releases")).unwrap();
    let mut command = handoff();
    command.arg("status").current_dir(folder.path());
    command::start(command).end().with(0).saying(&["v1-"]);
}

/// A deployment whose app notes its variables, beside the file that says them.
#[cfg(unix)]
fn noting(folder: &Path, toml: &str) -> (Running, impl Fn() -> Vec<String>) {
    let (file, notes) = (folder.join("site.toml"), folder.join("notes"));
    fs::write(&file, toml).expect("a file");
    let command = format!(
        "echo \"$TOKEN $OTHER $PORT\" >> {}; exec {{artifact}} -port {{port}}",
        notes.display()
    );
    let site = Site::watching_a_pointer()
        .with("--config", file.to_str().expect("a path"))
        .running(&["sh", "-c", &command])
        .start("v1");
    let noted = move || {
        let text = fs::read_to_string(&notes).unwrap_or_default();
        let but_the_port = |line: &str| Some(line.rsplit_once(' ')?.0.to_owned());
        text.lines().filter_map(but_the_port).collect()
    };
    (site, noted)
}

#[cfg(unix)]
#[test]
fn the_apps_variables_come_from_both_files_and_a_change_of_them_is_a_handoff() {
    let folder = tempfile::tempdir().unwrap();
    let variables = folder.path().join("app.env");
    fs::write(&variables, "TOKEN=not-this\nOTHER='first secret'\nPORT=1\n").unwrap();
    let toml = "env_file = 'app.env'\n[env]\nTOKEN = 'table secret'\n";
    let (site, noted) = noting(folder.path(), toml);
    assert_eq!(noted(), ["table secret first secret"]);
    let upload = site.begin_upload("/upload");

    fs::write(&variables, "OTHER=\"second secret\"\n").unwrap();
    let status = site.wait_until("a new instance serves", |status| {
        status.generation() == Some(2)
    });
    assert!(status.is_active("v1") && status.is_draining("v1"));
    assert_eq!(upload.finish().unwrap().status, 200);
    fs::write(
        folder.path().join("site.toml"),
        toml.replace("table", "other"),
    )
    .unwrap();
    site.wait_until("a third one serves", |status| {
        status.generation() == Some(3)
    });
    assert_eq!(
        noted()[1..],
        ["table secret second secret", "other secret second secret"]
    );

    // Half of it is none of it.
    fs::write(&variables, "OTHER='third sec").unwrap();
    let status = site.wait_until("it is a problem", |status| {
        status.configuration_problem.is_some()
    });
    let problem = status.configuration_problem.clone().unwrap();
    assert!(
        problem.contains("app.env:1: expected NAME=VALUE"),
        "{problem}"
    );
    command::run(&[
        "status",
        "--state",
        site.deployment().state().to_str().unwrap(),
    ])
    .with(0)
    .saying(&["app.env:1"]);
    fs::write(&variables, "OTHER='third secret'\n").unwrap();
    let status = site.wait_until("a fourth one serves", |status| {
        status.generation() == Some(4)
    });
    assert_eq!(status.configuration_problem, None);
    site.await_launches(4);

    site.await_log("the app's variables have changed");
    let log = site.log();
    assert!(!log.contains("secret"), "{log}");
    let state = site.deployment().state();
    for file in files(&state).into_iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(!text.contains("secret"), "{file:?}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn nobody_is_told_the_value_of_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let (file, told) = (folder.path().join("site.toml"), folder.path().join("told"));
    fs::write(folder.path().join("app.env"), "OTHER=second-secret\n").unwrap();
    let toml = "env_file = 'app.env'\n[env]\nTOKEN = 'first-secret'\n";
    fs::write(&file, toml).unwrap();
    let script = folder.path().join("tell.sh");
    fs::write(&script, format!("cat >> {}\n", told.display())).unwrap();
    let site = Site::watching_a_pointer()
        .with("--config", file.to_str().unwrap())
        .with("--admin", "127.0.0.1:0")
        .with("--log-level", "trace")
        .with("--on-event", &format!("sh {}", script.display()))
        .start("v1");
    let bad = app("v2").that("--exit-code=7");
    let refused = site.deployment().run_deploy(bad, &["--json"]).with(1);
    let event = tests::eventually(
        || "somebody is told".to_owned(),
        || {
            fs::read_to_string(&told)
                .ok()
                .filter(|told| told.contains("\"refused\"") && told.ends_with('\n'))
        },
    );
    assert!(event.contains("\"refused\""), "{event}");
    // A mistake beside it is a problem that everybody is told of.
    fs::write(&file, toml.replace("[env]", "polll = 'x'\n[env]")).unwrap();
    site.await_log("the configuration stays as it was");

    let mut events = tests::Connection::open(site.admin()).unwrap();
    events.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    events.head().unwrap();
    let events = events.chunk().unwrap().expect("events without end");
    let mut all = vec![
        ("an event", event),
        ("the deploy", format!("{refused:?}")),
        ("the log", site.log()),
        (
            "the page's events",
            String::from_utf8_lossy(&events).into_owned(),
        ),
    ];
    for target in ["/", "/status", "/metrics", "/readyz"] {
        all.push((target, site.look(target).text().to_owned()));
    }
    let state = site.deployment().state();
    let state = state.to_str().unwrap();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["history", "--json"],
    ] {
        let ended = command::run(&[words, &["--state", state]].concat());
        all.push((words[0], format!("{ended:?}")));
    }
    for folder in [site.deployment().state(), site.cache()] {
        for path in files(&folder).into_iter().filter(|path| path.is_file()) {
            let content = fs::read(&path).unwrap_or_default();
            all.push(("a file", String::from_utf8_lossy(&content).into_owned()));
        }
    }
    for (what, said) in all {
        assert!(!said.contains("-secret"), "{what}: {said}");
    }
}

#[cfg(unix)]
#[test]
fn when_no_instance_starts_with_new_variables_the_old_one_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    fs::write(&file, "").unwrap();
    let command = "test -z \"$BROKEN\" || exit 9; exec {artifact} -port {port}";
    let site = Site::watching_a_pointer()
        .with("--config", file.to_str().unwrap())
        .running(&["sh", "-c", command])
        .start("v1");
    fs::write(&file, "[env]\nBROKEN = 'yes'\n").unwrap();
    site.wait_until("the new instance failed", |status| {
        let failure = status.last_failure.as_ref();
        failure.is_some_and(|f| f.reason.contains("exit status: 9"))
    });
    site.await_version("v1");
    site.await_launches(2);
    fs::write(&file, "[env]\nBROKEN = ''\n").unwrap();
    site.wait_until("the mended one serves", |status| {
        status.generation() == Some(3)
    });
}

#[test]
fn what_can_change_while_it_runs_does_and_what_cannot_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    fs::write(&file, "deploy-timeout = '1h'\n").unwrap();
    let site = Site::watching_a_pointer()
        .with("--config", file.to_str().unwrap())
        .start("v1");
    fs::write(&file, "deploy-timeout = '2s'\nmax-held = 7\n").unwrap();
    site.await_log("the configuration has changed");
    site.await_log("take effect only when handoff is restarted");
    let log = site.log();
    let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap();
    assert!(
        line("configuration_reloaded").contains("deploy-timeout"),
        "{log}"
    );
    assert!(
        line("configuration_needs_restart").contains("max-held"),
        "{log}"
    );
    let slow = app("v2").that("--never-ready");
    site.deployment()
        .run_deploy(slow, &[])
        .with(1)
        .saying(&["was not ready within 2s"]);
    site.await_version("v1");

    fs::write(&file, "deploy-timeout = 'soon'\n").unwrap();
    let status = site.wait_until("it is a problem", |status| {
        status.configuration_problem.is_some()
    });
    let problem = status.configuration_problem.clone().unwrap();
    assert!(problem.contains("site.toml:1: deploy-timeout"), "{problem}");
    site.await_version("v1");
}

#[test]
fn more_is_logged_as_soon_as_the_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.toml");
    fs::write(&file, "log-level = 'error'\n").unwrap();
    let site = Site::watching_a_pointer()
        .with("--config", file.to_str().unwrap())
        .start("v1");
    assert_eq!(site.log(), "");
    fs::write(&file, "log-level = 'debug'\n").unwrap();
    site.await_log("event=\"configuration_reloaded\" options=\"log-level\"");
    site.deployment().run_deploy("v2", &[]).with(0);
    site.await_log("promoted");
}

#[test]
fn a_file_that_comes_later_counts_from_then_on() {
    let site = Site::watching_a_pointer().start("v1");
    fs::write(site.site().join("handoff.toml"), "deploy-timeout = '2s'\n").unwrap();
    site.await_log("the configuration has changed");
    let slow = app("v2").that("--never-ready");
    site.deployment().run_deploy(slow, &[]).with(1);
}

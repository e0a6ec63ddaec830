//! `handoff.toml`, the app's variables, and `handoff check`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

#[cfg(unix)]
use tests::Running;
use tests::command::{self, Ended};
use tests::program::handoff;
use tests::{Deployment, Site, app};

/// `handoff` with these words and options about a deployment, and a cache of its own.
fn asks(deployment: &Deployment, words: &[&str]) -> Ended {
    let mut command = handoff();
    command.args(words).args(deployment.place());
    command
        .arg("--cache")
        .arg(deployment.elsewhere().join("cache"));
    command::start(command).end()
}

/// A deployment with v1 in it, and this beside its pointer.
fn configured(toml: &str) -> Deployment {
    let deployment = Deployment::default();
    let deployed = deployment.deploys("v1", &[]);
    deployed.with(4);
    fs::write(deployment.site().join("handoff.toml"), toml).expect("a file");
    deployment
}

/// All names below a folder.
fn names(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let below = match path.is_dir() {
                true => names(&path),
                false => BTreeSet::new(),
            };
            below.into_iter().chain([path])
        })
        .collect()
}

#[test]
fn a_check_says_what_would_run_and_leaves_nothing_behind() {
    let deployment = configured("listen = '127.0.0.1:0'\ncommand = ['-port', '{port}']");
    let before = names(&deployment.site());
    asks(&deployment, &["check"]).with(0).saying(&[
        "handoff.toml",
        "as release v1-",
        "its digest holds",
        "{artifact} -port {port}",
        "(it will be made)",
    ]);
    assert_eq!(names(&deployment.site()), before);
    assert_eq!(names(&deployment.elsewhere()).len(), 1, "the build");

    let json = asks(&deployment, &["check", "--json", "--print"])
        .with(0)
        .json();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().all(|f| f["ok"] == true), "{json:#}");
    let options = json["settings"]["options"].as_array().unwrap();
    let listen = options.iter().find(|o| o["key"] == "listen").unwrap();
    assert_eq!(listen["value"], "\"127.0.0.1:0\"");
}

#[test]
fn a_check_ends_with_1_for_whatever_would_not_work() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let deployment = configured("");
    let free = ["check", "--listen", "127.0.0.1:0"];
    asks(&deployment, &["check", "--listen", &taken])
        .with(1)
        .saying(&["cannot listen on", &taken]);

    // A file where a folder should be.
    let file = deployment.site().join("handoff.toml");
    let shared = file.join("state");
    let mut command = handoff();
    command
        .args(free)
        .arg("--state")
        .arg(&shared)
        .arg("--pointer");
    command.arg(deployment.site().join("_artifact.txt"));
    command.arg("--cache").arg(deployment.elsewhere());
    let ended = command::start(command).end().with(1);
    ended.saying(&["state", "FAILED", "cannot write to"]);

    let pointer = deployment.site().join("_artifact.txt");
    fs::write(&pointer, "releases\n").unwrap();
    asks(&deployment, &free)
        .with(1)
        .saying(&["no COMMAND says"]);
    fs::write(&pointer, "no-such-app\n").unwrap();
    asks(&deployment, &free)
        .with(1)
        .saying(&["no-such-app", "does not exist"]);
}

#[test]
fn a_check_beside_the_sidecar_that_runs_finds_its_port_its_own() {
    let site = Site::watching_a_pointer().start("v1");
    let listen = site.address().to_string();
    asks(site.deployment(), &["check", "--listen", &listen])
        .with(0)
        .saying(&["of this deployment is"]);
}

#[test]
fn a_check_prints_every_option_with_its_origin_and_no_variables_value() {
    let toml = "keep = 9\nlisten = '127.0.0.1:0'\nwarmup = ['/a', '/b']\nenv_file = 'app.env'\n\
        [env]\nTOKEN = 'very-secret'\n";
    let deployment = configured(toml);
    fs::write(deployment.site().join("app.env"), "OTHER=as-secret\n").unwrap();
    let mut command = handoff();
    command
        .args(["check", "--print", "--poll", "3s"])
        .args(deployment.place());
    command.arg("--cache").arg(deployment.elsewhere());
    command.env("HANDOFF_SETTLE", "1s");
    let ended = command::start(command).end().with(0);
    let line = |start: &str| {
        let lines: Vec<_> = ended.stdout.lines().collect();
        let line = lines.iter().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("a line {start:?} in {ended:#?}"))
            .to_string()
    };
    assert!(line("keep = 9 ").ends_with("handoff.toml:1"));
    assert!(line("warmup = [\"/a\", \"/b\"] ").ends_with("handoff.toml:3"));
    assert!(line("poll = \"3s\" ").ends_with("# flag"));
    assert!(line("settle = \"1s\" ").ends_with("# environment (HANDOFF_SETTLE)"));
    assert!(line("drain-timeout = \"5m\" ").ends_with("# default"));
    assert!(line("# TOKEN ").ends_with("handoff.toml:6"));
    assert!(line("# OTHER ").ends_with("app.env"));
    assert!(!format!("{ended:?}").contains("secret"), "{ended:#?}");
    // What it prints is a file of the same meaning.
    let printed = ended.stdout.split("\n\n").next().unwrap();
    let printed: String = printed
        .lines()
        .filter(|line| !line.starts_with("config"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(deployment.site().join("handoff.toml"), printed).unwrap();
    asks(&deployment, &["check"]).with(0);
}

#[test]
fn what_is_wrong_with_the_file_ends_with_2_and_is_named_with_its_line() {
    for (toml, says) in [
        (
            "keep = 3\ndrain-timout = '5m'",
            "handoff.toml:2: unknown key \"drain-timout\": did you mean \"drain-timeout\"?",
        ),
        (
            "drain-timeout = 'soon'",
            "handoff.toml:1: drain-timeout is 'soon'",
        ),
        (
            "\npoll = '0s'",
            "handoff.toml:2: poll is \"0s\": expected a duration above zero",
        ),
        ("env-file = 'none.env'", "none.env: cannot be read"),
        ("keep = ", "handoff.toml:1: "),
    ] {
        let deployment = configured(toml);
        for command in ["run", "check"] {
            asks(&deployment, &[command]).with(2).saying(&[says]);
        }
    }
    let deployment = configured("");
    asks(&deployment, &["run", "--config", "no-such.toml"])
        .with(2)
        .saying(&["no-such.toml"]);
}

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
    let problem = status.configuration_problem.unwrap();
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
    site.has_launched(4);

    site.logs("the app's variables have changed");
    let log = site.log();
    assert!(!log.contains("secret"), "{log}");
    let state = site.deployment().state();
    for file in names(&state).into_iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(!text.contains("secret"), "{file:?}: {text}");
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
    site.serves("v1");
    site.has_launched(2);
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
    site.logs("the configuration has changed");
    site.logs("counts only when handoff is restarted");
    let log = site.log();
    let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap();
    assert!(line("has changed").contains("deploy-timeout"), "{log}");
    assert!(line("is restarted").contains("max-held"), "{log}");
    let slow = app("v2").that("--never-ready");
    site.deployment()
        .deploys(slow, &[])
        .with(1)
        .saying(&["was not ready within 2s"]);
    site.serves("v1");

    fs::write(&file, "deploy-timeout = 'soon'\n").unwrap();
    let status = site.wait_until("it is a problem", |status| {
        status.configuration_problem.is_some()
    });
    let problem = status.configuration_problem.unwrap();
    assert!(problem.contains("site.toml:1: deploy-timeout"), "{problem}");
    site.serves("v1");
}

#[test]
fn a_file_that_comes_later_counts_from_then_on() {
    let site = Site::watching_a_pointer().start("v1");
    fs::write(site.site().join("handoff.toml"), "deploy-timeout = '2s'\n").unwrap();
    site.logs("the configuration has changed");
    let slow = app("v2").that("--never-ready");
    site.deployment().deploys(slow, &[]).with(1);
}

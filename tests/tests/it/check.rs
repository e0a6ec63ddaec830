//! `handoff check`.

use std::fs;
use std::net::TcpListener;

use tests::command::{self, Ended};
use tests::program::handoff;
use tests::shared::files;
use tests::{Deployment, Site};

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
    let deployed = deployment.run_deploy("v1", &[]);
    deployed.with(4);
    fs::write(deployment.site().join("handoff.toml"), toml).expect("a file");
    deployment
}

#[test]
fn a_check_says_what_would_run_and_leaves_nothing_behind() {
    let deployment = configured("listen = '127.0.0.1:0'\ncommand = ['-port', '{port}']");
    let before = files(&deployment.site());
    asks(&deployment, &["check"]).with(0).saying(&[
        "handoff.toml",
        "as release v1-",
        "its digest holds",
        "{artifact} -port {port}",
        "(it will be made)",
    ]);
    assert_eq!(files(&deployment.site()), before);
    assert_eq!(files(&deployment.elsewhere()).len(), 1, "the build");

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
fn a_check_looks_at_where_each_log_goes_and_at_who_is_told() {
    let deployment = configured("");
    let file = deployment.site().join("handoff.toml");
    let below = file.join("a.log");
    let below = below.to_str().unwrap();
    let check = ["check", "--listen", "127.0.0.1:0"];
    for (option, value, named) in [
        ("--log-file", below, "log file"),
        ("--app-log", below, "app log"),
        ("--access-log", below, "access log"),
        ("--shared", below, "shared"),
        ("--on-event", "no-such-program -x", "no-such-program"),
    ] {
        asks(&deployment, &[&check[..], &[option, value]].concat())
            .with(1)
            .saying(&["FAILED", named]);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    asks(&deployment, &[&check[..], &["--admin", &taken]].concat())
        .with(0)
        .saying(&["runs without it"]);
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
        settle-folder = '9s'\n[env]\nTOKEN = 'very-secret'\n";
    let deployment = configured(toml);
    fs::write(deployment.site().join("app.env"), "OTHER=as-secret\n").unwrap();
    let mut command = handoff();
    command
        .args(["check", "--print", "--poll", "3s"])
        .args(deployment.place());
    command.arg("--cache").arg(deployment.elsewhere());
    command.env("HANDOFF_SETTLE", "1s");
    command.env("HANDOFF_SETTLE_FOLDER", "2s");
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
    assert!(line("settle-folder = \"2s\" ").ends_with("(HANDOFF_SETTLE_FOLDER)"));
    assert!(line("drain-timeout = \"5m\" ").ends_with("# default"));
    assert!(line("# TOKEN ").ends_with("handoff.toml:7"));
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
fn a_check_finds_a_program_that_is_not_in_the_path_and_a_misspelt_placeholder() {
    let deployment = configured("command = ['nodee', 'server.js']");
    asks(&deployment, &["check", "--listen", "127.0.0.1:0"])
        .with(1)
        .saying(&["command", "FAILED", "nodee", "PATH"]);
    let deployment = configured("command = ['{artifact}', '-port', '{prot}']");
    for command in ["check", "run"] {
        let saying = "handoff.toml:1: command: {prot} is no placeholder: write {port}.";
        asks(&deployment, &[command]).with(2).saying(&[saying]);
    }
}

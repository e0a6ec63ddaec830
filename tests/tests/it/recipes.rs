//! The recipes of the manual for tools that deploy to many machines, with these tools.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tests::binaries::{handoff, spawn};
use tests::{Running, Site, app, manual, tools};

/// The content of a file that the page `fleet` shows.
fn recipe(name: &str) -> String {
    let page = fs::read_to_string(manual::root().join("proxy/docs/fleet.md")).expect("a page");
    let shown = page.split_once(&format!("<!-- file: {name} -->\n```"));
    let (_, rest) = shown.expect("the recipe");
    let (_, rest) = rest.split_once('\n').expect("its begin");
    rest.split_once("```").expect("its end").0.to_owned()
}

/// Runs a recipe over these sites, as if each were a machine. Returns its exit code and output.
fn play(name: &str, sites: &[Running], variables: &[(&str, &Path)]) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path(name), recipe(name)).expect("a play");
    let hosts = sites.iter().enumerate().map(|(number, site)| {
        let site = site.site().display().to_string();
        format!("machine-{number} ansible_connection=local site={site}\n")
    });
    let inventory = format!("[web]\n{}", hosts.collect::<String>());
    fs::write(path("inventory"), inventory).expect("an inventory");
    let mut command = Command::new("ansible-playbook");
    command
        .arg("-i")
        .arg(path("inventory"))
        .arg(path(name))
        .env("PATH", path_with(handoff().parent().expect("a folder")))
        .env("ANSIBLE_LOCAL_TEMP", path("temporary"))
        .env("ANSIBLE_PYTHON_INTERPRETER", "auto_silent");
    for (variable, value) in variables {
        command
            .arg("-e")
            .arg(format!("{variable}={}", value.display()));
    }
    end(&mut command)
}

/// Returns the folders in which programs are looked for, with another one before all.
fn path_with(folder: &Path) -> String {
    let inherited = std::env::var("PATH").expect("PATH");
    format!("{}:{inherited}", folder.display())
}

/// Runs a command, and returns its exit code and output.
fn end(command: &mut Command) -> (i32, String) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ended = spawn(command).and_then(|child| child.wait_with_output());
    let ended = ended.expect("a program");
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output).into_owned();
    (ended.status.code().expect("an exit code"), output)
}

/// Returns the number of sites that have launched a release with a name that begins like this.
fn launched(sites: &[Running], begin: &str) -> usize {
    let launched = |site: &&Running| {
        let status = site.status();
        let mut releases = status
            .handoffs
            .iter()
            .map(|handoff| handoff.release.as_str());
        releases.any(|release| release.starts_with(begin))
    };
    sites.iter().filter(launched).count()
}

/// Commands find the state folder without `--state`.
fn link_state(site: &Running) {
    let state = site.site().join("_artifact.txt.handoff");
    symlink(site.deployment().state(), state).expect("a link");
}

#[test]
fn ansible_deploys_to_one_machine_first_and_stops_at_a_refusal() {
    if !tools::has("ansible-playbook") {
        return;
    }
    let sites: Vec<_> = (0..3)
        .map(|_| Site::watching_a_pointer().start("v1"))
        .collect();
    sites.iter().for_each(link_state);
    let good = sites[0].deployment().build("v2");
    let (code, output) = play("deploy.yml", &sites, &[("build", &good)]);
    assert_eq!(code, 0, "{output}");
    for site in &sites {
        site.await_version("v2");
    }
    let bad = sites[0].deployment().build(app("v3").that("--exit-code=3"));
    let (code, output) = play("deploy.yml", &sites, &[("build", &bad)]);
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("v3 exits at once with 3"), "{output}");
    assert_eq!(launched(&sites, "v3-"), 1, "{output}");

    let (code, output) = play("back.yml", &sites, &[("release", Path::new("v1"))]);
    assert_eq!(code, 0, "{output}");
    for site in &sites {
        site.await_version("v1");
    }
}

/// A server of SSH for these sites, as if each were the home of a machine of its own, named `web0`, `web1` …
struct Sshd {
    folder: TempDir,
    server: tests::command::Command,
}

impl Sshd {
    const PROGRAM: &str = "/usr/sbin/sshd";

    fn serving(sites: &[Running]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let key = |name: &str| {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(name));
            tests::command::start(make).end().with(0);
            fs::read_to_string(path(&format!("{name}.pub"))).expect("a key")
        };
        key("host");
        let at = folder.path().display();
        let programs = handoff().parent().expect("a folder").display();
        let (mut keys, mut machines) = (String::new(), String::new());
        for (number, site) in sites.iter().enumerate() {
            let home = site.site().display().to_string();
            let public = key(&format!("web{number}"));
            keys += &format!(
                "command=\"cd {home} && PATH={programs}:$PATH && eval \\\"$SSH_ORIGINAL_COMMAND\\\"\" {public}"
            );
            machines += &format!("Host web{number}\n  IdentityFile {at}/web{number}\n");
        }
        machines += &format!(
            "Host *\n  HostName 127.0.0.1\n  Port {port}\n  IdentitiesOnly yes\n  LogLevel ERROR\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        );
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/keys\n\
             StrictModes no\nPidFile none\nUsePAM no\nPasswordAuthentication no\n"
        );
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/machines \"$@\"\n");
        for (name, content) in [
            ("keys", &keys),
            ("machines", &machines),
            ("settings", &settings),
            ("ssh", &ssh),
        ] {
            fs::write(path(name), content).expect(name);
        }
        fs::set_permissions(path("ssh"), fs::Permissions::from_mode(0o755)).expect("ssh");
        let mut server = Command::new(Self::PROGRAM);
        server.args(["-D", "-e", "-f"]).arg(path("settings"));
        let server = tests::command::start(server);
        server.await_stderr("Server listening on");
        Self { folder, server }
    }
}

#[test]
fn a_script_deploys_over_ssh_to_one_machine_after_another_and_stops_at_a_refusal() {
    // sshd wants this folder, which else is made where it is started as a service.
    let _ = fs::create_dir("/run/sshd");
    if !Path::new(Sshd::PROGRAM).exists() || !Path::new("/run/sshd").exists() {
        return tools::skip("sshd");
    }
    if !tools::has("rsync") {
        return;
    }
    let sites: Vec<_> = (0..3)
        .map(|_| Site::watching_a_pointer().start("v1"))
        .collect();
    for site in &sites {
        link_state(site);
        fs::create_dir(site.site().join("incoming")).expect("a folder");
    }
    let sshd = Sshd::serving(&sites);
    let script = sshd.folder.path().join("deploy.sh");
    fs::write(&script, recipe("deploy.sh")).expect("a script");
    let deploy = |build: &Path| {
        let mut command = Command::new("sh");
        command.arg(&script).arg(build);
        command.args(["web0", "web1", "web2"]);
        command.env("PATH", path_with(sshd.folder.path()));
        end(&mut command)
    };
    let (code, output) = deploy(&sites[0].deployment().build("v2"));
    assert_eq!(code, 0, "{output}{}", sshd.server.printed_errors());
    for site in &sites {
        site.await_version("v2");
    }
    let bad = app("v3").that("--exit-code=3");
    let (code, output) = deploy(&sites[0].deployment().build(bad));
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("v3 exits at once with 3"), "{output}");
    assert_eq!(launched(&sites, "v3-"), 1, "{output}");
}

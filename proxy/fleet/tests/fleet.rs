//! handoff-fleet as its users run it: a store, machines that mirror it, and unmodified sidecars.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tests::command::{self, Ended};
use tests::load::Load;
use tests::{Release, Running, Site, app, eventually, folder, tools};

/// An object store that speaks S3.
struct Moto {
    server: command::Command,
    port: u16,
}

impl Moto {
    fn start() -> Option<Self> {
        if !tools::runs("moto_server", "--help") {
            tools::skip("moto_server");
            return None;
        }
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let server = command::start(command);
        server.await_stderr("Running on http://127.0.0.1:");
        let said = server.printed_errors();
        let (_, rest) = said.split_once("http://127.0.0.1:").expect("its address");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let port = digits.parse().expect("a port");
        let made = request(
            port,
            "PUT /fleet HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        );
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        Some(Self { server, port })
    }

    /// `handoff-fleet` with access to it.
    fn fleet(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handoff-fleet"));
        command
            .args(&args[..1])
            .arg("s3://fleet/site")
            .args(&args[1..]);
        command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port));
        command
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1");
        command
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    fn mirror(&self, site: &Running) -> command::Command {
        self.mirror_with(site, &[])
    }

    fn mirror_with(&self, site: &Running, options: &[&str]) -> command::Command {
        let place = site.deployment().place();
        let mut args = [&["mirror", "--poll", "1s"], options].concat();
        args.extend(place.iter().map(String::as_str));
        command::start(self.fleet(&args))
    }

    fn begin_deploy(&self, path: &Path, options: &[&str]) -> command::Command {
        let path = path.to_str().expect("a path in UTF-8");
        let args = [&["deploy", path], options].concat();
        command::start(self.fleet(&args))
    }

    fn deploy(&self, site: &Running, release: impl Into<Release>) -> Ended {
        self.deploy_with(site, release, &[])
    }

    fn deploy_with(&self, site: &Running, release: impl Into<Release>, options: &[&str]) -> Ended {
        let path = site.deployment().build(release);
        self.begin_deploy(&path, options).end()
    }

    fn rollout(&self, action: &str) -> Ended {
        command::start(self.fleet(&["rollout", action])).end()
    }

    fn status(&self) -> serde_json::Value {
        command::start(self.fleet(&["status", "--json"]))
            .end()
            .json()
    }

    fn await_members(&self, count: usize) {
        eventually(
            || format!("{count} members: {}", self.status()),
            || (self.status()["members"].as_array()?.len() == count).then_some(()),
        );
    }
}

fn request(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the store");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn refused(version: &str) -> Release {
    tests::file(version, b"#!/bin/sh\necho 'it refuses'; exit 3\n")
}

fn launches(site: &Running, version: &str) -> usize {
    let status = site.status();
    let prefix = format!("{version}-");
    let handoffs = status.handoffs.iter();
    handoffs
        .filter(|handoff| handoff.release.as_str().starts_with(&prefix))
        .count()
}

/// Machines that serve `v1`, deployed by the store.
struct Fleet {
    store: Moto,
    mirrors: Vec<command::Command>,
    sites: Vec<Running>,
}

impl Fleet {
    /// Starts so many machines, of which the last refuses what [`refused_by_the_last`] gives.
    fn start(machines: usize) -> Option<Self> {
        let store = Moto::start()?;
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

/// A release that the last machine of a fleet refuses.
fn refused_by_the_last(version: &str) -> Release {
    let app = tests::binaries::sample_app().display();
    let script = format!(
        "#!/bin/sh\n[ -z \"$REFUSES\" ] || {{ echo 'it refuses'; exit 3; }}\n\
         exec {app} --version-name {version} \"$@\"\n"
    );
    tests::file(version, script.as_bytes())
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
    let bad = refused_by_the_last("v2");
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
    fleet.store.rollout("back").with(0).saying(&["v1"]);
    assert_eq!(fleet.running("v1"), 2);
    let options = ["--at-most", "1", "--timeout", "1s"];
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

#[test]
fn machines_follow_the_store_and_return_together_and_no_request_is_lost() {
    let Some(store) = Moto::start() else { return };
    let sites: Vec<_> = (0..3)
        .map(|_| Site::watching_a_pointer().start("v1"))
        .collect();
    let _mirrors: Vec<_> = sites.iter().map(|site| store.mirror(site)).collect();
    store.await_members(3);
    let loads: Vec<_> = sites
        .iter()
        .map(|site| Load::offer(site.address(), 20))
        .collect();

    store
        .deploy(&sites[0], "v2")
        .with(0)
        .saying(&["v2", "runs on"]);
    for site in &sites {
        site.await_version("v2");
    }
    store
        .deploy(&sites[0], refused("v3"))
        .with(1)
        .saying(&["refused v3", "all return to v2"]);
    let status = store.status();
    assert_eq!(
        status["channel"]["order"]["before"]["name"], "v2",
        "{status}"
    );
    assert!(
        status["channel"]["back"].to_string().contains("exit"),
        "{status}"
    );
    // What was refused before is tried again.
    store.deploy(&sites[0], refused("v3")).with(1);
    let twice = sites.iter().filter(|site| launches(site, "v3") >= 2);
    assert!(twice.count() >= 1, "no sidecar has launched it again");
    store.deploy(&sites[0], "v4").with(0);
    for load in loads {
        let tally = load.end();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
    for site in &sites {
        site.await_version("v4");
        assert!(!site.log().contains("panicked"));
    }
}

/// A folder with a program.
fn site_folder(version: &str) -> Release {
    let app = tests::binaries::sample_app().display();
    let script = format!("exec {app} --version-name {version} \"$@\"\n");
    folder("site", &[("bin/run.sh", &script), ("version.txt", version)])
}

#[test]
fn the_rights_over_the_store_are_checked() {
    let Some(store) = Moto::start() else { return };
    let check = |args: &[&str]| command::start(store.fleet(args)).end();
    // Under load moto itself loses a write of many at once, now and then.
    check(&["check"]).saying(&["ok      keeps the conditions", "ok      deletes objects"]);
    check(&["check", "--machine"])
        .with(1)
        .saying(&["cannot deploy: artifacts", "ok      writes members"]);
    let away = Moto { port: 1, ..store };
    command::start(away.fleet(&["check"]))
        .end()
        .with(1)
        .saying(&["FAILED  reads objects"]);
}

/// Makes a pair of keys, and returns the public one and the command that signs with the other one.
fn keys(folder: &Path, name: &str) -> [String; 2] {
    let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    let (public, secret) = (path("pub"), path("key"));
    let mut make = Command::new("minisign");
    make.args(["-G", "-W", "-p", &public, "-s", &secret]);
    command::start(make).end().with(0);
    let sign = format!("minisign -S -s {secret} -m");
    [public, sign]
}

#[test]
fn a_machine_that_trusts_a_key_follows_what_is_signed_with_it() {
    if !tools::runs("minisign", "-v") {
        return tools::skip("minisign");
    }
    let Some(store) = Moto::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let folder = site.deployment().elsewhere();
    let [public, sign] = keys(&folder, "right");
    let [_, sign_wrongly] = keys(&folder, "wrong");
    let mirror = store.mirror_with(&site, &["--trust", &public]);
    store.await_members(1);
    let sign = ["--trust", &public, "--sign-with", &sign];
    let sign_wrongly = ["--trust", &public, "--sign-with", &sign_wrongly];
    store.deploy_with(&site, "v2", &sign).with(0);
    for (version, options, reason) in [
        ("v3", &[][..], "not signed"),
        ("v4", &sign_wrongly, "signature of its order"),
    ] {
        let path = site.deployment().build(version);
        let deploy = store.begin_deploy(&path, options);
        mirror.await_stderr(reason);
        eventually(
            || format!("the reason: {}", store.status()),
            || {
                let status = store.status();
                let problem = status["members"][0]["member"]["problem"].as_str()?;
                problem.contains(reason).then_some(())
            },
        );
        drop(deploy);
    }
    assert!(site.status().is_active("v2"));
    store
        .deploy_with(&site, "v5", &sign)
        .with(0)
        .saying(&["what was deployed is not signed"]);
    // Nobody has signed v4, and so nothing leads there.
    let status = store.status();
    assert!(status["channel"]["order"]["before"].is_null(), "{status}");
    let path = site.deployment().build("v6");
    let failing = ["--trust", &public, "--sign-with", "false"];
    let failed = store.begin_deploy(&path, &failing).end().with(1);
    failed.saying(&["--sign-with \"false\""]);
}

#[test]
fn a_folder_is_packed_and_served() {
    let Some(store) = Moto::start() else { return };
    let command = ["sh", "{artifact}/bin/run.sh", "--port", "{port}"];
    let site = Site::watching_a_pointer()
        .running(&command)
        .start(site_folder("v1"));
    let _mirror = store.mirror(&site);
    store.await_members(1);
    store
        .deploy(&site, site_folder("v2"))
        .with(0)
        .saying(&["site.tar.gz"]);
    site.await_version("v2");
}

#[test]
fn without_the_store_everything_goes_on_and_a_restarted_machine_serves() {
    let Some(store) = Moto::start() else { return };
    let mut site = Site::watching_a_pointer().start("v1");
    let mirror = store.mirror(&site);
    store.await_members(1);
    store.deploy(&site, "v2").with(0);
    let away = Moto { port: 1, ..store };
    drop(away.server);
    mirror.await_stderr("the store:");
    site.kill();
    site.start_again();
    site.await_version("v2");
}

#[test]
fn a_machine_that_follows_nothing_new_is_passed_over_and_none_is_told() {
    let Some(store) = Moto::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let path = site.deployment().build("v2");
    store
        .begin_deploy(&path, &[])
        .end()
        .with(4)
        .saying(&["no machine"]);
    // It follows when it comes.
    let _mirror = store.mirror(&site);
    site.await_version("v2");
}

#[test]
fn of_two_deploys_the_later_one_counts() {
    let Some(store) = Moto::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let mirror = store.mirror(&site);
    store.await_members(1);
    let paths = ["v2", "v3"].map(|version| site.deployment().build(version));
    // Nobody reads the channel: the first one waits.
    drop(mirror);
    let first = store.begin_deploy(&paths[0], &[]);
    eventually(
        || "the first deploy".to_owned(),
        || (store.status()["channel"]["serial"] == 1).then_some(()),
    );
    let second = store.begin_deploy(&paths[1], &[]);
    first
        .end()
        .with(1)
        .saying(&["another deploy took its place"]);
    let _mirror = store.mirror(&site);
    second.end().with(0);
    site.await_version("v3");
}

//! handoff-fleet as its users run it: a store, machines that mirror it, and unmodified sidecars.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use tests::command::{self, Ended};
use tests::load::Load;
use tests::{Release, Running, Site, eventually, folder, tools};

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
        let place = site.deployment().place();
        let mut args = vec!["mirror", "--poll", "1s"];
        args.extend(place.iter().map(String::as_str));
        command::start(self.fleet(&args))
    }

    fn begin_deploy(&self, path: &Path) -> command::Command {
        let path = path.to_str().expect("a path in UTF-8");
        command::start(self.fleet(&["deploy", path, "--timeout", "60s"]))
    }

    fn deploy(&self, site: &Running, release: impl Into<Release>) -> Ended {
        self.begin_deploy(&site.deployment().build(release)).end()
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
    assert_eq!(status["channel"]["release"]["name"], "v2", "{status}");
    assert!(
        status["channel"]["reason"].to_string().contains("exit"),
        "{status}"
    );
    // What was refused before is tried again.
    store.deploy(&sites[0], refused("v3")).with(1);
    let launches = |site: &Running| {
        let status = site.status();
        let of_v3 = status
            .handoffs
            .iter()
            .filter(|handoff| handoff.release.as_str().starts_with("v3-"));
        of_v3.count()
    };
    let twice = sites.iter().filter(|site| launches(site) >= 2);
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
        .begin_deploy(&path)
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
    let first = store.begin_deploy(&paths[0]);
    eventually(
        || "the first deploy".to_owned(),
        || (store.status()["channel"]["serial"] == 1).then_some(()),
    );
    let second = store.begin_deploy(&paths[1]);
    first
        .end()
        .with(1)
        .saying(&["another deploy took its place"]);
    let _mirror = store.mirror(&site);
    second.end().with(0);
    site.await_version("v3");
}

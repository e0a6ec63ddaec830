//! An object store of the test's own, and what the tests deploy from it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tests::command::{self, Ended};
use tests::{Release, Running, eventually, tools};

/// Makes a container in Azurite: its account and key are the ones that everybody knows.
const MAKE_CONTAINER: &str = r#"
import base64, email.utils, hashlib, hmac, sys, urllib.request
port, key = sys.argv[1:]
head = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
lines = "".join(f"{name}:{value}\n" for name, value in head.items())
text = "PUT" + "\n" * 12 + lines + "/devstoreaccount1/devstoreaccount1/fleet\nrestype:container"
mac = hmac.digest(base64.b64decode(key), text.encode(), "sha256")
head["Authorization"] = "SharedKey devstoreaccount1:" + base64.b64encode(mac).decode()
url = f"http://127.0.0.1:{port}/devstoreaccount1/fleet?restype=container"
urllib.request.urlopen(urllib.request.Request(url, headers=head, method="PUT"))
"#;
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An object store of the test's own.
pub(crate) struct Store {
    pub(crate) server: command::Command,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Moto,
    Azurite,
}

impl Store {
    /// Starts moto, which speaks S3.
    pub(crate) fn start() -> Option<Self> {
        // It takes Python a second to say so.
        static HAS_MOTO: LazyLock<bool> = LazyLock::new(|| tools::runs("moto_server", "--help"));
        if !*HAS_MOTO {
            tools::skip("moto_server");
            return None;
        }
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let server = command::start(command);
        server.await_stderr("Running on http://127.0.0.1:");
        let port = port_in(&server.printed_errors());
        let made = request(
            port,
            "PUT /fleet HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        );
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        let kind = Kind::Moto;
        Some(Self { server, port, kind })
    }

    /// Starts Azurite, which speaks as Azure Blob does.
    pub(crate) fn start_azurite() -> Option<Self> {
        if !tools::has("azurite-blob") || !tools::has("python3") {
            return None;
        }
        let mut command = Command::new("azurite-blob");
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0"]);
        command.args(["--inMemoryPersistence", "--disableTelemetry"]);
        let server = command::start(command);
        server.await_stdout("successfully listens on http://127.0.0.1:");
        let port = port_in(&server.printed());
        let mut make = Command::new("python3");
        make.args(["-c", MAKE_CONTAINER, &port.to_string(), AZURITE_KEY]);
        command::start(make).end().with(0);
        let kind = Kind::Azurite;
        Some(Self { server, port, kind })
    }

    /// `handoff-fleet` with access to it.
    pub(crate) fn fleet(&self, args: &[&str]) -> Command {
        self.fleet_by(self.port, args)
    }

    /// The same on a way that listens on this port.
    pub(crate) fn fleet_by(&self, port: u16, args: &[&str]) -> Command {
        let (url, variables) = match self.kind {
            Kind::Moto => (
                "s3://fleet/site",
                [
                    ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
                    ("AWS_ALLOW_HTTP", "true".to_owned()),
                    ("AWS_ACCESS_KEY_ID", "id".to_owned()),
                    ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
                ],
            ),
            Kind::Azurite => (
                "az://fleet/site",
                [
                    (
                        "AZURE_STORAGE_ENDPOINT",
                        format!("http://127.0.0.1:{port}/devstoreaccount1"),
                    ),
                    ("AZURE_ALLOW_HTTP", "true".to_owned()),
                    ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1".to_owned()),
                    ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY.to_owned()),
                ],
            ),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_handoff-fleet"));
        command.args(&args[..1]).arg(url).args(&args[1..]);
        command.envs(variables).env("AWS_REGION", "us-east-1");
        command
    }

    /// Returns the number of requests that begin like this. moto reports each.
    pub(crate) fn requests(&self, begin: &str) -> usize {
        let begin = format!("\"{begin}");
        self.server.printed_errors().matches(&begin).count()
    }

    pub(crate) fn mirror(&self, site: &Running) -> command::Command {
        self.mirror_with(site, &[])
    }

    pub(crate) fn mirror_with(&self, site: &Running, options: &[&str]) -> command::Command {
        self.mirror_by(self.port, site, options)
    }

    pub(crate) fn mirror_by(
        &self,
        port: u16,
        site: &Running,
        options: &[&str],
    ) -> command::Command {
        command::start(self.mirror_command(port, site, options))
    }

    pub(crate) fn mirror_command(&self, port: u16, site: &Running, options: &[&str]) -> Command {
        let place = site.deployment().place();
        let mut args = [&["mirror", "--poll", "300ms"], options].concat();
        if options.contains(&"--poll") {
            args.drain(1..3);
        }
        args.extend(place.iter().map(String::as_str));
        self.fleet_by(port, &args)
    }

    pub(crate) fn begin_deploy(&self, path: &Path, options: &[&str]) -> command::Command {
        let path = path.to_str().expect("a path in UTF-8");
        let args = [&["deploy", path, "--poll", "300ms"], options].concat();
        command::start(self.fleet(&args))
    }

    pub(crate) fn deploy(&self, site: &Running, release: impl Into<Release>) -> Ended {
        self.deploy_with(site, release, &[])
    }

    pub(crate) fn deploy_with(
        &self,
        site: &Running,
        release: impl Into<Release>,
        options: &[&str],
    ) -> Ended {
        let path = site.deployment().build(release);
        self.begin_deploy(&path, options).end()
    }

    pub(crate) fn rollout(&self, action: &str) -> Ended {
        command::start(self.fleet(&["rollout", action, "--poll", "300ms"])).end()
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        command::start(self.fleet(&["status", "--json"]))
            .end()
            .json()
    }

    pub(crate) fn await_members(&self, count: usize) {
        eventually(
            || format!("{count} members: {}", self.status()),
            || (self.status()["members"].as_array()?.len() == count).then_some(()),
        );
    }
}

fn port_in(printed: &str) -> u16 {
    let (_, rest) = printed
        .split_once("http://127.0.0.1:")
        .expect("its address");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a port")
}

fn request(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the store");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

pub(crate) fn refused(version: &str) -> Release {
    tests::file(version, b"#!/bin/sh\necho 'it refuses'; exit 3\n")
}

pub(crate) fn launches(site: &Running, version: &str) -> usize {
    let status = site.status();
    let prefix = format!("{version}-");
    let handoffs = status.handoffs.iter();
    handoffs
        .filter(|handoff| handoff.release.as_str().starts_with(&prefix))
        .count()
}

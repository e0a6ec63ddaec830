//! An object store of the test's own, and what the tests deploy from it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use tests::command::{self, Ended};
use tests::{Release, Running, eventually, tools};

/// An object store that speaks S3.
pub(crate) struct Moto {
    pub(crate) server: command::Command,
    pub(crate) port: u16,
}

impl Moto {
    pub(crate) fn start() -> Option<Self> {
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
    pub(crate) fn fleet(&self, args: &[&str]) -> Command {
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

    pub(crate) fn mirror(&self, site: &Running) -> command::Command {
        self.mirror_with(site, &[])
    }

    pub(crate) fn mirror_with(&self, site: &Running, options: &[&str]) -> command::Command {
        let place = site.deployment().place();
        let mut args = [&["mirror", "--poll", "1s"], options].concat();
        args.extend(place.iter().map(String::as_str));
        command::start(self.fleet(&args))
    }

    pub(crate) fn begin_deploy(&self, path: &Path, options: &[&str]) -> command::Command {
        let path = path.to_str().expect("a path in UTF-8");
        let args = [&["deploy", path], options].concat();
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
        command::start(self.fleet(&["rollout", action])).end()
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

pub(crate) fn request(port: u16, request: &str) -> String {
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

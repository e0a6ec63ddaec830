//! Rights over a store, as least as they can be.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use tests::{Site, command, eventually, tools};

use crate::faults::{Fault, Way};
use crate::store::{Kind, Store};

/// The rights of the manual for a machine, and all for who deploys, as a policy of a bucket.
const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
{"Effect": "Allow", "Principal": {"AWS": ["machine"]}, "Action": ["s3:GetObject"],
 "Resource": ["arn:aws:s3:::fleet/site/*"]},
{"Effect": "Allow", "Principal": {"AWS": ["machine"]}, "Action": ["s3:PutObject"],
 "Resource": ["arn:aws:s3:::fleet/site/members/*"]},
{"Effect": "Allow", "Principal": {"AWS": ["deployer"]}, "Action": ["s3:*"],
 "Resource": ["arn:aws:s3:::fleet", "arn:aws:s3:::fleet/*"]}]}"#;

/// Deploys twice to a machine, which then tries to deploy itself.
fn a_machine_follows_and_cannot_deploy(
    machine: impl Fn(&[&str]) -> Command,
    deployer: impl Fn(&[&str]) -> Command,
) {
    let as_machine = |args: &[&str]| command::start(machine(args));
    let as_deployer = |args: &[&str]| command::start(deployer(args)).end();
    let site = Site::watching_a_pointer().start("v1");
    let place = site.deployment().place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    let mirror = as_machine(&[&["mirror", "--poll", "300ms"], &*place].concat());
    let members = || as_deployer(&["status", "--json"]).json()["members"].clone();
    eventually(
        || format!("a machine: {}", mirror.printed_errors()),
        || (members().as_array()?.len() == 1).then_some(()),
    );
    for version in ["v2", "v3"] {
        let path = site.deployment().build(version).display().to_string();
        as_deployer(&["deploy", &path, "--poll", "300ms"]).with(0);
        site.await_version(version);
    }
    as_machine(&["check", "--machine"]).end().with(0).saying(&[
        "ok      cannot deploy: channel.json",
        "ok      cannot deploy: artifacts",
        "ok      reads members",
        "ok      writes members",
    ]);
    let channel = || as_deployer(&["status", "--json"]).json()["channel"].clone();
    let before = channel();
    let path = site.deployment().build("v4").display().to_string();
    as_machine(&["deploy", &path]).end().with(1);
    assert_eq!(before, channel());
}

#[test]
fn least_rights_are_enough_for_a_machine_and_it_cannot_deploy() {
    let Some(store) = Store::start() else { return };
    let way = Way::to(&store, Fault::LeastRights);
    a_machine_follows_and_cannot_deploy(
        |args| store.fleet_by(way.port, args),
        |args| store.fleet(args),
    );
}

#[test]
#[ignore = "needs versitygw, which Go builds in three minutes"]
fn least_rights_are_enough_for_a_machine_also_in_versitygw() {
    if !tools::has("versitygw") || !tools::has("curl") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect(name);
        path
    };
    // It does not say which port it has found.
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
    let port = port.expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let as_root = ["--access", "root", "--secret", "secret"];
    let mut server = Command::new("versitygw");
    server.args(as_root).args(["--port", &address]);
    server.arg("--iam-dir").arg(made("iam"));
    server.arg("posix").arg(made("data"));
    let server = command::start(server);
    eventually(
        || format!("versitygw: {}", server.printed_errors()),
        || TcpStream::connect(&address).ok(),
    );
    let url = format!("http://{address}");
    let put = |path: &str, body: &str| {
        let mut put = Command::new("curl");
        put.args(["--silent", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3"]);
        put.args(["--user", "root:secret", "--request", "PUT", "--data", body]);
        put.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        put.args(["--header", "Content-Type:", &format!("{url}/{path}")]);
        command::start(put).end().with(0);
    };
    put("fleet", "");
    for name in ["machine", "deployer"] {
        let mut create = Command::new("versitygw");
        create.arg("admin").args(as_root);
        create.args(["--endpoint-url", &url, "create-user", "--role", "user"]);
        create.args(["--access", name, "--secret", "secret"]);
        command::start(create).end().with(0);
    }
    put("fleet?policy=", POLICY);
    let kind = Kind::Moto;
    let store = Store { server, port, kind };
    let by = |name: &'static str| {
        let store = &store;
        move |args: &[&str]| {
            let mut command = store.fleet(args);
            command.env("AWS_ACCESS_KEY_ID", name);
            command
        }
    };
    let check = command::start(by("deployer")(&["check"]));
    check.end().with(0).saying(&["loses no write"]);
    a_machine_follows_and_cannot_deploy(by("machine"), by("deployer"));
}

//! handoff-fleet as its users run it: a store, machines that mirror it, and unmodified sidecars.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use tests::load::Load;
use tests::{Release, Running, Site, command, eventually, folder, tools};

use crate::store::{Store, launches, refused};

mod distributed;
mod faults;
mod identity;
mod rights;
mod rollouts;
mod store;

#[test]
fn machines_follow_the_store_and_return_together_and_no_request_is_lost() {
    let Some(store) = Store::start() else { return };
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
    let Some(store) = Store::start() else { return };
    let check = |args: &[&str]| command::start(store.fleet(args)).end();
    // Under load moto itself loses a write of many at once, now and then.
    check(&["check"]).saying(&["ok      keeps the conditions", "ok      deletes objects"]);
    check(&["check", "--machine"])
        .with(1)
        .saying(&["cannot deploy: artifacts", "ok      writes members"]);
    let away = Store { port: 1, ..store };
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
    let Some(store) = Store::start() else { return };
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
    let Some(store) = Store::start() else { return };
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
    let Some(store) = Store::start() else { return };
    let mut site = Site::watching_a_pointer().start("v1");
    let mirror = store.mirror(&site);
    store.await_members(1);
    store.deploy(&site, "v2").with(0);
    let away = Store { port: 1, ..store };
    drop(away.server);
    mirror.await_stderr("the store:");
    site.kill();
    site.start_again();
    site.await_version("v2");
}

#[test]
fn a_machine_that_follows_nothing_new_is_passed_over_and_none_is_told() {
    let Some(store) = Store::start() else { return };
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
    let Some(store) = Store::start() else { return };
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

#[test]
fn machines_follow_a_store_that_speaks_as_azure_does() {
    let Some(store) = Store::start_azurite() else {
        return;
    };
    let check = command::start(store.fleet(&["check"]));
    check.end().with(0).saying(&["loses no write"]);
    let sites = [0, 1].map(|_| Site::watching_a_pointer().start("v1"));
    let _mirrors = sites.each_ref().map(|site| store.mirror(site));
    store.await_members(2);
    store.deploy(&sites[0], "v2").with(0);
    let staged = ["--at-most", "1"];
    store.deploy_with(&sites[0], "v3", &staged).with(0);
    store
        .deploy_with(&sites[0], refused("v4"), &staged)
        .with(1)
        .saying(&["all return to v3"]);
    for site in &sites {
        site.await_version("v3");
    }
}

#[test]
fn a_machine_at_rest_reads_one_object_and_writes_nothing() {
    let Some(store) = Store::start() else { return };
    let site = Site::watching_a_pointer().start("v1");
    let mirror = store.mirror(&site);
    store.await_members(1);
    store.deploy(&site, "v2").with(0);
    mirror.await_stderr("in a roll-out: ");
    let count = || {
        let writes = store.requests("PUT /fleet/site/members");
        (writes, store.requests("GET /fleet/site/members"))
    };
    let polls = || store.requests("GET /fleet/site/channel.json");
    let (before, seen) = (count(), polls());
    eventually(
        || format!("{} looks at the channel", polls()),
        || (polls() >= seen + 8).then_some(()),
    );
    assert_eq!(count(), before);
}

#[test]
fn a_copy_of_a_machine_takes_an_id_of_its_own() {
    let Some(store) = Store::start() else { return };
    let sites = [0, 1].map(|_| Site::watching_a_pointer().start("v1"));
    let _original = store.mirror(&sites[0]);
    store.await_members(1);
    let memory = |site: &Running| site.deployment().state().join("fleet.json");
    std::fs::copy(memory(&sites[0]), memory(&sites[1])).expect("a copy");
    let _copy = store.mirror(&sites[1]);
    // Whoever speaks second notices it: both have something to say.
    let path = sites[0].deployment().build("v2");
    let deploy = store.begin_deploy(&path, &[]);
    store.await_members(2);
    deploy.end().with(0);
    for site in &sites {
        site.await_version("v2");
    }
}

//! Commands that root runs in folders of other users: they have the rights of the folder's owner.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tests::command::Ended;
use tests::program::handoff;
use tests::{Deployment, Site, command};

const OWNER: u32 = 4321;
const SECRET: &str = "only-for-root";

/// A deployment whose folders belong to another user; `None` unless root runs the tests.
fn of_another_user() -> Option<Deployment> {
    let deployment = Deployment::default();
    fs::create_dir_all(deployment.state().join("sidecars")).expect("a folder");
    fs::create_dir(deployment.elsewhere()).expect("a folder");
    let (site, state) = (deployment.site(), deployment.state());
    for folder in [site.join("releases"), site, state.join("sidecars"), state] {
        if chown(&folder, Some(OWNER), Some(OWNER)).is_err() {
            eprintln!("skipped: only root may give files away");
            return None;
        }
        set_mode(&folder, 0o755);
    }
    set_mode(&deployment.elsewhere(), 0o755);
    Some(deployment)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our file");
}

/// A file that only root can read.
fn secret(deployment: &Deployment) -> PathBuf {
    let secret = deployment.elsewhere().join("secret.json");
    fs::write(&secret, json!({ "key": SECRET }).to_string()).expect("a file");
    set_mode(&secret, 0o600);
    secret
}

/// A program that only root can read.
fn build(deployment: &Deployment) -> PathBuf {
    let artifact = deployment.build("v1");
    set_mode(&artifact, 0o700);
    artifact
}

/// Publishes a status as a sidecar would, with these keys beside those that each has.
fn forge(deployment: &Deployment, keys: &serde_json::Value) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    let mut status = json!({
        "schema": 1, "sidecar": "forged", "version": "0.1.0", "pid": 1, "phase": "running",
        "listen": "127.0.0.1:1", "started_ms": now, "heartbeat_ms": now,
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        status[key.as_str()] = value.clone();
    }
    let file = deployment.state().join("sidecars/forged.json");
    fs::write(&file, status.to_string()).expect("a file");
    chown(&file, Some(OWNER), Some(OWNER)).expect("root's right");
}

fn run_with_state(deployment: &Deployment, words: &[&str]) -> Ended {
    let state = deployment.state();
    command::run(
        &[
            words,
            &["--state", state.to_str().expect("a path in UTF-8")],
        ]
        .concat(),
    )
}

fn run_in_site(deployment: &Deployment, words: &[&str]) -> Ended {
    let mut command = handoff();
    command.args(words).current_dir(deployment.site());
    command::start(command).end()
}

#[test]
fn root_writes_nothing_that_the_owner_of_the_folder_could_not_write() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    set_mode(&deployment.state(), 0o555);
    let refused = run_with_state(&deployment, &["resume"]).with(1);
    refused.saying(&[
        "cannot write desired.json",
        "with the rights of user 4321, the owner of",
    ]);
    set_mode(&deployment.state(), 0o755);
    run_with_state(&deployment, &["resume"]).with(4);
    let written = fs::metadata(deployment.state().join("desired.json")).unwrap();
    assert_eq!((written.uid(), written.gid()), (OWNER, OWNER));
}

#[test]
fn a_forged_status_leads_root_nowhere() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    let important = deployment.elsewhere().join("important");
    fs::write(&important, "precious\n").unwrap();
    let source = json!({ "pointer": important, "watch": deployment.site().join("releases") });
    forge(&deployment, &json!({ "source": source }));
    let artifact = build(&deployment);
    let deploy = ["deploy", artifact.to_str().unwrap(), "--timeout", "1s"];
    run_with_state(&deployment, &deploy).with(1).saying(&[
        "cannot write the pointer file",
        "with the rights of user 4321",
    ]);
    assert_eq!(fs::read_to_string(important).unwrap(), "precious\n");
}

#[test]
fn a_status_of_others_in_a_folder_of_roots_leads_root_nowhere() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    let important = deployment.elsewhere().join("important");
    fs::write(&important, "precious\n").unwrap();
    let state = deployment.state();
    for folder in [state.join("sidecars"), state] {
        chown(&folder, Some(0), Some(OWNER)).unwrap();
        set_mode(&folder, 0o2775);
    }
    let source = json!({ "pointer": important, "watch": deployment.site().join("releases") });
    forge(&deployment, &json!({ "source": source }));
    let artifact = build(&deployment);
    let deploy = ["deploy", artifact.to_str().unwrap(), "--timeout", "1s"];
    let file = deployment.state().join("sidecars/forged.json");
    for (owner, whose) in [(OWNER, "user 4321"), (0, "group 4321")] {
        chown(&file, Some(owner), Some(OWNER)).unwrap();
        set_mode(&file, 0o664);
        let whose = format!("with the rights of {whose}, the owner of");
        run_with_state(&deployment, &deploy)
            .with(1)
            .saying(&["Permission denied", &whose]);
        assert_eq!(fs::read_to_string(&important).unwrap(), "precious\n");
    }
}

#[test]
fn links_of_others_in_a_folder_of_roots_disclose_nothing() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    // Everybody could read the file, if the folder let anybody in.
    let secret = secret(&deployment);
    set_mode(&secret, 0o644);
    set_mode(&deployment.elsewhere(), 0o700);
    let state = deployment.state();
    chown(&state, Some(0), Some(OWNER)).unwrap();
    set_mode(&state, 0o2775);
    let link = state.join("desired.json");
    symlink(&secret, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
    run_with_state(&deployment, &["resume"])
        .with(1)
        .saying(&["desired.json cannot be read"]);
    assert!(link.is_symlink());
}

#[test]
fn a_configuration_in_the_site_leads_root_nowhere() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    let (site, etc) = (deployment.site(), deployment.elsewhere().join("etc"));
    fs::create_dir(&etc).unwrap();
    let important = etc.join("important");
    fs::write(&important, "precious\n").unwrap();
    let toml = format!("pointer = {important:?}\nwatch = 'releases'\nstate = {etc:?}\n");
    fs::write(site.join("handoff.toml"), toml).unwrap();
    chown(site.join("handoff.toml"), Some(OWNER), Some(OWNER)).unwrap();
    let artifact = build(&deployment);
    run_in_site(&deployment, &["deploy", artifact.to_str().unwrap()])
        .with(1)
        .saying(&["with the rights of user 4321"]);
    assert_eq!(fs::read_to_string(&important).unwrap(), "precious\n");
    assert_eq!(fs::read_dir(&etc).unwrap().count(), 1, "nothing else");
}

#[test]
fn a_configuration_of_a_third_user_counts_only_when_it_is_named() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    let config = deployment.site().join("handoff.toml");
    fs::write(&config, "keep = 4\n").unwrap();
    chown(&config, Some(OWNER + 1), Some(OWNER + 1)).unwrap();
    run_in_site(&deployment, &["status"]).with(2).saying(&[
        "handoff.toml",
        "belongs to another user",
        "--config FILE",
    ]);
    let config = config.to_str().unwrap();
    run_in_site(&deployment, &["status", "--config", config]).with(4);
}

#[test]
fn what_only_root_may_read_is_neither_kept_nor_shown() {
    let Some(deployment) = of_another_user() else {
        return;
    };
    let secret = secret(&deployment);
    symlink(&secret, deployment.state().join("desired.json")).unwrap();
    let resume = run_with_state(&deployment, &["resume"]).with(1);
    resume.saying(&["desired.json cannot be read"]);
    assert!(
        fs::symlink_metadata(deployment.state().join("desired.json"))
            .unwrap()
            .is_symlink()
    );

    forge(&deployment, &json!({ "log_file": secret }));
    let logs = run_with_state(&deployment, &["logs"]).with(1);
    assert!(!format!("{logs:?}").contains(SECRET), "{logs:#?}");

    let link = deployment.site().join("upload");
    symlink(&secret, &link).unwrap();
    chown(deployment.site(), Some(OWNER), Some(OWNER)).unwrap();
    std::os::unix::fs::lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
    run_in_site(&deployment, &["deploy", "upload"])
        .with(1)
        .saying(&["with the rights of user 4321"]);
    let uploads = fs::read_dir(deployment.site().join("releases")).unwrap();
    assert_eq!(uploads.count(), 0);
}

#[test]
fn root_serves_and_deploys_in_a_folder_of_another_user() {
    let deployment = Deployment::default();
    let (site, state) = (deployment.site(), deployment.state());
    for folder in [&*site.join("releases"), &*site, site.parent().unwrap()] {
        if chown(folder, Some(OWNER), Some(OWNER)).is_err() {
            return eprintln!("skipped: only root may give files away");
        }
    }
    // As an earlier version made it.
    fs::create_dir_all(state.join("sidecars")).unwrap();
    let running = Site::watching_a_pointer().launch_in(&deployment);
    running.deploy("v1");
    running.await_version("v1");
    deployment.run_deploy("v2", &[]).with(0);
    running.await_version("v2");
    run_with_state(&deployment, &["restart"]).with(0);
    run_with_state(&deployment, &["logs"]).with(0);
    assert_eq!(fs::metadata(state).unwrap().uid(), OWNER);
}

#[test]
fn root_deploys_what_only_root_can_read_to_folders_of_two_users() {
    const SERVICE: u32 = OWNER + 1;
    let Some(deployment) = of_another_user() else {
        return;
    };
    for folder in [deployment.state().join("sidecars"), deployment.state()] {
        chown(folder, Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let folder = deployment.elsewhere().join("private");
    fs::create_dir_all(folder.join("deeper")).unwrap();
    fs::write(folder.join("deeper/file"), "x").unwrap();
    set_mode(&folder.join("deeper/file"), 0o600);
    set_mode(&folder, 0o700);
    for (id, artifact) in [("file", build(&deployment)), ("folder", folder)] {
        let place = deployment.place();
        let place: Vec<_> = place.iter().map(String::as_str).collect();
        let deploy = ["deploy", artifact.to_str().unwrap(), "--id", id];
        command::run(&[&deploy[..], &place].concat()).with(4);
    }
    let owner = |path: PathBuf| fs::metadata(path).unwrap().uid();
    let site = deployment.site();
    assert_eq!(owner(site.join("releases/file")), OWNER);
    assert_eq!(owner(site.join("releases/folder/deeper/file")), OWNER);
    assert_eq!(owner(site.join("_artifact.txt")), OWNER);
    assert_eq!(owner(deployment.state().join("desired.json")), SERVICE);
}

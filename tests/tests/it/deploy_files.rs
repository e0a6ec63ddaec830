//! The files that `handoff deploy` writes, and their owners.

use std::fs;

use tests::{Deployment, Running, Site, app, command};

fn serving_v1() -> Running {
    Site::watching_a_pointer().start("v1")
}

#[test]
fn a_drop_folder_needs_no_pointer() {
    let site = Site::watching_a_folder().start("v1");
    let deployment = site.deployment();
    let (to, state) = (site.site().join("releases"), deployment.state());
    let place = [
        "--to",
        to.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    let deploys = |release| {
        let artifact = deployment.build(release);
        let deploy = ["deploy", artifact.to_str().unwrap()];
        command::run(&[&deploy[..], &place].concat())
    };
    deploys(app("v2")).with(0);
    site.await_version("v2");
    deploys(app("v3").that("--exit-code=3"))
        .with(1)
        .saying(&["is removed again"]);
    site.await_version("v2");
    // An older content is the newest arrival all the same.
    deploys(app("v4")).with(0);
    deploys(app("v2")).with(0);
    site.await_version("v2");
    site.await_launches(5);
    let left: Vec<_> = fs::read_dir(to).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("v3"))
    );
}

#[test]
fn the_sidecars_themselves_say_where_to_deploy() {
    let site = serving_v1();
    let artifact = site.deployment().build("v2");
    let state = site.deployment().state();
    let state = state.to_str().unwrap();
    let deploy = ["deploy", artifact.to_str().unwrap(), "--state", state];
    command::run(&deploy).with(0);
    site.await_version("v2");
}

#[test]
fn only_the_newest_and_those_in_use_stay_in_the_folder() {
    let site = serving_v1();
    for version in ["v2", "v3", "v4", "v5"] {
        site.deployment()
            .run_deploy(version, &["--keep", "1"])
            .with(0);
    }
    let left = fs::read_dir(site.site().join("releases"))
        .unwrap()
        .flatten();
    let mut left: Vec<_> = left
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    left.retain(|name| !name.ends_with(".sha256"));
    left.sort();
    let versions: Vec<_> = left.iter().map(|name| &name[..2]).collect();
    assert_eq!(
        versions,
        ["v4", "v5"],
        "v4 was named before, and may still drain"
    );
}

#[test]
fn deployments_with_pointers_in_one_folder_prune_their_own_artifacts_only() {
    let deployment = Deployment::default();
    let deploy = |pointer: &str, version: &str| {
        let artifact = deployment.build(version);
        let pointer = deployment.site().join(pointer);
        let options = ["--pointer", pointer.to_str().unwrap(), "--keep", "1"];
        command::run(&[&["deploy", artifact.to_str().unwrap()], &options[..]].concat()).with(4);
        let named = fs::read_to_string(&pointer).unwrap();
        deployment.site().join(named.lines().next().unwrap())
    };
    let shop = deploy("shop.txt", "v1");
    // The same content, too, is of each its own.
    let blog = ["v1", "v2", "v3"].map(|version| deploy("blog.txt", version));
    assert!(shop.exists(), "{shop:?} is of the other deployment");
    assert_ne!(blog[0], shop);
    assert!(!blog[0].exists() && blog[2].exists(), "{blog:?}");
}

#[test]
fn sidecars_that_run_one_file_have_it_replaced() {
    let site = Site::overwritten_in_place().start("v1");
    let artifact = site.deployment().build("v2");
    let state = site.deployment().state();
    let deploy = [
        "deploy",
        artifact.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    command::run(&deploy).with(0).saying(&["replacing"]);
    site.await_version("v2");
}

#[cfg(unix)]
#[test]
fn what_root_deploys_belongs_to_the_service_and_can_be_read_by_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    const SERVICE: u32 = 4321;
    let deployment = Deployment::default();
    let site = deployment.site();
    if chown(&site, Some(SERVICE), Some(SERVICE)).is_err() {
        return eprintln!("skipped: only root may give files away");
    }
    fs::set_permissions(&site, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir(site.join("releases")).unwrap();
    let artifact = deployment.build("v1");
    fs::set_permissions(&artifact, fs::Permissions::from_mode(0o700)).unwrap();
    let place = deployment.place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    let deploy = [
        &["deploy", artifact.to_str().unwrap(), "--id", "app"],
        &place[..2],
    ]
    .concat();
    command::run(&deploy).with(4);
    let is = |name: &str| {
        let metadata = fs::metadata(site.join(name)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (SERVICE, SERVICE),
            "{name}"
        );
        metadata.mode() & 0o7777
    };
    assert_eq!(is("_artifact.txt"), 0o644);
    assert_eq!(is("releases"), 0o755);
    assert_eq!(is("releases/app"), 0o700);
    assert_eq!(is("releases/app.sha256"), 0o644);
    assert_eq!(is("_artifact.txt.handoff/desired.json"), 0o644);
    let build = deployment.elsewhere().join("build");
    fs::create_dir_all(build.join("keys")).unwrap();
    for (name, mode) in [("keys/key.pem", 0o600), ("run", 0o750), ("page", 0o644)] {
        fs::write(build.join(name), name).unwrap();
        fs::set_permissions(build.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(build.join("keys"), fs::Permissions::from_mode(0o700)).unwrap();
    let folder = ["deploy", build.to_str().unwrap(), "--id", "folder"];
    command::run(&[&folder, &place[..2]].concat()).with(4);
    assert_eq!(is("releases/folder/keys"), 0o700);
    assert_eq!(is("releases/folder/keys/key.pem"), 0o600);
    assert_eq!(is("releases/folder/run"), 0o750);
    assert_eq!(is("releases/folder/page"), 0o644);
    // What is only asked for too.
    let pointer = site.join("_artifact.txt");
    command::run(&["resume", "--pointer", pointer.to_str().unwrap()]).with(4);
    assert_eq!(is("_artifact.txt.handoff/desired.json"), 0o644);
    // The pointer's own rights are kept.
    fs::set_permissions(&pointer, fs::Permissions::from_mode(0o660)).unwrap();
    fs::write(&artifact, "other").unwrap();
    command::run(&deploy).with(4);
    assert_eq!(is("_artifact.txt"), 0o660);
}

#[cfg(unix)]
#[test]
fn what_somebody_of_its_group_deploys_can_be_used_by_the_service() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    const SERVICE: u32 = 4321;
    let deployment = Deployment::default();
    let site = deployment.site();
    if chown(&site, Some(SERVICE), Some(SERVICE)).is_err() {
        return eprintln!("skipped: only root may be somebody else");
    }
    if !tests::tools::has("setpriv") {
        return;
    }
    fs::remove_dir(site.join("releases")).unwrap();
    fs::set_permissions(&site, fs::Permissions::from_mode(0o775)).unwrap();
    let artifact = deployment.elsewhere().join("build");
    fs::create_dir_all(artifact.join("keys")).unwrap();
    for (name, mode) in [("keys/key.pem", 0o600), ("page", 0o644)] {
        fs::write(artifact.join(name), name).unwrap();
        fs::set_permissions(artifact.join(name), fs::Permissions::from_mode(mode)).unwrap();
        chown(artifact.join(name), Some(4322), Some(4322)).unwrap();
    }
    // Where a user who is not root gets at it.
    let program = deployment.elsewhere().join("handoff");
    let copied = {
        let _alone = tests::binaries::write_or_spawn();
        fs::copy(tests::binaries::handoff(), &program)
    };
    copied.unwrap();
    for folder in site.ancestors().skip(1).take(1) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut deploy = std::process::Command::new("setpriv");
    deploy.args(["--reuid=4322", "--regid=4322", "--groups=4321"]);
    deploy.arg(&program).arg("deploy").arg(&artifact);
    deploy.args(["--id", "app"]).args(&deployment.place()[..2]);
    command::start(deploy).end().with(4);
    for (name, mode) in [
        ("_artifact.txt", 0o664),
        ("releases", 0o775),
        ("releases/app", 0o775),
        ("releases/app/keys/key.pem", 0o660),
        ("releases/app/page", 0o664),
        ("_artifact.txt.handoff", 0o775),
        ("_artifact.txt.handoff/desired.json", 0o664),
    ] {
        let metadata = fs::metadata(site.join(name)).unwrap();
        assert_eq!(
            (metadata.gid(), metadata.mode() & 0o7777),
            (SERVICE, mode),
            "{name}"
        );
    }
}

#[test]
fn a_folder_without_a_file_is_not_deployed() {
    let site = Site::watching_a_pointer().start("v1");
    let pointer = site.site().join("_artifact.txt");
    let before = fs::read(&pointer).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("public/assets")).unwrap();
    let place = site.deployment().place();
    let mut command = tests::program::handoff();
    command.arg("deploy").arg(folder.path()).args(place);
    let deployed = command::start(command).end();
    deployed.with(2).saying(&["there is no file in the folder"]);
    assert_eq!(fs::read(&pointer).unwrap(), before);
}

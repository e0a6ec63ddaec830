//! A removal is no deployment: what serves stays, whatever is taken away beside it or in its place.

use std::fs;

use tests::{Running, Site, app};

/// Starts `v2`, which arrived after `v1`.
fn serving_v2() -> Running {
    let site = Site::watching_a_folder().start("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.await_active("v2");
    site
}

/// Removes the artifact `version` from the drop folder, which Windows allows once nobody reads it.
fn remove(site: &Running, version: &str) {
    let path = site.site().join("releases").join(app(version).file_name());
    tests::eventually(
        || format!("{path:?} can be removed"),
        || fs::remove_file(&path).ok(),
    );
}

#[test]
fn what_serves_stays_when_it_is_removed_until_another_artifact_arrives() {
    let mut site = serving_v2();
    remove(&site, "v2");
    site.await_problem("the artifact that serves was removed from");
    site.await_version("v2");
    site.await_launches(2);
    site.kill();
    #[cfg(unix)]
    site.await_no_processes();
    site.start_again();
    site.await_version("v2");
    site.await_problem("the artifact that serves was removed from");
    site.await_active("v2");
    site.deploy("v3");
    site.await_version("v3");
    site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
}

#[test]
fn a_release_that_was_refused_can_be_removed() {
    let site = serving_v2();
    site.deploy(app("v3").that("--exit-code=3"));
    site.wait_until("v3 is refused", |status| status.refusal("v3").is_some());
    remove(&site, "v3");
    // The newest artifact is the one that serves.
    site.await_log_times(4, "artifact_detected");
    let status = site.await_active("v2");
    assert_eq!(status.artifact_problem, None);
    remove(&site, "v2");
    site.await_problem("the artifact that serves was removed from");
    site.await_version("v2");
    site.await_launches(3);
}

#[test]
fn another_name_makes_an_artifact_no_newer() {
    let site = serving_v2();
    let path = |name: &str| site.site().join("releases").join(name);
    let rename = |from: &str, to: &str| {
        tests::eventually(
            || format!("{from} can be renamed"),
            || fs::rename(path(from), path(to)).ok(),
        );
    };
    rename(&app("v1").file_name(), "before");
    rename(&app("v2").file_name(), "now");
    // The artifact that serves is looked at under its new name.
    site.await_log_times(3, "artifact_detected");
    site.await_active("v2");
    fs::remove_file(path("now")).unwrap();
    site.await_problem("the artifact that serves was removed from");
    site.await_version("v2");
    site.await_launches(2);
}

#[cfg(unix)]
#[test]
fn a_folder_that_comes_back_as_copies_in_another_order_deploys_nothing() {
    let site = serving_v2();
    let releases = site.site().join("releases");
    let aside = site.site().join("aside");
    fs::rename(&releases, &aside).unwrap();
    site.await_problem("does not exist yet");
    fs::create_dir(&releases).unwrap();
    site.await_problem("no artifact in");
    let copy = |version: &str| {
        let name = app(version).file_name();
        let _alone = tests::binaries::write_or_spawn();
        fs::copy(aside.join(&name), releases.join(&name)).unwrap();
    };
    copy("v1");
    site.await_problem("the artifact that serves was removed from");
    copy("v2");
    site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    // Now the other way round.
    fs::remove_dir_all(&releases).unwrap();
    site.await_problem("does not exist yet");
    fs::create_dir(&releases).unwrap();
    copy("v2");
    site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    copy("v1");
    site.deploy("v3");
    site.await_version("v3");
    site.await_launches(3);
}

#[cfg(unix)]
#[test]
fn a_release_folder_that_is_emptied_or_moved_away_serves_on() {
    let build = |version: &str| {
        let app = tests::binaries::sample_app().display();
        let script = format!("exec '{app}' -port $PORT --version-name {version}\n");
        tests::folder(version, &[("start.sh", &script)])
    };
    let site = Site::watching_a_folder().running(&["sh", "start.sh"]);
    let site = site.start(build("v1"));
    site.deploy(build("v2"));
    site.await_version("v2");
    let v2 = site.site().join("releases/v2");
    fs::remove_file(v2.join("start.sh")).unwrap();
    site.await_problem("is empty");
    fs::rename(&v2, site.site().join("v2")).unwrap();
    site.await_problem("the artifact that serves was removed from");
    site.await_version("v2");
    site.await_launches(2);
}

#[test]
fn a_pointer_file_that_is_removed_deploys_nothing_from_the_drop_folder() {
    let deployment = tests::Deployment::default();
    let releases = deployment.site().join("releases");
    fs::create_dir_all(&releases).unwrap();
    let site = Site::watching_a_pointer()
        .with("--watch", releases.to_str().unwrap())
        .launch_in(&deployment);
    site.deploy("v1");
    site.await_version("v1");
    app("v2").write_to(&releases.join(app("v2").file_name()));
    fs::remove_file(deployment.site().join("_artifact.txt")).unwrap();
    site.await_problem("was removed: the release that it named serves on");
    site.await_version("v1");
    site.deploy("v3");
    site.await_version("v3");
    site.await_launches(2);
}

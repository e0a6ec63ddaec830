//! A first start with a drop folder whose newest artifact cannot serve.

use std::fs;
use std::time::{Duration, SystemTime};

use tests::release::Release;
use tests::{Deployment, Running, Site, app, file};

/// Starts with these artifacts in the drop folder, the newest last, that is: with the latest time.
fn start(artifacts: &[Release]) -> (Deployment, Running) {
    let deployment = Deployment::default();
    for (artifact, minute) in artifacts.iter().zip(1..) {
        let path = deployment
            .site()
            .join("releases")
            .join(artifact.file_name());
        artifact.write_to(&path);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
        let written = fs::File::options()
            .append(true)
            .open(path)
            .expect("it was written");
        written.set_modified(time).expect("a time");
    }
    let site = Site::watching_a_folder().launch_in(&deployment);
    (deployment, site)
}

#[test]
fn an_older_artifact_serves_while_the_newest_is_incomplete() {
    let cut_off = file("v3.zip", b"PK\x03\x04 cut off");
    let (_deployment, site) = start(&[app("v1"), app("v2"), cut_off]);
    site.await_version("v2");
    site.wait_until("both are seen", |status| {
        let problem = status.artifact_problem.as_deref();
        status.is_active("v2") && problem.is_some_and(|problem| problem.contains("v3.zip"))
    });
    site.deploy("v4");
    site.await_version("v4");
}

#[test]
fn an_older_artifact_serves_while_the_newest_fails() {
    let crashing = |version| app(version).that("--no-such-option");
    let (_deployment, site) = start(&[app("v1"), crashing("v2"), crashing("v3")]);
    site.await_version("v1");
    let status = site.status();
    assert!(status.last_failure.is_some(), "{status:#?}");
}

/// A name that handoff does not know as one that belongs to another file.
#[test]
fn a_refused_file_does_not_hide_the_release_beside_it() {
    let site = Site::watching_a_folder().start("v1");
    let key = file("v2.pem", b"-----BEGIN CERTIFICATE-----\n");
    // Both arrive within the settle time, so that the second is the newest that is looked at.
    site.deploy("v2");
    site.deploy(key);
    site.await_version("v2");
    site.await_log("older_artifact_launched");
    let status = site.await_active("v2");
    assert!(status.refusal("v2.pem").is_some(), "{status:#?}");
    site.deploy("v3");
    site.await_version("v3");
}

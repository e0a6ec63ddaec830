//! Change events are lost, doubled and late: looking is what counts.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Site, app};

#[test]
fn an_artifact_is_found_without_any_events() {
    for site in [
        Site::watching_a_pointer(),
        Site::watching_a_folder(),
        Site::overwritten_in_place(),
    ] {
        let site = site.with_variable("HANDOFF_NO_EVENTS", "true").start("v1");
        site.deploy("v2");
        site.await_version("v2");
        site.await_launches(2);
    }
}

#[test]
fn an_event_is_quicker_than_a_look() {
    let site = Site::watching_a_folder().with("--poll", "1h").start("v1");
    site.deploy("v2");
    site.await_version("v2");
}

#[test]
fn a_storm_of_events_is_no_storm_of_deploys() {
    let site = Site::watching_a_folder().with("--poll", "1h").start("v1");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let noise = site.site().join("releases/.noise.tmp");
            let mut times: u64 = 0;
            while !over.load(Ordering::Relaxed) {
                fs::write(&noise, times.to_string()).expect("noise");
                fs::remove_file(&noise).expect("noise");
                times += 1;
            }
            assert!(times > 1000, "{times} events are no storm");
        });
        let served = catch_unwind(AssertUnwindSafe(|| {
            for version in ["v2", "v3"] {
                site.deploy(version);
                site.await_version(version);
            }
        }));
        over.store(true, Ordering::Relaxed);
        served.unwrap_or_else(|panic| resume_unwind(panic));
    });
    site.await_launches(3);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: who watches a folder keeps it from being removed (error 32)"
)]
fn a_watched_folder_that_vanishes_and_returns_is_watched_again() {
    let site = Site::watching_a_folder().start("v1");
    let folder = site.site().join("releases");
    fs::remove_dir_all(&folder).unwrap();
    site.await_problem("does not exist yet");
    site.await_version("v1");
    fs::create_dir(&folder).unwrap();
    site.await_problem("no artifact in");
    site.deploy("v2");
    site.await_version("v2");
    // Too quick for anybody to see that it was away.
    let aside = site.site().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::create_dir(&folder).unwrap();
    site.deploy("v3");
    site.await_version("v3");
    site.await_launches(3);
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: who watches a folder keeps it from being removed (error 32)"
)]
fn the_same_artifact_in_a_folder_that_returns_is_no_deploy() {
    let site = Site::watching_a_folder().start("v1");
    let folder = site.site().join("releases");
    let aside = site.site().join("aside");
    fs::rename(&folder, &aside).unwrap();
    site.await_problem("does not exist yet");
    fs::create_dir(&folder).unwrap();
    let name = app("v1").file_name();
    fs::copy(aside.join(&name), folder.join(&name)).unwrap();
    site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    site.await_launches(1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_change_deep_in_a_folder_is_an_event_too() {
    let site = Site::watching_a_folder()
        .with("--poll", "1h")
        .running(&["./app", "-port", "{port}"]);
    let site = site.launch_empty();
    let upload = site.site().join("upload");
    fs::create_dir_all(upload.join("lib/deep")).unwrap();
    fs::write(upload.join("lib/deep/file"), "1").unwrap();
    app("v1").write_to(&upload.join("app"));
    let one = site.site().join("releases/one");
    fs::create_dir_all(site.site().join("releases")).unwrap();
    fs::rename(upload, &one).unwrap();
    site.await_version("v1");
    fs::write(one.join("lib/deep/file"), "2").unwrap();
    site.await_launches(2);
    // In a folder that did not exist when its watch began.
    fs::create_dir_all(one.join("lib/new/er")).unwrap();
    fs::write(one.join("lib/new/er/file"), "3").unwrap();
    site.await_launches(3);
}

#[test]
fn a_change_that_settles_is_not_forgotten_for_what_else_happens_meanwhile() {
    let site = Site::watching_a_folder()
        .with("--poll", "1h")
        .with("--settle-folder", "2s")
        .running(&["./app", "-port", "{port}"]);
    let site = site.launch_empty();
    let one = site.site().join("releases/one");
    app("v1").write_to(&one.join("app"));
    site.await_version("v1");
    fs::write(one.join("file"), "1").unwrap();
    for serial in 1..=3 {
        site.wait_until("it settles", |status| status.settling.is_some());
        site.ask(&format!(r#"{{"serial":{serial},"pause":null}}"#));
    }
    site.await_launches(2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_link_and_a_folder_above_the_artifact_that_are_exchanged_are_events() {
    use std::os::unix::fs::symlink;

    let site = Site::watching_a_pointer().with("--poll", "1h");
    let site = site.launch_empty();
    let releases = site.site().join("by-version");
    for version in ["v1", "v2", "v3"] {
        fs::create_dir_all(releases.join(version)).unwrap();
        app(version).write_to(&releases.join(version).join("app"));
    }
    let current = site.site().join("current");
    symlink("by-version/v1", &current).unwrap();
    site.point("current/app");
    site.await_version("v1");
    symlink("by-version/v2", site.site().join("next")).unwrap();
    fs::rename(site.site().join("next"), &current).unwrap();
    site.await_version("v2");
    fs::rename(releases.join("v2"), releases.join("old")).unwrap();
    fs::rename(releases.join("v3"), releases.join("v2")).unwrap();
    site.await_version("v3");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_renamed_into_place_is_whole_at_once() {
    let site = Site::overwritten_in_place()
        .with("--poll", "1h")
        .with("--settle", "1s")
        .start("v1");
    let path = site.site().join("app");
    let new = site.site().join(".new");
    app("v2").write_to(&new);
    fs::rename(&new, &path).unwrap();
    site.await_version("v2");
    let settled = site.log().matches("event=\"settling\"").count();
    app("v3").write_to(&new);
    fs::rename(&new, &path).unwrap();
    site.await_version("v3");
    let now = site.log().matches("event=\"settling\"").count();
    assert_eq!(settled, now, "it did not wait");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_renamed_into_place_is_whole_at_once_and_one_that_is_copied_is_not() {
    let site = Site::watching_a_folder()
        .with("--poll", "1h")
        .with("--settle-folder", "1s")
        .running(&["./app", "-port", "{port}"]);
    let site = site.launch_empty();
    let settled = || site.log().matches("event=\"settling\"").count();
    let releases = site.site().join("releases");
    fs::create_dir_all(&releases).unwrap();
    app("v1").write_to(&releases.join("one/app"));
    site.await_version("v1");
    assert_eq!(settled(), 1);
    app("v2").write_to(&site.site().join("upload/app"));
    fs::rename(site.site().join("upload"), releases.join("two")).unwrap();
    site.await_version("v2");
    assert_eq!(settled(), 1);
    app("v3").write_to(&releases.join("three/app"));
    site.await_version("v3");
    assert_eq!(settled(), 2);
}

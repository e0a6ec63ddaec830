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

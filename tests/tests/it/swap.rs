//! A new artifact takes over, whichever way it comes, and its users do not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::{Connection, Running, Site, app};

#[test]
fn a_pointer_that_names_another_artifact_swaps_to_it() {
    let site = Site::watching_a_pointer().start("v1");
    site.await_version("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.wait_until("v1 is gone", |status| {
        let handoff = status.handoff("v2");
        status.is_at_rest()
            && handoff.is_some_and(|v2| v2.superseded_generation.map(|old| old.0) == Some(1))
    });
}

#[test]
fn a_new_artifact_in_a_watched_folder_swaps_to_it() {
    let site = Site::watching_a_folder().start("v1");
    site.await_version("v1");
    site.deploy("v2");
    site.await_version("v2");
}

#[test]
fn an_older_name_is_newer_when_it_comes_later() {
    let site = Site::watching_a_folder().start("v9");
    site.await_version("v9");
    site.deploy("v10");
    site.await_version("v10");
}

#[test]
fn an_artifact_overwritten_while_it_runs_swaps_to_the_new_one() {
    let site = Site::overwritten_in_place().start("v1");
    site.await_version("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.deploy("v1");
    site.await_version("v1");
}

#[test]
fn the_same_content_again_is_no_deploy() {
    for site in [Site::overwritten_in_place(), Site::watching_a_pointer()] {
        let site = site.start("v1");
        site.deploy("v1");
        site.await_log_times(2, "artifact detected");
        site.deploy("v2");
        site.await_version("v2");
        site.await_launches(2);
    }
}

#[test]
fn going_back_to_an_earlier_artifact_is_a_deploy_like_any_other() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy("v2");
    site.await_version("v2");
    site.deploy("v1");
    site.await_version("v1");
}

#[test]
fn a_slow_start_keeps_the_old_release_serving_until_the_new_one_is_ready() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--ready-after=1s"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    site.await_version("v2");
}

#[test]
fn many_clients_see_five_quick_swaps_as_nothing_but_newer_versions() {
    const CLIENTS: usize = 16;
    const LAST: u32 = 6;

    let site = Site::watching_a_pointer().start("v1");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (site, is_over) = (&site, &is_over);
            // Half keep their connection, half do not.
            let keeps = number % 2 == 0;
            clients.push(scope.spawn(move || newest_seen(site, keeps, is_over)));
        }
        for version in 2..=LAST {
            site.deploy(format!("v{version}"));
            site.await_active(&format!("v{version}"));
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            let newest = client.join().unwrap();
            assert_eq!(newest, LAST, "the last version is seen by all");
        }
    });
}

/// Asks for the version until it is over, and once more; gives the newest.
fn newest_seen(site: &Running, keeps: bool, is_over: &AtomicBool) -> u32 {
    let mut newest = 0;
    let mut connection: Option<Connection> = None;
    loop {
        let last = is_over.load(Ordering::Relaxed);
        let mut client = connection.take().unwrap_or_else(|| site.connect());
        let answer = client.get("/version").expect("every request is answered");
        assert_eq!(answer.status, 200, "{answer:?}");
        let version = answer.text().strip_prefix('v').expect("a version");
        let version = version.parse().expect("a version");
        assert!(version >= newest, "v{version} came after v{newest}");
        newest = version;
        connection = keeps.then_some(client);
        if last {
            return newest;
        }
    }
}

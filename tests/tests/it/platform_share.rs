//! A folder that is shared, slow and forgetful, as Azure's is; and two machines on it.

use tests::eventually;
use tests::load::{Load, Tally};
use tests::platform::{Home, Iis, Module};

fn home() -> Home {
    let home = Home::new();
    home.deploy("v1");
    home
}

/// Returns what clients see while something is done to the site.
fn under_load(iis: &Iis<'_>, act: impl FnOnce()) -> Tally {
    let load = Load::offer(iis.address(), 50);
    act();
    let tally = load.end();
    assert_eq!(
        tally.lost(),
        0,
        "{tally}; {}",
        iis.failure("nothing is lost")
    );
    tally
}

/// Waits until each of so many sidecars serves this release.
#[track_caller]
fn all_serve(iis: &Iis<'_>, home: &Home, sidecars: usize, release: &str) {
    eventually(
        || iis.failure(&format!("all serve {release}: {:#?}", home.sidecars())),
        || {
            let all = home.sidecars();
            let is_so = all.len() == sidecars && all.iter().all(|it| it.is_active(release));
            is_so.then_some(())
        },
    );
}

#[test]
fn an_artifact_that_is_still_being_written_is_not_run() {
    let home = home();
    let iis = Iis::start(&home, Module::azure());
    iis.await_version("v1");
    under_load(&iis, || {
        let upload = home.begin_upload("v2");
        // The pointer names it already.
        home.point_to(upload.path());
        eventually(
            || iis.failure("it is waited for"),
            || {
                let sidecars = home.sidecars();
                sidecars[0].artifact_problem.clone()
            },
        );
        assert_eq!(iis.get("/version").text(), "v1");
        upload.finish();
        iis.await_version("v2");
    });
    let status = &home.sidecars()[0];
    assert_eq!(status.handoffs.len(), 2, "no half was tried: {status:#?}");
}

#[test]
fn a_pointer_that_comes_before_its_artifact_is_waited_for() {
    let home = home();
    let iis = Iis::start(&home, Module::azure());
    iis.await_version("v1");
    under_load(&iis, || {
        let name = format!("v2{}", std::env::consts::EXE_SUFFIX);
        home.point_to(&home.releases().join(name));
        eventually(
            || iis.failure("it is missed"),
            || home.sidecars()[0].artifact_problem.clone(),
        );
        home.begin_upload("v2").finish();
        iis.await_version("v2");
    });
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Wine: who watches a folder keeps it from being removed (error 32)"
)]
fn a_folder_that_tells_of_no_change_is_looked_at_all_the_same() {
    // Only looking finds it: there is no pointer.
    let edits = [("--pointer &quot;%HOME%\\site\\_artifact.txt&quot; ", "")];
    let home = Home::edited(&edits);
    home.begin_upload("v1").finish();
    let iis = Iis::start(&home, Module::azure());
    iis.await_version("v1");
    home.lose_change_events();
    // Moved, it is looked at once more.
    eventually(
        || iis.failure("it is at rest again"),
        || (home.log().matches("artifact detected").count() == 2).then_some(()),
    );
    under_load(&iis, || {
        home.begin_upload("v2").finish();
        iis.await_version("v2");
    });
}

#[test]
fn events_without_news_are_no_deploys() {
    let home = home();
    let iis = Iis::start(&home, Module::azure());
    iis.await_version("v1");
    under_load(&iis, || {
        home.deploy_again("v1", 20);
        home.deploy("v2");
        iis.await_version("v2");
    });
    assert_eq!(home.sidecars()[0].handoffs.len(), 2);
}

#[test]
fn two_machines_on_one_folder_deploy_alike_and_each_by_itself() {
    let home = home();
    let one = Iis::start_on(&home, Module::azure(), "one");
    let two = Iis::start_on(&home, Module::azure(), "two");
    one.await_version("v1");
    two.await_version("v1");
    under_load(&one, || {
        under_load(&two, || {
            home.deploy("v2");
            all_serve(&one, &home, 2, "v2");
            home.deploy("v3");
            all_serve(&two, &home, 2, "v3");
        });
    });
    // What ends on one machine goes on on the other.
    one.stop();
    // Without a job its app stays until the next one starts there. (The real sandbox ends with it.)
    #[cfg(unix)]
    one.await_no_processes();
    two.await_version("v3");
    home.deploy("v4");
    two.await_version("v4");
    one.await_version("v4");
}

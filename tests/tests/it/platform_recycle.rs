//! Recycles, several workers, and changes of `web.config`: more than one handoff on one folder.

use std::time::Duration;

use tests::eventually;
use tests::load::Load;
use tests::platform::{Event, Home, Iis, Module};
use tests::websocket::WebSocket;

fn home() -> Home {
    let home = Home::new();
    home.deploy("v1");
    home
}

fn worker_ended(event: &Event) -> bool {
    matches!(event, Event::WorkerEnded { .. })
}

#[test]
fn overlapped_recycles_under_load_lose_nothing() {
    for module in [Module::v1(), Module::azure()] {
        let home = home();
        let iis = Iis::start(&home, module);
        iis.await_version("v1");
        let load = Load::offer(iis.address(), 100);
        for count in 1..=3 {
            iis.recycle();
            iis.waits_for(count, "the old worker has ended", worker_ended);
            // The new one starts its own with its first request.
            iis.waits_for(count + 1, "the new one has started", |event| {
                matches!(event, Event::Started { .. })
            });
        }
        let tally = load.end();
        assert_eq!(
            tally.lost(),
            0,
            "{tally}; {}",
            iis.failure("nothing is lost")
        );
        assert_eq!(iis.starts(), 4);
        let cut = iis.count(|event| matches!(event, Event::WorkerEnded { cut } if *cut > 0));
        assert_eq!(cut, 0);
    }
}

#[test]
fn a_deploy_in_the_middle_of_a_recycle_reaches_both_sidecars() {
    let home = home();
    let iis = Iis::start(&home, Module::v1());
    iis.await_version("v1");
    // It keeps the first worker from ending.
    let (mut socket, _) = WebSocket::open(iis.connect());
    iis.recycle();
    iis.waits_for(1, "another worker", |event| *event == Event::Recycled);
    iis.await_version("v1");
    home.deploy("v2");
    iis.await_version("v2");
    eventually(
        || iis.failure("both have it"),
        || {
            let sidecars = home.sidecars();
            let both = sidecars.len() == 2 && sidecars.iter().all(|status| status.is_active("v2"));
            both.then_some(())
        },
    );
    assert_eq!(socket.echo("a").unwrap(), "a");
    iis.clock().advance(Duration::from_secs(90));
    iis.waits_for(1, "the first has ended", worker_ended);
    iis.await_version("v2");
    assert_eq!(iis.starts(), 2);
}

#[test]
fn a_touch_of_web_config_starts_it_anew_with_the_same_release() {
    let home = home();
    let iis = Iis::start(&home, Module::v1());
    iis.await_version("v1");
    home.deploy("v2");
    iis.await_version("v2");
    home.touch_web_config();
    iis.waits_for(1, "it is read again", |event| *event == Event::Reconfigured);
    iis.waits_for(1, "what ran is ended", |event| {
        matches!(event, Event::Stopped { .. })
    });
    iis.await_no_processes();
    iis.await_version("v2");
    assert_eq!(iis.starts(), 2);
}

#[test]
fn two_processes_take_turns_and_both_follow_a_deploy() {
    let edits = [(
        "processesPerApplication=\"1\"",
        "processesPerApplication=\"2\"",
    )];
    let home = Home::edited(&edits);
    home.deploy("v1");
    let iis = Iis::start(&home, Module::v1());
    iis.await_version("v1");
    iis.await_version("v1");
    assert_eq!(iis.starts(), 2);
    let load = Load::offer(iis.address(), 100);
    home.deploy("v2");
    eventually(
        || iis.failure("both serve it"),
        || {
            let sidecars = home.sidecars();
            let both = sidecars.len() == 2 && sidecars.iter().all(|status| status.is_active("v2"));
            both.then_some(())
        },
    );
    // One ends; the other serves on, and the module starts a third on demand.
    let tally = load.end();
    assert_eq!(
        tally.lost(),
        0,
        "{tally}; {}",
        iis.failure("nothing is lost")
    );
    iis.kill(iis.started()[0].0);
    iis.waits_for(1, "it has ended", |event| {
        matches!(event, Event::Crashed { .. })
    });
    for _ in 0..4 {
        iis.await_version("v2");
    }
    assert_eq!(iis.starts(), 3);
}

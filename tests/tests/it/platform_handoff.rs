//! handoff from the top-level `web.config`, on the simulated platform: it starts, serves, crashes
//! and ends there.

use std::thread;
use std::time::Duration;

use tests::load::Load;
use tests::platform::{Event, Home, Iis, Module};
use tests::websocket::WebSocket;
use tests::{Status, app, eventually};

/// Every platform that it may meet.
fn modules() -> [Module; 3] {
    // Version 2 is given what its comment in `web.config` asks for: see `home`.
    [Module::v1(), Module::azure(), Module::v2()]
}

fn home(module: Module) -> Home {
    let home = if module.asks {
        // Its schema lacks the attribute.
        Home::edited(&[("startupRetryCount=\"3\"", "")])
    } else {
        Home::new()
    };
    home.deploy("v1");
    home
}

/// The only sidecar's status, once it is so.
#[track_caller]
fn sidecar(iis: &Iis<'_>, home: &Home, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
    eventually(
        || iis.failure(&format!("{what}; status: {:#?}", home.sidecars())),
        || home.sidecars().into_iter().find(&is_so),
    )
}

fn is_crash(event: &Event) -> bool {
    matches!(event, Event::Crashed { .. })
}

#[test]
fn fifty_first_requests_at_once_are_all_answered() {
    for module in modules() {
        let home = home(module);
        let iis = Iis::start(&home, module);
        assert!(
            iis.processes().is_empty(),
            "nothing is started without a request"
        );
        thread::scope(|scope| {
            let clients: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| iis.get("/version")))
                .collect();
            for client in clients {
                let answer = client.join().unwrap();
                assert_eq!((answer.status, answer.text()), (200, "v1"), "{module:?}");
            }
        });
        assert_eq!(iis.starts(), 1, "one handoff serves them all");
    }
}

#[test]
fn deploys_under_load_lose_nothing() {
    for module in modules() {
        // A deploy takes less time than the slow requests: more releases than usual drain at once.
        let home = home(module).setting("HANDOFF_MAX_DRAINING", "20");
        let iis = Iis::start(&home, module);
        iis.await_version("v1");
        let load = Load::offer(iis.address(), 100);
        for version in ["v2", "v3", "v4"] {
            home.deploy(version);
            iis.await_version(version);
        }
        let tally = load.end();
        assert_eq!(
            tally.lost(),
            0,
            "{tally}; {}",
            iis.failure("nothing is lost")
        );
        assert!(tally.answered.len() >= 3, "{tally:?}");
        assert_eq!(iis.starts(), 1, "the module has seen nothing of it");
    }
}

#[test]
fn a_crash_of_the_app_goes_unseen_by_the_module() {
    for module in modules() {
        let home = home(module);
        let iis = Iis::start(&home, module);
        iis.await_version("v1");
        let first = sidecar(&iis, &home, "it serves", |status| status.active.is_some());
        let instance = first.active.clone().unwrap();
        iis.kill(instance.pid.unwrap());
        sidecar(&iis, &home, "another instance serves", |status| {
            let active = status.active.as_ref();
            active.is_some_and(|active| active.generation > instance.generation)
        });
        iis.await_version("v1");
        assert_eq!(iis.starts(), 1);
        assert_eq!(iis.count(is_crash), 0);
    }
}

#[test]
fn a_crash_of_handoff_leaves_no_orphan_and_the_next_request_starts_it_anew() {
    for module in modules() {
        let home = home(module);
        let iis = Iis::start(&home, module);
        iis.await_version("v1");
        iis.kill(iis.started()[0].0);
        iis.waits_for(1, "the crash is seen", is_crash);
        if cfg!(windows) && !module.has_jobs {
            // Its app is still there, and neither in a job nor known to the module.
            iis.await_version("v1");
            let log = || home.log();
            eventually(log, || {
                log().contains("a dead sidecar left behind").then_some(())
            });
        } else {
            iis.await_no_processes();
            iis.await_version("v1");
        }
        assert_eq!(iis.starts(), 2);
    }
}

#[test]
fn a_handoff_that_cannot_start_is_given_up_for_the_rest_of_the_minute() {
    let module = Module::v1();
    let home = Home::edited(&[("arguments=\"run ", "arguments=\"run --no-such-option ")]);
    let iis = Iis::start(&home, module);
    for _ in 0..4 {
        let answer = iis.get("/version");
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("502.5"), "{}", answer.text());
    }
    // Ten failures are allowed; the eleventh is the last start.
    assert_eq!(iis.starts(), 11);
    assert_eq!(iis.count(|event| *event == Event::Disabled), 2);
    assert!(
        home.log().contains("--no-such-option"),
        "the reason is in the log"
    );
    iis.clock().advance(Duration::from_secs(60));
    assert_eq!(iis.get("/version").status, 502);
    assert_eq!(
        iis.starts(),
        15,
        "a new minute, a new start and three retries"
    );
}

#[test]
fn a_first_release_that_is_slow_to_start_is_waited_for() {
    let module = Module::azure();
    let home = Home::new();
    home.deploy(app("v1").that("--ready-after=3s"));
    let iis = Iis::start(&home, module);
    assert_eq!(iis.get("/version").text(), "v1");
    assert_eq!(iis.starts(), 1);
}

#[test]
fn a_site_without_a_release_answers_503_itself_and_serves_the_first_that_comes() {
    let home = Home::new().setting("HANDOFF_FIRST_HOLD_TIMEOUT", "1s");
    let iis = Iis::start(&home, Module::azure());
    let answer = iis.get("/version");
    assert_eq!(answer.status, 503, "{}", answer.text());
    home.deploy("v1");
    eventually(
        || iis.failure("the first release serves"),
        || (iis.get("/version").status == 200).then_some(()),
    );
    assert_eq!(iis.starts(), 1);
}

#[test]
fn a_shutdown_request_ends_it_in_time_and_leaves_nothing() {
    let module = Module::v2();
    let home = home(module);
    let iis = Iis::start(&home, module);
    iis.await_version("v1");
    let (pid, _) = iis.started()[0];
    iis.stop();
    let asked = Event::Asked { pid, by: "request" };
    assert_eq!(iis.count(|event| *event == asked), 1, "{:#?}", iis.events());
    let stopped = Event::Stopped { pid, killed: false };
    assert_eq!(
        iis.count(|event| *event == stopped),
        1,
        "{:#?}",
        iis.events()
    );
    iis.await_no_processes();
    iis.await_version("v1");
}

#[test]
fn a_shutdown_request_without_the_token_is_a_request_like_any_other() {
    let module = Module::v2();
    let home = home(module);
    let iis = Iis::start(&home, module);
    iis.await_version("v1");
    let forged = "MS-ASPNETCORE-EVENT: shutdown\r\nMS-ASPNETCORE-TOKEN: guess\r\n\
                  Content-Length: 0\r\n";
    let mut client = iis.connect();
    client.send("POST", "/iisintegration", forged);
    assert_ne!(client.answer().unwrap().status, 202);
    iis.await_version("v1");
    assert_eq!(iis.starts(), 1);
}

#[test]
fn a_websocket_works_and_outlives_a_deploy() {
    for module in modules() {
        let home = home(module).setting("HANDOFF_TUNNEL_DRAIN_TIMEOUT", "1h");
        let iis = Iis::start(&home, module);
        iis.await_version("v1");
        let (mut socket, release) = WebSocket::open(iis.connect());
        assert_eq!(release, "v1");
        home.deploy("v2");
        iis.await_version("v2");
        assert_eq!(socket.echo("still here").unwrap(), "still here");
    }
}

#[test]
fn events_come_as_they_happen_where_the_module_does_not_collect_them() {
    let module = Module::v2();
    let home = home(module);
    let iis = Iis::start(&home, module);
    let mut stream = iis.connect();
    stream.send("GET", "/stream?events=2&every=3600000", "");
    assert_eq!(stream.head().unwrap().status, 200);
    assert!(stream.chunk().unwrap().is_some());
}

#[test]
fn uploads_and_downloads_are_whole() {
    for module in modules() {
        let home = home(module);
        let iis = Iis::start(&home, module);
        let mut client = iis.connect();
        client.send("POST", "/echo", "Content-Length: 300000\r\n");
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let mut writer = client.writer();
        thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut writer, &sent).unwrap());
            let answer = client.answer().unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.body == sent, "{module:?}");
        });
    }
}

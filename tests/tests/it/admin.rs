//! The admin port: who is answered there, and that its numbers are true.

use tests::stage::{GET, Stage};
use tests::status::Phase;
use tests::{Connection, Running, Site, app, file};

fn site() -> Site {
    Site::watching_a_pointer().with("--admin", "127.0.0.1:0")
}

/// Returns the number of answers of a class that a generation gave.
fn answers(site: &Running, generation: &str, code: &str) -> Option<f64> {
    let labels = [("generation", generation), ("code", code)];
    site.metrics().value("handoff_requests_total", &labels)
}

#[test]
fn requests_are_counted_by_code_and_generation_whichever_worker_serves_them() {
    let site = site().with("--workers", "3").start("v1");
    for _ in 0..7 {
        assert_eq!(site.get("/version").status, 200);
    }
    let mut kept = site.connect();
    for _ in 0..5 {
        assert_eq!(kept.get("/nothing-here").unwrap().status, 404);
    }
    assert_eq!(answers(&site, "1", "2xx"), Some(7.0));
    assert_eq!(answers(&site, "1", "4xx"), Some(5.0));
    assert_eq!(answers(&site, "1", "5xx"), Some(0.0));

    site.deploy("v2");
    site.await_active("v2");
    assert_eq!(kept.get("/version").unwrap().text(), "v2");
    assert_eq!(answers(&site, "2", "2xx"), Some(1.0));
    assert_eq!(answers(&site, "1", "2xx"), Some(7.0), "as before");

    let metrics = site.metrics();
    let first = [("generation", "1")];
    let times = metrics.buckets("handoff_request_duration_seconds", &first);
    let times = times.unwrap();
    assert_eq!(times.last().unwrap().count, 12.0, "{times:?}");
    assert!(times.last().unwrap().less_than.is_infinite());
    let count = metrics.value("handoff_request_duration_seconds_count", &first);
    assert_eq!(count, Some(12.0));
}

#[test]
fn how_long_an_answer_took_is_known() {
    let site = site().start("v1");
    assert_eq!(site.get("/slow?ms=600").status, 200);
    let metrics = site.metrics();
    let first = [("generation", "1")];
    let times = metrics.buckets("handoff_request_duration_seconds", &first);
    let within = |seconds: f64| {
        let mut times = times.unwrap().iter();
        times.find(|time| time.less_than == seconds).unwrap().count
    };
    assert_eq!((within(0.5), within(30.0)), (0.0, 1.0), "{times:?}");
    let sum = metrics.value("handoff_request_duration_seconds_sum", &first);
    assert!(sum.is_some_and(|sum| (0.6..60.0).contains(&sum)), "{sum:?}");
}

#[test]
fn what_is_in_flight_and_what_is_held_is_shown() {
    let site = site().start("v1");
    let upload = site.begin_upload("/upload");
    let first = [("generation", "1")];
    site.await_metric("handoff_in_flight_requests", &first, 1.0);
    assert_eq!(upload.finish().unwrap().status, 200);
    site.await_metric("handoff_in_flight_requests", &first, 0.0);

    let site = self::site().launch(app("v1").that("--never-ready"));
    let _waiting = [site.begin("/"), site.begin("/")];
    site.await_metric("handoff_held_requests", &[], 2.0);
    site.await_metric("handoff_client_connections", &[], 2.0);
}

#[test]
fn launches_are_counted_by_what_became_of_them_and_their_phases_are_timed() {
    let site = site().start("v1");
    site.deploy("v2");
    site.await_active("v2");
    site.deploy(app("v3").that("--exit-code=7"));
    site.wait_until("v3 is refused", |status| status.refusal("v3").is_some());
    let outcome = |outcome| {
        let metrics = site.metrics();
        metrics.value("handoff_handoffs_total", &[("outcome", outcome)])
    };
    site.await_metric("handoff_handoffs_total", &[("outcome", "refused")], 1.0);
    assert_eq!(outcome("promoted"), Some(2.0));
    let phases = "handoff_phase_duration_seconds_count";
    site.await_metric(phases, &[("phase", "start")], 2.0);
    site.await_metric(phases, &[("phase", "copy")], 3.0);
    site.await_metric(phases, &[("phase", "stop")], 1.0);
    let labels = [("generation", "2"), ("state", "active")];
    site.await_metric("handoff_instance", &labels, 1.0);
    let metrics = site.metrics();
    assert_eq!(metrics.value("handoff_app_restarts_total", &[]), Some(0.0));
    let own = metrics.value("process_resident_memory_bytes", &[]).unwrap();
    assert!(own > 1e6, "{own}");
    let apps = metrics.value("handoff_instance_resident_memory_bytes", &labels[..1]);
    assert!(apps.unwrap() > 1e5, "{apps:?}");
}

#[test]
fn a_client_that_does_not_ask_for_open_metrics_gets_text_with_the_build() {
    let site = site().start("v1");
    let answer = site.look("/metrics");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = answer.text();
    assert!(
        text.contains("# TYPE handoff_requests_total counter\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"), "{text}");
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(
        site.metrics().value("handoff_build_info", &build),
        Some(1.0)
    );
}

#[cfg(unix)]
#[test]
fn the_memory_of_an_app_is_that_of_all_its_processes() {
    // The child holds 40 MB: a line without end, which its `sort` awaits.
    let script = "(head -c 40000000 /dev/zero; sleep 600) | sort > /dev/null & \
        exec \"$0\" -port \"$1\"";
    let site = site().running(&["sh", "-c", script, "{artifact}", "{port}"]);
    let site = site.start("v1");
    let name = "handoff_instance_resident_memory_bytes";
    tests::eventually(
        || "the memory of its child counts".to_owned(),
        || {
            let value = site.metrics().value(name, &[("generation", "1")]);
            (value.unwrap_or_default() > 4e7).then_some(())
        },
    );
    let status: tests::Status = serde_json::from_slice(&site.look("/status").body).unwrap();
    let memory = status.active.as_ref().and_then(|it| it.memory_bytes);
    assert!(memory.is_some_and(|bytes| bytes > 40_000_000), "{memory:?}");
}

#[cfg(unix)]
#[test]
fn an_app_that_is_started_again_is_counted() {
    let site = site().start("v1");
    let pid = site.status().active.clone().unwrap().pid.unwrap();
    tests::processes::signal(pid, rustix::process::Signal::KILL);
    site.wait_until("it is back", |status| status.generation() == Some(2));
    site.await_metric("handoff_app_restarts_total", &[], 1.0);
}

#[test]
fn what_is_sent_again_and_what_stays_unanswered_is_counted() {
    let stage = Stage::with(&[("--admin", "127.0.0.1:0")]);
    let (mut client, mut app) = stage.kept();
    client.send(GET);
    app.head();
    drop(app);
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer_head();
    let site = stage.site();
    site.await_metric("handoff_retries_total", &[("reason", "closed")], 1.0);
    site.await_metric("handoff_unanswered_requests_total", &[], 0.0);

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    app.head();
    drop(app);
    client.expect_refusal(502);
    site.await_metric("handoff_unanswered_requests_total", &[], 1.0);
    assert_eq!(answers(site, "1", "5xx"), Some(1.0));
    site.await_metric("handoff_retries_total", &[("reason", "closed")], 1.0);
}

#[test]
fn what_is_cut_is_counted() {
    let stage = Stage::with(&[("--admin", "127.0.0.1:0"), ("--drain-timeout", "500ms")]);
    let mut client = stage.client_sends(GET);
    let mut app = stage.app();
    app.head();
    stage.swap();
    client.expect_refusal(504);
    let request = [("class", "request")];
    stage
        .site()
        .await_metric("handoff_evictions_total", &request, 1.0);
    assert_eq!(answers(stage.site(), "1", "5xx"), Some(1.0));
}

/// A named pipe that nobody reads is a share that hangs.
#[cfg(unix)]
#[test]
fn lines_that_nobody_takes_are_counted_and_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let pipe = folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        pipe.to_str().unwrap().to_owned()
    };
    let talks =
        "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 12000000; exec {artifact} -port {port}";
    let site = site()
        .with("--app-log", &pipe("app"))
        .with("--access-log", &pipe("access"))
        .running(&["sh", "-c", talks])
        .start("v1");
    let mut client = site.connect();
    let long = format!("/version?{}", "x".repeat(15_000));
    for _ in 0..400 {
        assert_eq!(client.get(&long).unwrap().status, 200);
    }
    for log in ["app-log", "access-log"] {
        tests::eventually(
            || format!("lines of the {log} are dropped"),
            || {
                let labels = [("log", log)];
                let dropped = site
                    .metrics()
                    .value("handoff_dropped_log_lines_total", &labels);
                (dropped? > 0.0).then_some(())
            },
        );
    }
    let own = site
        .metrics()
        .value("handoff_dropped_log_lines_total", &[("log", "log")]);
    assert_eq!(own, Some(0.0));
}

#[test]
fn what_handoff_answers_itself_has_no_generation() {
    let site = site()
        .with("--first-hold-timeout", "100ms")
        .launch(app("v1").that("--never-ready"));
    assert_eq!(site.get("/").status, 503);
    assert_eq!(answers(&site, "none", "5xx"), Some(1.0));
}

#[test]
fn it_is_ready_while_an_instance_gets_the_requests() {
    let site = site().launch(file("nothing", b"not a program"));
    assert_eq!(site.look("/healthz").status, 200);
    let answer = site.look("/readyz");
    assert_eq!(answer.status, 503);
    site.wait_until("it has failed", |status| status.last_failure.is_some());
    let answer = site.look("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("nothing"), "{answer:?}");
    site.deploy("v1");
    site.await_active("v1");
    let answer = site.look("/readyz");
    assert_eq!((answer.status, answer.text()), (200, "ready\n"));
}

#[test]
fn it_is_not_ready_any_more_when_it_shuts_down() {
    let site = site().with("--shutdown-delay", "5s").start("v1");
    // In flight, it keeps handoff from ending before it has been looked at.
    let upload = site.begin_upload("/upload");
    let admin = site.admin();
    site.ask_to_stop();
    site.wait_until("it stops", |status| status.phase == Phase::Stopping);
    let mut connection = Connection::open(admin).unwrap();
    connection.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("shutting down"), "{answer:?}");
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[test]
fn the_status_is_the_status_files() {
    let site = site().start("v1");
    let answer = site.look("/status");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let status: tests::Status = serde_json::from_slice(&answer.body).unwrap();
    assert!(status.is_active("v1"));
    assert_eq!(status.listen, site.address());
}

#[test]
fn only_this_machine_is_answered_and_nothing_can_be_changed() {
    let site = site().start("v1");
    let host = "Host: 127.0.0.1:1\r\n";
    assert_eq!(site.look_as("GET", "/status", host).status, 200);
    let rebound = site.look_as("GET", "/status", "Host: evil.example\r\n");
    assert_eq!(rebound.status, 421);
    assert!(!rebound.text().contains("v1"), "{rebound:?}");
    assert_eq!(site.look_as("GET", "/status", "").status, 421);
    let origin = format!("{host}Origin: https://evil.example\r\n");
    let answer = site.look_as("GET", "/status", &origin);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let site_of = format!("{host}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(site.look_as("GET", "/events", &site_of).status, 403);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let length = format!("{host}Content-Length: 0\r\n");
        let answer = site.look_as(method, "/status", &length);
        assert_eq!(answer.status, 405, "{method}");
    }
    assert_eq!(site.look("/nothing").status, 404);

    let page = site.look("/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
}

#[test]
fn the_public_port_shows_nothing_of_it() {
    let site = site().start("v1");
    for target in ["/metrics", "/events", "/readyz"] {
        assert_eq!(site.get(target).status, 404, "{target} is the app's");
    }
    let without = Site::watching_a_pointer().start("v1");
    assert_eq!(without.status().admin, None);
}

#[test]
fn two_sidecars_with_one_admin_port_both_serve_and_the_second_gets_it_later() {
    let first = site().start("v1");
    let port = first.admin().to_string();
    let second = Site::watching_a_pointer().with("--admin", &port);
    let second = second.launch_in(first.deployment());
    second.await_active("v1");
    assert_eq!(second.get("/version").text(), "v1");
    second.await_log("the admin port is in use");
    first.kill();
    second.await_log("the status page is at");
    let answer = second.look("/status");
    let status: tests::Status = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(status.listen, second.address());
}

#[test]
fn events_come_as_they_happen_and_bounded() {
    let site = site().start("v1");
    let mut follower = follow(&site);
    follower.sees("event: status");
    follower.sees("event: log");
    follower.sees("listening");
    site.deploy("v2");
    follower.sees("\"superseded_generation\":1");
    follower.sees("event: traffic");

    let followers: Vec<Follower> = (0..16).map(|_| follow(&site)).collect();
    // The oldest has given way to the others; its page connects again.
    while follower.connection.chunk().expect("a proper end").is_some() {}
    assert!(followers.iter().all(|other| !other.connection.has_ended()));
}

#[test]
fn connections_that_ask_nothing_keep_nobody_from_the_admin_port() {
    let site = site().start("v1");
    let silent: Vec<_> = (0..200)
        .map(|_| Connection::open(site.admin()).expect("a connection"))
        .collect();
    assert_eq!(site.look("/healthz").status, 200);
    drop(silent);
}

/// One who follows the events.
struct Follower {
    connection: Connection,
    read: String,
}

fn follow(site: &Running) -> Follower {
    let mut connection = Connection::open(site.admin()).expect("the admin port");
    connection.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = connection.head().expect("an answer");
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let read = String::new();
    Follower { connection, read }
}

impl Follower {
    /// Reads on until this has come.
    #[track_caller]
    fn sees(&mut self, part: &str) {
        while !self.read.contains(part) {
            let chunk = self.connection.chunk();
            let chunk = chunk.unwrap_or_else(|error| panic!("{part:?} comes, not: {error}"));
            let chunk = chunk.expect("events without end");
            self.read.push_str(&String::from_utf8_lossy(&chunk));
            assert!(self.read.len() < 10 << 20, "{part:?} comes soon");
        }
    }
}

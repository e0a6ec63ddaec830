//! Sessions that stay at the release on which they began (`--sticky`), until they end.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::websocket::WebSocket;
use tests::{Answer, Running, Site, app, eventually, folder, tools};

use crate::maintenance::asks;

/// The cookies of one client, which opens a connection for each request.
#[derive(Default)]
pub(crate) struct Browser(BTreeMap<String, String>);

impl Browser {
    pub(crate) fn ask(&mut self, site: &Running, target: &str, fields: &str) -> Answer {
        let cookies: Vec<_> = self.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut connection = site.connect();
        let cookies = cookies.join("; ");
        connection.send("GET", target, &format!("Cookie: {cookies}\r\n{fields}"));
        let answer = connection.answer().expect("an answer");
        let set = answer.headers.iter().filter(|it| it.0 == "set-cookie");
        for (_, cookie) in set {
            let pair = cookie.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("NAME=VALUE");
            self.0.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    /// Asks for the session, whose requests the app counts in its memory.
    pub(crate) fn session(&mut self, site: &Running) -> String {
        let answer = self.ask(site, "/session", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().trim_end().to_owned()
    }
}

pub(crate) fn shown(count: u32, version: &str) -> String {
    format!("request {count} of the session at {version}")
}

pub(crate) fn sticky() -> Site {
    Site::watching_a_pointer().with("--sticky", "cookie")
}

fn deploy(site: &Running, version: &'static str) {
    site.deploy(app(version));
    site.await_active(version);
}

/// Two clients with a session each at `v1`, which `v2` supersedes.
fn superseded(site: Site) -> (Running, [Browser; 2]) {
    let site = site.start("v1");
    let mut clients = [Browser::default(), Browser::default()];
    for client in &mut clients {
        assert_eq!(client.session(&site), shown(1, "v1"));
    }
    deploy(&site, "v2");
    (site, clients)
}

#[test]
fn a_session_in_an_apps_memory_outlives_handoffs_and_new_clients_get_the_new_release() {
    let (site, mut clients) = superseded(sticky());
    deploy(&site, "v3");
    for count in 2..5 {
        for client in &mut clients {
            assert_eq!(client.session(&site), shown(count, "v1"), "{}", site.log());
        }
        assert_eq!(Browser::default().session(&site), shown(1, "v3"));
    }
    let status = site.wait_until("both sessions are counted", |status| {
        let of_v1 = status
            .draining
            .iter()
            .find(|it| it.release.to_string().starts_with("v1"));
        of_v1.is_some_and(|it| it.sessions == Some(2))
    });
    assert!(
        status.draining[0].sessions_until_ms.is_some(),
        "{status:#?}"
    );
    // Nobody had a session at v2.
    site.wait_until("v2 is gone", |status| {
        !status.is_draining("v2") && status.stopping.is_empty()
    });
    let shown = site.deployment().run_command("status", &[]).with(0);
    shown.saying(&["2 sessions, for "]);
}

#[test]
fn without_the_option_it_is_lost_with_the_release_and_no_cookie_is_set() {
    let (site, mut clients) = superseded(Site::watching_a_pointer());
    assert!(!clients[0].0.contains_key("handoff"));
    assert_eq!(clients[0].session(&site), shown(1, "v2"));
}

#[test]
fn the_cookie_is_opaque_has_its_attributes_and_is_set_once() {
    let site = Site::watching_a_pointer()
        .with("--sticky", "cookie=stay")
        .start("v1");
    let mut client = Browser::default();
    let answer = client.ask(
        &site,
        "/version",
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
    );
    let cookie = answer.header("set-cookie").expect("a cookie");
    let value = client.0["stay"].clone();
    let attributes = "; Path=/; HttpOnly; SameSite=Lax; Secure";
    assert_eq!(cookie, format!("stay={value}{attributes}"));
    assert!(!value.contains("v1"), "{value}");
    assert_eq!(client.ask(&site, "/version", "").header("set-cookie"), None);
    client.0.insert("stay".to_owned(), "forged".to_owned());
    let answer = client.ask(&site, "/version", "");
    let cookie = answer.header("set-cookie").expect("another cookie");
    assert!(cookie.ends_with("; SameSite=Lax"), "{cookie}");
}

#[test]
fn sessions_end_when_no_client_has_come_for_the_idle_time() {
    let (site, mut clients) = superseded(sticky().with("--session-idle", "2s"));
    assert_eq!(clients[0].session(&site), shown(2, "v1"));
    let before = clients[0].0["handoff"].clone();
    site.wait_until("v1 is gone", |status| status.is_at_rest());
    assert_eq!(clients[0].session(&site), shown(1, "v2"));
    assert_ne!(clients[0].0["handoff"], before);
    deploy(&site, "v3");
    assert_eq!(clients[0].session(&site), shown(2, "v2"));
}

#[test]
fn they_end_after_their_time_also_in_use_and_their_websockets_close() {
    let (site, mut clients) = superseded(
        sticky()
            .with("--session-timeout", "3s")
            .with("--tunnel-drain-timeout", "1s"),
    );
    assert_eq!(clients[0].session(&site), shown(2, "v1"));
    eventually(
        || format!("the session moves; the log:\n{}", site.log()),
        || (clients[0].session(&site) == shown(1, "v2")).then_some(()),
    );
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn a_websocket_stays_open_beyond_the_grace_of_tunnels_while_sessions_go_on() {
    let site = sticky()
        .with("--tunnel-drain-timeout", "100ms")
        .with("--session-idle", "1s")
        .start("v1");
    let (mut socket, release) = WebSocket::open(site.connect());
    assert_eq!(release, "v1");
    deploy(&site, "v2");
    site.wait_until("the grace of tunnels is over", |status| {
        let v1 = status.draining.first();
        v1.is_some_and(|v1| status.heartbeat_ms.0 > v1.since_ms.0 + 2_000)
    });
    assert_eq!(socket.echo("still here").unwrap(), "still here");
    assert!(site.status().is_draining("v1"));
    drop(socket);
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[cfg(unix)]
#[test]
fn a_crash_moves_sessions_at_once() {
    let (site, mut clients) = superseded(sticky());
    let status = site.status();
    let pid = status.draining[0].pid.expect("a process");
    tests::processes::signal(pid, rustix::process::Signal::KILL);
    eventually(
        || "its sockets are closed".to_owned(),
        || tests::processes::is_reaped(pid).then_some(()),
    );
    assert_eq!(clients[0].session(&site), shown(1, "v2"));
    assert_eq!(clients[1].session(&site), shown(1, "v2"));
    site.wait_until("v1 is gone", |status| status.is_at_rest());
}

#[test]
fn a_rollback_moves_the_sessions_of_what_it_leaves_and_finds_those_it_returns_to() {
    let (site, mut clients) = superseded(sticky());
    let mut new = Browser::default();
    assert_eq!(new.session(&site), shown(1, "v2"));
    site.ask(r#"{"serial":1,"rollback":{"to":null,"serial":1}}"#);
    site.await_active("v1");
    assert_eq!(new.session(&site), shown(1, "v1"));
    assert_eq!(clients[0].session(&site), shown(2, "v1"));
    assert_eq!(new.session(&site), shown(2, "v1"));
}

#[test]
fn the_oldest_of_too_many_superseded_releases_ends_and_its_sessions_move() {
    let (site, mut clients) = superseded(sticky().with("--max-draining", "1"));
    let mut second = Browser::default();
    assert_eq!(second.session(&site), shown(1, "v2"));
    deploy(&site, "v3");
    assert_eq!(clients[0].session(&site), shown(1, "v3"));
    assert_eq!(second.session(&site), shown(2, "v2"));
    site.wait_until("v1 is gone", |status| {
        !status.is_draining("v1") && status.is_draining("v2")
    });
}

#[test]
fn a_session_is_no_way_past_a_pause_and_is_found_again_after_it() {
    let (site, mut clients) = superseded(sticky());
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let until = in_an_hour.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let pause = format!(r#"{{"serial":1,"pause":{{"until_ms":{until},"max_ms":600000}}}}"#);
    site.ask(&pause);
    site.wait_until("it is paused", |status| status.paused.is_some());
    thread::scope(|scope| {
        let held = scope.spawn(|| clients[0].session(&site));
        site.wait_until("it is held", |status| status.held == 1);
        site.ask(r#"{"serial":2,"pause":null}"#);
        assert_eq!(held.join().unwrap(), shown(2, "v1"));
    });
}

#[test]
fn a_session_is_no_way_past_a_maintenance_and_is_found_again_after_it() {
    let (site, mut clients) = superseded(sticky());
    asks(site.deployment(), &["on"]).with(0);
    for client in &mut clients {
        assert_eq!(client.ask(&site, "/session", "").status, 503);
    }
    asks(site.deployment(), &["off"]).with(0);
    for client in &mut clients {
        assert_eq!(client.session(&site), shown(2, "v1"));
    }
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn the_cookies_of_a_request_reach_the_app_as_they_are() {
    const APP: &str = "import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = repr(self.headers.get('Cookie')).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";
    if !tools::has("python3") {
        return;
    }
    let site = sticky().running(&["python3", "app.py", "{port}"]);
    let site = site.start(folder("python", &[("app.py", APP)]));
    let mut client = Browser::default();
    client.0.insert("a".to_owned(), "1".to_owned());
    client.0.insert("z".to_owned(), "2".to_owned());
    assert_eq!(client.ask(&site, "/", "").text(), "'a=1; z=2'");
    let session = client.0["handoff"].clone();
    for _ in 0..2 {
        let seen = client.ask(&site, "/", "").text().to_owned();
        assert_eq!(seen, format!("'a=1; handoff={session}; z=2'"));
    }
}

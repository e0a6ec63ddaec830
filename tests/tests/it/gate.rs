//! A release proves itself as its users will see it, before they do.

use tests::status::Outcome;
use tests::tools::has;
use tests::{Release, Running, Site, file};

/// An app whose answers `answer` says: a function of the request, its path and whether its client
/// came by https.
pub(crate) fn answering(version: &str, answer: &str) -> Release {
    const APP: &str = r#"
import socket, sys, threading
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
def status(code, body="ok", fields=""):
    head = "HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n"
    return (head % (code, len(body), fields) + body).encode()
def to(location):
    return status(302, "", "Location: " + location + "\r\n")
def answer(request, path, https):
    if path == "/version": return status(200, VERSION)
    ANSWER
def serve(stream):
    request = stream.recv(65536)
    words = request.split(b" ")
    path = words[1].decode() if len(words) > 1 else ""
    stream.sendall(answer(request, path, b"x-forwarded-proto: https" in request.lower()))
    stream.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;
    let app = APP.replace("ANSWER", answer);
    let app = app.replace("VERSION", &format!("{version:?}"));
    file(version, app.as_bytes())
}

/// A deployment of such apps, in which `v1` answers everything with 200.
fn site(options: &[(&str, &str)]) -> Option<Running> {
    if !has("python3") {
        return None;
    }
    let command = ["python3", "{artifact}", "{port}"];
    let site = Site::watching_a_pointer().running(&command);
    let site = options
        .iter()
        .fold(site, |site, (key, value)| site.with(key, value));
    let site = site.with("--deploy-timeout", "3s");
    Some(site.start(answering("v1", "return status(200)")))
}

/// Returns the reason for which `v2` is refused, while `v1` serves on.
#[track_caller]
fn refusal(site: &Running, answer: &str) -> String {
    site.deploy(answering("v2", answer));
    let status = site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    assert!(status.is_active("v1"));
    status.last_failure.clone().expect("a failure").reason
}

#[test]
fn one_that_speaks_tls_is_refused_and_named() {
    let Some(site) = site(&[]) else { return };
    // Go, nginx and Tomcat answer plain HTTP so.
    let tls = r#"return b"\x15\x03\x01\0\x02\x02\x28" if request[:1] == b"\x16" else status(400)"#;
    let reason = refusal(&site, tls);
    assert!(
        reason.contains("it speaks TLS (https) on its port"),
        "{reason}"
    );
}

#[test]
fn one_that_speaks_http2_is_refused_and_named() {
    let Some(site) = site(&[]) else { return };
    let http2 = r#"return b"\0\0\0\x04" + b"\0" * 5 if request[:3] == b"PRI" else b"""#;
    let reason = refusal(&site, http2);
    assert!(reason.contains("it speaks HTTP/2 on its port"), "{reason}");
}

#[test]
fn one_that_calls_bad_what_the_active_one_answers_is_refused() {
    let Some(site) = site(&[]) else { return };
    let reason = refusal(&site, "return status(400)");
    assert!(
        reason.contains("the active release answers 200"),
        "{reason}"
    );
    // That status may be what is expected, and then it counts.
    let site = self::site(&[("--health-status", "200-499")]).expect("Python");
    site.deploy(answering("v2", "return status(400)"));
    site.await_active("v2");
}

#[test]
fn one_that_redirects_to_https_is_judged_by_its_answer_there() {
    let Some(site) = site(&[]) else { return };
    let broken = r#"return status(500) if https else to("https://example.org" + path)"#;
    let reason = refusal(&site, broken);
    assert!(
        reason.contains("GET /, asked as https, answered 500"),
        "{reason}"
    );
    let good = r#"return status(200) if https else to("https://example.org" + path)"#;
    site.deploy(answering("v3", good));
    let active = site.await_active("v3").active.clone();
    let note = active.expect("an active one").note.expect("a note");
    assert!(note.contains("asked as https"), "{note}");
}

#[test]
fn a_redirect_elsewhere_is_no_sign_of_health_where_a_path_is_given() {
    let Some(site) = site(&[("--health-path", "/up")]) else {
        return;
    };
    let login = r#"return status(200) if path == "/login" else to("/login")"#;
    let reason = refusal(&site, login);
    assert!(reason.contains("with the Location /login"), "{reason}");
}

#[test]
fn the_answer_has_to_contain_the_text() {
    let Some(site) = site(&[("--health-body", "ok")]) else {
        return;
    };
    let reason = refusal(&site, r#"return status(200, "Directory listing")"#);
    assert!(reason.contains("without \"ok\" in its body"), "{reason}");
}

#[test]
fn further_fields_are_sent_with_every_check() {
    let fields = [
        ("--health-header", "X-Forwarded-Proto: https"),
        ("--warmup", "/warm"),
    ];
    let Some(site) = site(&fields) else { return };
    site.deploy(answering("v2", "return status(200 if https else 500)"));
    let active = site
        .await_active("v2")
        .active
        .clone()
        .expect("an active one");
    assert_eq!(active.note, None, "the warm-up too");
    site.deploy(answering(
        "v3",
        r#"return status(503 if path == "/warm" else 200)"#,
    ));
    let active = site
        .await_active("v3")
        .active
        .clone()
        .expect("an active one");
    let note = active.note.expect("a note");
    assert!(note.contains("GET /warm was answered with 503"), "{note}");
}

//! The log: state changes, requests, apps' output, and who is told at once.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tests::stage::{OK, Stage, field};
use tests::{Running, Site, app, eventually};

/// The lines of a file that is written meanwhile, once there are so many.
#[track_caller]
pub(crate) fn lines(path: &PathBuf, count: usize) -> Vec<String> {
    eventually(
        || format!("{path:?} has {count} lines: {:?}", fs::read_to_string(path)),
        || {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count && text.ends_with('\n')).then_some(lines)
        },
    )
}

/// Returns from, to and reason of each change of a generation, in order.
fn changes(site: &Running, generation: u64) -> Vec<[String; 3]> {
    let log = site.log();
    let all = log.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = &line["fields"];
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        let is_change = fields["generation"].as_u64()? == generation && text("from").is_some();
        is_change.then(|| {
            assert!(text("release").is_some(), "{line}");
            ["from", "to", "reason"].map(|name| text(name).unwrap_or_default())
        })
    });
    all.collect()
}

#[test]
fn each_change_of_a_state_is_told_once_with_its_reason() {
    let site = Site::watching_a_pointer()
        .with("--log-format", "json")
        .with("--bake", "300ms")
        .start("v1");
    site.deploy("v2");
    site.wait_until("v1 is gone", |status| {
        status.is_active("v2") && status.is_at_rest() && status.standby.is_none()
    });
    site.deploy(app("v3").that("--exit-code=7"));
    site.wait_until("v3 is refused", |status| status.refusal("v3").is_some());
    let steps = |generation| -> Vec<(String, String)> {
        let changes = changes(&site, generation).into_iter();
        changes.map(|[from, to, _]| (from, to)).collect()
    };
    let chain = |states: &[&str]| -> Vec<(String, String)> {
        let pairs = states.windows(2);
        pairs
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect()
    };
    let first = [
        "nothing",
        "candidate",
        "active",
        "draining",
        "standby",
        "stopping",
        "gone",
    ];
    assert_eq!(steps(1), chain(&first));
    assert_eq!(steps(2), chain(&first[..3]));
    assert_eq!(steps(3), chain(&["nothing", "candidate", "gone"]));
    let reasons = |generation| -> Vec<String> {
        let changes = changes(&site, generation).into_iter();
        changes.map(|[_, _, reason]| reason).collect()
    };
    let reasons = [reasons(1), reasons(2), reasons(3)].concat();
    for part in [
        "a new artifact",
        "generation 2 is ready",
        "generation 1 has nothing in flight",
        "generation 2 has ended its trial",
        // "exit status" on Unix, "exit code" on Windows.
        ": 7",
    ] {
        let said = reasons.iter().any(|reason| reason.contains(part));
        assert!(said, "{part:?}: {reasons:?}");
    }
    assert!(
        reasons.iter().all(|reason| !reason.is_empty()),
        "{reasons:?}"
    );
}

#[test]
fn a_request_is_a_line_when_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logs/access.log");
    let site = Site::watching_a_pointer()
        .with("--access-log", file.to_str().unwrap())
        .start("v1");
    site.get("/version");
    site.get("/slow?ms=1&bytes=100000");
    let mut kept = site.connect();
    kept.send("POST", "/upload", "Content-Length: 3\r\n");
    kept.write(b"abc");
    assert_eq!(kept.answer().unwrap().status, 200);
    assert_eq!(kept.get("/none").unwrap().status, 404);
    let lines = lines(&file, 4);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let version = lines.iter().find(|line| line.contains("/version")).unwrap();
    assert!(version.starts_with("127.0.0.1 - - ["), "{version}");
    assert!(
        version.ends_with("] \"GET /version HTTP/1.1\" 200 2"),
        "{version}"
    );
    let slow = lines.iter().find(|line| line.contains("/slow")).unwrap();
    assert!(slow.ends_with("\" 200 100000"), "{slow}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"POST /upload HTTP/1.1\" 200 "))
    );
}

#[test]
fn requests_are_told_as_json_with_who_answered_and_who_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.json");
    let site = Site::watching_a_pointer()
        .with("--access-log", file.to_str().unwrap())
        .with("--access-log-format", "json")
        .with_variable("HANDOFF_REQUEST_ID", "true")
        .start("v1");
    let mut client = site.connect();
    client.send("GET", "/version", "X-Request-ID: abc-1\r\nReferer: \"\r\n");
    let answer = client.answer().unwrap();
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let mut left = site.begin("/slow?ms=60000");
    left.writer().shutdown(std::net::Shutdown::Both).unwrap();
    assert!(left.answer().is_err());
    let lines = lines(&file, 2);
    let json: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |target: &str| json.iter().find(|line| line["target"] == target).unwrap();
    let version = of("/version");
    assert_eq!(version["status"], 200);
    assert_eq!(version["generation"], 1);
    assert_eq!(version["request_id"], "abc-1");
    assert_eq!(version["referer"], "\"");
    assert_eq!(version["complete"], true);
    assert!(version["ms"].as_f64().unwrap() > 0.0);
    assert_eq!(of("/slow?ms=60000")["status"], 499);
    assert_eq!(of("/slow?ms=60000")["complete"], false);
}

#[test]
fn an_answer_that_breaks_off_is_told_as_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.json");
    let options = [
        ("--access-log", file.to_str().unwrap()),
        ("--access-log-format", "json"),
    ];
    let stage = Stage::with(&options);
    let mut client = stage.client_sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = stage.app();
    app.head();
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    drop(app);
    client.rest();
    let line: Value = serde_json::from_str(&lines(&file, 1)[0]).unwrap();
    assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &3.into()));
    assert_eq!(line["complete"], false);
}

#[test]
fn a_request_gets_an_id_that_has_none_and_trace_fields_pass_as_they_came() {
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let state = "tracestate: a=1,b=2";
    let stage = Stage::with(&[("HANDOFF_REQUEST_ID", "true")]);
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{trace}\r\n{state}\r\n\r\n");
    let mut client = stage.client_sends(&request);
    let mut app = stage.app();
    let head = app.head();
    assert!(head.contains(trace) && head.contains(state), "{head}");
    let made = field(&head, "x-request-id").unwrap().to_owned();
    assert_eq!(made.len(), 32, "{made}");
    app.send(OK);
    let answer = client.answer_head();
    assert_eq!(
        field(&answer, "x-request-id"),
        Some(made.as_str()),
        "{answer}"
    );

    let stage = Stage::new();
    let _client = stage.client_sends(&request);
    let head = stage.app().head();
    assert!(head.contains(trace), "{head}");
    assert_eq!(
        field(&head, "x-request-id"),
        None,
        "not unless it is asked for"
    );
}

#[cfg(unix)]
#[test]
fn what_an_app_writes_goes_where_it_is_wanted() {
    let script = "#!/bin/sh\necho '{\"a\": 1}'\nprintf 'no end of line' >&2\nexit 3\n";
    let talks = |name: &str| tests::file(name, script.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.log");
    let site = Site::watching_a_pointer()
        .with("--app-log", file.to_str().unwrap())
        .launch(talks("talks"));
    let status = site.wait_until("it has ended", |status| status.last_failure.is_some());
    let output = status.last_failure.clone().unwrap().output;
    assert!(output.contains(&"{\"a\": 1}".to_owned()), "{output:?}");
    let said = lines(&file, 2);
    let marked = |part: &str| {
        said.iter()
            .any(|line| line.starts_with("1 talks-") && line.ends_with(part))
    };
    assert!(
        marked(" | {\"a\": 1}") && marked(" | no end of line"),
        "{said:?}"
    );
    assert!(!site.log().contains("no end of line"), "not in the log too");

    let site = Site::watching_a_pointer()
        .with("--app-log", "raw")
        .launch(talks("talks"));
    let said = lines(&site.output(), 2);
    assert!(
        said.contains(&"{\"a\": 1}".to_owned()),
        "as it came: {said:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_long_line_of_json_stays_one_line() {
    let text = format!("{{\"a\": \"{}\"}}", "x".repeat(30_000));
    let script = format!("#!/bin/sh\necho '{text}'\nexit 3\n");
    let site = Site::watching_a_pointer()
        .with("--app-log", "raw")
        .launch(tests::file("talks", script.as_bytes()));
    assert_eq!(lines(&site.output(), 1)[0], text);
}

#[cfg(unix)]
#[test]
fn somebody_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let script = folder.path().join("tell.sh");
    let text = format!("cat >> {}\nenv | grep HANDOFF_ && exit 1\n", told.display());
    fs::write(&script, text + "exit 0\n").unwrap();
    let site = Site::watching_a_pointer()
        .with("--on-event", &format!("sh {}", script.display()))
        .start("v1");
    let promoted: Value = serde_json::from_str(&lines(&told, 1)[0]).unwrap();
    assert_eq!(promoted["event"], "promoted");
    assert!(promoted["took_ms"].is_u64(), "{promoted}");
    site.deploy(app("v2").that("--exit-code=7"));
    let refused: Value = serde_json::from_str(&lines(&told, 2)[1]).unwrap();
    assert_eq!(refused["event"], "refused");
    assert_eq!(refused["generation"], 2);
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("exit status: 7"), "{refused}");
    assert!(
        refused["output"][0]
            .as_str()
            .unwrap()
            .contains("sample-app")
    );

    let pid = site.status().active.clone().unwrap().pid.unwrap();
    tests::processes::signal(pid, rustix::process::Signal::KILL);
    let all: Vec<Value> = lines(&told, 5)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&all[2]["event"], &all[2]["generation"]),
        (&"crashed".into(), &1.into())
    );
    assert_eq!(
        (&all[4]["event"], &all[4]["generation"]),
        (&"recovered".into(), &3.into())
    );
    assert_eq!(all[3]["event"], "promoted");
    assert!(all[4]["release"].as_str().unwrap().starts_with("v1-"));
    assert!(!site.log().contains("--on-event failed"), "{}", site.log());
}

#[cfg(unix)]
#[test]
fn who_is_told_and_hangs_holds_up_nothing() {
    let site = Site::watching_a_pointer()
        .with("--on-event", "sleep 600")
        .start("v1");
    site.deploy(app("v2").that("--exit-code=7"));
    site.wait_until("v2 is refused", |status| status.refusal("v2").is_some());
    site.deploy("v3");
    site.await_version("v3");
    // Its end ends the command too, which is seen when the site is dropped.
}

#[cfg(unix)]
#[test]
fn a_line_of_the_app_starts_with_its_origin_and_json_says_it_in_fields_with_types() {
    let script = "#!/bin/sh\necho to stdout\nprintf 'to \\033[2Jstderr\\n' >&2\nexit 3\n";
    let talks = || tests::file("talks", script.as_bytes());
    let site = Site::watching_a_pointer().launch(talks());
    site.await_log("to stdout");
    let log = site.log();
    let line = log
        .lines()
        .find(|line| line.ends_with("to stdout"))
        .unwrap();
    let (_, after_time) = line.split_once(' ').unwrap();
    assert!(after_time.starts_with("app[1 talks-"), "{line}");
    assert!(after_time.ends_with(" stdout] to stdout"), "{line}");
    site.await_log(" stderr] to \\x1b[2Jstderr");

    let site = Site::watching_a_pointer()
        .with("--log-format", "json")
        .launch(talks());
    site.await_log("2Jstderr");
    let log = site.log();
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |source: &str, key: &str, value: &str| {
        let mut lines = lines.iter().filter(|line| line["source"] == source);
        let line = lines.find(|line| line["fields"][key] == value);
        line.unwrap_or_else(|| panic!("{source} {key} {value}: {log}"))["fields"].clone()
    };
    for stream in ["stdout", "stderr"] {
        let fields = of("app", "stream", stream);
        assert_eq!(fields["generation"], 1, "{fields}");
    }
    let started = of("handoff", "event", "listening");
    assert!(
        !started["state"].as_str().unwrap().contains('"'),
        "{started}"
    );
}

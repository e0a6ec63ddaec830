//! `loadtest run`: the load on servers that it did not start, which others deploy to.
#![cfg(unix)] // Their commands are for its shell.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tests::binaries;
use tests::loadtest::{Ran, loadtest};
use tests::{Running, Site};

/// Runs it on this server.
fn run(url: &str, arguments: &[&str]) -> Ran {
    let here = ["run", "--url", url, "--rate", "50", "--connections", "4"];
    loadtest(here.iter().chain(arguments))
}

/// A server of HTTP/1.0, which answers each request with this status: no sample-app.
fn stranger(status: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let mut reader = BufReader::new(&client);
                let mut line = String::new();
                let mut lines = 0;
                while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                    lines += 1;
                    if lines == 1 && line.starts_with("GET /page?x=1 ") {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    line.clear();
                }
                let answer = format!("HTTP/1.0 {status}\r\nContent-Length: 2\r\n\r\nhi");
                let _ = (&client).write_all(answer.as_bytes());
            });
        }
    });
    (address, asked)
}

fn failed(json: &Value) -> u64 {
    let kinds = json["failed"].as_object().expect("counts");
    kinds.values().filter_map(Value::as_u64).sum()
}

/// Uploads v2 and v3; the command that deploys them. handoff's own is one deployer of many.
fn deploys_two(site: &Running) -> String {
    let second = site.upload("v2");
    site.upload("v3");
    let folder = second.parent().expect("its folder");
    format!(
        "{} deploy {}/v{{n}} {}",
        binaries::handoff().display(),
        folder.display(),
        site.deployment().place().join(" "),
    )
}

#[test]
fn with_a_journal_every_class_is_offered_over_the_deploys_and_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let journal = journal.to_str().expect("a path in UTF-8");
    let command = ["{artifact}", "-port", "{port}", "--journal", journal];
    let site = Site::watching_a_pointer().running(&command).start("v1");
    let deploy = deploys_two(&site);
    let url = format!("http://{}", site.address());
    let arguments = ["--deploy", &deploy, "--swaps", "2", "--journal", journal];
    let ran = run(&url, &arguments);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.json["failed"]["lost"], 0);
    assert_eq!(
        ran.json["classes"].as_object().map(serde_json::Map::len),
        Some(8)
    );
    let swaps = ran.json["swaps"].as_array().expect("swaps");
    assert_eq!(swaps.len(), 2);
    assert!(
        swaps.iter().all(|swap| swap["seen_ms"].is_u64()),
        "{swaps:?}"
    );

    // Its apps write another one.
    let other = folder.path().join("other");
    let other = other.to_str().expect("a path in UTF-8");
    let ran = run(&url, &["--for", "3s", "--journal", other]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.json["failed"]["lost"].as_u64() > Some(0));
}

/// Offers these clients over two swaps to a handoff with these options.
fn over_swaps(clients: &str, options: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let journal = journal.to_str().expect("a path in UTF-8");
    let command = ["{artifact}", "-port", "{port}", "--journal", journal];
    let site = Site::watching_a_pointer().running(&command);
    let site = options
        .iter()
        .fold(site, |site, (name, value)| site.with(name, value));
    let site = site.start("v1");
    let deploy = deploys_two(&site);
    let url = format!("http://{}", site.address());
    let swaps = ["--deploy", &deploy, "--swaps", "2", "--swap-every", "4s"];
    let here = [
        "run",
        "--url",
        &url,
        clients,
        "--rate",
        "200",
        "--journal",
        journal,
    ];
    loadtest(here.iter().chain(&swaps))
}

#[test]
fn clients_who_stay_over_swaps_keep_what_is_theirs_with_the_options_and_not_without() {
    let options = [
        ("--sticky", "cookie"),
        ("--session-timeout", "20s"),
        ("--tunnel-drain-timeout", "5s"),
        ("--keep-assets", "/assets/=assets"),
        ("--max-draining", "8"),
    ];
    let ran = over_swaps("--visits", &options);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    for class in ["session", "old_page", "resumed_events"] {
        assert!(
            ran.json["classes"][class]["sent"].as_u64() > Some(5),
            "{class}"
        );
    }

    let ran = over_swaps("--visits", &[("--tunnel-drain-timeout", "1s")]);
    assert_eq!(ran.code, Some(1));
    for (kind, class) in [("session_lost", "session"), ("asset_missing", "old_page")] {
        let failed = &ran.json["failed"][kind];
        assert!(failed.as_u64() > Some(0), "{kind}: {}", ran.said);
        assert_eq!(
            *failed, ran.json["classes"][class]["failed"],
            "{}",
            ran.said
        );
    }
    // The streams were cut, and resumed all the same, but for those that a busy machine cuts within an
    // event.
    let failed = ran.json["classes"]["resumed_events"]["failed"].as_u64();
    let truncated = ran.json["failed"]["truncated"].as_u64();
    assert!(failed <= truncated, "{}", ran.said);
}

#[test]
fn connections_of_http_2_and_calls_of_grpc_live_through_swaps_with_time_to_drain_and_not_without() {
    let options = |drain| [("--app-protocol", "h2c"), ("--tunnel-drain-timeout", drain)];
    let ran = over_swaps("--grpc", &options("3s"));
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    let sent = |class: &str| ran.json["classes"][class]["sent"].as_u64();
    for class in ["http2", "http2_long", "grpc", "grpc_echo", "grpc_events"] {
        assert!(sent(class) > Some(5), "{class}");
    }

    let ran = over_swaps("--grpc", &options("100ms"));
    assert_eq!(ran.code, Some(1));
    let failed = |class: &str| ran.json["classes"][class]["failed"].as_u64();
    // Those that end with UNAVAILABLE, though they are shorter than a drain should be.
    let status = ran.json["failed"]["status"].as_u64();
    assert!(status > Some(0), "{}", ran.said);
    assert_eq!(status, failed("grpc_echo"), "{}", ran.said);
    // Short calls and the connections do not suffer, nor do streams that may end so.
    for class in ["http2", "grpc", "grpc_events"] {
        assert_eq!(failed(class), Some(0), "{class}: {}", ran.said);
    }
    assert_eq!(ran.json["failed"]["connection_lost"], 0);
}

#[test]
fn a_connection_of_http_2_that_is_ended_is_a_failure_of_its_own_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let journal = journal.to_str().expect("a path in UTF-8");
    let command = ["{artifact}", "-port", "{port}", "--journal", journal];
    let site = Site::watching_a_pointer().running(&command);
    let site = site.with("--http2", "off").start("v1");
    let url = format!("http://{}", site.address());
    let ran = run(&url, &["--http2", "--for", "2s", "--journal", journal]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.json["failed"]["connection_lost"], ran.json["sent"]);
    // Without a journal it is a plain one.
    let ran = run(&url, &["--http2", "--for", "1s"]);
    assert_eq!(ran.json["failed"]["reset"], ran.json["sent"]);
}

#[test]
fn any_deployer_is_driven_and_clients_see_each_release() {
    let site = Site::watching_a_pointer().start("v1");
    let deploy = deploys_two(&site);
    let url = format!("http://{}", site.address());
    let arguments = ["--deploy", &deploy, "--swaps", "2", "--swap-every", "500ms"];
    let ran = run(&url, &arguments);
    assert_eq!(ran.code, Some(0));
    assert_eq!(failed(&ran.json), 0);
    let swaps = ran.json["swaps"].as_array().expect("swaps");
    let releases: Vec<&str> = swaps.iter().filter_map(|s| s["release"].as_str()).collect();
    assert_eq!(releases, ["v2", "v3"]);
    assert!(
        swaps.iter().all(|swap| swap["seen_ms"].is_u64()),
        "{swaps:?}"
    );
    assert_eq!(ran.json["setup"]["names_releases"], true);
    assert!(ran.said.contains("clients saw all 2 swaps"));
}

#[test]
fn a_deploy_that_fails_ends_the_run_with_the_last_that_its_command_said() {
    let site = Site::watching_a_pointer().start("v1");
    let url = format!("http://{}", site.address());
    let deploy = "echo release {n}; echo the disk is full >&2; exit 7";
    let arguments = ["--deploy", deploy, "--swap-every", "100ms"];
    let ran = run(&url, &arguments);
    assert_eq!(ran.code, Some(1));
    assert_eq!(failed(&ran.json), 0, "no request did");
    let said = ran.said;
    assert!(said.contains("ended with exit status: 7"), "{said}");
    assert!(said.contains("release 2\n") && said.contains("the disk is full"));
}

#[test]
fn nothing_is_deployed_for_which_there_is_no_time() {
    let site = Site::watching_a_pointer().start("v1");
    let url = format!("http://{}", site.address());
    let ran = run(
        &url,
        &["--deploy", "true", "--for", "3s", "--swap-every", "5s"],
    );
    assert_eq!(ran.code, Some(0), "there was no time for one");
    assert_eq!(ran.json["swaps"].as_array().map(Vec::len), Some(0));
}

#[test]
fn of_any_app_the_url_is_asked_for_and_only_the_status_counts() {
    let (address, asked) = stranger("200 OK");
    let url = format!("http://{address}/page?x=1");
    let arguments = ["--deploy", "true", "--swaps", "2", "--swap-every", "200ms"];
    let ran = run(&url, &arguments);
    assert_eq!(ran.code, Some(0));
    assert_eq!(failed(&ran.json), 0);
    assert_eq!(ran.json["setup"]["names_releases"], false);
    assert_eq!(ran.json["swaps"][1]["release"], "v3");
    // The first one asked whether somebody is there.
    let asked = asked.load(Ordering::Relaxed) as u64;
    assert_eq!(Some(asked - 1), ran.json["sent"].as_u64());
    assert!(ran.said.contains("2 deploys"));
}

#[test]
fn a_path_other_than_the_root_is_all_that_is_asked_for() {
    let site = Site::watching_a_pointer().start("v1");
    let ran = run(
        &format!("http://{}/version", site.address()),
        &["--for", "1s"],
    );
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.json["setup"]["names_releases"], false,
        "it could be any app's"
    );
}

#[test]
fn a_server_that_nobody_reaches_is_named_with_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let ran = run(&format!("http://{port}"), &[]);
    assert_eq!(ran.code, Some(1));
    let complaint = ran.complaint;
    let url = format!("failed to reach http://{port}/: no connection");
    assert!(complaint.contains(&url), "{complaint}");
    assert!(complaint.contains("start the server first"), "{complaint}");
}

#[test]
fn a_page_that_is_not_there_is_no_load() {
    let (address, _) = stranger("404 Not Found");
    let ran = run(&format!("http://{address}/x"), &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.complaint.contains("it answers with 404; name a path"));
}

#[test]
fn what_only_sample_app_answers_is_not_offered_to_others() {
    let (address, _) = stranger("200 OK");
    let ran = run(&format!("http://{address}/"), &["--classes"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.complaint.contains("offer --classes to"));
}

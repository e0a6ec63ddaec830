//! `loadtest compare`: each contender that is installed is started, swapped and ended.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::loadtest::{Ran, loadtest};
use tests::{binaries, tools};

/// A short comparison of these with two swaps; its text, and its JSON.
fn compare(names: &[&str]) -> (String, Value) {
    compare_with(&["--rate=50"], names)
}

fn compare_with(options: &[&str], names: &[&str]) -> (String, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let markdown = folder.path().join("md");
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let short = "compare --connections 4 --swaps 2 --swap-every 300ms";
    let mut arguments: Vec<String> = short.split(' ').map(str::to_owned).collect();
    arguments.extend(["--binaries".to_owned(), path(binaries::all())]);
    arguments.extend(["--markdown".to_owned(), path(&markdown)]);
    arguments.extend(options.iter().map(|option| (*option).to_owned()));
    for name in names {
        arguments.extend(["--only".to_owned(), (*name).to_owned()]);
    }
    let Ran {
        code, said, json, ..
    } = loadtest(arguments);
    assert_eq!(code, Some(if json["passed"] == true { 0 } else { 1 }));
    let markdown = fs::read_to_string(markdown).expect("a table");
    assert!(markdown.contains("\n|---|"), "{markdown}");
    (said, json)
}

/// Clients saw both of its swaps.
#[track_caller]
fn swaps(name: &str) {
    let (said, json) = compare(&[name]);
    assert_eq!(json["passed"], true, "{said}");
    let found = &json["contenders"][0]["found"];
    let swaps = found["summary"]["swaps"].as_array().expect("swaps");
    let seen = |swap: &&Value| swap["seen_ms"].is_u64() && swap["stopped_ms"].is_u64();
    assert_eq!(swaps.iter().filter(seen).count(), 2, "{said}");
    // On a machine that is too busy no time is quoted, and it is said why.
    let withheld = found["summary"]["latency_withheld"].is_string();
    assert_eq!(found["stall_ms"].as_f64() > Some(0.0), !withheld);
}

/// Asserts that a contender swaps, if its program is there.
#[track_caller]
fn swaps_where_there_is(program: &str, version: &str, name: &str) {
    for (tool, argument) in [
        ("curl", "--version"),
        ("pgrep", "--version"),
        (program, version),
    ] {
        if !tools::runs(tool, argument) {
            tools::skip(tool);
            return;
        }
    }
    swaps(name);
}

#[test]
fn handoff_swaps_and_loses_nothing() {
    let (said, json) = compare(&["handoff"]);
    assert_eq!(json["contenders"][0]["found"]["failed_total"], 0, "{said}");
    assert!(said.contains("PASSED  handoff failed no request"), "{said}");
}

#[test]
fn sessions_outlive_swaps_at_handoff_and_not_a_stop_and_start() {
    let options = ["--sessions", "--rate=200"];
    let (said, json) = compare_with(&options, &["handoff", "stop-and-start"]);
    let [handoff, restart] = [0, 1].map(|row| &json["contenders"][row]["found"]["sessions"]);
    assert!(handoff[0].as_u64() > Some(0), "{said}");
    assert_eq!(handoff[1], 0, "{said}");
    assert!(restart[1].as_u64() > Some(0), "{said}");
    assert!(said.contains("sessions lost"), "{said}");
}

#[test]
fn stop_and_start_swaps() {
    swaps("stop-and-start");
}

#[test]
fn the_articles_app_swaps_under_the_simulated_platform() {
    swaps("article");
}

#[test]
fn haproxy_swaps_by_its_runtime_api() {
    swaps_where_there_is("haproxy", "-v", "haproxy");
}

#[test]
fn haproxy_swaps_while_sessions_stay_by_its_cookie() {
    swaps_where_there_is("haproxy", "-v", "haproxy-sticky");
}

#[test]
fn nginx_swaps_by_a_reload() {
    swaps_where_there_is("nginx", "-v", "nginx");
}

#[test]
fn caddy_swaps_by_a_reload() {
    swaps_where_there_is("caddy", "version", "caddy");
}

#[ignore = "no distribution packages it; `loadtest compare --install` builds it with Go"]
#[test]
fn kamal_proxy_swaps_by_its_own_deploy() {
    swaps_where_there_is("kamal-proxy", "--help", "kamal-proxy");
}

//! The rules of the design that a compiler does not check.
//!
//! Each rule is a function from a source to what offends it, so that it can be seen to fail.
#![cfg(unix)] // Sources are read where they are compiled.

use std::fs;
use std::path::Path;

/// A file longer than this, its tests apart, has two jobs.
const MAX_LINES: usize = 450;

/// Who may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Which modules of `proxy` each module may name. Arrows point one way: the planes meet in the
/// router only, and nothing below the top knows the configuration.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("release.rs", &[]),
    ("os/", &["os"]),
    (
        "telemetry/sinks.rs",
        &["data_plane", "process", "telemetry"],
    ),
    ("telemetry/", &["os"]),
    ("router/", &["release"]),
    ("process/", &["release", "os"]),
    ("data_plane/", &["release", "router", "os"]),
    ("deployment/", &["deployment", "release", "os"]),
    ("control_plane/lifecycle/", &["release"]),
    (
        "control_plane/",
        &[
            "control_plane",
            "deployment",
            "release",
            "router",
            "process",
            "os",
        ],
    ),
    (
        "observe/",
        &[
            "data_plane",
            "deployment",
            "os",
            "process",
            "release",
            "router",
            "telemetry",
        ],
    ),
    // It does what a run would do, up to the launch.
    (
        "commands/check/",
        &[
            "cli",
            "commands",
            "config",
            "control_plane",
            "data_plane",
            "deployment",
            "observe",
            "os",
            "process",
            "release",
        ],
    ),
    // Commands and running sidecars meet in files only.
    (
        "commands/",
        &["cli", "commands", "deployment", "process", "os", "release"],
    ),
];

/// Where the two systems may differ.
const MAY_BRANCH: &[&str] = &[
    "process/",
    "os/",
    "data_plane/listener.rs",
    "data_plane/socket.rs",
    "config/paths.rs",
    "config/platform.rs",
];

/// What deciding may not depend on.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "async",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::env",
];

#[derive(Debug)]
struct Source {
    /// From the workspace's root.
    path: String,
    text: String,
}

#[test]
fn modules_name_only_what_lies_below_them() {
    none_offends("proxy/src", |source| {
        let module = source.path.strip_prefix("proxy/src/").unwrap();
        let rule = MAY_NAME.iter().find(|(name, _)| module.starts_with(name));
        rule.map_or_else(Vec::new, |(_, allowed)| named_beyond(source, allowed))
    });
}

#[test]
fn the_lifecycle_only_decides() {
    none_offends("proxy/src/control_plane/lifecycle", |source| {
        let is_test = ["tests.rs", "walk/mod.rs", "walk/world.rs"]
            .iter()
            .any(|test| source.path.ends_with(test));
        if is_test { Vec::new() } else { impure(source) }
    });
}

#[test]
fn systems_differ_in_few_places_only() {
    none_offends("proxy/src", |source| {
        let module = source.path.strip_prefix("proxy/src/").unwrap();
        match MAY_BRANCH.iter().any(|place| module.starts_with(place)) {
            true => Vec::new(),
            false => branches(source),
        }
    });
}

#[test]
fn no_file_has_two_jobs() {
    for folder in ["proxy", "sample-app", "loadtest", "tests"] {
        none_offends(folder, |source| {
            let reason = LONGER.iter().find(|(path, _)| *path == source.path);
            match (too_long(source), reason) {
                (true, None) => vec![format!("longer than {MAX_LINES} lines before its tests")],
                (false, Some(_)) => vec!["no longer an exception: take it off the list".into()],
                (true, Some(_)) | (false, None) => Vec::new(),
            }
        });
    }
}

#[test]
fn tests_wait_for_facts_only() {
    // Passing time is the harness's business.
    none_offends("tests/tests", sleeps);
}

#[test]
fn every_rule_can_be_broken() {
    let source = |text: &str| Source {
        path: "proxy/src/x.rs".to_owned(),
        text: text.to_owned(),
    };
    let breaks = |text| named_beyond(&source(text), &["release", "router"]).len();
    assert_eq!(breaks("use crate::router::Router;\nuse super::body;"), 0);
    assert_eq!(breaks("//! [`crate::control_plane`] is another matter"), 0);
    assert_eq!(breaks("use crate::control_plane::status;"), 1);
    assert_eq!(breaks("    let x = crate::config::Config::new();"), 1);
    assert_eq!(breaks("use crate::{release, config};"), 1);
    assert_eq!(
        breaks("use crate::router;\n#[cfg(test)]\nmod t { use crate::config; }"),
        0
    );

    let breaks = |text| impure(&source(text)).len();
    assert_eq!(
        breaks("use std::collections::BTreeMap;\n/// no clock, no tokio"),
        0
    );
    assert_eq!(breaks("use std::time::Instant;\nasync fn f() {}"), 2);

    let breaks = |text| branches(&source(text)).len();
    assert_eq!(breaks("#[cfg(test)]\n#[cfg(unix)]"), 0);
    assert_eq!(breaks("#[cfg(unix)]\nif cfg!(windows) {}"), 2);
    assert_eq!(
        breaks("#[cfg(target_os = \"linux\")]\n#[cfg(not(windows))]"),
        2
    );

    let breaks = |text| sleeps(&source(text)).len();
    assert_eq!(breaks("let sleepy = 1;\n// never sleep"), 0);
    assert_eq!(breaks(concat!("std::thread::", "sle", "ep(time);")), 1);
    assert_eq!(breaks(concat!("use std::thread::{", "slee", "p};")), 1);

    let lines = |count| "x\n".repeat(count);
    assert!(too_long(&source(&lines(MAX_LINES + 1))));
    assert!(!too_long(&source(
        &(lines(MAX_LINES) + "#[cfg(test)]\n" + &lines(9))
    )));
}

/// `crate::` followed by something else than what is allowed.
fn named_beyond(source: &Source, allowed: &[&str]) -> Vec<String> {
    lines_with(code(&source.text), |line| {
        let names = line.split("crate::").skip(1);
        names
            .map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
            })
            .any(|name| !allowed.contains(&name.unwrap_or_default()))
    })
}

fn impure(source: &Source) -> Vec<String> {
    lines_with(code(&source.text), |line| {
        IMPURE.iter().any(|word| line.contains(word))
    })
}

fn branches(source: &Source) -> Vec<String> {
    lines_with(code(&source.text), |line| {
        let condition = line.split("cfg").nth(1).unwrap_or_default();
        ["unix", "windows", "target_os"]
            .iter()
            .any(|system| condition.contains(system))
    })
}

/// A shell's `sleep 0.1` in a COMMAND passes no time of the test.
fn sleeps(source: &Source) -> Vec<String> {
    lines_with(&source.text, |line| {
        [
            concat!("thread", "::sleep"),
            concat!("sleep", "}"),
            concat!("sleep", "("),
        ]
        .iter()
        .any(|way| line.contains(way))
    })
}

fn too_long(source: &Source) -> bool {
    code(&source.text).lines().count() > MAX_LINES
}

/// What comes before the tests, which are always last.
fn code(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]");
    &text[..tests.unwrap_or(text.len())]
}

fn lines_with(text: &str, offends: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(|(_, line)| offends(line))
        .map(|(number, line)| format!("{}: {}", number + 1, line.trim()))
        .collect()
}

#[track_caller]
fn none_offends(place: &str, offences: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources(place)
        .iter()
        .flat_map(|source| {
            let offences = offences(source);
            offences.into_iter().map(|o| format!("{}:{o}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The Rust sources at a path from the workspace's root.
fn sources(place: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let mut sources = Vec::new();
    let mut places = vec![root.join(place)];
    while let Some(path) = places.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder").flatten();
            places.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| is_source(path)),
            );
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            let path = path.strip_prefix(root).expect("a path in the workspace");
            let path = path.display().to_string();
            sources.push(Source { path, text });
        }
    }
    assert!(!sources.is_empty(), "{place} holds no sources");
    sources
}

fn is_source(path: &Path) -> bool {
    let is_rust = path.extension().is_some_and(|suffix| suffix == "rs");
    is_rust || path.is_dir() && !path.ends_with("target")
}

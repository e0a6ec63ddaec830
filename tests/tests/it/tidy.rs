//! The rules of the design that a compiler does not check.
//!
//! Each rule is a function from a source to its offences, in [`crate::tidy_rules`].
#![cfg(unix)] // Sources are read where they are compiled.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use tests::binaries::spawn;

use crate::tidy_rules::{
    ANY, MAX_LINES, Source, arms, beyond, branches, circles, first_words, imports, impure,
    predicates, sleeps, too_long, undeclared, without_layer,
};

/// The folders of the workspace.
const PACKAGES: [&str; 5] = ["proxy", "proxy/fleet", "sample-app", "loadtest", "tests"];

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Modules of `proxy`, and the others that each of them may name. Arrows point one way: the planes
/// meet in the router only, and nothing below the top knows the configuration.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("docs.rs", &[]),
    ("release.rs", &[]),
    ("os/", &[]),
    (
        "telemetry/sinks.rs",
        &["data_plane", "os", "process", "telemetry"],
    ),
    ("telemetry/", &["os"]),
    ("router/", &["release"]),
    ("process/", &["release", "os"]),
    ("data_plane/", &["release", "router", "os"]),
    ("deployment/", &["release", "os"]),
    ("control_plane/lifecycle/", &["release"]),
    (
        "control_plane/",
        &["deployment", "release", "router", "process", "os"],
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
    (
        "user_tokens.rs",
        &["data_plane", "process", "release", "router"],
    ),
    ("signal_requests.rs", &["control_plane", "os", "telemetry"]),
    ("config/", ANY),
    ("cli/", ANY),
    ("app/", ANY),
    ("lib.rs", ANY),
    ("main.rs", ANY),
];

/// Rooms in which a rule does not hold yet.
const NOT_YET: &[(Rule, &[&str])] = &[];

/// Places in which the two systems may differ.
const MAY_BRANCH: &[&str] = &[
    "process/",
    "os/",
    "data_plane/listener.rs",
    "data_plane/socket.rs",
    "config/paths.rs",
    "config/platform.rs",
];

/// Rules that are being introduced room by room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Arms,
    Circles,
    FirstWords,
    Predicates,
}

#[test]
fn the_tree_is_tidy() {
    for folder in PACKAGES {
        let sources = sources(folder);
        for (rule, offences) in [
            (Rule::FirstWords, first_words as fn(&Source) -> Vec<String>),
            (Rule::Predicates, predicates),
            (Rule::Arms, arms),
        ] {
            none_offends(Some(rule), &sources, offences);
        }
    }
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let circles: Vec<_> = PACKAGES
        .iter()
        .flat_map(|package| circles(&format!("{package}/src"), &sources(package)))
        .filter(|circle| !circle.iter().any(|path| is_excused(Rule::Circles, path)))
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let offences = beyond(MAY_NAME, &imports("proxy/src", &sources("proxy/src")));
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn every_module_has_its_layer() {
    let sources = sources("proxy/src");
    let offences = without_layer(MAY_NAME, &sources);
    assert!(offences.is_empty(), "not in MAY_NAME: {offences:#?}");
}

#[test]
fn every_file_of_tests_is_compiled() {
    let sources = sources("tests/tests/it");
    let offences = undeclared(&sources);
    assert!(offences.is_empty(), "declared by no module: {offences:#?}");
}

#[test]
fn the_lifecycle_only_decides() {
    let lifecycle = sources("proxy/src/control_plane/lifecycle");
    none_offends(None, &lifecycle, |source| {
        let is_test = ["tests.rs", "walk/mod.rs", "walk/world.rs"]
            .iter()
            .any(|test| source.path.ends_with(test));
        if is_test { Vec::new() } else { impure(source) }
    });
}

#[test]
fn systems_differ_in_few_places_only() {
    none_offends(None, &sources("proxy/src"), |source| {
        let module = source.path.strip_prefix("proxy/src/").unwrap();
        let is_test = module.ends_with("/tests.rs");
        if is_test || MAY_BRANCH.iter().any(|place| module.starts_with(place)) {
            Vec::new()
        } else {
            branches(source)
        }
    });
}

/// The process that serves has no TLS, no credentials of a store and no client of it: handoff-fleet has.
#[test]
fn handoff_has_no_crate_of_the_client_of_a_store() {
    const CLIENT: [&str; 5] = [
        "minisign-verify",
        "object_store",
        "reqwest",
        "ring",
        "rustls",
    ];
    let crates_of = |package: &str| {
        let mut tree = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        tree.args(["tree", "--locked", "--offline", "--edges", "normal"]);
        tree.args(["--prefix", "none", "--package", package]);
        tree.stdout(Stdio::piped());
        let ended = spawn(&mut tree).and_then(|child| child.wait_with_output());
        let ended = ended.expect("cargo");
        assert!(ended.status.success(), "{}", ended.status);
        let tree = String::from_utf8_lossy(&ended.stdout);
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        let client = names.filter(|name| CLIENT.contains(name));
        client.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(crates_of("handoff-fleet").len(), CLIENT.len());
    assert_eq!(crates_of("handoff"), BTreeSet::new());
}

#[test]
fn no_file_has_two_jobs() {
    for folder in PACKAGES {
        none_offends(None, &sources(folder), |source| {
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
    none_offends(None, &sources("tests/tests"), sleeps);
}

#[track_caller]
fn none_offends(rule: Option<Rule>, sources: &[Source], offences: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources
        .iter()
        .filter(|source| !rule.is_some_and(|rule| is_excused(rule, &source.path)))
        .flat_map(|source| {
            let offences = offences(source);
            offences.into_iter().map(|o| format!("{}:{o}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "{rule:?}: {found:#?}");
}

fn is_excused(rule: Rule, path: &str) -> bool {
    let mut rooms = NOT_YET.iter().filter(|(of, _)| *of == rule);
    rooms.any(|(_, rooms)| rooms.iter().any(|room| path.starts_with(room)))
}

/// Returns the Rust sources at a path from the workspace's root.
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

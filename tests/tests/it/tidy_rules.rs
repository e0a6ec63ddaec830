//! The rules of `tidy`, each a function from a source to its offences, and seen to fail here.
#![cfg(unix)] // As `tidy.rs`.

use std::path::Path;

use tests::imports::{Imports, code};

/// A file longer than this, its tests apart, has two jobs.
pub(crate) const MAX_LINES: usize = 450;

/// The top, which knows everything.
pub(crate) const ANY: &[&str] = &["*"];

/// Words that no doc comment begins with.
const FORBIDDEN_FIRST: &[&str] = &[
    "As", "For", "How", "If", "So", "Until", "What", "When", "Where", "Whether", "Which", "Who",
    "Whose",
];

/// Names that a decision may not depend on.
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
pub(crate) struct Source {
    /// Path from the workspace's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

#[test]
fn every_rule_can_be_broken() {
    let source = |text: &str| Source {
        path: "proxy/src/x.rs".to_owned(),
        text: text.to_owned(),
    };
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

    let breaks = |text| first_words(&source(text)).len();
    assert_eq!(
        breaks("/// Returns what is there.\n/// What follows counts not."),
        0
    );
    assert_eq!(
        breaks("/// Forms a circle.\nfn f() {}\n// What a comment says is free."),
        0
    );
    assert_eq!(breaks("//! What is there.\n\nfn f() {}\n/// If it is."), 2);

    let breaks = |text| predicates(&source(text)).len();
    assert_eq!(
        breaks("fn is_a(&self) -> bool { true }\nfn issue(&mut self) {}"),
        0
    );
    assert_eq!(
        breaks("pub(crate) async fn has_a(\n    &mut self,\n) -> bool {}"),
        1
    );
    assert_eq!(breaks("fn should_a(&self) {}\nfn is_b() -> () {}"), 2);

    let breaks = |text| arms(&source(text)).len();
    assert_eq!(breaks("(true, _) => 1,\nSome(true) => 2,"), 0);
    assert_eq!(
        breaks(concat!("match a {\n    tr", "ue => 1,\n    false => 2,\n}")),
        1
    );
    assert_eq!(breaks(concat!("match a { tr", "ue if b => 1, _ => 2 }")), 1);

    let sources = [source("")];
    assert_eq!(
        without_layer(&[("x.rs", &[])], &sources),
        Vec::<&str>::new()
    );
    assert_eq!(
        without_layer(&[("xy.rs", &[]), ("x/", &[])], &sources),
        ["proxy/src/x.rs"]
    );
}

#[test]
fn every_way_to_name_a_module_is_an_import() {
    let sources = [
        ("lib.rs", "mod a; mod b; mod c;"),
        (
            "a/mod.rs",
            "mod inner;\npub(crate) use inner::{Inner, Other as Renamed};",
        ),
        ("a/inner.rs", "pub struct Inner; pub struct Other;"),
        ("b.rs", ""),
        ("c.rs", ""),
    ];
    let named_by_c = |text: &'static str| {
        let sources = sources[..4].iter().copied().chain([("c.rs", text)]);
        let imports = Imports::read(sources);
        let arrows = imports.arrows().filter(|(from, _)| *from == "c.rs");
        arrows
            .map(|(_, to)| to.to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(named_by_c("use std::fs;\nuse crate::c::Own;"), "");
    assert_eq!(
        named_by_c("//! [`crate::b`]\nconst A: &str = \"crate::b\"; // crate::b"),
        ""
    );
    assert_eq!(
        named_by_c("const A: char = '\"'; use crate::b::B; const C: char = '\"';"),
        "b.rs"
    );
    assert_eq!(
        named_by_c("const A: &str = r#\"\"crate::b\"#;\nfn f<'a>(a: &'a u8) {}"),
        ""
    );
    assert_eq!(named_by_c("#[cfg(test)]\nmod tests { use crate::b; }"), "");
    assert_eq!(named_by_c("use super::b::{self, B};"), "b.rs");
    assert_eq!(named_by_c("use crate::{b, a};"), "a/mod.rs b.rs");
    assert_eq!(named_by_c("fn f() -> crate::b::B {}"), "b.rs");
    assert_eq!(
        named_by_c("mod tests { fn f() { super::super::b::f(); } }"),
        ""
    );
    assert_eq!(named_by_c("use crate::a::Inner;"), "a/inner.rs");
    assert_eq!(
        named_by_c("use crate::a;\nfn f(a: a::Renamed) {}"),
        "a/mod.rs a/inner.rs"
    );
}

#[test]
fn a_circle_and_a_wrong_arrow_are_found() {
    let file = |path: &str, text: &str| Source {
        path: format!("proxy/src/{path}"),
        text: text.to_owned(),
    };
    let sources = [
        // That a folder module and its files name each other is no circle.
        file("a/mod.rs", "mod inner; use inner::A; pub struct B;"),
        file("a/inner.rs", "use super::B; pub struct A;"),
        file("b.rs", "use crate::c::d::D;"),
        file("c/mod.rs", "mod d;"),
        file("c/d.rs", "use super::super::{a, b};"),
    ];
    assert_eq!(
        circles("proxy/src", &sources),
        [["proxy/src/b.rs", "proxy/src/c/d.rs"]]
    );
    let imports = imports("proxy/src", &sources);
    let table: &[(&str, &[&str])] = &[("a/", &[]), ("b.rs", &["c"]), ("c/d.rs", &["a"])];
    assert_eq!(beyond(table, &imports), ["c/d.rs names b.rs"]);
    let table: &[(&str, &[&str])] = &[("a/", ANY), ("b.rs", &[]), ("c/", ANY)];
    assert_eq!(beyond(table, &imports), ["b.rs names c/d.rs"]);
}

#[test]
fn a_file_that_no_module_declares_is_found() {
    let file = |path: &str, text: &str| Source {
        path: format!("it/{path}"),
        text: text.to_owned(),
    };
    let sources = [
        file("main.rs", "mod a;\nmod b;"),
        file("a.rs", ""),
        file("b/mod.rs", "mod c;"),
        file("b/c.rs", ""),
        file("b/d.rs", ""),
        file("e.rs", ""),
    ];
    assert_eq!(undeclared(&sources), ["it/b/d.rs", "it/e.rs"]);
}

/// Returns the doc comments that begin with a word that none begins with.
pub(crate) fn first_words(source: &Source) -> Vec<String> {
    let is_doc = |line: &str| line.starts_with("///") || line.starts_with("//!");
    let mut was_doc = false;
    let mut offences = Vec::new();
    for (number, line) in source.text.lines().map(str::trim_start).enumerate() {
        let text = line.get(3..).unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or_default();
        let is_first = is_doc(line) && !was_doc;
        if is_first && FORBIDDEN_FIRST.contains(&first.trim_end_matches(',')) {
            offences.push(format!("{}: {line}", number + 1));
        }
        was_doc = is_doc(line);
    }
    offences
}

/// Returns the functions that seem to ask by their name, and act by their signature.
pub(crate) fn predicates(source: &Source) -> Vec<String> {
    let prefixes = ["is_", "has_", "should_"];
    let lines: Vec<&str> = source.text.lines().collect();
    let acts = |(number, line): (usize, &&str)| {
        let declaration = line.split("//").next()?;
        let (before, name) = declaration.split_once("fn ")?;
        let is_declared = before.is_empty() || before.ends_with([' ', '(']);
        if !is_declared || before.contains('"') || !prefixes.iter().any(|p| name.starts_with(p)) {
            return None;
        }
        let rest = lines[number..].join(" ");
        let signature = rest.split(['{', ';']).next().unwrap_or_default();
        let returns = signature
            .split_once("->")
            .map_or("()", |(_, kind)| kind.trim());
        let acts = signature.contains("&mut self") || returns == "()";
        acts.then(|| format!("{}: {}", number + 1, line.trim()))
    };
    lines.iter().enumerate().filter_map(acts).collect()
}

/// Returns the choices by a `bool` that are written with `match`.
pub(crate) fn arms(source: &Source) -> Vec<String> {
    lines_with(&source.text, |line| {
        let mut arms = line.trim_start().split("{ ").map(|arm| arm.trim_start());
        arms.any(|arm| {
            let pattern = arm.split("=>").next().filter(|_| arm.contains("=>"));
            let pattern = pattern.unwrap_or_default();
            pattern.trim_end() == "true" || pattern.starts_with("true if ")
        })
    })
}

/// Returns the arrows that lead further than a table of modules allows.
pub(crate) fn beyond(table: &[(&str, &[&str])], imports: &Imports) -> Vec<String> {
    let leads_too_far = |(from, to): &(&str, &str)| {
        let entry = table.iter().find(|(module, _)| from.starts_with(module));
        let top = to.split(['/', '.']).next().unwrap_or_default();
        entry.is_some_and(|(module, allowed)| {
            !to.starts_with(module) && !allowed.contains(&top) && *allowed != ANY
        })
    };
    let arrows = imports.arrows().filter(leads_too_far);
    arrows
        .map(|(from, to)| format!("{from} names {to}"))
        .collect()
}

pub(crate) fn without_layer<'a>(table: &[(&str, &[&str])], sources: &'a [Source]) -> Vec<&'a str> {
    let paths = sources.iter().map(|source| source.path.as_str());
    paths
        .filter(|path| {
            let module = path.trim_start_matches("proxy/src/");
            !table.iter().any(|(name, _)| module.starts_with(name))
        })
        .collect()
}

/// Returns the groups of files below `root` that name each other in a circle.
pub(crate) fn circles(root: &str, sources: &[Source]) -> Vec<Vec<String>> {
    let imports = imports(root, sources);
    let circles = imports.circles().into_iter();
    circles
        .map(|circle| circle.iter().map(|path| format!("{root}/{path}")).collect())
        .collect()
}

pub(crate) fn imports(root: &str, sources: &[Source]) -> Imports {
    let sources = sources.iter().filter_map(|source| {
        let path = source.path.strip_prefix(root)?.trim_start_matches('/');
        Some((path, source.text.as_str()))
    });
    Imports::read(sources)
}

/// Returns the files that the module above them does not declare.
pub(crate) fn undeclared(sources: &[Source]) -> Vec<&str> {
    let declares = |file: &Path, module: &str| {
        let declaration = format!("mod {module};");
        let mut found = sources
            .iter()
            .filter(|source| Path::new(&source.path) == file);
        found.any(|source| source.text.lines().any(|line| line.trim() == declaration))
    };
    let is_declared = |path: &Path| {
        let name = |path: &Path| {
            path.file_stem()
                .and_then(|name| name.to_str().map(str::to_owned))
        };
        let (Some(folder), Some(file)) = (path.parent(), name(path)) else {
            return false;
        };
        let (module, folder) = if file == "mod" {
            (
                name(folder).unwrap_or_default(),
                folder.parent().unwrap_or(folder),
            )
        } else {
            (file, folder)
        };
        let roots = ["main.rs", "mod.rs"];
        module == "main"
            || roots
                .iter()
                .any(|root| declares(&folder.join(root), &module))
    };
    let paths = sources.iter().map(|source| source.path.as_str());
    paths.filter(|path| !is_declared(Path::new(path))).collect()
}

pub(crate) fn impure(source: &Source) -> Vec<String> {
    lines_with(code(&source.text), |line| {
        IMPURE.iter().any(|word| line.contains(word))
    })
}

pub(crate) fn branches(source: &Source) -> Vec<String> {
    lines_with(code(&source.text), |line| {
        let condition = line.split("cfg").nth(1).unwrap_or_default();
        ["unix", "windows", "target_os"]
            .iter()
            .any(|system| condition.contains(system))
    })
}

/// Returns the lines that pass time. A shell's `sleep 0.1` in a COMMAND passes no time of the test.
pub(crate) fn sleeps(source: &Source) -> Vec<String> {
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

pub(crate) fn too_long(source: &Source) -> bool {
    code(&source.text).lines().count() > MAX_LINES
}

fn lines_with(text: &str, offends: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(|(_, line)| offends(line))
        .map(|(number, line)| format!("{}: {}", number + 1, line.trim()))
        .collect()
}

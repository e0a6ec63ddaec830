//! The warning of a private copy that leads back into the deployed folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::store::Store;
use crate::deployment::copy::{WayBack, WayBackKind, names_any, script_names_any};
use crate::release::Release;

/// Maximum number of files that a log line names.
const MAX_NAMES: usize = 5;
/// Maximum length of a script that is searched for the scripts that it starts, in bytes.
const MAX_SCRIPT: u64 = 64 * 1024;
/// Maximum number of scripts that one of them starts.
const MAX_SCRIPTS: usize = 32;

/// The command line and the scripts in a private copy that it starts, as far as their texts tell.
struct Started {
    text: String,
    /// Names of those that name a path in the deployed folder.
    leading_back: Vec<String>,
}

impl Store {
    /// Warns of a private copy that would run what is in the deployed folder, which has these paths, as far
    /// as the command comes there: a virtual environment has scripts that nothing starts.
    pub(super) fn warn_of_ways_back(
        &self,
        originals: &[&Path],
        release: &Release,
        ways_back: &[WayBack],
    ) {
        let started = self.started(originals, release);
        let is_taken =
            |way: &&WayBack| way.kind != WayBackKind::Start || starts_script(&started.text, way);
        let mut taken: Vec<_> = ways_back.iter().filter(is_taken).cloned().collect();
        for name in started.leading_back {
            if taken.iter().all(|way| way.name != name) {
                let kind = WayBackKind::Start;
                taken.push(WayBack { name, kind });
            }
        }
        if taken.is_empty() {
            return;
        }
        let names: Vec<&str> = taken.iter().map(|way| way.name.as_str()).collect();
        tracing::warn!(
            event = "copy_leads_back",
            folder = %originals[0].display(),
            files = list(&names),
            count = names.len(),
            "files in the private copy lead back into the deployed folder: what they start or open \
             is not the private copy, and changes with the next deploy. {}",
            remedies(&taken)
        );
    }

    /// Reads the scripts in a private copy that the command starts.
    fn started(&self, originals: &[&Path], release: &Release) -> Started {
        let command = &self.settings.command;
        let mut started = Started {
            text: command.to_string(),
            leading_back: Vec::new(),
        };
        if names_any(&started.text, originals) {
            started.leading_back.push("COMMAND".to_owned());
        }
        let folder = &release.artifact;
        let program = command.program(release);
        let program = program.and_then(|path| Some(path.strip_prefix(folder).ok()?.to_owned()));
        let program = program.and_then(|path| path.to_str().map(str::to_owned));
        let mut names: BTreeSet<String> = words(&started.text).map(str::to_owned).collect();
        names.extend(program);
        if release.dir != *folder {
            // Relative names mean other files.
            names.clear();
        }
        // Those of the command line, and those that they start.
        for _ in 0..2 {
            let mut next = BTreeSet::new();
            let scripts = names.iter().filter_map(|name| {
                let script = read_script(folder, Path::new(name))?;
                Some((name, script))
            });
            for (name, script) in scripts.take(MAX_SCRIPTS) {
                if script_names_any(&script, originals) && !started.leading_back.contains(name) {
                    started.leading_back.push(name.clone());
                }
                next.extend(words(&script).map(str::to_owned));
                started.text.push('\n');
                started.text.push_str(&script);
            }
            names = next;
        }
        started
    }
}

/// Joins the first names for a log line.
pub(super) fn list(names: &[impl AsRef<str>]) -> String {
    let names = names.iter().take(MAX_NAMES).map(AsRef::as_ref);
    names.collect::<Vec<_>>().join(", ")
}

/// Returns what to do against ways back of these kinds.
fn remedies(ways: &[WayBack]) -> String {
    let has = |kind| ways.iter().any(|way| way.kind == kind);
    let remedies = [
        (
            WayBackKind::Link,
            "Make links relative that lead to a file of the folder itself: `ln -sr`",
        ),
        (
            WayBackKind::Start,
            "In a Python virtual environment, start `venv/bin/python -m uvicorn` instead of \
             `venv/bin/uvicorn`; elsewhere, name files by their path from the working directory",
        ),
        (
            WayBackKind::Open,
            "In a Python virtual environment, install packages without --editable; let bundler's \
             configuration name relative paths, and Laravel cache its configuration when the app starts",
        ),
    ];
    let needed = remedies.iter().filter(|(kind, _)| has(*kind));
    needed
        .map(|(_, remedy)| *remedy)
        .collect::<Vec<_>>()
        .join(". ")
}

/// Reads the file of this name in a private copy, if it is a text.
fn read_script(folder: &Path, name: &Path) -> Option<String> {
    let mut script = Vec::new();
    let path = folder.join(name);
    let is_file = name.is_relative() && path.metadata().is_ok_and(|metadata| metadata.is_file());
    let file = is_file.then(|| File::open(path).ok())??;
    file.take(MAX_SCRIPT).read_to_end(&mut script).ok()?;
    let is_text = !script.contains(&0);
    is_text.then(|| String::from_utf8_lossy(&script).into_owned())
}

/// Returns the words of a command line or a script that may be paths.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_separator = |c: char| c.is_whitespace() || "\"'`;&|()<>$=".contains(c);
    let words = text.split(is_separator).filter(|word| !word.is_empty());
    words.map(|word| {
        let in_copy = ["{dir}/", "{artifact}/", "./"];
        let relative = in_copy.iter().find_map(|start| word.strip_prefix(start));
        relative.unwrap_or(word)
    })
}

/// Returns true if a command line or a script has a word that is the path of another script, or its name
/// in a text that names its folder, as for `PATH`.
fn starts_script(text: &str, script: &WayBack) -> bool {
    let script = Path::new(&script.name);
    let Some(name) = script.file_name() else {
        return false;
    };
    let folder = script.parent().and_then(Path::to_str);
    let has_folder = folder.is_some_and(|folder| text.contains(folder));
    words(text)
        .map(Path::new)
        .any(|word| word.file_name() == Some(name) && (has_folder || word.components().count() > 1))
}

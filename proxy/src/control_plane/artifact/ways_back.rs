//! The warning of a private copy that leads back into the deployed folder.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::store::Store;
use crate::deployment::copy::{WayBack, WayBackKind};
use crate::release::Release;

/// Maximum number of files that a log line names.
const MAX_NAMES: usize = 5;
/// Maximum length of a script that is searched for the scripts that it starts, in bytes.
const MAX_SCRIPT: u64 = 64 * 1024;

impl Store {
    /// Warns of a private copy that would run what is in the deployed folder, as far as the command
    /// comes there: a virtual environment has scripts that nothing starts.
    pub(super) fn warn_of_ways_back(&self, path: &Path, release: &Release, ways_back: &[WayBack]) {
        let command = &self.settings.command;
        let starts = || {
            let mut text = command.to_string();
            if let Some(script) = command.program(release).and_then(|path| read_script(&path)) {
                text.push('\n');
                text.push_str(&script);
            }
            text
        };
        let text = if ways_back.is_empty() {
            String::new()
        } else {
            starts()
        };
        let is_taken = |way: &&WayBack| way.kind != WayBackKind::Start || starts_script(&text, way);
        let taken: Vec<_> = ways_back.iter().filter(is_taken).collect();
        if taken.is_empty() {
            return;
        }
        let names: Vec<&str> = taken.iter().map(|way| way.name.as_str()).collect();
        tracing::warn!(
            event = "copy_leads_back",
            folder = %path.display(),
            files = list(&names),
            count = names.len(),
            "files in the private copy lead back into the deployed folder: what they start or open \
             is not the private copy, and changes with the next deploy. {}",
            remedies(&taken)
        );
    }
}

/// Joins the first names for a log line.
pub(super) fn list(names: &[impl AsRef<str>]) -> String {
    let names = names.iter().take(MAX_NAMES).map(AsRef::as_ref);
    names.collect::<Vec<_>>().join(", ")
}

/// Returns what to do against ways back of these kinds.
fn remedies(ways: &[&WayBack]) -> String {
    let has = |kind| ways.iter().any(|way| way.kind == kind);
    let remedies = [
        (
            WayBackKind::Link,
            "Make links relative that lead to a file of the folder itself: `ln -sr`",
        ),
        (
            WayBackKind::Start,
            "In a Python virtual environment, start `venv/bin/python -m uvicorn` instead of \
             `venv/bin/uvicorn`",
        ),
        (
            WayBackKind::Open,
            "In a Python virtual environment, install packages without --editable",
        ),
    ];
    let needed = remedies.iter().filter(|(kind, _)| has(*kind));
    needed
        .map(|(_, remedy)| *remedy)
        .collect::<Vec<_>>()
        .join(". ")
}

/// Reads a program, if it is a script.
fn read_script(path: &Path) -> Option<String> {
    let mut script = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_SCRIPT).read_to_end(&mut script).ok()?;
    let is_script = script.starts_with(b"#!");
    is_script.then(|| String::from_utf8_lossy(&script).into_owned())
}

/// Returns true if a command line or a script has a word that is the path of another script.
fn starts_script(text: &str, script: &WayBack) -> bool {
    let Some(name) = Path::new(&script.name).file_name() else {
        return false;
    };
    let is_separator = |c: char| c.is_whitespace() || "\"'`;&|()<>$=".contains(c);
    text.split(is_separator)
        .map(Path::new)
        .any(|word| word.components().count() > 1 && word.file_name() == Some(name))
}

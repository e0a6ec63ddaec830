//! Notes of programs that serve a deployment beside handoff: what keeps one of them from its work.
//!
//! Each note is a file of text in the folder `notes`, named after its program.

use std::path::Path;
use std::{fs, io};

use serde::Serialize;

use super::unix_millis::UnixMillis;
use crate::os::files;

const FOLDER: &str = "notes";
const ENDING: &str = ".txt";
/// Maximum number of notes that are read.
const MAX: usize = 10;
/// Maximum length of the text that is shown, in characters.
const LENGTH: usize = 500;

/// A note of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Name of the program.
    pub by: String,
    /// Its text, in one line.
    pub text: String,
    /// Time at which it was written.
    pub since_ms: UnixMillis,
}

/// Returns the notes, by the names of their programs. What cannot be read is none.
pub fn read(state: &Path) -> Vec<Note> {
    let entries = fs::read_dir(state.join(FOLDER));
    let entries = entries.into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.filter_map(|entry| note(&entry)).take(MAX).collect();
    all.sort_by(|one, other| one.by.cmp(&other.by));
    all
}

/// Replaces the note of a program; without a text there is none.
///
/// # Errors
/// The file cannot be written or removed.
pub fn write(state: &Path, by: &str, text: Option<&str>) -> io::Result<()> {
    let folder = state.join(FOLDER);
    let file = folder.join(format!("{by}{ENDING}"));
    match text {
        Some(text) => {
            files::make_folder(&folder)?;
            files::write_atomically(&file, text.as_bytes())
        }
        None => match fs::remove_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    }
}

fn note(entry: &fs::DirEntry) -> Option<Note> {
    let name = entry.file_name();
    let by = name.to_str()?.strip_suffix(ENDING)?;
    let text = files::read_small_itself(&entry.path()).ok()?;
    let text = String::from_utf8_lossy(&text);
    let words: Vec<_> = text.split_whitespace().collect();
    Some(Note {
        by: by.to_owned(),
        text: words.join(" ").chars().take(LENGTH).collect(),
        since_ms: entry.metadata().ok()?.modified().ok()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_until_its_program_removes_it() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert!(read(state).is_empty());
        write(state, "b", None).unwrap();
        write(state, "b", Some("one")).unwrap();
        write(state, "a", Some("no\nanswer ")).unwrap();
        write(state, "b", Some(&"ö".repeat(9_000))).unwrap();
        fs::write(state.join(FOLDER).join(".tmp"), "x").unwrap();
        fs::create_dir(state.join(FOLDER).join("c.txt")).unwrap();
        let notes = read(state);
        let shown: Vec<_> = notes.iter().map(|it| (&*it.by, &*it.text)).collect();
        let cut = "ö".repeat(LENGTH);
        assert_eq!(shown, [("a", "no answer"), ("b", &*cut)]);
        let age = UnixMillis::now().0 - notes[0].since_ms.0;
        assert!(age < 600_000, "{age} ms");
        write(state, "a", None).unwrap();
        assert_eq!(read(state).len(), 1);
    }
}

//! The journal in which apps write down each request.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use sample_app::journal::{self, Entry, ReadError};

/// Reads the journal; it is empty as long as no app has written it.
pub fn read(file: &Path) -> Result<Vec<Entry>, ReadError> {
    match journal::read(file) {
        Err(ReadError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Removes the entries of an earlier run, whose numbers are used again.
pub fn without(mut entries: Vec<Entry>, earlier: Vec<Entry>) -> Vec<Entry> {
    let mut counts: HashMap<Entry, usize> = HashMap::new();
    for entry in earlier {
        *counts.entry(entry).or_default() += 1;
    }
    entries.retain(|entry| match counts.get_mut(entry) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        Some(0) | None => true,
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_earlier_run_are_left_out_once_each() {
        let entries = |lines: &[&str]| -> Vec<Entry> {
            lines.iter().map(|line| line.parse().unwrap()).collect()
        };
        let (old, new) = ("0 POST /upload v1 17", "1 GET / v1 17");
        let left = without(entries(&[old, new, old]), entries(&[old]));
        assert_eq!(left, entries(&[new, old]));
    }
}

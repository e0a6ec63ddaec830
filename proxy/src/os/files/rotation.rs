//! Names of rotated log files, for the log and for the command that reads it.

use std::path::{Path, PathBuf};

/// Returns the path of the rotated file with this number, 1 being the newest: `a.1.log` of `a.log`.
///
/// The number comes before the extension, by which viewers choose how to show a file.
pub fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_comes_before_the_ending() {
        assert_eq!(numbered(Path::new("x/a.log"), 1), Path::new("x/a.1.log"));
        assert_eq!(numbered(Path::new("a.b.log"), 12), Path::new("a.b.12.log"));
        assert_eq!(numbered(Path::new("x/log"), 2), Path::new("x/log.2"));
    }
}

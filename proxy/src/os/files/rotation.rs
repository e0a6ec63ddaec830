//! The names of the files that a log has been rotated to: for who writes them, and who reads them.

use std::path::{Path, PathBuf};

/// The full file of this number, the newest being 1: `a.1.log` of `a.log`.
///
/// The number comes before the ending: viewers go by that.
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

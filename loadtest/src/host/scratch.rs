//! The temporary folder of a run.

use std::io;

use tempfile::TempDir;

/// Creates a folder that is removed with the value, unless it is to be kept.
pub fn create(prefix: &str, keep: bool) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).disable_cleanup(keep).tempdir()
}

/// Removes the folder, or names it when it is kept.
pub fn remove(folder: TempDir, keep: bool) {
    if keep {
        eprintln!("kept {}", folder.path().display());
    } else if let Err(error) = folder.close() {
        eprintln!("loadtest: failed to remove the temporary folder: {error}");
    }
}

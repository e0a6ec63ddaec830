//! The temporary folder of a run.

use std::io;

use tempfile::TempDir;

/// It goes with the value, unless it is to be kept.
///
/// # Errors
/// What the system said.
pub fn folder(prefix: &str, keep: bool) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).disable_cleanup(keep).tempdir()
}

/// Removes it, or says where it is kept.
pub fn end(folder: TempDir, keep: bool) {
    if keep {
        eprintln!("kept {}", folder.path().display());
    } else if let Err(error) = folder.close() {
        eprintln!("loadtest: failed to remove the temporary folder: {error}");
    }
}

//! Publishes the status of a sidecar: `<state>/sidecars/<id>.json`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::sync::watch;

use super::stale_status;
use crate::deployment::status::Status;
use crate::os::files::{make_folder, write_atomically};
use crate::os::thread::JoinOnDrop;

/// Writes the file into a folder that is made again if it is gone: commands could not find the
/// sidecar.
fn write(file: &Path, status: &Status) -> io::Result<()> {
    let json = serde_json::to_vec(status)?;
    match (write_atomically(file, &json), file.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(folder)?;
            write_atomically(file, &json)
        }
        (written, _) => written,
    }
}

/// Writes each new status to `file` until the sender is gone, then removes the file.
///
/// It uses a thread, since the file may be on a slow network share.
///
/// # Errors
/// When the thread cannot be started.
pub fn publish(file: PathBuf, mut status: watch::Receiver<Status>) -> io::Result<JoinOnDrop> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let write_all = move || {
        if let Some(folder) = file.parent() {
            stale_status::remove_old(folder, SystemTime::now());
        }
        let mut failed = false;
        loop {
            let snapshot = status.borrow_and_update().clone();
            match write(&file, &snapshot) {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(
                        event = "status_not_written",
                        file = %file.display(),
                        %error,
                        "cannot write the status of this sidecar"
                    );
                }
                Err(_) => {}
            }
            if runtime.block_on(status.changed()).is_err() {
                break;
            }
        }
        // A file that stays means that the sidecar was killed.
        let _ = std::fs::remove_file(&file);
    };
    JoinOnDrop::spawn("status", write_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_into_a_folder_that_is_not_there() {
        let listen = ([127, 0, 0, 1], 80).into();
        let status = Status::new("me".into(), listen, Default::default());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sidecars/me.json");
        write(&file, &status).unwrap();
        let read: Status = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(*read.sidecar, *"me");
    }
}

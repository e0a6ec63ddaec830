//! Publishes the status of a sidecar: `<state>/sidecars/<id>.json`.
//!
//! The file is replaced when something has changed. Meanwhile only the digits of its heartbeat are
//! written, in place: on a share each file operation is a round trip, and a sidecar at rest changes
//! nothing else.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::stale_status;
use crate::deployment::instance_memory::MemoryMeter;
use crate::deployment::pending_command;
use crate::deployment::status::{Status, UnixMillis};
use crate::os::files::{
    is_full, keep_reserve, make_folder, overwrite, read_large, rename, write_with_reserve,
};
use crate::os::machine::{is_gone, shared_pid_namespace};
use crate::os::thread::JoinOnDrop;
use crate::os::volume;

/// Minimum time between two heartbeats in the file.
const HEARTBEAT: Duration = Duration::from_millis(2_500);
/// Number of heartbeats after which to look if the file is still there.
const CHECK_EVERY: u32 = 5;
/// Name of the file that keeps room for a status on a full disk, and its size in bytes.
const RESERVE_NAME: &str = "status.reserve";
const RESERVE: usize = 64 * 1024;
/// The key of the heartbeat in the file. No text in a status can contain it: its quotes would have
/// backslashes.
const KEY: &[u8] = b"\"heartbeat_ms\":";

/// Maximum time for which a write that is under way is waited for.
const STALL: Duration = Duration::from_secs(1);

/// The thread that writes the file. Dropping it writes the last status, and removes the file.
#[derive(Debug)]
pub struct StatusWriter {
    /// Held during each write.
    turn: Arc<Mutex<()>>,
    _thread: JoinOnDrop,
}

/// The file of one sidecar.
#[derive(Debug)]
struct StatusFile {
    path: PathBuf,
    meter: MemoryMeter,
    /// The status in the file; `None` before the first writing, and after one that failed.
    written: Option<WrittenStatus>,
}

/// A status as it was written.
#[derive(Debug)]
struct WrittenStatus {
    status: Status,
    at: Instant,
    /// Place of the heartbeat's digits in the file, and their number.
    place: (u64, usize),
    /// The file, once a heartbeat was written into it.
    file: Option<File>,
    heartbeats: u32,
}

// === impl StatusFile ===

impl StatusFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            meter: MemoryMeter::default(),
            written: None,
        }
    }

    /// Brings the file up to date.
    fn publish(&mut self, status: &Status) -> io::Result<()> {
        if let Some(written) = &mut self.written
            && written.is_same(status)
            && (written.at.elapsed() < HEARTBEAT
                || written.beat(&self.path, status.heartbeat_ms).is_ok())
        {
            return Ok(());
        }
        // On Windows a file that is open cannot be replaced.
        self.written = None;
        let mut complete = status.clone();
        self.meter.complete(&mut complete);
        let json = serde_json::to_vec(&complete)?;
        write(&self.path, &json)?;
        self.written = place_of_heartbeat(&json).map(|place| WrittenStatus {
            status: status.clone(),
            at: Instant::now(),
            place,
            file: None,
            heartbeats: 0,
        });
        Ok(())
    }
}

// === impl WrittenStatus ===

impl WrittenStatus {
    /// Returns true if a status says nothing new but the time.
    fn is_same(&self, status: &Status) -> bool {
        let mut of_then = status.clone();
        of_then.heartbeat_ms = self.status.heartbeat_ms;
        of_then == self.status
    }

    /// Writes the time of a heartbeat in place.
    ///
    /// # Errors
    /// When the file has to be written anew.
    fn beat(&mut self, path: &Path, heartbeat: UnixMillis) -> io::Result<()> {
        let (place, length) = self.place;
        let digits = heartbeat.0.to_string();
        self.heartbeats += 1;
        let is_lost = self.heartbeats.is_multiple_of(CHECK_EVERY) && !path.exists();
        if is_lost || digits.len() != length {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => volume::open_in_place(path)?,
        };
        volume::write_at(&file, digits.as_bytes(), place)?;
        self.file = Some(file);
        self.at = Instant::now();
        Ok(())
    }
}

/// Finds the digits of the heartbeat.
fn place_of_heartbeat(json: &[u8]) -> Option<(u64, usize)> {
    let key = json.windows(KEY.len()).position(|window| window == KEY)?;
    let place = key + KEY.len();
    let digits = json[place..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    Some((place as u64, digits.count()))
}

/// Writes the file into a folder that is made again if it is gone: commands could not find the
/// sidecar. On a full disk it gets the room that was kept for it, and keeps that.
fn write(file: &Path, json: &[u8]) -> io::Result<()> {
    let reserve = [reserve_of(file)];
    match (
        write_with_reserve(file, &reserve, RESERVE, json),
        file.parent(),
    ) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(folder)?;
            write_with_reserve(file, &reserve, RESERVE, json)
        }
        (Err(error), _) if is_full(&error) => overwrite(file, json)
            .or_else(|_| write_with_reserve(file, &files_of_the_dead(file), RESERVE, json)),
        (written, _) => written,
    }
}

/// Returns the files that sidecars of this machine left which were killed. On a full disk they have
/// the room for another one.
fn files_of_the_dead(file: &Path) -> Vec<PathBuf> {
    let machine = shared_pid_namespace();
    let is_of_the_dead = |path: &PathBuf| {
        let content = read_large(path).unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&content);
        status.is_ok_and(|it| machine.is_some() && it.machine == machine && is_gone(it.pid))
    };
    let entries = file.parent().and_then(|folder| folder.read_dir().ok());
    let paths = entries.into_iter().flatten().flatten();
    paths
        .map(|entry| entry.path())
        .filter(is_of_the_dead)
        .collect()
}

/// Returns the file that keeps room for a status: in the state folder, as that of the sidecars has
/// statuses only.
fn reserve_of(file: &Path) -> PathBuf {
    let state = file.parent().and_then(Path::parent);
    state.unwrap_or_else(|| Path::new("")).join(RESERVE_NAME)
}

/// Keeps room for what has to be written on a full disk, as far as that is possible: this status, and
/// commands.
fn keep_room(file: &Path) {
    let _ = keep_reserve(&reserve_of(file), RESERVE);
    if let Some(state) = file.parent().and_then(Path::parent) {
        pending_command::keep_room(state);
    }
}

/// Removes the file, whose room is kept for the next sidecar if the disk is full.
fn remove(file: &Path) {
    let reserve = reserve_of(file);
    let has_room = |path: &Path| std::fs::metadata(path).is_ok_and(|it| it.len() >= RESERVE as u64);
    if !has_room(file) || has_room(&reserve) || rename(file, &reserve).is_err() {
        let _ = std::fs::remove_file(file);
    }
}

/// Writes each new status to `file` until the sender is gone, then removes the file.
///
/// It uses a thread, since the file may be on a slow network share.
///
/// # Errors
/// When the thread cannot be started.
pub fn publish(path: PathBuf, mut status: watch::Receiver<Status>) -> io::Result<StatusWriter> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let turn = Arc::new(Mutex::new(()));
    let turns = Arc::clone(&turn);
    let write_all = move || {
        if let Some(folder) = path.parent() {
            stale_status::remove_old(folder, SystemTime::now());
        }
        let mut file = StatusFile::new(path);
        let (mut failed, mut has_kept_room) = (false, false);
        loop {
            let snapshot = status.borrow_and_update().clone();
            let published = {
                let _turn = turns.lock();
                file.publish(&snapshot)
            };
            match published {
                Ok(()) => {
                    failed = false;
                    if !std::mem::replace(&mut has_kept_room, true) {
                        keep_room(&file.path);
                    }
                }
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(
                        event = "status_not_written",
                        file = %file.path.display(),
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
        let StatusFile { path, written, .. } = file;
        drop(written);
        remove(&path);
    };
    let thread = JoinOnDrop::spawn("status", write_all)?;
    Ok(StatusWriter {
        turn,
        _thread: thread,
    })
}

// === impl StatusWriter ===

impl StatusWriter {
    /// Waits until nothing is being written, and lets nothing be written while the returned value
    /// exists. Returns none if the folder does not respond.
    pub fn stand_still(&self) -> Option<impl Sized> {
        self.turn.try_lock_for(STALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Source;

    fn status() -> Status {
        let listen = ([127, 0, 0, 1], 80).into();
        let source = Source::Artifact("/site/\"heartbeat_ms\":7".into());
        Status::new("me".into(), listen, (&source).into())
    }

    fn read(path: &Path) -> Status {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Lets the next heartbeat be due.
    fn wait(file: &mut StatusFile) {
        let written = file.written.as_mut().expect("it was written");
        written.at -= HEARTBEAT;
    }

    #[test]
    fn a_status_is_written_into_a_folder_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sidecars/me.json");
        StatusFile::new(path.clone()).publish(&status()).unwrap();
        assert_eq!(*read(&path).sidecar, *"me");
    }

    #[test]
    fn a_heartbeat_changes_its_digits_in_place_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.json");
        let mut file = StatusFile::new(path.clone());
        let mut status = status();
        file.publish(&status).unwrap();
        let open = File::open(&path).unwrap();
        status.heartbeat_ms.0 += 3_000;
        file.publish(&status).unwrap();
        assert_ne!(read(&path), status, "it is not due");
        for _ in 0..2 * CHECK_EVERY {
            status.heartbeat_ms.0 += 3_000;
            wait(&mut file);
            file.publish(&status).unwrap();
            assert_eq!(read(&path), status);
        }
        let same: Status = serde_json::from_reader(open).unwrap();
        assert_eq!(same, status, "the file is still the same one");
        // The time that has one digit more does not fit.
        status.heartbeat_ms.0 *= 10;
        wait(&mut file);
        file.publish(&status).unwrap();
        assert_eq!(read(&path), status);
    }

    #[test]
    fn a_change_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.json");
        let mut file = StatusFile::new(path.clone());
        let mut status = status();
        file.publish(&status).unwrap();
        wait(&mut file);
        status.heartbeat_ms.0 += 3_000;
        file.publish(&status).unwrap();
        status.held = 1;
        file.publish(&status).unwrap();
        assert_eq!(read(&path), status);
    }

    #[test]
    fn a_file_that_was_removed_is_there_again_some_heartbeats_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.json");
        let mut file = StatusFile::new(path.clone());
        file.publish(&status()).unwrap();
        wait(&mut file);
        file.publish(&status()).unwrap();
        std::fs::remove_file(&path).unwrap();
        for _ in 0..CHECK_EVERY {
            wait(&mut file);
            file.publish(&status()).unwrap();
        }
        assert!(path.exists());
    }
}

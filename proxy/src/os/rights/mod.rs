//! The rights over files with which a thread works, in twins for Unix and Windows.
//!
//! The owner of a folder can put links into it, and replace what is in it at any moment. A command
//! that root runs there would follow them with root's rights. So it works on such a folder with the
//! owner's rights: the system then refuses whatever the owner could not do.
//!
//! Windows has no such command: an elevated one has the rights of its user over all folders.

use std::cell::RefCell;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

thread_local! {
    static TAKEN_ON: RefCell<Rights> = RefCell::default();
}

/// Rights for reading, also in the threads of a copy.
static READER: RwLock<Option<Rights>> = RwLock::new(None);

/// Rights over files: those of this process, or those of a folder's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Option<Arc<Owner>>);

/// A user who decides what is at a path, and is neither root nor the user of this process.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    user: os::User,
    /// The first part of the path that belongs to this user.
    of: PathBuf,
}

// === impl Rights ===

impl Rights {
    /// Returns the rights with which this process works on what is at `path`: its own, or, if it is
    /// root's, those of the first other user who could replace a part of the path.
    pub fn over(path: &Path) -> Self {
        let owner = os::owner_of(path);
        Self(owner.map(|(user, of)| Arc::new(Owner { user, of })))
    }

    /// Returns these rights if they are those of an owner, who has named the path, or else those
    /// over `path`.
    #[must_use]
    pub fn or_over(&self, path: &Path) -> Self {
        match self.0 {
            Some(_) => self.clone(),
            None => Self::over(path),
        }
    }

    /// Returns these rights if they are those of an owner, or else those of whoever could have written
    /// a file that was read: its owner, or a group that may write to it.
    #[must_use]
    pub fn or_of_writer(&self, path: &Path, metadata: &Metadata) -> Self {
        if self.0.is_some() {
            return self.clone();
        }
        let of = path.to_owned();
        Self(os::writer_of(metadata).map(|user| Arc::new(Owner { user, of })))
    }

    /// Gives a folder of root's to the owner with whose rights others work on it, if no link leads to
    /// it. It is not important enough to fail.
    pub fn give(&self, folder: &Path) {
        if let Some(owner) = &self.0 {
            owner.user.adopt(folder);
        }
    }

    /// Returns true if a file that names other files may be believed: if it belongs to root, to the
    /// user of this process, or to the owner with whose rights it is read.
    pub fn trust(&self, file: &File) -> bool {
        let owner = self.0.as_ref().map(|owner| &owner.user);
        os::is_trusted(file, owner)
    }

    /// Works with these rights in this thread, and in those that it starts meanwhile.
    ///
    /// # Errors
    /// The error of `work`, or the system refuses the rights. A denied permission names the owner.
    pub fn apply<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let result = {
            let _entered = self.enter()?;
            work()
        };
        result.map_err(|error| self.explain(error))
    }

    /// Works with these rights from now on, in this thread and in those that it starts.
    ///
    /// # Errors
    /// The system refuses them.
    pub fn take_on(&self) -> io::Result<()> {
        self.enter()?.keep();
        TAKEN_ON.set(self.clone());
        Ok(())
    }

    fn enter(&self) -> io::Result<os::Entered> {
        let user = self.0.as_ref().map(|owner| &owner.user);
        os::enter(user).map_err(|error| {
            let whose = self.0.as_ref().map(|owner| format!(" of {owner}"));
            let whose = whose.unwrap_or_default();
            let refused = format!("cannot take on the rights{whose} (CAP_SETUID): {error}");
            io::Error::new(error.kind(), refused)
        })
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match &self.0 {
            Some(owner) if error.kind() == io::ErrorKind::PermissionDenied => {
                let explained = format!("{error} (with the rights of {owner})");
                io::Error::new(error.kind(), explained)
            }
            _ => error,
        }
    }
}

// === impl Owner ===

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, of } = self;
        write!(f, "{user}, the owner of {}", of.display())
    }
}

/// Names the owner in a denied permission, if the thread has taken on the rights of one.
pub fn explain(error: io::Error) -> io::Error {
    TAKEN_ON.with_borrow(|rights| rights.explain(error))
}

/// Runs `work`, in which [`as_reader`] has the rights `reader`: a copy is read with other rights
/// than it is written with. A process makes one such copy at a time.
pub fn with_reader<T>(reader: &Rights, work: impl FnOnce() -> T) -> T {
    *READER.write() = Some(reader.clone());
    let result = work();
    *READER.write() = None;
    result
}

/// Reads a part of an original, with the rights that [`with_reader`] gives.
///
/// # Errors
/// As [`Rights::apply`].
pub fn as_reader<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let reader = READER.read().clone();
    match reader {
        Some(reader) => reader.apply(work),
        None => work(),
    }
}

//! The entries of a folder, and their hashes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::file_error::NameFile as _;
use crate::release::Digest;

/// Names that belong to no release, which no app serves or reads: those of tools that work on or beside
/// the files of a folder.
const ASIDE: [&[u8]; 44] = [
    // Version control.
    b".git",
    b".hg",
    b".svn",
    b".bzr",
    b".jj",
    b".pijul",
    b"_darcs",
    b"CVS",
    // Projects and histories of editors: JetBrains (also Fleet), Visual Studio (Code), Eclipse, Zed, Nova,
    // NetBeans, Cursor; a file that vim makes for a moment, and its list of folders.
    b".idea",
    b".fleet",
    b".vs",
    b".vscode",
    b".history",
    b".project",
    b".classpath",
    b".settings",
    b".metadata",
    b".zed",
    b".nova",
    b"nbproject",
    b".cursor",
    b"4913",
    b".netrwhist",
    // Desktops: macOS, Windows, KDE, and waste baskets of all.
    b".DS_Store",
    b".AppleDouble",
    b".Spotlight-V100",
    b".TemporaryItems",
    b".fseventsd",
    b".Trashes",
    b"Thumbs.db",
    b"ehthumbs.db",
    b"desktop.ini",
    b"$RECYCLE.BIN",
    b".directory",
    b".Trash",
    // Folders that are kept in step with others: Syncthing, Dropbox.
    b".stfolder",
    b".stversions",
    b".dropbox",
    b".dropbox.cache",
    // Caches that Python and its tools write beside the sources, and read from nowhere else.
    b"__pycache__",
    b".mypy_cache",
    b".pytest_cache",
    b".ruff_cache",
    // The output of what was started in the folder, perhaps of handoff itself.
    b"nohup.out",
];
/// Starts of such names: locks (emacs, LibreOffice), attributes (macOS), what GNOME's programs and
/// Syncthing write first, waste baskets, and files that were removed while they were open (NFS, FUSE).
const ASIDE_STARTS: [&[u8]; 9] = [
    b".#",
    b".~lock.",
    b"._",
    b".goutputstream-",
    b".syncthing.",
    b"~syncthing~",
    b".Trash-",
    b".nfs0",
    b".fuse_hidden",
];
/// Ends of such names: backups, swap files (vim), what JetBrains' editors and Kate write first, and the
/// windows of Sublime Text.
const ASIDE_ENDS: [&[u8]; 7] = [
    b"~",
    b".swp",
    b".swo",
    b"___jb_tmp___",
    b"___jb_old___",
    b".kate-swp",
    b".sublime-workspace",
];

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Path from the folder, with `/` on every system, as UTF-8; names that are no text are in the
    /// encoding of the system.
    pub(crate) name: Vec<u8>,
    pub(crate) relative: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
    /// True if it belongs to a version control system, an editor or a desktop: it is copied, and a
    /// change of it makes no other artifact.
    pub(crate) is_aside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    Folder,
    File,
    Link,
}

/// The digests of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    /// The documented digest: everything counts.
    pub(crate) whole: Digest,
    /// The digest without what tools leave beside the files.
    pub(crate) code: Digest,
}

/// The hashes of a folder while it is read.
#[derive(Default)]
pub(crate) struct Hashes {
    whole: Sha256,
    /// `None` as long as both are the same.
    code: Option<Sha256>,
    is_aside: bool,
}

// === impl Digests ===

impl Digests {
    /// Returns true if no content counts for an artifact: a folder has no file in it.
    pub(crate) fn is_of_nothing(&self) -> bool {
        self.code == Hashes::default().finish().code
    }
}

// === impl Hashes ===

impl Hashes {
    /// Begins an entry with a content of `length` bytes.
    pub(crate) fn begin(&mut self, entry: &Entry, length: u64) {
        if entry.is_aside && self.code.is_none() {
            self.code = Some(self.whole.clone());
        }
        self.is_aside = entry.is_aside;
        self.update(&entry.name);
        self.update(&[0]);
        self.update(&length.to_le_bytes());
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        if let Some(code) = &mut self.code
            && !self.is_aside
        {
            code.update(bytes);
        }
    }

    /// Hashes a link, which counts as a file that contains its target.
    pub(crate) fn add_link(&mut self, entry: &Entry, target: &Path) {
        let target = target.to_string_lossy().replace('\\', "/");
        self.begin(entry, target.len() as u64);
        self.update(target.as_bytes());
    }

    pub(crate) fn finish(self) -> Digests {
        let whole = Digest::finish(self.whole);
        let code = self.code.map_or(whole, Digest::finish);
        Digests { whole, code }
    }
}

/// Lists everything in a folder in the order in which it is hashed, folders before their contents.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = vec![(folder.to_owned(), Vec::new(), PathBuf::new(), false)];
    while let Some((path, prefix, above, is_aside)) = folders.pop() {
        for entry in fs::read_dir(&path).reading(&path)? {
            let entry = entry.reading(&path)?;
            let file_name = entry.file_name();
            let mut name: Vec<u8> = prefix.clone();
            name.extend(file_name.as_encoded_bytes());
            let relative = above.join(&file_name);
            let is_aside = is_aside || belongs_aside(file_name.as_encoded_bytes());
            let file_type = entry.file_type().reading(&path)?;
            let kind = if file_type.is_symlink() {
                EntryKind::Link
            } else if file_type.is_dir() {
                let prefix = [&*name, b"/"].concat();
                folders.push((entry.path(), prefix, relative.clone(), is_aside));
                EntryKind::Folder
            } else if file_type.is_file() {
                EntryKind::File
            } else {
                // A socket, a pipe or a device has no content.
                continue;
            };
            entries.push(Entry {
                name,
                relative,
                path: entry.path(),
                kind,
                is_aside,
            });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Returns true if this is the name of something that tools leave beside the files of a release, such
/// as a swap file (vim) or an autosave (emacs).
pub(crate) fn belongs_aside(name: &[u8]) -> bool {
    let is_swap_file = || {
        let (_, extension) = name.split_at(name.len().saturating_sub(4));
        name.len() > 5 && name[0] == b'.' && extension.starts_with(b".sw")
    };
    let ends = |end: &&[u8]| name.len() > end.len() && name.ends_with(end);
    ASIDE.contains(&name)
        || ASIDE_STARTS.iter().any(|start| name.starts_with(start))
        || ASIDE_ENDS.iter().any(ends)
        || name.len() > 2 && name.starts_with(b"#") && name.ends_with(b"#")
        || is_swap_file()
}

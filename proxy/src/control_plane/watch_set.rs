//! The files whose changes matter, and the folders that are watched for them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::deployment::artifact_names::is_artifact;
use crate::deployment::checksum_file;
use crate::deployment::digest::belongs_aside;
use crate::os::files;
use crate::os::volume::has_reliable_events;

/// Maximum number of links on the way to a file, as in Linux (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Permission by which only the owner of a file may replace it: such folders are busy, and nobody
/// else exchanges what is in them.
const STICKY: u32 = 0o1000;

/// The extent of the watch of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchDepth {
    /// The folder's own entries.
    Entries,
    /// Everything in the folder.
    Tree,
}

/// The part that a changed path has in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relevance {
    /// A file that is looked at anyway, or a folder or link on the way to one.
    Name,
    /// Something in the artifact's folder.
    Tree,
}

/// A set of files, by the names under which events report them.
#[derive(Debug)]
pub(super) struct WatchSet {
    folders: BTreeMap<PathBuf, WatchDepth>,
    names: HashSet<PathBuf>,
    drop_folder: Option<PathBuf>,
    artifact: Option<PathBuf>,
    tree: Option<PathBuf>,
    /// False if something may change without an event.
    is_reliable: bool,
}

// === impl WatchSet ===

impl WatchSet {
    /// Creates an empty set.
    pub(super) fn new() -> Self {
        Self {
            folders: BTreeMap::new(),
            names: HashSet::new(),
            drop_folder: None,
            artifact: None,
            tree: None,
            is_reliable: true,
        }
    }

    /// Adds a file, which need not exist.
    pub(super) fn add_file(&mut self, path: &Path) {
        self.add(path);
    }

    /// Adds a folder in which each artifact matters.
    pub(super) fn add_drop_folder(&mut self, folder: &Path) {
        let place = self.add(folder);
        self.folders.insert(place.clone(), WatchDepth::Entries);
        self.drop_folder = Some(place);
    }

    /// Adds the artifact with its checksum file.
    pub(super) fn add_artifact(&mut self, path: &Path) {
        self.add(&checksum_file::path_for(path));
        self.artifact = Some(self.add(path));
    }

    /// Adds everything in the artifact's folder.
    pub(super) fn add_artifact_tree(&mut self) {
        let Some(artifact) = self.artifact.clone().filter(|path| path.is_dir()) else {
            return;
        };
        // It covers them.
        self.folders
            .retain(|folder, _| !folder.starts_with(&artifact));
        self.folders.insert(artifact.clone(), WatchDepth::Tree);
        self.tree = Some(artifact);
    }

    /// Returns the folders to watch.
    pub(super) fn folders(&self) -> &BTreeMap<PathBuf, WatchDepth> {
        &self.folders
    }

    /// Returns the place of the artifact, with all links followed.
    pub(super) fn artifact(&self) -> Option<&Path> {
        self.artifact.as_deref()
    }

    /// Returns true if everything in the artifact's folder is watched.
    pub(super) fn has_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// Returns true if no change happens without an event.
    pub(super) fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// Returns the relevance of a change at this path.
    pub(super) fn relevance_of(&self, path: &Path) -> Option<Relevance> {
        if let Some(tree) = &self.tree
            && let Ok(below) = path.strip_prefix(tree)
        {
            let is_aside = |part: Component<'_>| belongs_aside(part.as_os_str().as_encoded_bytes());
            if !below.components().any(is_aside) {
                return Some(Relevance::Tree);
            }
        }
        let is_dropped = || {
            path.parent() == self.drop_folder.as_deref()
                && path.file_name().is_some_and(|name| {
                    is_artifact(name) || path.extension().is_some_and(|it| it == "sha256")
                })
        };
        let is_known = self.names.contains(path) || self.folders.contains_key(path);
        (is_known || is_dropped()).then_some(Relevance::Name)
    }

    /// Adds a path, and returns its place with all links followed.
    fn add(&mut self, path: &Path) -> PathBuf {
        let parent = path.parent().unwrap_or(path);
        let mut place = path.to_owned();
        let is_reliable = has_reliable_events(parent) && {
            place = self.add_way_to(path);
            has_reliable_events(place.parent().unwrap_or(&place))
        };
        if !is_reliable {
            // Each look is a round trip there: it is polled anyway.
            self.is_reliable = false;
            place = path.to_owned();
            self.folders.insert(parent.to_owned(), WatchDepth::Entries);
            self.names.insert(place.clone());
        }
        place
    }

    /// Adds every name by which `path` can come to lead to something else: folders above it are
    /// renamed, and links are exchanged. Returns its place with all links followed.
    fn add_way_to(&mut self, path: &Path) -> PathBuf {
        let mut rest: Vec<PathBuf> = steps(path);
        let mut links = 0;
        let mut folder = PathBuf::new();
        // Nobody exchanges what is in the root folder.
        let mut is_calm = true;
        while let Some(step) = rest.pop() {
            match step.components().next() {
                Some(Component::Normal(_)) => {}
                Some(Component::ParentDir) => {
                    folder.pop();
                    continue;
                }
                _ => {
                    folder.push(step);
                    is_calm = true;
                    continue;
                }
            }
            let place = folder.join(step);
            if !is_calm || rest.is_empty() {
                self.folders
                    .entry(folder.clone())
                    .or_insert(WatchDepth::Entries);
                self.names.insert(place.clone());
            }
            let Ok(metadata) = fs::symlink_metadata(&place) else {
                rest.reverse();
                return rest.iter().fold(place, |place, step| place.join(step));
            };
            links += u32::from(metadata.is_symlink());
            if metadata.is_symlink() && links <= MAX_LINKS {
                rest.extend(steps(&fs::read_link(&place).unwrap_or_default()));
            } else {
                is_calm = files::mode(&metadata) & STICKY != 0;
                folder = place;
            }
        }
        folder
    }
}

/// Returns the parts of a path, the last one first.
fn steps(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().rev();
    steps.map(|step| PathBuf::from(step.as_os_str())).collect()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns a folder on a volume with reliable events.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn has(set: &WatchSet, path: &Path) -> bool {
        set.relevance_of(path) == Some(Relevance::Name)
    }

    #[test]
    fn what_lies_beside_a_file_does_not_matter_and_every_folder_above_it_does() {
        let (_kept, folder) = folder();
        fs::create_dir(folder.join("site")).unwrap();
        let pointer = folder.join("site/_artifact.txt");
        let mut set = WatchSet::new();
        set.add_file(&pointer);
        assert!(set.is_reliable());
        assert!(has(&set, &pointer) && has(&set, &folder.join("site")));
        assert!(!has(&set, &folder.join("site/app.log")));
        assert!(!has(&set, &folder.join("other")));
        let is_watched = |folder: &Path| set.folders().contains_key(folder);
        assert!(is_watched(&folder) && is_watched(&folder.join("site")));
        assert!(!is_watched(Path::new("/dev/shm")), "it is anybody's");
    }

    #[test]
    fn a_link_on_the_way_matters_as_much_as_what_it_leads_to() {
        let (_kept, folder) = folder();
        fs::create_dir_all(folder.join("releases/5/bin")).unwrap();
        fs::write(folder.join("releases/5/bin/app"), "").unwrap();
        symlink("releases/5", folder.join("current")).unwrap();
        let mut set = WatchSet::new();
        set.add_artifact(&folder.join("current/bin/app"));
        for part in ["current", "releases", "releases/5", "releases/5/bin/app"] {
            assert!(has(&set, &folder.join(part)), "{part}");
        }
        assert!(has(&set, &folder.join("releases/5/bin/app.sha256")));
        let place = folder.join("releases/5/bin/app");
        assert_eq!(set.artifact(), Some(&*place));
    }

    #[test]
    fn in_a_drop_folder_only_artifacts_matter() {
        let (_kept, folder) = folder();
        let mut set = WatchSet::new();
        set.add_drop_folder(&folder);
        assert!(has(&set, &folder.join("app-2")) && has(&set, &folder.join("app-2.sha256")));
        assert!(!has(&set, &folder.join(".app-2.tmp")));
        assert!(has(&set, &folder), "it may be removed");
    }

    #[test]
    fn all_that_is_in_a_folder_matters_except_version_control() {
        let (_kept, folder) = folder();
        let site = folder.join("site");
        fs::create_dir_all(site.join("lib")).unwrap();
        let mut set = WatchSet::new();
        set.add_file(&site.join("handoff.toml"));
        set.add_artifact(&site);
        set.add_artifact_tree();
        let relevance = |path: &str| set.relevance_of(&site.join(path));
        assert_eq!(relevance("lib/a/b.js"), Some(Relevance::Tree));
        assert_eq!(relevance(".git/index"), None);
        assert_eq!(relevance("lib/a.js~"), None);
        assert_eq!(set.folders().get(&site), Some(&WatchDepth::Tree));
        assert_eq!(set.folders().get(&folder), Some(&WatchDepth::Entries));
    }

    #[test]
    fn what_is_not_there_yet_and_what_cannot_be_trusted_is_polled() {
        let (_kept, folder) = folder();
        for path in [&folder.join("missing/app"), Path::new("/proc/1/app")] {
            let mut set = WatchSet::new();
            set.add_file(path);
            assert!(!set.is_reliable(), "{path:?}");
            assert!(has(&set, path));
        }
    }
}

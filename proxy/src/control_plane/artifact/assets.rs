//! The files of earlier releases for which pages in browsers may still ask: `--keep-assets`.
//!
//! ```text
//! <cache>/assets/<key>/<id>-<digest>/accepted   time at which the release was accepted last
//! <cache>/assets/<key>/<id>-<digest>/<prefix>/…  files of one folder of the release
//! ```
//! They are files of their own, since an app may write into its private copy. A file that the release
//! before has, too, is another name of that one's. The files of a release are kept for as long as it
//! is the newest, and for `--keep-assets-for` after that.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::staging::Staging;
use crate::deployment::deployment_key;
use crate::deployment::file_error::NameFile as _;
use crate::deployment::names::path_key;
use crate::deployment::status::UnixMillis;
use crate::deployment::transfer::is_same_content;
use crate::os::files::{self, Access};
use crate::release::{KeptFiles, Release};

/// Name of the file with the time.
const ACCEPTED: &str = "accepted";

/// Settings of the kept files.
#[derive(Clone, Debug)]
pub struct AssetSettings {
    /// The folders of a release whose files are kept.
    pub folders: Vec<AssetFolder>,
    /// Time for which files are kept after the next release was accepted.
    pub keep_for: Duration,
    /// Maximum size of all of them, in bytes.
    pub max_bytes: u64,
    /// The kept files: written here, and read where requests are answered.
    pub kept: Arc<ArcSwap<KeptFiles>>,
}

/// A folder with files that clients ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetFolder {
    /// First part of the paths of its files, with a slash at both ends.
    pub prefix: String,
    /// Path of the folder in the artifact.
    pub folder: PathBuf,
}

/// The kept files of a deployment on this machine.
#[derive(Debug)]
pub(super) struct AssetStore {
    settings: AssetSettings,
    folder: PathBuf,
    /// Releases whose files have not been kept yet.
    pending: Vec<Release>,
}

/// The kept files of one release.
struct KeptRelease {
    folder: PathBuf,
    accepted: UnixMillis,
}

// === impl AssetFolder ===

impl AssetFolder {
    /// Returns the name under which its files are kept, whatever other prefixes there are.
    fn name(&self) -> String {
        path_key(Path::new(&self.prefix))
    }
}

// === impl AssetStore ===

impl AssetStore {
    /// Opens the store in the cache, and publishes what is there.
    pub(super) fn open(settings: &AssetSettings, cache: &Path, state: &Path) -> Self {
        let store = Self {
            settings: settings.clone(),
            folder: cache.join("assets").join(deployment_key(state)),
            pending: Vec::new(),
        };
        store.tidy();
        store
    }

    /// Notes a release, whose files are kept at the next [`AssetStore::keep_pending`].
    pub(super) fn note(&mut self, release: &Release) {
        self.pending.push(release.clone());
    }

    /// Keeps the files of the releases that were noted. An error is no reason not to run them.
    pub(super) fn keep_pending(&mut self, staging: &mut Staging) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        for release in pending {
            match self.keep(&release, staging) {
                Ok(files) => tracing::debug!(
                    event = "assets_kept",
                    release = %release.id,
                    files,
                    "the files of a release are kept for pages that are open when it is superseded"
                ),
                Err(error) => tracing::warn!(
                    event = "assets_not_kept",
                    release = %release.id,
                    %error,
                    "the files of a release cannot be kept: pages that are open when it is \
                     superseded miss them (--keep-assets)"
                ),
            }
        }
        self.tidy();
    }

    /// Keeps the files of a release, and returns their number.
    fn keep(&self, release: &Release, staging: &mut Staging) -> io::Result<usize> {
        files::make_own_folder(&self.folder, Access::None).writing(&self.folder)?;
        let name = format!("{}-{}", release.id, &release.digest.hex()[..12]);
        let kept = self.folder.join(name);
        let before = self.releases().into_iter().next();
        let accepted = |folder: &Path| {
            // The clock may have been set back.
            let after = before.as_ref().map_or(0, |before| before.accepted.0 + 1);
            let now = UnixMillis::now().0.max(after).to_string();
            files::write_atomically(&folder.join(ACCEPTED), now.as_bytes())
        };
        if before.as_ref().is_some_and(|before| before.folder == kept) {
            return Ok(0);
        }
        if kept.is_dir() {
            accepted(&kept)?;
            return Ok(0);
        }
        let copy = staging.folder()?;
        let mut budget = self.settings.max_bytes;
        let mut count = 0;
        for folder in &self.settings.folders {
            let from = release.artifact.join(&folder.folder);
            let to = copy.path().join(folder.name());
            for relative in files_in(&from)? {
                let earlier = before.as_ref();
                let earlier = earlier.map(|it| it.folder.join(folder.name()).join(&relative));
                let new = to.join(&relative);
                fs::create_dir_all(new.parent().unwrap_or(&to)).writing(&new)?;
                keep_file(&from.join(&relative), earlier.as_deref(), &new, &mut budget)?;
                count += 1;
            }
        }
        accepted(copy.path())?;
        // After a power loss, a file is whole or not there.
        files::sync(copy.path())?;
        match files::rename(copy.path(), &kept) {
            Ok(()) => {
                let _ = copy.keep();
                Ok(count)
            }
            // Another sidecar was faster.
            Err(_) if kept.is_dir() => Ok(0),
            Err(error) => Err(error).writing(&kept),
        }
    }

    /// Removes what is too old or too much, and publishes the rest.
    fn tidy(&self) {
        let now = UnixMillis::now();
        let releases = self.releases();
        let mut kept = KeptFiles::new();
        let mut known = HashSet::new();
        let (mut bytes, mut superseded) = (0, None);
        for release in &releases {
            let age = superseded.map_or(0, |at: UnixMillis| now.0.saturating_sub(at.0));
            superseded = Some(release.accepted);
            let files = self.files_of(release);
            // A file that a newer release has, too, is the same one.
            bytes += files
                .iter()
                .filter(|(path, _, length)| known.insert((path.clone(), *length)))
                .map(|(_, _, length)| length)
                .sum::<u64>();
            let is_old = Duration::from_millis(age) > self.settings.keep_for;
            if is_old || bytes > self.settings.max_bytes {
                // All that is older is older still.
                let _ = fs::remove_dir_all(&release.folder);
                continue;
            }
            for (path, file, _) in files {
                kept.entry(path).or_insert(file);
            }
        }
        self.settings.kept.store(Arc::new(kept));
    }

    /// Returns the releases whose files are kept, the one that was accepted last first.
    fn releases(&self) -> Vec<KeptRelease> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut releases: Vec<_> = entries
            .filter_map(|entry| {
                let folder = entry.path();
                let accepted = files::read_small(&folder.join(ACCEPTED)).ok()?;
                let accepted = String::from_utf8(accepted).ok()?.parse().ok()?;
                let accepted = UnixMillis(accepted);
                Some(KeptRelease { folder, accepted })
            })
            .collect();
        releases.sort_by_key(|release| std::cmp::Reverse(release.accepted.0));
        releases
    }

    /// Returns the kept files of a release: the path of each for clients, its place and its length.
    fn files_of(&self, release: &KeptRelease) -> Vec<(String, PathBuf, u64)> {
        let mut all = Vec::new();
        for kept in &self.settings.folders {
            let folder = release.folder.join(kept.name());
            for relative in files_in(&folder).unwrap_or_default() {
                let names: Option<Vec<_>> = relative.iter().map(|name| name.to_str()).collect();
                let file = folder.join(&relative);
                // No client can ask for one whose name is no text.
                if let (Some(names), Ok(metadata)) = (names, file.metadata()) {
                    let path = format!("{}{}", kept.prefix, names.join("/"));
                    all.push((path, file, metadata.len()));
                }
            }
        }
        all
    }
}

/// Makes `new` a file with the content of `from`: another name of the one before if that is equal,
/// else a copy.
fn keep_file(from: &Path, before: Option<&Path>, new: &Path, budget: &mut u64) -> io::Result<()> {
    if let Some(before) = before
        && is_same_content(from, before).unwrap_or(false)
        && fs::hard_link(before, new).is_ok()
    {
        return Ok(());
    }
    let mut content = files::open_regular(from).reading(from)?;
    let length = content.metadata().reading(from)?.len();
    *budget = budget
        .checked_sub(length)
        .ok_or_else(|| io::Error::other("they are larger than --keep-assets-size allows"))?;
    let mut copy: File = files::create_private(new).writing(new)?;
    if !files::clone_content(&content, &copy) {
        io::copy(&mut content, &mut copy).writing(new)?;
    }
    Ok(())
}

/// Returns the regular files in a folder, as paths in it; none if there is no such folder.
fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let path = folder.join(&below);
        let entries = match fs::read_dir(&path) {
            Err(error) if below.as_os_str().is_empty() && is_absent(&error) => break,
            entries => entries.reading(&path)?,
        };
        for entry in entries {
            let entry = entry.reading(&path)?;
            let relative = below.join(entry.file_name());
            // What a link leads to may be anything.
            let kind = entry.file_type().reading(&path)?;
            if kind.is_dir() {
                folders.push(relative);
            } else if kind.is_file() {
                files.push(relative);
            }
        }
    }
    Ok(files)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use sha2::{Digest as _, Sha256};
    use tempfile::TempDir;

    use super::*;
    use crate::release::{Digest, ReleaseId};

    struct Deployment {
        folder: TempDir,
        staging: Staging,
        settings: AssetSettings,
    }

    impl Deployment {
        fn new(keep_for: Duration, max_bytes: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let staging = Staging::open(&folder.path().join("cache/staging")).unwrap();
            let settings = AssetSettings {
                folders: vec![AssetFolder {
                    prefix: "/assets/".to_owned(),
                    folder: "dist".into(),
                }],
                keep_for,
                max_bytes,
                kept: Arc::default(),
            };
            Self {
                folder,
                staging,
                settings,
            }
        }

        fn accept(&mut self, id: &str, files: &[(&str, &str)]) -> Release {
            let artifact = self.folder.path().join("copies").join(id);
            for (name, content) in files {
                let path = artifact.join("dist").join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            let release = Release {
                id: ReleaseId::new(id),
                digest: Digest::finish(Sha256::new_with_prefix(id)),
                shape: String::new(),
                dir: artifact.clone(),
                artifact,
            };
            let cache = self.folder.path().join("cache");
            let mut store = AssetStore::open(&self.settings, &cache, self.folder.path());
            store.note(&release);
            store.keep_pending(&mut self.staging);
            release
        }

        fn kept(&self) -> Vec<(String, String)> {
            let kept = self.settings.kept.load();
            let read = |(path, file): (&String, &PathBuf)| {
                (path.clone(), fs::read_to_string(file).unwrap())
            };
            let mut kept: Vec<_> = kept.iter().map(read).collect();
            kept.sort();
            kept
        }
    }

    fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(path, content): &(&str, &str)| ((*path).to_owned(), (*content).to_owned());
        files.iter().map(pair).collect()
    }

    #[test]
    fn files_of_earlier_releases_stay_and_the_newest_of_a_name_counts() {
        let mut deployment = Deployment::new(Duration::from_secs(999), 1 << 20);
        deployment.accept("one", &[("a-1.js", "1"), ("sub/x.css", "old")]);
        deployment.accept("two", &[("a-2.js", "2"), ("sub/x.css", "new")]);
        let all = [
            ("/assets/a-1.js", "1"),
            ("/assets/a-2.js", "2"),
            ("/assets/sub/x.css", "new"),
        ];
        assert_eq!(deployment.kept(), pairs(&all));
        // Accepted again, it is the newest again.
        deployment.accept("one", &[]);
        let all = [
            ("/assets/a-1.js", "1"),
            ("/assets/a-2.js", "2"),
            ("/assets/sub/x.css", "old"),
        ];
        assert_eq!(deployment.kept(), pairs(&all));
    }

    #[test]
    fn what_an_app_writes_into_its_copy_reaches_no_kept_file() {
        let mut deployment = Deployment::new(Duration::from_secs(999), 1 << 20);
        let one = deployment.accept("one", &[("a.js", "1"), ("b.js", "1")]);
        let two = deployment.accept("two", &[("a.js", "1"), ("b.js", "2")]);
        for release in [one, two] {
            let file = release.artifact.join("dist/a.js");
            let mut file = OpenOptions::new().append(true).open(file).unwrap();
            file.write_all(b"evil").unwrap();
        }
        let all = [("/assets/a.js", "1"), ("/assets/b.js", "2")];
        assert_eq!(deployment.kept(), pairs(&all));
    }

    #[test]
    fn what_is_too_old_or_too_much_goes_the_oldest_first() {
        let mut short = Deployment::new(Duration::ZERO, 1 << 20);
        short.accept("one", &[("1.js", "1")]);
        assert_eq!(short.kept().len(), 1, "the newest has no age");
        // It goes once the next one has been the newest for a moment.
        short.accept("two", &[("2.js", "2")]);
        while short.kept().len() > 1 {
            short.accept("two", &[]);
        }
        assert_eq!(short.kept(), pairs(&[("/assets/2.js", "2")]));

        let mut small = Deployment::new(Duration::from_secs(999), 10);
        for (id, name, content) in [("one", "1.js", "1111"), ("two", "2.js", "2222")] {
            small.accept(id, &[(name, content)]);
        }
        assert_eq!(small.kept().len(), 2);
        small.accept("three", &[("3.js", "3333")]);
        let rest = [("/assets/2.js", "2222"), ("/assets/3.js", "3333")];
        assert_eq!(small.kept(), pairs(&rest));
        small.accept("huge", &[("4.js", "44444444444")]);
        assert_eq!(small.kept(), pairs(&rest), "nothing is half kept");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_and_equal_files_take_no_space() {
        use std::os::unix::fs::{MetadataExt as _, symlink};

        let mut deployment = Deployment::new(Duration::from_secs(999), 1 << 20);
        let dist = deployment.folder.path().join("copies/one/dist");
        fs::create_dir_all(&dist).unwrap();
        symlink("/etc/passwd", dist.join("evil.js")).unwrap();
        symlink("/etc", dist.join("evil")).unwrap();
        deployment.accept("one", &[("a.js", "1")]);
        deployment.accept("two", &[("a.js", "1")]);
        assert_eq!(deployment.kept(), pairs(&[("/assets/a.js", "1")]));
        let kept = deployment.settings.kept.load();
        assert_eq!(kept["/assets/a.js"].metadata().unwrap().nlink(), 2);
    }
}

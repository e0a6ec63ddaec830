//! Copies an artifact into a deployment's folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use super::original::Original;
use crate::commands::deployment_paths::DeploymentPaths;
use crate::commands::progress::Progress;
use crate::deployment::artifact_names::is_artifact;
use crate::deployment::checksum_file;
use crate::deployment::copy::{copy, shape};
use crate::deployment::digest::{EntryKind, digest as digest_at, entries};
use crate::os::{files, rights};
use crate::release::Digest;

/// Number of attempts to copy an artifact that is open for writing.
const WRITTEN_TRIES: u32 = 25;
const WRITTEN_PAUSE: Duration = Duration::from_millis(200);

/// An artifact in the deployment's folder.
#[derive(Clone, Debug)]
pub(super) struct Uploaded {
    pub(super) path: PathBuf,
    /// True if this deploy has copied it.
    pub(super) is_new: bool,
}

/// The treatment of an artifact in the folder that has the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SameContent {
    /// It is deployed again.
    Reuse,
    /// It is copied again, since the newest artifact of a drop folder is the one that runs.
    CopyAgain,
}

/// The folder for artifacts of a deployment, which it may share with others.
#[derive(Clone, Debug)]
pub(super) struct UploadFolder<'a> {
    pub(super) path: &'a Path,
    /// Name of the deployment, if it has one of its own.
    pub(super) deployment: Option<String>,
    pub(super) same_content: SameContent,
}

/// Copies `original`, whose content has this digest, into `folder` under a name that no other
/// artifact has there.
pub(super) fn upload(
    original: &Original,
    digest: Digest,
    upload_folder: &UploadFolder<'_>,
    name: &str,
    progress: &mut Progress,
) -> io::Result<Uploaded> {
    let folder = upload_folder.path;
    files::make_folder(folder)?;
    if upload_folder.same_content == SameContent::Reuse && lies_in(&original.path, folder) {
        let path = original.path.clone();
        return Ok(Uploaded {
            path,
            is_new: false,
        });
    }
    let there = format!("comparing it with what is in {folder:?} already");
    let name_there =
        progress.show_during(&there, || upload_folder.find_name(name, original, digest));
    let path = match name_there {
        UploadName::Taken(path) => {
            let is_new = false;
            return Ok(Uploaded { path, is_new });
        }
        UploadName::Free(path) => path,
    };
    // Outside of the watched names while it grows, and on the same volume.
    let staging = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempdir_in(folder)?;
    let copy = staging.path().join(name);
    copy_proved(original, digest, &copy, progress)?;
    files::hand_over(&copy, folder)?;
    if upload_folder.same_content == SameContent::CopyAgain {
        // On a machine that has not seen it arrive, the latest time decides what is the newest. Best
        // effort: a share may set no times.
        let _ = files::set_modified(&copy, SystemTime::now());
    }
    match upload_folder.claim(path, name, original, digest)? {
        UploadName::Taken(path) => Ok(Uploaded {
            path,
            is_new: false,
        }),
        UploadName::Free(path) => upload_folder.publish(&copy, path, original, digest),
    }
}

/// Copies `original` to `copy`, and checks that the copy has this digest.
pub(super) fn copy_proved(
    original: &Original,
    digest: Digest,
    copy: &Path,
    progress: &mut Progress,
) -> io::Result<()> {
    let copied = copy_once_written(original, copy, progress)?;
    let artifact = &original.path;
    if copied != digest {
        let changed = format!("{artifact:?} changed while it was copied");
        return Err(io::Error::other(changed));
    }
    let again = "reading the copy";
    if copy.is_dir() && progress.show_during(again, || digest_at(copy))? != digest {
        let link = find_moved_link(original, copy)?.unwrap_or_default();
        let differs = format!(
            "the link {link:?} in {artifact:?} leads out of it by a relative path, and would lead \
             elsewhere from a copy: let it name an absolute path"
        );
        return Err(io::Error::other(differs));
    }
    Ok(())
}

/// Returns a link of a copied folder that has another target than its original.
fn find_moved_link(original: &Original, copy: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = entries(copy)?.into_iter();
    let moved = entries.find(|entry| {
        let target = fs::read_link(&entry.path).ok();
        let link = original.path.join(&entry.relative);
        entry.kind == EntryKind::Link
            && target != original.rights.apply(|| fs::read_link(link)).ok()
    });
    Ok(moved.map(|entry| entry.relative))
}

/// Removes what [`upload`] copied.
pub(super) fn take_back(uploaded: &Uploaded) -> io::Result<()> {
    if uploaded.is_new {
        remove(&uploaded.path)?;
    }
    Ok(())
}

/// Removes the deployment's artifacts from its folder, except the newest `keep` and those in `needed`.
///
/// An artifact without a checksum file was not deployed by this command, and stays, as does one of
/// another deployment. Leftovers of killed deploys are removed, too.
pub(super) fn prune(
    folder: &UploadFolder<'_>,
    keep: usize,
    needed: impl Fn(&Path, Option<Digest>) -> bool,
) {
    files::remove_leftovers(folder.path, SystemTime::now());
    let entries = fs::read_dir(folder.path).into_iter().flatten().flatten();
    let mut deployed: Vec<_> = entries
        .filter(|entry| is_artifact(&entry.file_name()))
        .map(|entry| entry.path())
        .filter_map(|path| {
            let checksum = files::read_small(&checksum_file::path_for(&path)).ok()?;
            if !folder.is_ours(&checksum) {
                return None;
            }
            let digest = checksum_file::digest_of(&file_name(&path), &checksum);
            // A deploy writes it; new rights and backups change the artifact's own times.
            let deployed = fs::metadata(checksum_file::path_for(&path)).ok()?;
            Some((deployed.modified().ok()?, path, digest))
        })
        .collect();
    deployed.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    for (_, path, digest) in deployed.into_iter().skip(keep) {
        if !needed(&path, digest)
            && let Err(error) = remove(&path)
        {
            tracing::debug!(
                event = "artifact_not_removed",
                path = %path.display(),
                %error,
                "cannot remove an old artifact"
            );
        }
    }
}

/// Returns the name of a release's file or folder in two parts, stem and suffix: as requested, or
/// else the artifact's own name with the start of its digest.
pub(super) fn name(original: &Original, id: Option<&str>, digest: Digest) -> (String, String) {
    let artifact = &original.path;
    let suffix = if original.is_folder {
        String::new()
    } else {
        suffix(artifact)
    };
    let stem = match id {
        Some(id) => id.to_owned(),
        None => {
            let own = file_name(artifact);
            let own = own.strip_suffix(&suffix).unwrap_or(&own);
            format!("{own}-{}", &digest.hex()[..8])
        }
    };
    let safe = |c: char| {
        if c.is_alphanumeric() || "._+-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let stem: String = stem.chars().map(safe).collect();
    // The suffix may be part of the requested name.
    let stem = stem.strip_suffix(&suffix).unwrap_or(&stem).to_owned();
    (stem, suffix)
}

// === impl UploadFolder ===

impl<'a> UploadFolder<'a> {
    /// Returns the folder of a deployment. Those whose pointer files lie side by side share it.
    pub(super) fn of(place: &'a DeploymentPaths) -> Self {
        let path = &*place.uploads;
        let deployment = place.pointer.as_deref().map(|pointer| {
            let is_beside = pointer.parent() == path.parent();
            let name = pointer.file_name().map(Path::new);
            // Other containers may mount the folder at another path.
            format!("{:?}", name.filter(|_| is_beside).unwrap_or(pointer))
        });
        Self {
            path,
            same_content: if deployment.is_some() {
                SameContent::Reuse
            } else {
                SameContent::CopyAgain
            },
            deployment,
        }
    }

    /// Returns whether an artifact with this checksum file may belong to the deployment.
    fn is_ours(&self, checksum: &[u8]) -> bool {
        let deployment = checksum_file::deployment_of(checksum);
        deployment.is_none() || deployment == self.deployment
    }

    /// Finds the name for an artifact with this digest.
    fn find_name(&self, name: &str, original: &Original, digest: Digest) -> UploadName {
        let split = name.find('.').filter(|&at| at > 0).unwrap_or(name.len());
        let (stem, suffix) = name.split_at(split);
        for turn in 1_u32.. {
            let path = match turn {
                1 => self.path.join(name),
                turn => self.path.join(format!("{stem}.{turn}{suffix}")),
            };
            if !path.exists() && self.is_unclaimed(&path, digest) {
                return UploadName::Free(path);
            }
            if self.same_content == SameContent::Reuse && self.is_same(&path, original, digest) {
                return UploadName::Taken(path);
            }
        }
        unreachable!("no folder holds so many")
    }

    /// Writes the checksum file of an artifact that is to come, under `path` or, if another deploy was
    /// faster, the next name that is free.
    ///
    /// It comes before the artifact, which is then proved when it appears, and it is what two deploys
    /// at a time can create only once.
    fn claim(
        &self,
        mut path: PathBuf,
        name: &str,
        original: &Original,
        digest: Digest,
    ) -> io::Result<UploadName> {
        loop {
            let (file, checksum) = (checksum_file::path_for(&path), self.checksum(&path, digest));
            let is_first = files::create_atomically(&file, checksum.as_bytes())?;
            if is_first || self.is_unclaimed(&path, digest) {
                return Ok(UploadName::Free(path));
            }
            match self.find_name(name, original, digest) {
                UploadName::Free(next) => path = next,
                taken @ UploadName::Taken(_) => return Ok(taken),
            }
        }
    }

    /// Returns `true` unless a checksum file says that other content, or that of another deployment, is
    /// to come under this name.
    fn is_unclaimed(&self, path: &Path, digest: Digest) -> bool {
        match files::read_small(&checksum_file::path_for(path)) {
            Ok(checksum) => checksum == self.checksum(path, digest).as_bytes(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Returns the content of the checksum file of an artifact.
    fn checksum(&self, path: &Path, digest: Digest) -> String {
        checksum_file::content(&file_name(path), digest, self.deployment.as_deref())
    }

    /// Renames a copy to `path`, unless another deploy of the same content was faster.
    fn publish(
        &self,
        copy: &Path,
        path: PathBuf,
        original: &Original,
        digest: Digest,
    ) -> io::Result<Uploaded> {
        match files::rename(copy, &path) {
            Ok(()) => Ok(Uploaded { path, is_new: true }),
            Err(_) if self.is_same(&path, original, digest) => Ok(Uploaded {
                path,
                is_new: false,
            }),
            Err(error) => Err(error),
        }
    }

    /// Returns whether what lies at `path` can be deployed in place of a copy of `original`.
    fn is_same(&self, path: &Path, original: &Original, digest: Digest) -> bool {
        let checksum = files::read_small(&checksum_file::path_for(path)).unwrap_or_default();
        let has_shape = || {
            let wanted = original.rights.apply(|| shape(&original.path));
            matches!((shape(path), wanted), (Ok(there), Ok(wanted)) if there == wanted)
        };
        self.is_ours(&checksum)
            // The copy of a single file can be run in any case.
            && (!original.is_folder || has_shape())
            && digest_at(path).is_ok_and(|there| there == digest)
    }
}

enum UploadName {
    Free(PathBuf),
    /// The name of a file or folder with the same content, executable bits and empty folders.
    Taken(PathBuf),
}

/// Copies what no process writes to. Scanners of a fresh build get a few seconds for it.
fn copy_once_written(from: &Original, to: &Path, progress: &mut Progress) -> io::Result<Digest> {
    for _ in 0..WRITTEN_TRIES {
        match copy_with_progress(from, to, progress) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        // Parts of a folder may have been copied.
        let _ = fs::remove_dir_all(to);
        thread::sleep(WRITTEN_PAUSE);
    }
    let open = format!(
        "{:?} is open for writing: deploy it when it is complete",
        from.path
    );
    Err(io::Error::other(open))
}

/// Copies, and shows the progress.
fn copy_with_progress(from: &Original, to: &Path, progress: &mut Progress) -> io::Result<Digest> {
    let total = from.rights.apply(|| Ok(size(&from.path)))?;
    let copied = progress.during(
        |progress| progress.show_copied(size(to), total),
        || rights::with_reader(&from.rights, || copy(&from.path, to)),
    );
    progress.end_copy();
    copied
}

/// Returns the number of bytes in a file or a folder, as far as they are visible now.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| size(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

fn lies_in(artifact: &Path, folder: &Path) -> bool {
    let parent = artifact.parent().and_then(|p| fs::canonicalize(p).ok());
    parent.is_some() && parent == fs::canonicalize(folder).ok()
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?
    } else {
        fs::remove_file(path)?
    }
    // The checksum file goes last: as long as the artifact is there it counts as deployed.
    let _ = fs::remove_file(checksum_file::path_for(path));
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().map(OsString::from).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns the suffix that tells systems and handoff the format: `.exe`, `.tar.gz`.
fn suffix(path: &Path) -> String {
    let name = file_name(path);
    if name.ends_with(".tar.gz") {
        ".tar.gz".to_owned()
    } else {
        path.extension()
            .map(|extension| format!(".{}", extension.to_string_lossy()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(content: &str) -> Digest {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        digest_at(file.path()).unwrap()
    }

    fn folder_of<'a>(deployment: Option<&str>, path: &'a Path) -> UploadFolder<'a> {
        UploadFolder {
            path,
            deployment: deployment.map(str::to_owned),
            same_content: SameContent::Reuse,
        }
    }

    #[test]
    fn a_name_is_unique_safe_and_keeps_its_suffix() {
        let digest = digest_of("x");
        let start = &digest.hex()[..8];
        let name = |path: &str, id| {
            let (stem, suffix) = name(&Original::new(path.into()), id, digest);
            stem + &suffix
        };
        assert_eq!(name("out/app.exe", None), format!("app-{start}.exe"));
        assert_eq!(name("site.tar.gz", None), format!("site-{start}.tar.gz"));
        assert_eq!(name("app", None), format!("app-{start}"));
        assert_eq!(name("app.exe", Some("mysite-0123")), "mysite-0123.exe");
        assert_eq!(name("app.exe", Some("app-1.exe")), "app-1.exe");
        assert_eq!(name("app.exe", Some("a/../b c.exe")), "a-..-b-c.exe");
    }

    #[test]
    fn the_same_content_is_not_copied_again_and_other_content_gets_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("app.exe");
        let drop = folder.path().join("releases");
        let mut progress = Progress::quiet();
        let mut put = |content: &str, same_content| {
            fs::write(&source, content).unwrap();
            let digest = digest_of(content);
            let original = Original::new(source.clone());
            let put = upload(
                &original,
                digest,
                &UploadFolder {
                    same_content,
                    ..folder_of(None, &drop)
                },
                "a.exe",
                &mut progress,
            );
            let put = put.unwrap();
            let name = put.path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, put.is_new)
        };
        assert_eq!(put("1", SameContent::Reuse), ("a.exe".to_owned(), true));
        assert_eq!(put("1", SameContent::Reuse), ("a.exe".to_owned(), false));
        assert_eq!(put("2", SameContent::Reuse), ("a.2.exe".to_owned(), true));
        assert_eq!(
            put("1", SameContent::CopyAgain),
            ("a.3.exe".to_owned(), true)
        );
        let beside = fs::read_to_string(drop.join("a.2.exe.sha256")).unwrap();
        assert!(beside.starts_with(&digest_of("2").hex()), "{beside}");
        assert_eq!(
            fs::read_dir(&drop).unwrap().count(),
            6,
            "nothing else stays"
        );
    }

    #[test]
    fn what_was_deployed_last_is_pruned_last_whatever_happens_to_its_rights() {
        let drop = tempfile::tempdir().unwrap();
        let source = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut progress = Progress::quiet();
        let start = SystemTime::now();
        for (content, age) in [("1", 30), ("2", 20), ("3", 10)] {
            fs::write(&source, content).unwrap();
            let digest = digest_of(content);
            let original = Original::new(source.to_path_buf());
            let folder = folder_of(None, drop.path());
            let put = upload(&original, digest, &folder, content, &mut progress).unwrap();
            let checksum = checksum_file::path_for(&put.path);
            files::set_modified(&checksum, start - Duration::from_secs(age)).unwrap();
        }
        // As a job that sets the rights of everything does, or a backup with hard links.
        fs::hard_link(drop.path().join("1"), drop.path().join(".backup")).unwrap();
        prune(&folder_of(None, drop.path()), 1, |_, _| false);
        assert!(drop.path().join("3").exists() && !drop.path().join("1").exists());
    }

    #[test]
    fn what_is_put_into_a_drop_folder_is_newer_than_its_build() {
        let drop = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        let mut progress = Progress::quiet();
        fs::write(source.path().join("index"), "1").unwrap();
        for artifact in [source.path().to_owned(), source.path().join("index")] {
            files::set_modified(&artifact, SystemTime::UNIX_EPOCH).unwrap();
            let digest = digest_at(&artifact).unwrap();
            let again = UploadFolder {
                same_content: SameContent::CopyAgain,
                ..folder_of(None, drop.path())
            };
            let name = file_name(&artifact);
            let original = Original::new(artifact.clone());
            let put = upload(&original, digest, &again, &name, &mut progress);
            let modified = fs::metadata(put.unwrap().path).unwrap().modified().unwrap();
            assert!(
                modified.elapsed().unwrap() < Duration::from_secs(3600),
                "{artifact:?}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_would_lead_elsewhere_is_named() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let [shared, build] = ["shared", "build"].map(|name| folder.path().join(name));
        for path in [&shared, &build] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("env"), "1").unwrap();
        }
        symlink(&shared, build.join("absolute")).unwrap();
        symlink("env", build.join("inside")).unwrap();
        let drop = folder.path().join("drop/releases");
        let deploy = || {
            let original = Original::new(build.clone());
            let digest = digest_at(&build).unwrap();
            let folder = folder_of(None, &drop);
            upload(&original, digest, &folder, "a", &mut Progress::quiet())
        };
        deploy().unwrap();
        symlink("../shared/env", build.join("relative")).unwrap();
        let error = deploy().unwrap_err().to_string();
        assert!(error.contains("the link \"relative\" in "), "{error}");
    }

    #[test]
    fn deployments_that_share_a_folder_share_no_artifact() {
        let drop = tempfile::tempdir().unwrap();
        let source = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut progress = Progress::quiet();
        let mut put = |deployment, content: &str| {
            fs::write(&source, content).unwrap();
            let folder = folder_of(Some(deployment), drop.path());
            let original = Original::new(source.to_path_buf());
            upload(
                &original,
                digest_of(content),
                &folder,
                content,
                &mut progress,
            )
            .unwrap()
        };
        let shop = put("shop", "1");
        assert_eq!(put("shop", "1").path, shop.path, "the same one again");
        let blog = put("blog", "1");
        assert!(blog.is_new && blog.path != shop.path, "{blog:?}");
        put("blog", "2");
        put("blog", "3");
        prune(&folder_of(Some("blog"), drop.path()), 1, |_, _| false);
        assert!(shop.path.exists(), "of another deployment");
        assert!(!blog.path.exists() && drop.path().join("3").exists());
    }

    #[test]
    fn two_deploys_at_a_time_never_get_one_name() {
        let drop = tempfile::tempdir().unwrap();
        // Both have looked for a name before either has its copy in place.
        let put = |deployment, content: &str| {
            let copy = drop.path().join(format!(".{content}"));
            fs::write(&copy, content).unwrap();
            let (folder, digest) = (folder_of(Some(deployment), drop.path()), digest_of(content));
            let original = Original::new(copy.clone());
            let path = drop.path().join("release");
            match folder.claim(path, "release", &original, digest).unwrap() {
                UploadName::Free(path) => folder.publish(&copy, path, &original, digest).unwrap(),
                UploadName::Taken(path) => panic!("{path:?}"),
            }
        };
        for (deployment, content) in [("shop", "1"), ("blog", "1"), ("shop", "2")] {
            let put = put(deployment, content);
            let checksum = fs::read(checksum_file::path_for(&put.path)).unwrap();
            let of = checksum_file::deployment_of(&checksum);
            assert_eq!(of.as_deref(), Some(deployment));
            let digest = checksum_file::digest_of("", &checksum);
            assert_eq!(digest, Some(digest_of(content)));
        }
        let contents = ["release", "release.2", "release.3"]
            .map(|name| fs::read_to_string(drop.path().join(name)).unwrap());
        assert_eq!(contents, ["1", "1", "2"]);
    }

    #[test]
    fn of_two_deploys_of_one_folder_the_slower_uses_what_is_there() {
        let drop = tempfile::tempdir().unwrap();
        let place = |name: &str, content: &str| {
            let path = drop.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("app"), content).unwrap();
            path
        };
        let original = Original::new(place("original", "1"));
        let digest = digest_at(&original.path).unwrap();
        let folder = folder_of(None, drop.path());
        let publish = |copy: PathBuf, to| folder.publish(&copy, to, &original, digest);
        let there = place("a", "1");
        let slower = publish(place("copy", "1"), there.clone()).unwrap();
        assert!(!slower.is_new && slower.path == there, "{slower:?}");
        publish(place("copy-2", "1"), place("b", "2")).unwrap_err();
    }

    #[test]
    fn only_what_was_deployed_and_nobody_needs_is_pruned() {
        let drop = tempfile::tempdir().unwrap();
        let source = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut progress = Progress::quiet();
        for content in ["1", "2", "3", "4"] {
            fs::write(&source, content).unwrap();
            let digest = digest_of(content);
            upload(
                &Original::new(source.to_path_buf()),
                digest,
                &folder_of(None, drop.path()),
                content,
                &mut progress,
            )
            .unwrap();
        }
        fs::write(drop.path().join("by-hand"), "5").unwrap();
        let killed = drop.path().join(".Abc123.tmp");
        fs::write(&killed, "half").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        let half = fs::File::options().append(true).open(killed);
        half.and_then(|half| half.set_modified(long_ago)).unwrap();
        let first = digest_of("1");
        let folder = folder_of(None, drop.path());
        prune(&folder, 1, |_, digest| digest == Some(first));
        let mut left: Vec<_> = fs::read_dir(drop.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["1", "1.sha256", "4", "4.sha256", "by-hand"]);
    }
}

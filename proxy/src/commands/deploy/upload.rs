//! The artifact's way into the deployment's folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::commands::progress::Progress;
use crate::deployment::copy::copy;
use crate::deployment::digest::digest as digest_at;
use crate::deployment::drop_folder::is_artifact;
use crate::os::files;
use crate::release::Digest;

/// Somebody writes to it: so often it is tried again, after so long.
const WRITTEN_TRIES: u32 = 25;
const WRITTEN_PAUSE: Duration = Duration::from_millis(200);

/// An artifact where sidecars find it.
#[derive(Clone, Debug)]
pub(super) struct Uploaded {
    pub(super) path: PathBuf,
    /// Whether it was not there before.
    pub(super) is_new: bool,
}

/// Puts `artifact`, whose content has this digest, into `folder` under a name that no other content
/// has there. `reuse` takes one that is there already; a drop folder needs a new one, as it is the
/// newest that counts.
pub(super) fn upload(
    artifact: &Path,
    digest: Digest,
    folder: &Path,
    name: &str,
    reuse: bool,
    progress: &mut Progress,
) -> io::Result<Uploaded> {
    files::make_folder(folder)?;
    if reuse && lies_in(artifact, folder) {
        let path = artifact.to_owned();
        return Ok(Uploaded {
            path,
            is_new: false,
        });
    }
    let there = format!("comparing it with what is in {folder:?} already");
    let place = progress.during_all_of(&there, || place(folder, name, digest, reuse));
    let path = match place {
        Place::Taken(path) => {
            let is_new = false;
            return Ok(Uploaded { path, is_new });
        }
        Place::Free(path) => path,
    };
    // Outside of what is watched while it grows, and on the same volume.
    let staging = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempdir_in(folder)?;
    let copy = staging.path().join(name);
    let copied = copy_once_written(artifact, &copy, progress)?;
    if copied != digest {
        let changed = format!("{artifact:?} changed while it was copied");
        return Err(io::Error::other(changed));
    }
    let again = "reading the copy";
    if copy.is_dir() && progress.during_all_of(again, || digest_at(&copy))? != digest {
        let differs = format!("a link in {artifact:?} leads out of it, and would lead elsewhere");
        return Err(io::Error::other(differs));
    }
    files::adopt_all(&copy, folder)?;
    // The digest first: when the artifact appears, it proves itself.
    let line = format!("{}  {}\n", digest.hex(), file_name(&path));
    files::write_atomically(&digest_file(&path), line.as_bytes())?;
    files::rename(&copy, &path)?;
    Ok(Uploaded { path, is_new: true })
}

/// Takes back what [`upload`] put there.
pub(super) fn take_back(uploaded: &Uploaded) -> io::Result<()> {
    if uploaded.is_new {
        remove(&uploaded.path)?;
    }
    Ok(())
}

/// Removes what deploys have put into `folder`, except the newest `keep` and those in `needed`.
///
/// What came some other way has no digest beside it, and stays. What a deploy that was killed has left
/// half made goes, too.
pub(super) fn prune(folder: &Path, keep: usize, needed: impl Fn(&Path, Option<Digest>) -> bool) {
    files::remove_half_made(folder, SystemTime::now());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut deployed: Vec<_> = entries
        .filter(|entry| is_artifact(&entry.file_name()))
        .map(|entry| entry.path())
        .filter_map(|path| {
            let digest = fs::read_to_string(digest_file(&path)).ok()?;
            let digest = Digest::parse(digest.split_whitespace().next()?).ok();
            Some((files::arrival(&fs::metadata(&path).ok()?), path, digest))
        })
        .collect();
    deployed.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    for (_, path, digest) in deployed.into_iter().skip(keep) {
        if !needed(&path, digest)
            && let Err(error) = remove(&path)
        {
            tracing::debug!(?path, %error, "an old artifact could not be removed");
        }
    }
}

/// The name of a release's file or folder: what was asked for, else the artifact's own with the
/// start of its digest. In two parts: what people call it, and what says what it is.
pub(super) fn name(artifact: &Path, id: Option<&str>, digest: Digest) -> (String, String) {
    let suffix = match artifact.is_dir() {
        true => String::new(),
        false => suffix(artifact),
    };
    let stem = match id {
        Some(id) => id.to_owned(),
        None => {
            let own = file_name(artifact);
            let own = own.strip_suffix(&suffix).unwrap_or(&own);
            format!("{own}-{}", &digest.hex()[..8])
        }
    };
    let safe = |c: char| match c.is_alphanumeric() || "._+-".contains(c) {
        true => c,
        false => '-',
    };
    let stem: String = stem.chars().map(safe).collect();
    // Who writes the suffix too means the same.
    let stem = stem.strip_suffix(&suffix).unwrap_or(&stem).to_owned();
    (stem, suffix)
}

/// `NAME.sha256`
fn digest_file(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".sha256");
    name.into()
}

enum Place {
    Free(PathBuf),
    /// The same content has the name.
    Taken(PathBuf),
}

fn place(folder: &Path, name: &str, digest: Digest, reuse: bool) -> Place {
    let split = name.find('.').filter(|&at| at > 0).unwrap_or(name.len());
    let (stem, suffix) = name.split_at(split);
    for turn in 1_u32.. {
        let path = match turn {
            1 => folder.join(name),
            turn => folder.join(format!("{stem}.{turn}{suffix}")),
        };
        if !path.exists() {
            return Place::Free(path);
        }
        if reuse && digest_at(&path).is_ok_and(|there| there == digest) {
            return Place::Taken(path);
        }
    }
    unreachable!("no folder holds so many")
}

/// Copies what nobody writes to. A scanner that looks at a fresh build gets a few seconds for it.
fn copy_once_written(from: &Path, to: &Path, progress: &mut Progress) -> io::Result<Digest> {
    for _ in 0..WRITTEN_TRIES {
        match copy_with_progress(from, to, progress) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        // What has been copied of a folder.
        let _ = fs::remove_dir_all(to);
        thread::sleep(WRITTEN_PAUSE);
    }
    let open = format!("{from:?} is open for writing: deploy it when it is complete");
    Err(io::Error::other(open))
}

/// Copies, and shows how far it is.
fn copy_with_progress(from: &Path, to: &Path, progress: &mut Progress) -> io::Result<Digest> {
    let total = size(from);
    let copied = progress.during(
        |progress| progress.copied(size(to), total),
        || copy(from, to),
    );
    progress.copied_all();
    copied
}

/// The bytes in a file or a folder, as far as they can be seen now.
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
    match path.is_dir() {
        true => fs::remove_dir_all(path)?,
        false => fs::remove_file(path)?,
    }
    // Last: as long as the artifact is there it counts as deployed.
    let _ = fs::remove_file(digest_file(path));
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().map(OsString::from).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// `.exe`, `.tar.gz`: what tells systems and handoff what it is.
fn suffix(path: &Path) -> String {
    let name = file_name(path);
    match name.ends_with(".tar.gz") {
        true => ".tar.gz".to_owned(),
        false => path
            .extension()
            .map(|extension| format!(".{}", extension.to_string_lossy()))
            .unwrap_or_default(),
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

    #[test]
    fn a_name_is_unique_safe_and_keeps_its_suffix() {
        let digest = digest_of("x");
        let start = &digest.hex()[..8];
        let name = |path: &str, id| {
            let (stem, suffix) = name(Path::new(path), id, digest);
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
        let mut put = |content: &str, reuse| {
            fs::write(&source, content).unwrap();
            let digest = digest_of(content);
            let put = upload(&source, digest, &drop, "a.exe", reuse, &mut progress).unwrap();
            let name = put.path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, put.is_new)
        };
        assert_eq!(put("1", true), ("a.exe".to_owned(), true));
        assert_eq!(put("1", true), ("a.exe".to_owned(), false));
        assert_eq!(put("2", true), ("a.2.exe".to_owned(), true));
        assert_eq!(put("1", false), ("a.3.exe".to_owned(), true));
        let beside = fs::read_to_string(drop.join("a.2.exe.sha256")).unwrap();
        assert!(beside.starts_with(&digest_of("2").hex()), "{beside}");
        assert_eq!(
            fs::read_dir(&drop).unwrap().count(),
            6,
            "nothing else stays"
        );
    }

    #[test]
    fn only_what_was_deployed_and_nobody_needs_is_pruned() {
        let drop = tempfile::tempdir().unwrap();
        let source = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut progress = Progress::quiet();
        for content in ["1", "2", "3", "4"] {
            fs::write(&source, content).unwrap();
            let digest = digest_of(content);
            upload(&source, digest, drop.path(), content, true, &mut progress).unwrap();
        }
        fs::write(drop.path().join("by-hand"), "5").unwrap();
        let killed = drop.path().join(".Abc123.tmp");
        fs::write(&killed, "half").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
        let half = fs::File::options().append(true).open(killed);
        half.and_then(|half| half.set_modified(long_ago)).unwrap();
        let first = digest_of("1");
        prune(drop.path(), 1, |_, digest| digest == Some(first));
        let mut left: Vec<_> = fs::read_dir(drop.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["1", "1.sha256", "4", "4.sha256", "by-hand"]);
    }
}

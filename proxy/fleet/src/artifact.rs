//! Artifacts in the store: one file each, named by its digest.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use handoff::deployment::digest::digest;
use handoff::os::files;
use handoff::release::Digest;
use sha2::{Digest as _, Sha256};
use tar::{Builder, HeaderMode};

use crate::channel::FleetRelease;
use crate::store::{Store, StoreError};

/// Uploads the artifact at `path`, a folder as an archive.
///
/// # Errors
/// [`StoreError`] when it cannot be read or sent.
pub async fn upload(store: &Store, path: &Path) -> Result<FleetRelease, StoreError> {
    let name = fs::canonicalize(path)
        .map_err(|error| at(path, &error))?
        .file_name()
        .unwrap_or_else(|| OsStr::new("app"))
        .to_string_lossy()
        .into_owned();
    let mut packed = tempfile::NamedTempFile::new()?;
    let (path, name) = if path.is_dir() {
        pack(path, packed.as_file_mut())?;
        (packed.path(), format!("{name}.tar.gz"))
    } else {
        (path, name)
    };
    let sha256 = digest(path)?.hex();
    let file = File::open(path).map_err(|error| at(path, &error))?;
    let size = file.metadata()?.len();
    let release = FleetRelease { name, sha256, size };
    release.check().map_err(io::Error::other)?;
    store
        .send(&release.path(), size, &mut BufReader::new(file))
        .await?;
    Ok(release)
}

/// Fetches the artifact of a release into `folder`, unless it is there, and returns its path.
///
/// Under its name there is never anything else than the whole artifact.
///
/// # Errors
/// [`StoreError`] when it cannot be fetched, or is not what the digest says.
pub async fn fetch(
    store: &Store,
    release: &FleetRelease,
    folder: &Path,
) -> Result<PathBuf, StoreError> {
    let expected = release.check().map_err(io::Error::other)?;
    let folder = folder.join(folder_of(expected));
    let path = folder.join(&release.name);
    if path.is_file() {
        return Ok(path);
    }
    files::make_folder(&folder)?;
    let mut part = tempfile::NamedTempFile::new_in(&folder)?;
    let mut hash = Sha256::new();
    let take = |bytes: &[u8]| {
        hash.update(bytes);
        part.write_all(bytes)
    };
    store.fetch(&release.path(), release.size, take).await?;
    if Digest::finish(hash) != expected {
        let reason = format!("its digest is not {expected}");
        return Err(StoreError::Content(release.path(), reason));
    }
    part.as_file().sync_all()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // A store knows no rights, and a program needs this one.
        part.as_file()
            .set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    part.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

/// Removes the artifacts in `folder` except those of these releases. handoff runs private copies.
pub fn remove_all_but<'a>(folder: &Path, kept: impl IntoIterator<Item = &'a FleetRelease>) {
    let kept: Vec<_> = kept
        .into_iter()
        .filter_map(|release| Some(folder_of(release.check().ok()?)))
        .collect();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !kept.contains(&name) {
            // The next deploy tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn folder_of(digest: Digest) -> String {
    digest.hex()[..16].to_owned()
}

/// Packs a folder: the same files give the same bytes, whenever and by whomever they were written.
fn pack(folder: &Path, to: &mut File) -> io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(to, Compression::default()));
    archive.mode(HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    add(&mut archive, folder, Path::new(""))?;
    archive.into_inner()?.finish()?.flush()
}

fn add(archive: &mut Builder<impl io::Write>, folder: &Path, name: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|error| at(folder, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        archive
            .append_path_with_name(&path, &name)
            .map_err(|error| at(&path, &error))?;
        if entry.file_type()?.is_dir() {
            add(archive, &path, &name)?;
        }
    }
    Ok(())
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::in_memory;

    #[tokio::test]
    async fn what_arrives_is_what_was_uploaded_also_in_parts() {
        let (store, folder) = (in_memory(), tempfile::tempdir().unwrap());
        let content: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
        let app = folder.path().join("app");
        fs::write(&app, &content).unwrap();
        let release = upload(&store, &app).await.unwrap();
        let to = folder.path().join("releases");
        let path = fetch(&store, &release, &to).await.unwrap();
        assert!(fs::read(&path).unwrap() == content);
        remove_all_but(&to, [&release]);
        assert!(path.is_file());
        remove_all_but(&to, []);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_changed_cut_or_missing_artifact_never_has_its_name() {
        let (store, folder) = (in_memory(), tempfile::tempdir().unwrap());
        let app = folder.path().join("app");
        fs::write(&app, "good").unwrap();
        let release = upload(&store, &app).await.unwrap();
        let to = folder.path().join("releases");
        let changed = FleetRelease {
            sha256: "ab".repeat(32),
            ..release.clone()
        };
        store
            .send(&changed.path(), 4, &mut &b"baad"[..])
            .await
            .unwrap();
        let cut = FleetRelease {
            sha256: "cd".repeat(32),
            ..release.clone()
        };
        store.send(&cut.path(), 3, &mut &b"goo"[..]).await.unwrap();
        let long = FleetRelease {
            size: 5,
            ..release.clone()
        };
        let missing = FleetRelease {
            name: "other".to_owned(),
            ..release
        };
        for wrong in [changed, cut, long, missing] {
            assert!(fetch(&store, &wrong, &to).await.is_err(), "{wrong}");
            let files = fs::read_dir(&to).unwrap().flatten();
            let left = files.flat_map(|folder| fs::read_dir(folder.path()).unwrap());
            assert_eq!(left.count(), 0, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_packed_alike_each_time() {
        let (store, folder) = (in_memory(), tempfile::tempdir().unwrap());
        let digest_of = async |name: &str, order: [&str; 2]| {
            let app = folder.path().join(name).join("app");
            fs::create_dir_all(app.join("static")).unwrap();
            for file in order {
                fs::write(app.join(file), file).unwrap();
            }
            upload(&store, &app).await.unwrap()
        };
        let one = digest_of("one", ["static/a", "b"]).await;
        assert_eq!(one, digest_of("two", ["b", "static/a"]).await);
        assert_eq!(one.name, "app.tar.gz");
    }
}

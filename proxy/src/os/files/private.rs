//! Folders that handoff makes for itself, whatever the umask is.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::os::rights::Rights;

/// The access of other users to a folder of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Others may enter the folder, but neither list nor change it: what is in it has permissions of
    /// its own.
    Enter,
    /// Others have none.
    None,
}

/// Checks that no other user has taken the name of a folder of ours, or of one above it, in a place
/// where everybody may, such as `/tmp`: whoever owns a folder can replace what is in it. Root may work
/// below a folder of another user.
///
/// # Errors
/// Another user has, and is named.
pub fn check_names(path: &Path) -> io::Result<()> {
    os::check_names(path)
}

/// Makes a folder of the cache and its parents, and takes from others what they may not have.
///
/// # Errors
/// It cannot be made.
pub fn make_own_folder(path: &Path, access: Access) -> io::Result<()> {
    os::make(path, access)
}

/// Makes a folder and its parents, that not everybody can write to.
///
/// In a folder of another user, root makes it for that user, with whose rights its commands work
/// there. An earlier version made it for root.
///
/// # Errors
/// It cannot be made.
pub fn make_folders(path: &Path) -> io::Result<()> {
    let rights = Rights::over(path);
    if rights.apply(|| os::make_folders(path)).is_err() {
        os::make_folders(path)?;
    }
    rights.give(path);
    Ok(())
}

/// Opens a file to which lines are added, that not everybody can write to.
///
/// # Errors
/// It cannot be opened.
pub fn append_to(path: &Path) -> io::Result<File> {
    os::append_to(path)
}

/// Limits the access to a new private copy, which is in `folder`, to those who can reach the
/// original.
///
/// # Errors
/// The permissions cannot be changed.
pub fn limit_to_readers_of(original: &Path, folder: &Path) -> io::Result<()> {
    os::limit_to_readers_of(original, folder)
}

#[cfg(unix)]
mod os {
    use std::fs::{DirBuilder, Permissions};
    use std::os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    };

    use super::{Access, File, Path, fs, io};

    /// Mode of a folder in which everybody may take a name, and only its owner give it to another.
    const STICKY_AND_OPEN: u32 = 0o1002;

    pub(super) fn check_names(path: &Path) -> io::Result<()> {
        let own = rustix::process::geteuid();
        let depth = if own.is_root() { 1 } else { usize::MAX };
        for (name, place) in path.ancestors().zip(path.ancestors().skip(1)).take(depth) {
            let (Ok(taken), Ok(open)) = (fs::symlink_metadata(name), fs::metadata(place)) else {
                continue;
            };
            let is_open = open.mode() & STICKY_AND_OPEN == STICKY_AND_OPEN;
            if is_open && ![0, own.as_raw()].contains(&taken.uid()) {
                let user = taken.uid();
                return Err(io::Error::other(format!(
                    "{name:?} belongs to the user with the id {user}, and everybody could make it in \
                     {place:?}"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn make(path: &Path, access: Access) -> io::Result<()> {
        let allowed = match access {
            Access::Enter => 0o711,
            Access::None => 0o700,
        };
        // The umask takes away more.
        let make = |path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        if let Some(above) = path.parent() {
            make(above, 0o711)?;
        }
        make(path, allowed)?;
        // An earlier version, or another umask, left more.
        let mode = fs::metadata(path)?.mode() & 0o7777;
        if mode & !allowed & 0o777 != 0 {
            // Another user's cannot be changed.
            let _ = fs::set_permissions(path, Permissions::from_mode(mode & allowed));
        }
        Ok(())
    }

    pub(super) fn make_folders(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o775).create(path)
    }

    pub(super) fn append_to(path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.create(true).append(true).mode(0o664).open(path)
    }

    pub(super) fn limit_to_readers_of(original: &Path, folder: &Path) -> io::Result<()> {
        const SEARCH_BY_GROUP: u32 = 0o010;
        const SEARCH_BY_OTHERS: u32 = 0o001;
        let mut mode = 0o711;
        let mut group = None;
        for above in original.ancestors().skip(1) {
            let metadata = fs::metadata(above)?;
            if metadata.mode() & SEARCH_BY_OTHERS != 0 {
                continue;
            }
            let is_for_a_group = metadata.mode() & SEARCH_BY_GROUP != 0;
            let is_same = group.is_none_or(|group| group == metadata.gid());
            group = Some(metadata.gid());
            mode = if is_for_a_group && is_same && mode != 0o700 {
                0o710
            } else {
                0o700
            };
        }
        if let (0o710, Some(group)) = (mode, group)
            && std::os::unix::fs::chown(folder, None, Some(group)).is_err()
        {
            mode = 0o700;
        }
        fs::set_permissions(folder, Permissions::from_mode(mode))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_copy_can_be_reached_by_no_more_users_than_its_original() {
            let both = tempfile::tempdir().unwrap();
            let original = both.path().join("a/b/app");
            fs::create_dir_all(&original).unwrap();
            let copy = both.path().join("copy");
            fs::create_dir(&copy).unwrap();
            let limited = |modes: [u32; 3]| {
                let above = [
                    both.path(),
                    &both.path().join("a"),
                    &both.path().join("a/b"),
                ];
                for (path, mode) in above.into_iter().zip(modes) {
                    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
                }
                limit_to_readers_of(&original, &copy).unwrap();
                fs::metadata(&copy).unwrap().mode() & 0o7777
            };
            assert_eq!(limited([0o755, 0o755, 0o755]), 0o711);
            assert_eq!(limited([0o711, 0o755, 0o755]), 0o711);
            assert_eq!(limited([0o755, 0o700, 0o755]), 0o700);
            assert_eq!(limited([0o700, 0o750, 0o755]), 0o700);
            assert_eq!(limited([0o755, 0o750, 0o755]), 0o710);
            assert_eq!(limited([0o755, 0o750, 0o700]), 0o700);
        }

        #[test]
        fn a_name_that_another_user_took_where_everybody_may_is_refused() {
            let open = tempfile::tempdir().unwrap();
            let cache = open.path().join("cache");
            check_names(&cache).unwrap();
            fs::create_dir(&cache).unwrap();
            if std::os::unix::fs::chown(&cache, Some(4321), None).is_err() {
                return;
            }
            let set_mode = |mode| {
                fs::set_permissions(open.path(), Permissions::from_mode(mode)).unwrap();
            };
            set_mode(0o755);
            check_names(&cache).unwrap();
            set_mode(0o1777);
            let error = check_names(&cache).unwrap_err().to_string();
            assert!(error.contains("with the id 4321"), "{error}");
            // A link of that user's may lead to a folder of ours.
            fs::remove_dir(&cache).unwrap();
            std::os::unix::fs::symlink("/", &cache).unwrap();
            std::os::unix::fs::lchown(&cache, Some(4321), None).unwrap();
            check_names(&cache).unwrap_err();
        }

        #[test]
        fn a_folder_of_the_cache_is_closed_whoever_made_it() {
            let folder = tempfile::tempdir().unwrap();
            let made = folder.path().join("a/b");
            let mode = || fs::metadata(&made).unwrap().mode() & 0o777;
            make(&made, Access::None).unwrap();
            assert_eq!(mode(), 0o700);
            let above = fs::metadata(folder.path().join("a")).unwrap();
            assert_eq!(
                above.mode() & 0o777,
                0o711,
                "what else is in it has its own"
            );
            fs::set_permissions(&made, Permissions::from_mode(0o777)).unwrap();
            make(&made, Access::Enter).unwrap();
            assert_eq!(mode(), 0o711);
        }
    }
}

#[cfg(windows)]
mod os {
    use super::{Access, File, Path, fs, io};

    /// Checks nothing: there is no such place.
    pub(super) fn check_names(_: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Makes it with the access control list of the one above.
    pub(super) fn make(path: &Path, _: Access) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(super) fn make_folders(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(super) fn append_to(path: &Path) -> io::Result<File> {
        File::options().create(true).append(true).open(path)
    }

    pub(super) fn limit_to_readers_of(_: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

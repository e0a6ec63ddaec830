//! Linux: each thread has ids of its own for the access to files (credentials(7), setfsuid(2)).
//!
//! With another user's id for files, a thread of root loses the capabilities to pass over the
//! permissions of files (capabilities(7), "Effect of user ID changes on capabilities"), and keeps
//! the one to change its ids again.

#![expect(unsafe_code, reason = "the ids for files have no safe interface")]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// Maximum number of links in a path, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Group of nobody, for a user whose groups are not known.
const NO_GROUP: u32 = 65_534;
/// Nobody, for a group that may write.
const NOBODY: u32 = 65_534;

/// The ids with which a thread works on files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    user: u32,
    group: u32,
    /// Supplementary groups.
    groups: Vec<u32>,
}

/// The ids of this thread before, which it gets back at the end.
pub(super) struct Entered {
    before: Option<User>,
}

/// The ids of this process.
static OWN: OnceLock<User> = OnceLock::new();

// === impl User ===

impl User {
    /// Returns a user with the groups that /etc/passwd and /etc/group name, working as the group of
    /// one of its folders if it is a member of that.
    fn known_as(user: u32, of_folder: u32, passwd: &str, group: &str) -> Self {
        let account = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_it = fields.get(2)?.parse() == Ok(user);
            let group: u32 = fields.get(3)?.parse().ok()?;
            is_it.then_some((fields[0], group))
        });
        let Some((name, own)) = account else {
            // A group of the same number is the user's own.
            let group = if of_folder == user { user } else { NO_GROUP };
            let groups = Vec::new();
            return Self {
                user,
                group,
                groups,
            };
        };
        let memberships = group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|member| member == name);
            is_member.then(|| fields[2].parse().ok())?
        });
        let groups: Vec<u32> = memberships.chain([own]).collect();
        let group = if groups.contains(&of_folder) {
            of_folder
        } else {
            own
        };
        Self {
            user,
            group,
            groups,
        }
    }

    fn known(user: u32, of_folder: u32) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self::known_as(user, of_folder, &read("/etc/passwd"), &read("/etc/group"))
    }

    /// Becomes the owner of a folder of root's, to which no link leads.
    pub(super) fn adopt(&self, folder: &Path) {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

        let Ok(folder) = std::path::absolute(folder) else {
            return;
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(
            CWD,
            &folder,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        );
        let Ok(opened) = opened.map(File::from) else {
            return;
        };
        if opened.metadata().is_ok_and(|metadata| metadata.uid() == 0) {
            // Without the right to, it stays root's.
            let _ = fchown(&opened, Some(self.user), Some(self.group));
        }
    }

    fn of_thread() -> io::Result<Self> {
        // SAFETY: no pointer is passed; the invalid id changes nothing and returns the present one
        // (setfsuid(2), "BUGS").
        let (user, group) = unsafe { (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX)) };
        let count = usize::try_from(groups_into(&mut [])?).unwrap_or_default();
        let mut groups = vec![0; count];
        groups_into(&mut groups)?;
        Ok(Self {
            user: user.cast_unsigned(),
            group: group.cast_unsigned(),
            groups,
        })
    }

    /// Makes these the ids of this thread.
    fn enter(&self) -> io::Result<()> {
        // The function of the C library would change all threads.
        // SAFETY: the kernel reads as many ids as the slice has, and keeps no pointer.
        let result =
            unsafe { libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointer is passed.
        unsafe {
            libc::setfsgid(self.group);
            libc::setfsuid(self.user);
        }
        // These report no error.
        let now = Self::of_thread()?;
        if (now.user, now.group) == (self.user, self.group) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user {
            NOBODY => write!(f, "group {}", self.group),
            user => write!(f, "user {user}"),
        }
    }
}

// === impl Entered ===

impl Entered {
    /// Lets the thread keep its new ids.
    pub(super) fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && before.enter().is_err()
        {
            // It had these rights a moment ago; with any others it must not go on.
            std::process::abort();
        }
    }
}

/// Makes the ids of a user, or of this process, those of this thread until the value is dropped.
pub(super) fn enter(user: Option<&User>) -> io::Result<Entered> {
    if !is_root() {
        return Ok(Entered { before: None });
    }
    let before = User::of_thread()?;
    // The first call comes before any change.
    let own = OWN.get_or_init(|| before.clone());
    let user = user.unwrap_or(own);
    if *user == before {
        return Ok(Entered { before: None });
    }
    let entered = Entered {
        before: Some(before),
    };
    user.enter()?;
    Ok(entered)
}

/// Returns the first user on the way to `path`, through all links, who is neither root nor the owner
/// of `/`, and the part of the path that belongs to this user. Only a process of root asks.
pub(super) fn owner_of(path: &Path) -> Option<(User, PathBuf)> {
    if !is_root() {
        return None;
    }
    // Also where an owner's rights would not let it look.
    let _own = enter(None).ok()?;
    let (user, group, of) = first_owner(path)?;
    Some((User::known(user, group), of))
}

/// Returns the user other than root who owns a file, or a group of root's file that may write to it, as
/// a user who has no other rights. Only a process of root asks.
pub(super) fn writer_of(metadata: &Metadata) -> Option<User> {
    if !is_root() {
        return None;
    }
    let (user, group) = (metadata.uid(), metadata.gid());
    if !is_roots(user) {
        return Some(User::known(user, group));
    }
    let is_writable_by = |class: u32| metadata.mode() & class & 0o222 != 0;
    let group = if is_writable_by(0o070) && group != 0 {
        group
    } else if is_writable_by(0o007) {
        NO_GROUP
    } else {
        return None;
    };
    Some(User {
        user: NOBODY,
        group,
        groups: vec![group],
    })
}

fn first_owner(path: &Path) -> Option<(u32, u32, PathBuf)> {
    let path = std::path::absolute(path).ok()?;
    let names = |path: &Path| -> VecDeque<OsString> {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        names.collect()
    };
    let mut ahead = names(&path);
    let mut reached = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(name);
        // What does not exist belongs to the owner of the folder above.
        let metadata = fs::symlink_metadata(&next).ok()?;
        if !is_roots(metadata.uid()) {
            return Some((metadata.uid(), metadata.gid(), next));
        }
        if !metadata.is_symlink() {
            reached = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        let target = fs::read_link(&next).ok()?;
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        let mut through = names(&target);
        through.append(&mut ahead);
        ahead = through;
    }
    None
}

/// Returns true if a file belongs to root, to the user of this process, or to `owner`.
pub(super) fn is_trusted(file: &File, owner: Option<&User>) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    let user = metadata.uid();
    is_roots(user)
        || user == rustix::process::geteuid().as_raw()
        || owner.is_some_and(|owner| owner.user == user)
}

/// Returns true for root, and for the owner of `/`, as whom root appears in a user namespace without
/// it.
fn is_roots(user: u32) -> bool {
    user == 0 || fs::metadata("/").is_ok_and(|root| root.uid() == user)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn groups_into(groups: &mut [u32]) -> io::Result<i32> {
    let room = i32::try_from(groups.len()).unwrap_or(i32::MAX);
    // SAFETY: the kernel writes at most as many ids as there is room for; with no room it only counts.
    match unsafe { libc::getgroups(room, groups.as_mut_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::super::Rights;
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nshop:x:990:980::/srv/shop:/bin/false\n";
    const GROUP: &str = "root:x:0:\nshop:x:980:\ndeploy:x:500:alice,shop\nadm:x:4:alice\n";

    #[test]
    fn a_user_has_the_groups_that_it_is_a_member_of_and_no_other() {
        let known = |user, folder| User::known_as(user, folder, PASSWD, GROUP);
        let shop = known(990, 500);
        assert_eq!((shop.group, &shop.groups[..]), (500, &[500, 980][..]));
        for not_a_members in [0, 4] {
            assert_eq!(known(990, not_a_members).group, 980);
            assert_eq!(known(12_345, not_a_members).group, NO_GROUP);
        }
        assert_eq!(known(12_345, 12_345).group, 12_345);
        assert!(known(12_345, 12_345).groups.is_empty());
    }

    #[test]
    fn whoever_can_replace_a_part_of_a_path_is_its_owner() {
        const OTHER: u32 = 12_345;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("theirs/deeper")).unwrap();
        fs::create_dir(path("ours")).unwrap();
        if chown(path("theirs"), Some(OTHER), Some(OTHER)).is_err() {
            return eprintln!("skipped: only root may give files away");
        }
        symlink("../ours", path("theirs/link")).unwrap();
        symlink("theirs/deeper", path("in")).unwrap();
        let owner = |name: &str| first_owner(&path(name)).map(|(user, ..)| user);
        for name in ["theirs", "theirs/deeper/x", "theirs/link/x", "in/x/y"] {
            assert_eq!(owner(name), Some(OTHER), "{name}");
        }
        for name in ["ours", "ours/x/y"] {
            assert_eq!(owner(name), None, "{name}");
        }
        std::os::unix::fs::lchown(path("in"), Some(OTHER), None).unwrap();
        assert_eq!(owner("in"), Some(OTHER), "the link is theirs");
    }

    #[test]
    fn whoever_may_have_written_a_file_decides_about_the_paths_in_it() {
        const OTHER: u32 = 12_345;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("status.json");
        fs::write(&file, "{}").unwrap();
        if chown(&file, Some(OTHER), Some(OTHER)).is_err() {
            return eprintln!("skipped: only root may give files away");
        }
        let writer = || writer_of(&fs::metadata(&file).unwrap()).map(|user| user.to_string());
        assert_eq!(writer().as_deref(), Some("user 12345"));
        chown(&file, Some(0), Some(OTHER)).unwrap();
        for (mode, whose) in [
            (0o644, None),
            (0o664, Some("group 12345")),
            (0o646, Some("group 65534")),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(writer().as_deref(), whose, "{mode:o}");
        }
        chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(writer(), None);
    }

    #[test]
    fn rights_are_those_of_one_thread_and_end_with_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "x").unwrap();
        let only_root = Permissions::from_mode(0o600);
        fs::set_permissions(&secret, only_root).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        if chown(&theirs, Some(12_345), Some(12_345)).is_err() {
            return eprintln!("skipped: only root may give files away");
        }
        let rights = Rights::over(&theirs);
        let read = || fs::read(&secret);
        let refused = rights.apply(read).unwrap_err().to_string();
        assert!(refused.contains("user 12345, the owner of"), "{refused}");
        rights
            .apply(|| {
                fs::write(theirs.join("file"), "x")?;
                let own = Rights::default();
                assert!(own.apply(read).is_ok(), "within, too");
                assert!(std::thread::scope(|scope| scope.spawn(read).join().unwrap()).is_err());
                assert!(read().is_err());
                Ok(())
            })
            .unwrap();
        assert!(read().is_ok());
        assert_eq!(fs::metadata(theirs.join("file")).unwrap().uid(), 12_345);
    }
}

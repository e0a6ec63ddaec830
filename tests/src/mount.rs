//! Small file systems of a test's own.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::binaries::spawn;
use crate::tools::skip;

/// Gone with this value.
#[derive(Debug)]
pub struct Mount {
    folder: TempDir,
}

impl Mount {
    /// A file system in memory, with these options; none where that takes a right that this user
    /// has not got.
    pub fn tmpfs(options: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let mounted = run("mount", &args, folder.path());
        if !mounted {
            skip("the right to mount a file system");
        }
        mounted.then_some(Self { folder })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = run("umount", &[], self.path());
        assert!(
            unmounted || std::thread::panicking(),
            "something still runs from {:?}",
            self.path()
        );
    }
}

fn run(program: &str, args: &[&str], last: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(args).arg(last);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let ended = spawn(&mut command).and_then(|mut child| child.wait());
    ended.is_ok_and(|status| status.success())
}

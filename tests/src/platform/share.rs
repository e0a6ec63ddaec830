//! Effects that Azure's shared folder and the tools that write to it do to a deployment.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::home::Home;
use crate::release::Release;

/// An artifact of which the first half has arrived. Whoever writes it has it open.
#[derive(Debug)]
pub struct HalfWritten {
    file: File,
    rest: Vec<u8>,
    path: PathBuf,
}

// === impl HalfWritten ===

impl HalfWritten {
    /// Returns the path at which it arrives.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the other half.
    pub fn finish(mut self) -> PathBuf {
        self.file.write_all(&self.rest).expect("the rest");
        self.path
    }
}

// === impl Home ===

impl Home {
    /// Begins to upload, in place, as Kudu's file API and `cp` do.
    pub fn begin_upload(&self, release: impl Into<Release>) -> HalfWritten {
        let release = release.into();
        let whole = self.path().join("upload");
        release.write_to(&whole);
        let mut rest = fs::read(&whole).expect("a release");
        let last = rest.split_off(rest.len() / 2);
        let path = self.releases().join(release.file_name());
        let mut file = create(&path, &whole);
        file.write_all(&rest).expect("the first half");
        fs::remove_file(whole).expect("a file to remove");
        HalfWritten {
            file,
            rest: last,
            path,
        }
    }

    /// Moves the site's releases and pointer to folders of the same names: whoever watched the old
    /// ones gets no event ever again, as after a move of the share to another file server.
    pub fn lose_change_events(&self) {
        let releases = self.releases();
        let old = self.path().join("old-releases");
        crate::eventually(
            || "the folder can be moved".to_owned(),
            || fs::rename(&releases, &old).ok(),
        );
        fs::create_dir(&releases).expect("a folder");
        for file in fs::read_dir(&old).expect("a folder").flatten() {
            fs::rename(file.path(), releases.join(file.file_name())).expect("a file that moves");
        }
        fs::remove_dir(old).expect("an empty folder");
    }

    /// Writes the same artifact and pointer again and again: events without news.
    pub fn deploy_again(&self, release: impl Into<Release>, times: usize) {
        let release = release.into();
        for _ in 0..times {
            self.deploy(&release);
        }
    }
}

/// A program like `model`, if it is one.
fn create(path: &Path, model: &Path) -> File {
    let file = File::create(path).expect("a file");
    let permissions = fs::metadata(model).expect("a file").permissions();
    file.set_permissions(permissions).expect("its permissions");
    file
}

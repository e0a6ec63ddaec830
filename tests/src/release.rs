//! Releases to deploy: copies of `sample-app` with a version of their own, other files, folders.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sample_app::overlay::{self, Overlay};
use sha2::{Digest as _, Sha256};

use crate::binaries::{sample_app, write_or_spawn};

/// Something to deploy.
#[derive(Clone, Debug)]
pub struct Release {
    name: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    App(Vec<String>),
    File(Vec<u8>),
    Folder(Vec<(String, String)>),
}

/// `sample-app` as this version.
pub fn app(version: &str) -> Release {
    Release {
        name: version.to_owned(),
        content: Content::App(Vec::new()),
    }
}

/// Any file.
pub fn file(name: &str, content: &[u8]) -> Release {
    Release {
        name: name.to_owned(),
        content: Content::File(content.to_owned()),
    }
}

/// `sample-app` as this version, which ends at once where the variable REFUSES is set.
#[cfg(unix)]
pub fn refused_where_set(version: &str) -> Release {
    let app = sample_app().display();
    let script = format!(
        "#!/bin/sh\n[ -z \"$REFUSES\" ] || {{ echo 'it refuses'; exit 3; }}\n\
         exec {app} --version-name {version} \"$@\"\n"
    );
    file(version, script.as_bytes())
}

/// A folder of texts, by their relative paths.
pub fn folder(name: &str, files: &[(&str, &str)]) -> Release {
    let owned = |(path, content): &(&str, &str)| ((*path).to_owned(), (*content).to_owned());
    Release {
        name: name.to_owned(),
        content: Content::Folder(files.iter().map(owned).collect()),
    }
}

impl From<&str> for Release {
    fn from(version: &str) -> Self {
        app(version)
    }
}

impl From<String> for Release {
    fn from(version: String) -> Self {
        app(&version)
    }
}

impl From<&Self> for Release {
    fn from(release: &Self) -> Self {
        release.clone()
    }
}

impl Release {
    /// Returns the release with one more argument for `sample-app`.
    #[must_use]
    pub fn that(mut self, argument: &str) -> Self {
        match &mut self.content {
            Content::App(args) => args.push(argument.to_owned()),
            Content::File(_) | Content::Folder(_) => panic!("only sample-app takes {argument:?}"),
        }
        self
    }

    /// The name under which it is uploaded.
    pub fn file_name(&self) -> String {
        match &self.content {
            Content::App(_) => format!("{}{}", self.name, std::env::consts::EXE_SUFFIX),
            Content::File(_) | Content::Folder(_) => self.name.clone(),
        }
    }

    /// Writes it over what is there, as `cp` does: whoever looks meanwhile sees a part.
    pub fn write_to(&self, path: &Path) {
        // Built before the lock is taken: building starts a process.
        let sample_app = sample_app();
        let _alone = write_or_spawn();
        let folder = path.parent().expect("a folder to write to");
        fs::create_dir_all(folder).expect("a folder to write to");
        match &self.content {
            Content::App(args) => {
                let overlay = Overlay {
                    version: self.name.clone(),
                    args: args.clone(),
                };
                overlay::write(sample_app, path, &overlay).expect("a release");
            }
            Content::File(content) => fs::write(path, content).expect("a file"),
            Content::Folder(files) => write_folder(path, files),
        }
    }
}

/// A file's digest as `sha256sum` prints it.
pub fn sha256(file: &Path) -> String {
    sha256_of(&fs::read(file).expect("a file"))
}

/// Returns the digest of what would be in a file.
pub fn sha256_of(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_folder(path: &Path, files: &[(String, String)]) {
    let wanted: BTreeSet<PathBuf> = files.iter().map(|(name, _)| path.join(name)).collect();
    for (name, content) in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, content).expect("a file");
    }
    // A deploy tool removes what the new release does not have. (Flat folders are enough here.)
    for entry in fs::read_dir(path).expect("a folder").flatten() {
        if entry.path().is_file() && !wanted.contains(&entry.path()) {
            fs::remove_file(entry.path()).expect("an old file");
        }
    }
}

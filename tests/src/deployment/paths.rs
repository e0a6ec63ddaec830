//! The paths of a deployment's files.

use std::fs;
use std::path::PathBuf;

use super::Running;
use crate::wait::eventually;

impl Running {
    /// The folder that is deployed to.
    pub fn site(&self) -> PathBuf {
        self.deployment().site()
    }

    /// The private copies that there are, by their releases.
    pub fn copies(&self) -> Vec<String> {
        let copies = fs::read_dir(self.copies_folder()).expect("the cache");
        let copies = copies.flatten().filter(|copy| copy.path().is_dir());
        let names = copies.map(|copy| copy.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }

    /// Returns the folder of the deployment's private copies: there is no other deployment.
    pub fn copies_folder(&self) -> PathBuf {
        let folders = eventually(
            || self.failure("the cache is made"),
            || {
                let entries = fs::read_dir(self.root().join("cache/releases")).ok()?;
                let folders = entries.flatten().map(|entry| entry.path());
                let folders: Vec<_> = folders.collect();
                (!folders.is_empty()).then_some(folders)
            },
        );
        let [only] = &folders[..] else {
            panic!("not one deployment: {folders:?}");
        };
        only.clone()
    }

    /// Returns the folder of the cache.
    pub fn cache(&self) -> PathBuf {
        self.root().join("cache")
    }

    /// `{shared}`.
    pub fn shared(&self) -> PathBuf {
        self.deployment().state().join("shared")
    }
}

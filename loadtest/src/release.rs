//! Makes the releases v1, v2, … before load is offered, so that making them takes no time from it.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use sample_app::overlay::{self, Overlay};
use sha2::{Digest as _, Sha256};

use crate::system::System;

/// A release of sample-app, ready to be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// From 1.
    pub number: u32,
    pub file: PathBuf,
    /// Of the file, in hex.
    pub sha256: String,
}

impl Release {
    /// One that somebody else makes: no more is known of it than its number.
    pub fn numbered(number: u32) -> Self {
        Self {
            number,
            file: PathBuf::new(),
            sha256: String::new(),
        }
    }

    /// What it calls itself.
    pub fn name(&self) -> String {
        format!("v{}", self.number)
    }
}

/// Makes `count` releases in `folder`.
///
/// # Errors
/// The app could not be read or the folder not be written.
pub fn make(app: &Path, folder: &Path, count: u32, system: &System) -> io::Result<Vec<Release>> {
    make_that(app, folder, 1..=count, &[], system)
}

/// Makes the releases of these numbers, whose app is started with `args`.
///
/// # Errors
/// As [`make`].
pub fn make_that(
    app: &Path,
    folder: &Path,
    numbers: RangeInclusive<u32>,
    args: &[&str],
    system: &System,
) -> io::Result<Vec<Release>> {
    fs::create_dir_all(folder)?;
    numbers
        .map(|number| {
            let file = system.executable(folder, &format!("v{number}"));
            overlay::write(
                app,
                &file,
                &Overlay {
                    version: format!("v{number}"),
                    args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                },
            )?;
            // The copy must be runnable also when the overlay's writer made it anew.
            fs::set_permissions(&file, fs::metadata(app)?.permissions())?;
            let hash = Sha256::digest(fs::read(&file)?);
            let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Release {
                number,
                file,
                sha256,
            })
        })
        .collect()
}

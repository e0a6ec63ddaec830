//! The releases v1, v2, …, made before load is offered.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use sample_app::overlay::{self, Overlay};
use sha2::{Digest as _, Sha256};

use crate::host::system::System;
use crate::units::hex;

/// A release that can be deployed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    /// Number from 1.
    pub number: u32,
    pub file: PathBuf,
    /// Digest of the file, in hex.
    pub sha256: String,
}

impl Release {
    /// Describes a release of which no more is known than its number.
    pub fn numbered(number: u32) -> Self {
        Self {
            number,
            file: PathBuf::new(),
            sha256: String::new(),
        }
    }

    /// Describes the release in `file`.
    pub fn of(number: u32, file: PathBuf) -> io::Result<Self> {
        let sha256 = hex(&Sha256::digest(fs::read(&file)?));
        Ok(Self {
            number,
            file,
            sha256,
        })
    }

    pub fn name(&self) -> String {
        format!("v{}", self.number)
    }
}

/// Makes the releases of these numbers in `folder`, whose app is started with `args`.
pub fn make(
    app: &Path,
    folder: &Path,
    numbers: RangeInclusive<u32>,
    args: &[&str],
    system: &System,
) -> io::Result<Vec<Release>> {
    fs::create_dir_all(folder)?;
    let make = |number| {
        let file = system.executable(folder, &format!("v{number}"));
        let overlay = Overlay {
            version: format!("v{number}"),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        overlay::write(app, &file, &overlay)?;
        // The copy must be executable also if the overlay's writer created it anew.
        fs::set_permissions(&file, fs::metadata(app)?.permissions())?;
        Release::of(number, file)
    };
    numbers.map(make).collect()
}

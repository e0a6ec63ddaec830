//! handoff alone: deploys in a crowd, large artifacts, and a sidecar at rest.
//!
//! Times are compared within one run: with quiet deploys, with the app's own start, or with what `cp`,
//! `sync` and `openssl` take for the same bytes.

mod crowd;
mod deployment;
mod rest;
mod sizes;

use std::path::PathBuf;

use super::report::Check;
use crate::cli::bench::{AloneName, Options, name_of};
use crate::commands::{CommandError, create_scratch, runtime};
use crate::host::binaries;
use crate::host::interrupt::wait_for_interrupt;
use crate::host::system::System;
use crate::session::SessionError;

/// A figure and its limit, or the reason for which it is missing.
type Limited = Result<(f64, f64), String>;

/// The programs under test, and the folder for their files.
#[derive(Debug)]
pub struct Programs {
    pub handoff: PathBuf,
    pub app: PathBuf,
    pub folder: PathBuf,
}

/// Measures all figures of these cases.
pub fn run(names: &[AloneName], options: &Options) -> Result<Vec<Check>, CommandError> {
    let folder = options.binaries.as_deref();
    let mut binaries = binaries::provide(&["handoff", "sample-app"], &System::Native, folder)?;
    let (Some(app), Some(handoff)) = (binaries.pop(), binaries.pop()) else {
        return Err(CommandError::Other("find what was built".to_owned()));
    };
    let mut checks = Vec::new();
    for name in names {
        eprintln!("handoff alone: {}", name_of(*name));
        // The next case has the disk for itself.
        let folder = create_scratch("handoff-alone-", false)?;
        let path = folder.path().canonicalize();
        let programs = Programs {
            handoff: handoff.clone(),
            app: app.clone(),
            folder: path.map_err(CommandError::folder(folder.path()))?,
        };
        let measured = runtime()?.block_on(async {
            tokio::select! {
                checks = measure(*name, &programs) => Ok(checks),
                () = wait_for_interrupt() => {
                    Err(CommandError::Session(SessionError::Interrupted(0)))
                }
            }
        });
        checks.extend(measured?);
    }
    Ok(checks)
}

async fn measure(name: AloneName, programs: &Programs) -> Vec<Check> {
    match name {
        AloneName::Crowd => crowd::measure(programs).await,
        AloneName::Sizes => sizes::measure(programs).await,
        AloneName::Rest => rest::measure(programs).await,
    }
}

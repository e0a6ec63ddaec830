//! Large artifacts, beside what the tools of the system take for the same bytes.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::deployment::{Artifact, Deployment};
use super::{Limited, Programs};
use crate::commands::bench::report::Check;
use crate::units::median;

const ROUNDS: usize = 5;

/// An artifact, the tools that it is compared with, and the upper limit of handoff's time over theirs.
struct Size {
    name: &'static str,
    artifact: Artifact,
    /// Copies the artifact `$1` to `$2`, as somebody would who deploys by hand.
    script: &'static str,
    limit: f64,
}

const SIZES: [Size; 2] = [
    Size {
        name: "200 MB file with a digest: deploy to traffic / cp --reflink=auto, openssl sha256",
        artifact: Artifact::File(200_000_000),
        script: "cp --reflink=auto \"$1\" \"$2\" && openssl dgst -sha256 \"$2\"",
        limit: 1.2,
    },
    Size {
        name: "20,000 files, one and the app changed: deploy to traffic / cp -r, sync -f",
        artifact: Artifact::Folder(20_000),
        script: "cp -r \"$1\" \"$2\" && sync -f \"$2\"",
        limit: 1.3,
    },
];

/// Measures all figures.
pub async fn measure(programs: &Programs) -> Vec<Check> {
    let mut checks = Vec::new();
    for (number, size) in SIZES.iter().enumerate() {
        let figure = compare(programs, &format!("size-{number}"), size).await;
        checks.push(Check::new(size.name, "×", figure));
    }
    checks
}

/// Returns the ratio of the medians.
async fn compare(programs: &Programs, name: &str, size: &Size) -> Limited {
    let mut deployment = Deployment::start(programs, name, size.artifact).await?;
    let measured = rounds(
        &mut deployment,
        &programs.folder.join("by-hand"),
        size.script,
    )
    .await;
    deployment.stop().await;
    let (ours, theirs) = measured?;
    eprintln!("handoff, ms: {ours:.0?}; by hand: {theirs:.0?}");
    let ratio = median(ours)
        .zip(median(theirs))
        .map(|(ours, theirs)| ours / theirs);
    let ratio = ratio.ok_or("there was no deploy")?;
    Ok((ratio, size.limit))
}

async fn rounds(
    deployment: &mut Deployment,
    copy: &Path,
    script: &str,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(deployment.swap().await?);
        deployment.wait_until_synced()?;
        let by_hand = by_hand(&deployment.deployed(), copy, script);
        theirs.push(by_hand.map_err(|error| format!("copy by hand: {error}"))?);
    }
    Ok((ours, theirs))
}

/// Returns the time of the script, in milliseconds.
fn by_hand(artifact: &Path, copy: &Path, script: &str) -> io::Result<f64> {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args([artifact, copy]);
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let took = begun.elapsed();
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    if copy.is_dir() {
        fs::remove_dir_all(copy)?;
    } else {
        fs::remove_file(copy)?;
    }
    rustix::fs::syncfs(File::open(copy.parent().unwrap_or(copy))?)?;
    Ok(took.as_secs_f64() * 1e3)
}

//! Options about artifacts: their source, detection, unpacking and private copies.

use std::path::{Component, PathBuf};

use clap::Args;

use crate::cli::values::{Duration, Size};
use crate::control_plane::artifact::{AssetFolder, Copying};

/// Source of artifacts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Artifact source")]
pub struct SourceOptions {
    /// Run this file, folder or archive (.zip, .tar.gz)
    ///
    /// Replacing it in place deploys the new content.
    #[arg(long, value_name = "PATH")]
    pub artifact: Option<PathBuf>,

    /// Run the artifact whose path is in this text file [default: _artifact.txt in the working
    /// directory, if it exists]
    #[arg(long, value_name = "FILE")]
    pub pointer: Option<PathBuf>,

    /// Run the artifact that arrived last in this folder, once it is complete [default: releases or
    /// _target in the working directory, if it exists]
    ///
    /// With --pointer, the folder counts only while the pointer file does not exist.
    #[arg(long, value_name = "DIR")]
    pub watch: Option<PathBuf>,
}

/// Files of handoff itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Storage")]
pub struct StorageOptions {
    /// Folder for state that sidecars and commands share [default: the path of the pointer file
    /// or of the watched folder, plus `.handoff`; for --artifact /srv/app, /srv.handoff/app]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Folder for private copies of releases, on a local disk from which programs may run [default:
    /// $CACHE_DIRECTORY, else `handoff` in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Number of private copies to keep in addition to those in use
    #[arg(long, default_value_t = 3)]
    pub keep: usize,

    /// Kinds of artifacts that run from a private copy
    ///
    /// An artifact that is not copied must not be overwritten while it runs. Archives are always
    /// unpacked into a private copy.
    #[arg(long, value_enum, default_value = "tree")]
    pub copy: Copying,
}

/// Detection of new artifacts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Change detection")]
pub struct DetectionOptions {
    /// Time without a change after which a file counts as complete, unless a digest proves it
    #[arg(long, default_value = "2s")]
    pub settle: Duration,

    /// Time without a change after which a folder counts as complete, unless a digest proves it
    #[arg(long, default_value = "5s")]
    pub settle_folder: Duration,

    /// Interval between looks for a new artifact where the file system does not report every change
    ///
    /// Local disks on Linux do. A folder is walked through less often if that takes long.
    #[arg(long, default_value = "2s")]
    pub poll: Duration,

    /// Ignore change events of the file system: look for a new artifact only every --poll
    #[arg(long)]
    pub no_events: bool,
}

/// Limits of archives.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Archives")]
pub struct ArchiveOptions {
    /// Maximum unpacked size of an archive; a larger one is refused
    #[arg(long, default_value = "4GiB")]
    pub max_unpacked: Size,

    /// Maximum number of files, folders and links in an archive; one with more is refused
    #[arg(long, default_value_t = 200_000)]
    pub max_entries: u64,

    /// Maximum ratio of an archive's unpacked size to its own size; one above it is refused
    ///
    /// The ratio counts once 64 MiB have been unpacked.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_ratio: u64,

    /// Accept archives whose links lead out of them
    #[arg(long)]
    pub allow_outside_links: bool,
}

/// Assets of earlier releases, for pages that are open when a release is superseded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Assets of earlier releases")]
pub struct AssetOptions {
    /// Keep the files of a folder in each artifact for pages of earlier releases, such as
    /// /assets/=dist/assets; can be repeated
    ///
    /// PREFIX is the first part of their paths for clients. When the active release answers a GET or
    /// HEAD request below it with 404 or 410, or with a page in place of a script, a style, a font, an
    /// image or a map, the file of an earlier release is the answer.
    #[arg(long, value_name = "PREFIX=FOLDER", value_parser = parse_assets)]
    pub keep_assets: Vec<AssetFolder>,

    /// Time for which the files of a release are kept after the next one was accepted
    #[arg(long, default_value = "14d")]
    pub keep_assets_for: Duration,

    /// Maximum size of all kept files; the oldest go first
    #[arg(long, default_value = "1GiB")]
    pub keep_assets_size: Size,
}

/// Reads a URL prefix with its folder in an artifact.
fn parse_assets(text: &str) -> Result<AssetFolder, &'static str> {
    const EXPECTED: &str = "expected the first part of a path and a folder in the artifact, such as \
                            /assets/=dist/assets";
    let (prefix, folder) = text.split_once('=').ok_or(EXPECTED)?;
    let folder = PathBuf::from(folder);
    let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let is_path = prefix.starts_with('/') && !prefix.contains(['?', '#', '%', ' ']);
    if !is_path || folder.as_os_str().is_empty() || !folder.components().all(is_inside) {
        return Err(EXPECTED);
    }
    Ok(AssetFolder {
        prefix: format!("{}/", prefix.trim_end_matches('/')),
        folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_a_prefix_and_a_folder_inside() {
        let read = |text| parse_assets(text).map(|it| (it.prefix, it.folder));
        for text in ["/assets/=dist/assets", "/assets=./dist/assets"] {
            let (prefix, folder) = read(text).unwrap();
            assert_eq!(prefix, "/assets/");
            assert!(folder.ends_with("dist/assets"), "{folder:?}");
        }
        for text in [
            "/assets/",
            "assets=dist",
            "/assets/=",
            "/assets/=../dist",
            "/assets/=/dist",
            "/a?b=dist",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

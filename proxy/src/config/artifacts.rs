//! Settings of artifacts: their detection and their private copies.

use std::path::Path;

use super::error::{ConfigError, positive};
use super::paths;
use crate::cli::Run;
use crate::control_plane::artifact::{Copying, Limits, SettlePeriods, StoreSettings, Workdir};
use crate::control_plane::watcher::WatchSettings;
use crate::deployment::Source;
use crate::process::template::Command;

pub(super) fn watch(run: &Run, source: Source) -> Result<WatchSettings, ConfigError> {
    let options = &run.detection;
    Ok(WatchSettings {
        source,
        poll: positive("--poll", options.poll)?,
        events: !options.no_events,
        tree_events: run.storage.copy == Copying::Tree && paths::workdir(run) != Workdir::Artifact,
        settle: SettlePeriods {
            file: *options.settle,
            folder: *options.settle_folder,
        },
    })
}

pub(super) fn store(
    run: &Run,
    state: &Path,
    command: Command,
) -> Result<StoreSettings, ConfigError> {
    Ok(StoreSettings {
        cache: paths::cache(run)?,
        state: state.to_owned(),
        workdir: paths::workdir(run),
        keep: run.storage.keep,
        copying: run.storage.copy,
        limits: Limits {
            bytes: run.archives.max_unpacked.0,
            entries: run.archives.max_entries,
            ratio: run.archives.max_ratio,
            outside_links: run.archives.allow_outside_links,
        },
        command,
    })
}

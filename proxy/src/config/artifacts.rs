//! Settings of artifacts: their detection and their private copies.

use std::path::Path;
use std::sync::Arc;

use super::error::{ConfigError, positive};
use super::paths;
use crate::cli::Run;
use crate::control_plane::artifact::{
    AssetSettings, Copying, Limits, SettlePeriods, StoreSettings, Workdir,
};
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
    assets: Option<AssetSettings>,
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
        assets,
    })
}

/// Returns the settings of the assets that are kept, if there are any.
pub(super) fn assets(run: &Run) -> Option<AssetSettings> {
    let options = &run.assets;
    (!options.keep_assets.is_empty()).then(|| AssetSettings {
        folders: options.keep_assets.clone(),
        keep_for: *options.keep_assets_for,
        max_bytes: options.keep_assets_size.0,
        kept: Arc::default(),
    })
}

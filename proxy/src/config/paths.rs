//! Paths of a deployment.

use std::env;
use std::path::{Path, PathBuf};

use super::ConfigError;
use crate::cli::Run;
use crate::control_plane::artifact::Workdir;
use crate::deployment::source::absolute;
use crate::deployment::{FormerState, Source};

pub(super) fn source(run: &Run) -> Result<Source, ConfigError> {
    let two = |other: &str| {
        let name = |option: &str| run.origins.name_of(option);
        Err(ConfigError::TwoSources(name("--artifact"), name(other)))
    };
    let options = run.source.clone();
    match (options.artifact, options.pointer, options.watch) {
        (Some(_), Some(_), _) => two("--pointer"),
        (Some(_), None, Some(_)) => two("--watch"),
        (Some(artifact), None, None) => Ok(Source::Artifact(absolute(artifact))),
        (None, Some(file), folder) => Ok(Source::Pointer {
            file: absolute(file),
            folder: folder.map(absolute),
        }),
        (None, None, Some(folder)) => Ok(Source::Folder(absolute(folder))),
        (None, None, None) => {
            Source::conventional(&absolute(".".into())).ok_or(ConfigError::NoSource)
        }
    }
}

pub(super) fn state(run: &Run, source: &Source) -> PathBuf {
    let configured = run.storage.state.clone();
    absolute(configured.unwrap_or_else(|| source.default_state()))
}

/// Returns the default state folder that version 0.1 had, where the default has changed.
pub(super) fn former_state(run: &Run, source: &Source) -> Option<FormerState> {
    let is_default = run.storage.state.is_none();
    FormerState::of(source).filter(|_| is_default)
}

pub(super) fn shared(run: &Run, state: &Path) -> PathBuf {
    let configured = run.app.shared.clone();
    absolute(configured.unwrap_or_else(|| state.join("shared")))
}

pub(super) fn cache(run: &Run) -> Result<PathBuf, ConfigError> {
    let configured = run.storage.cache.clone();
    let cache = configured.or_else(default_cache);
    cache.map(absolute).ok_or(ConfigError::NoCache)
}

fn default_cache() -> Option<PathBuf> {
    let variable = |name| {
        let value = env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(cache) = variable("CACHE_DIRECTORY") {
        return Some(cache);
    }
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA").or_else(|| variable("TEMP"))?
    } else {
        variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?
    };
    Some(base.join("handoff"))
}

pub(super) fn workdir(run: &Run) -> Workdir {
    match run.app.workdir.clone() {
        None => Workdir::Auto,
        Some(word) if word == Path::new("artifact") => Workdir::Artifact,
        Some(word) if word == Path::new("copy") => Workdir::Copy,
        Some(dir) => Workdir::Fixed(absolute(dir)),
    }
}
